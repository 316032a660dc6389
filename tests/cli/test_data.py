"""`vgg data`, and what training says of its data first."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.test_train import train
from tests.conftest import MakeFolder
from vggcli.cli.app import run
from vggcli.data import survey
from vggcli.data.sources import load_split


def uneven(root: Path) -> Path:
    for index in range(6):
        (root / "train" / "class1" / f"{index}.jpg").unlink()
    shutil.copy(root / "train" / "class0" / "1.jpg", root / "val" / "class0" / "again.jpg")
    shutil.copy(root / "train" / "class0" / "1.jpg", root / "train" / "loose.jpg")
    return root


def test_a_source_is_shown_by_class(make_folder: MakeFolder, capsys: pytest.CaptureFixture[str]) -> None:
    root = uneven(make_folder())
    (root / "val" / "class2" / "0.jpg").write_bytes(b"no image")
    assert run(["data", str(root), "-q"]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines()]
    assert ["class0", "8", "5"] in rows
    assert ["class1", "2", "4"] in rows
    assert ["all", "18", "13"] in rows
    assert "1 image in" in out
    assert "4.0 times" in out
    assert "1 file has no header of an image, such as val/class2/0.jpg" in out
    assert "1 validation image is a training image too" in out


def test_json_has_the_same_numbers(make_folder: MakeFolder, capsys: pytest.CaptureFixture[str]) -> None:
    root = uneven(make_folder())
    assert run(["data", str(root), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["classes"][1] == {"class": "class1", "train": 2, "val": 4}
    assert (found["train"], found["val"], found["imbalance"]) == (18, 13, 4)
    assert (found["unreadable"], found["in_both"]) == (0, 1)
    assert found["in_both_images"] == [{"train": "train/class0/1.jpg", "val": "val/class0/again.jpg"}]


def test_training_says_what_is_odd_about_its_data(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train(uneven(make_folder()), "--max-steps", "1") == 0
    said = capsys.readouterr().err
    assert "data: 1 validation image is a training image too" in said
    assert "belongs to no class folder" in said


def test_what_cannot_be_trained_on_is_exit_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", str(tmp_path / "nowhere"), "-q"]) == 3
    assert "there is no folder" in capsys.readouterr().err


def test_a_source_of_one_class_is_shown_though_none_can_be_trained_on_it(
    make_folder: MakeFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_folder(classes=1)
    assert run(["data", str(root), "-q"]) == 0
    assert "one class only" in capsys.readouterr().out
    assert train(root) == 3
    assert "one class only" in capsys.readouterr().err


def test_a_split_that_holds_the_training_images_by_name_is_not_called_a_copy(
    make_folder: MakeFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    """As trainval of VOC does: who asks for it knows."""
    root = make_folder()
    survey.note_in_both(root, replace(load_split(root, "train"), split="trainval"))
    assert capsys.readouterr().err == ""
    renamed = replace(load_split(root, "train"), root=root / "train", split="trainval")
    renamed = replace(renamed, names=tuple(name.removeprefix("train/") for name in renamed.names))
    survey.note_in_both(root, renamed)
    assert "24 trainval images are training images too" in capsys.readouterr().err


def test_words_that_are_no_source_are_refused(make_folder: MakeFolder, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["pack", "photos"], ["photos", "more"], ["pack", "photos", "there", "more"]):
        assert run(["data", *words]) == 2
        assert "give SRC, or pack SRC DST" in capsys.readouterr().err
