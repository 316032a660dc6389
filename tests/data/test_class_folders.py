"""Which folders are splits and which are classes."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.conftest import MakeFolder
from vggcli.data.sources import load_both, load_split
from vggcli.data.splits import loose_role
from vggcli.errors import DataError


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("train1", "test1"), ("train_256", "val_256"), ("X_train", "X_test"), ("mini-train", "mini-val"),
        ("1_train", "2_val"), ("trainA", "testA"), ("train_labelled", "test_unlabelled"), ("Apple___train", "Apple___test"),
        ("trainval", "test"), ("my training photos", "my validation photos"),
    ],
)  # fmt: skip
def test_folders_that_hold_the_same_classes_are_splits_by_a_word_in_their_names(
    make_folder: MakeFolder, train: str, val: str
) -> None:
    root = make_folder()
    (root / "train").rename(root / train)
    (root / "val").rename(root / val)
    ours, theirs = load_both(root)
    assert ours.classes == ("class0", "class1", "class2")
    assert (len(ours), len(theirs)) == (24, 12)
    assert all(name.startswith(f"{train}/") for name in ours.names)


@pytest.mark.parametrize("names", [("tr", "va"), ("fold_1", "fold_2"), ("cats", "dogs")])
def test_folders_that_hold_the_same_and_say_nothing_are_classes_and_that_is_said(
    make_folder: MakeFolder, names: Sequence[str]
) -> None:
    root = make_folder()
    for old, new in zip(("train", "val"), names, strict=True):
        (root / old).rename(root / new)
    found = load_split(root, "train")
    assert found.classes == tuple(names)
    assert any("if they are splits, rename them train/ and val/" in remark for remark in found.remarks)


def test_classes_with_folders_of_their_own_are_classes(make_folder: MakeFolder) -> None:
    root = make_folder()
    shutil.rmtree(root / "val")
    for label in range(3):
        inside = root / "train" / f"class{label}" / f"day{label}"
        inside.mkdir()
        (root / "train" / f"class{label}" / "0.jpg").rename(inside / "0.jpg")
    (root / "train").rename(root / "all")
    found = load_split(root / "all", "train")
    assert found.classes == ("class0", "class1", "class2")
    assert found.remarks == ()


def test_a_class_beside_the_splits_is_said(make_folder: MakeFolder) -> None:
    root = make_folder()
    shutil.copytree(root / "train" / "class0", root / "hat")
    (root / "notes").mkdir()
    (remark,) = load_split(root, "train").remarks
    assert remark.startswith("hat/ beside the splits of")


def test_a_set_one_folder_too_high_is_not_taken_for_a_class(make_folder: MakeFolder) -> None:
    make_folder(name="sets/photos")
    root = make_folder(name="sets/other").parent
    with pytest.raises(DataError, match=r"sets/other holds train/ and val/: if it is a whole data set, give "):
        load_split(root, "train")


@pytest.mark.parametrize(
    ("name", "role"),
    [("trainee", None), ("train_test", None), ("retrain", None), ("val-2", "val"), ("Testing3", "test")],
)
def test_a_word_tells_a_role_only_by_itself(name: str, role: str | None) -> None:
    assert loose_role(name) == role


def test_a_folder_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no class folders"):
        load_split(tmp_path, "train")
