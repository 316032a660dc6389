"""A place that refuses files is found before work, and figures are shown where their files cannot be written after all."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.zoo.nets import about, small
from vggcli import files
from vggcli.cli.app import run
from vggcli.errors import MachineError, UsageError
from vggcli.files import writable_output
from vggcli.weights.checkpoint import save_checkpoint

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fail(*arguments: Any, **names: Any) -> Any:
    raise FULL


@pytest.mark.parametrize("place", ["there.csv", "link.csv", "none/a.csv", "file/a.csv", "folder"])
def test_a_place_that_cannot_be_is_an_error_of_the_command_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "there.csv").touch()
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.csv").symlink_to("nowhere")
    with pytest.raises(UsageError, match=place):
        writable_output(tmp_path / place, "out")
    assert writable_output(tmp_path / "new.csv", "out") == tmp_path / "new.csv"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "folder", "link.csv", "there.csv"]


def test_a_place_that_takes_no_file_is_found_by_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(MachineError, match=r"no space left on the disk of .*new.csv"):
        writable_output(tmp_path / "new.csv", "out")
    assert not list(tmp_path.iterdir())
    if Path("/proc/self").is_dir():
        with pytest.raises(MachineError, match="cannot write /proc/new.csv"):
            writable_output(Path("/proc/new.csv"), "out")


@pytest.mark.parametrize(
    "arguments", [["predict", "a.png", "--out", "p.csv"], ["eval", "--save-scores", "s.safetensors"]]
)
def test_figures_are_shown_where_a_disk_fills_up_before_their_file_is_written(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    network = small()
    classes = about(network).classes
    for split in ("train", "val"):
        for name in classes:
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            colour = (len(list(tmp_path.rglob("*.png"))) * 20, 9, 99 if split == "val" else 0)
            Image.new("RGB", (80, 70), colour).save(tmp_path / "photos" / split / name / "0.png")
    Image.new("RGB", (80, 70)).save(tmp_path / "a.png")
    save_checkpoint(tmp_path / "w.safetensors", network, about(network))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VGG_DATA", "photos")
    monkeypatch.setattr(files, "_flush", fail)
    assert run([*arguments, "--weights", "w.safetensors", "-j", "0", "-q", "--json"]) == 5
    shown = capsys.readouterr()
    assert "no space left on the disk" in shown.err
    assert {"predictions", "top1_error"} & json.loads(shown.out).keys()
    assert not (tmp_path / arguments[-1]).exists()
