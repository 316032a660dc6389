"""The names that splits go by, and folders that are only called so."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import MakeFolder, picture
from vggcli.data.sources import load_split, load_training
from vggcli.data.splits import role_of
from vggcli.errors import DataError


@pytest.mark.parametrize(
    ("names", "role"),
    [
        (
            "train Train TRAIN training Training seg_train train_set trainset train-images train2017 TrainData trainval",
            "train",
        ),
        ("val valid Validation VALIDATION dev seg_val val_set val2017", "val"),
        ("test Test TESTING seg_test test_set testset Test-images", "test"),
        ("trainer tested invalid validity seg_pred latest set images UNASSIGNED contest", None),
    ],
)
def test_a_split_is_known_by_its_word(names: str, role: str | None) -> None:
    assert {name: role_of(name) for name in names.split()} == dict.fromkeys(names.split(), role)
    assert role_of("") is None


@pytest.mark.parametrize(
    ("train", "val"),
    [("Training", "Testing"), ("TRAIN", "Test"), ("train_set", "valid_set"), ("seg_train", "seg_test")],
)
def test_folders_of_common_names_are_splits(make_folder: MakeFolder, train: str, val: str) -> None:
    root = make_folder()
    (root / "train").rename(root / train)
    (root / "val").rename(root / val)
    ours, theirs = load_training(root)
    assert (len(ours), len(theirs)) == (24, 12)
    assert ours.classes == ("class0", "class1", "class2")
    assert ours.names[0] == f"{train}/class0/0.jpg"


def test_a_split_unpacked_into_a_folder_of_its_name_is_found(make_folder: MakeFolder) -> None:
    root = make_folder()
    for name in ("train", "val"):
        (root / name).rename(root / "inner")
        (root / f"seg_{name}").mkdir()
        (root / "inner").rename(root / f"seg_{name}" / f"seg_{name}")
    assert load_training(root)[0].classes == ("class0", "class1", "class2")


def test_val_is_preferred_to_test_and_either_can_be_named(make_folder: MakeFolder) -> None:
    root = make_folder()
    shutil.copytree(root / "val", root / "Test")
    (root / "Test" / "class0" / "0.jpg").unlink()
    assert len(load_split(root, "val")) == 12
    assert len(load_split(root, "test")) == 11


def test_two_folders_that_could_be_one_split_are_an_error(make_folder: MakeFolder) -> None:
    root = make_folder()
    shutil.copytree(root / "train", root / "Training")
    assert len(load_training(root)[0]) == 24  # the plain name wins
    (root / "train").rename(root / "train_set")
    with pytest.raises(DataError, match="Training and train_set"):
        load_training(root)


def classes(root: Path, *names: str) -> Path:
    for label, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for index in range(12):
            picture(label, index).save(root / name / f"{index}.png")
    return root


@pytest.mark.parametrize("names", [("train", "car", "bus"), ("valid", "invalid")])
def test_a_class_called_like_a_split_is_a_class_where_it_can_be_nothing_else(tmp_path: Path, names: tuple[str]) -> None:
    assert load_training(classes(tmp_path / "set", *names))[0].classes == tuple(sorted(names))


@pytest.mark.parametrize("names", [("Training", "Testing"), ("train",), ("train", "val", "cat")])
def test_folders_that_may_be_splits_or_classes_are_an_error(tmp_path: Path, names: tuple[str]) -> None:
    with pytest.raises(DataError, match="named like splits but hold no class folders: give each"):
        load_training(classes(tmp_path / "set", *names))


def test_a_class_with_folders_that_is_called_train_is_told_what_to_do(tmp_path: Path) -> None:
    root = classes(tmp_path / "set", "train/steam", "car")
    with pytest.raises(DataError, match="no val/ folder .*rename any class"):
        load_training(root)
