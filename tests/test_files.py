"""Files and folders appear whole or not at all; what a killed program left is swept, and what a living one holds is not."""

import errno
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from vggcli.errors import MachineError
from vggcli.files import appearing, append_line, replacing, sweep, working_folder, write_text
from vggcli.locks import Busy, let_go, lock


def killed_while_writing(path: Path) -> None:
    """A file half-written by a process that was killed."""

    def write() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            (temporary.parent / ".tmpAbC123").write_text("a library's own")
            os.kill(os.getpid(), signal.SIGKILL)

    child: Any = multiprocessing.get_context("fork").Process(target=write)
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a [1].txt"
    write_text(path, "first")
    with pytest.raises(ValueError, match="in the middle"), replacing(path) as temporary:
        temporary.write_text("second")
        raise ValueError("in the middle")
    assert path.read_text() == "first"
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    with pytest.raises(MachineError, match="no space left on the disk"), replacing(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "first"


@pytest.mark.parametrize("before", ["", "1\n", "1\n2"])
def test_a_line_is_appended_after_one_that_was_cut_off(tmp_path: Path, before: str) -> None:
    (tmp_path / "lines").write_text(before)
    append_line(tmp_path / "lines", "é")
    assert (tmp_path / "lines").read_text(encoding="utf-8").splitlines() == [*before.splitlines(), "é"]


def test_what_a_killed_program_left_goes_with_the_next_try(tmp_path: Path) -> None:
    path = tmp_path / "a [1].txt"
    killed_while_writing(path)
    killed_while_writing(tmp_path / "b.txt")
    assert len(list(tmp_path.iterdir())) == 2
    write_text(path, "whole")
    assert sorted(one.name.split(".")[1] for one in tmp_path.iterdir() if one != path) == ["b"]
    (tmp_path / ".tmp").touch()
    (tmp_path / ".old.tmp").touch()  # as older versions left them
    (tmp_path / ".user.txt.swp").touch()
    sweep(tmp_path)
    assert {one.name for one in tmp_path.iterdir()} == {path.name, ".tmp", ".user.txt.swp"}


def test_what_another_process_is_writing_stays(tmp_path: Path) -> None:
    with working_folder(tmp_path / "a") as folder:
        sweep(tmp_path)
        write_text(tmp_path / "a", "another was first")
        assert folder.exists()
    assert [one.name for one in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_another_process_filled_first_stays(tmp_path: Path) -> None:
    with appearing(tmp_path / "set", "index.csv") as mine:
        (mine / "index.csv").write_text("mine")
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "index.csv").write_text("theirs")
    assert (tmp_path / "set" / "index.csv").read_text() == "theirs"
    assert [one.name for one in tmp_path.iterdir()] == ["set"]


def test_a_lock_keeps_others_out_until_it_is_let_go(tmp_path: Path) -> None:
    held = lock(tmp_path / "x", create=True)
    with pytest.raises(Busy):
        lock(tmp_path / "x")
    let_go(held)
    let_go(lock(tmp_path / "x"))
    with pytest.raises(FileNotFoundError):
        lock(tmp_path / "y")


def test_a_lock_ends_with_its_holder_whatever_that_has_started(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()

    def hold() -> None:
        lock(tmp_path / "x", create=True)
        child = os.fork()
        if child:
            theirs.send(child)
            os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()

    holder: Any = context.Process(target=hold)
    holder.start()
    child = mine.recv()
    holder.join()
    held = lock(tmp_path / "x")
    assert held is not None
    os.kill(child, signal.SIGKILL)  # which was still there
    let_go(held)
