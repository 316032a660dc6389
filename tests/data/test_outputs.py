"""Nothing is written among the images of the data, by no command."""

import os
from pathlib import Path

import pytest

from tests.cli.test_train import train
from tests.conftest import MakeFolder
from tests.features.stores import checkpoint, network
from vggcli.cli.app import run
from vggcli.data.outputs import check_outside
from vggcli.errors import UsageError


@pytest.fixture
def photos(make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """photos/ in the current folder, whose class0 is also at `link`, and whose class2 lies `elsewhere`."""
    monkeypatch.chdir(tmp_path)
    folder = make_folder()
    (tmp_path / "link").symlink_to(folder / "train" / "class0")
    (folder / "train" / "class2").rename(tmp_path / "elsewhere")
    (folder / "train" / "class2").symlink_to(tmp_path / "elsewhere")
    return folder


INSIDE = [
    *("photos/train/class0/x", "photos/train/newclass", "photos/val/class1/deep/x", "link/x", "elsewhere/x"),
    "photos/../photos/train/class1/../class0/x",
]


@pytest.mark.parametrize("out", INSIDE)
def test_no_run_begins_among_the_images(photos: Path, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(photos.rglob("*"))
    assert train(Path("photos"), "--out", out) == 2
    assert "among the images of the data" in capsys.readouterr().err.splitlines()[-1]
    assert sorted(photos.rglob("*")) == before


def test_runs_beside_the_splits_are_fine_and_no_data_afterwards(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(photos)
    for count in (1, 2):
        assert train(Path(), "--epochs", "1") == 0
        said = capsys.readouterr().err
        assert ("is left out" in said) == (count > 1)
        assert f"{24} training and 12 validation images" in said
    monkeypatch.chdir(photos / "val")
    assert train(Path("..")) == 2
    assert "runs is in" in capsys.readouterr().err


def test_every_command_that_writes_refuses(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(Path("w.safetensors"), network())
    common = ["--weights", "w.safetensors", "-q", "-j", "0"]
    commands = [
        ["eval", "--data", "photos", "--confusion", "photos/val/class0/c.png"],
        ["eval", "--data", "photos", "--confusion", "elsewhere/c.png"],  # of the other split
        ["eval", "--data", "photos", "--save-scores", "link/s.safetensors"],
        ["features", "--data", "photos", "--out", "elsewhere/f.safetensors"],
        ["features", "photos", "--out", "photos/train/class0/f.safetensors"],
        ["features", "photos", "--out", "elsewhere/shards", "--shard-size", "9"],
        ["predict", "photos", "--out", "photos/train/p.csv"],
        ["predict", "photos/", "--out", "link/p.json"],
        ["finetune", "--data", "photos", "--out", "link/run"],
    ]
    before = sorted(photos.rglob("*"))
    for words in commands:
        assert run([*words, *common]) == 2, words
        assert "; write it elsewhere" in capsys.readouterr().err.splitlines()[-1]
    assert sorted(photos.rglob("*")) == before


def test_the_sheet_of_mistakes_goes_nowhere_among_them(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint(Path("w.safetensors"), network())
    weights = str(Path("w.safetensors").resolve())
    monkeypatch.chdir(photos / "train" / "class0")
    assert run(["eval", "--data", str(photos), "--weights", weights, "--worst", "2", "-q", "-j", "0"]) == 2
    assert "--worst" in capsys.readouterr().err.splitlines()[-1]


def test_images_right_in_a_folder_leave_it_free(tmp_path: Path) -> None:
    names = ["1.jpg", "deep/er/2.jpg", os.fsdecode(b"\xff/3.jpg")]
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for free in ("x.csv", "other/x.csv"):
        check_outside([("--out", tmp_path / free)], tmp_path, names)
    for taken in ("deep/x.csv", "deep/er/x.csv", "deep/else/x.csv"):
        with pytest.raises(UsageError):
            check_outside([("--out", tmp_path / taken)], tmp_path, names)
    check_outside([("--out", tmp_path / "deep" / "x.png")], tmp_path, names, whole=False)


@pytest.mark.parametrize("out", ["photos/val/q.csv", "photos/val/class0/q.csv", "link/q.csv", "elsewhere/q.csv"])
def test_predictions_go_nowhere_into_a_folder_that_was_searched(
    photos: Path, out: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = str(checkpoint(photos.parent / "w.safetensors", network()))
    searched = {"link/q.csv": "photos/train/class0", "elsewhere/q.csv": "photos/train"}.get(out, "photos/val")
    assert run(["predict", searched, "--weights", weights, "--out", out]) == 2
    assert "write it elsewhere (--out)" in capsys.readouterr().err
    monkeypatch.chdir("photos/val/class0")
    assert run(["predict", ".", "--weights", weights, "--out", "q.csv"]) == 2
