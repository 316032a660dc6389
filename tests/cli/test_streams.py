"""Output on terminals that lack signs, and on streams that are closed."""

import errno
import os
import subprocess
import sys

import pytest

from vggcli.cli import app
from vggcli.cli.streams import Notes, Results
from vggcli.errors import MachineError

ENCODINGS = ["ascii", "cp932"]


def shown(encoding: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "100"}
    return subprocess.run([sys.executable, "-m", "vggcli", *words], capture_output=True, env=environment, check=False)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_tables_and_help_are_shown_in_any_encoding(encoding: str) -> None:
    for words in (("models", "D"), ("train", "--help")):
        found = shown(encoding, *words)
        assert (found.returncode, found.stderr) == (0, b"")
        text = found.stdout.decode(encoding)
        assert ("conv5_3" if words[0] == "models" else "--scale-jitter") in text


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_sign_that_an_encoding_lacks_becomes_a_plain_one(encoding: str) -> None:
    code = "from vggcli.cli.streams import prepare_streams; prepare_streams(); print('█ 帽 \\udcff')"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=True).stdout
    wanted = {"utf-8": "█ 帽 ?", "cp932": "# 帽 ?"}.get(encoding, "# ? ?")
    assert out.decode(encoding).split() == wanted.split()


@pytest.mark.parametrize(("closed", "code"), [(">&-", 5), ("2>&-", 0), (">&- 2>&-", 5)])
def test_a_closed_stream_is_silence(closed: str, code: int) -> None:
    for words, left in (("models D", code), ("models nothing", 2)):
        command = f"exec {sys.executable} -m vggcli {words} {closed}"
        found = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
        assert found.returncode == left
        assert b"Traceback" not in found.stderr
        assert not (found.stdout and ">&-" in closed.split())


@pytest.mark.parametrize("words", ["models D", "--help"])
def test_results_that_a_full_disk_refuses_are_an_error_and_notes_are_not(words: str) -> None:
    command = f"{sys.executable} -m vggcli {words} >/dev/full"
    found = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
    assert found.returncode == 5
    assert found.stderr.startswith(b"vgg: cannot write the results to standard output: no space left")
    assert found.stderr.count(b"\n") == 1


def test_notes_that_cannot_be_written_are_lost_and_results_fail_once() -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123 (a device)
        notes = Notes(full.fileno(), "w", closefd=False)
        assert notes.write(b"a note") == 6
        results = Results(full.fileno(), "w", closefd=False)
        with pytest.raises(MachineError, match="no space left"):
            results.write(b"figures")
        assert results.write(b"figures") == 7


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "ulimit -n"),
        (RuntimeError("unable to open shared memory object: Too many open files (24)"), "ulimit -n"),
        (OSError(errno.EAGAIN, "Resource temporarily unavailable"), "ulimit -u"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (MemoryError(), "out of memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory"),
        (OSError(errno.EIO, "Input/output error"), "input/output error"),
    ],
)
def test_what_the_machine_refuses_is_said_in_a_sentence(
    error: Exception, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: list[str]) -> None:
        raise error

    monkeypatch.setattr(app, "_dispatch", fail)
    assert app.run([]) == 5
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
