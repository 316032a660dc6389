"""What is found out about a source before training."""

import hashlib
import shutil
from pathlib import Path

from tests.conftest import MakeFolder
from vggcli.data.image_set import ImageSet
from vggcli.data.sources import load_training
from vggcli.data.survey import has_header, survey


def equal_by_content(train: ImageSet, val: ImageSet) -> set[str]:
    """The slow obvious version: every file whole."""

    def digest(images: ImageSet, index: int) -> str:
        return hashlib.md5((images.root / images.names[index]).read_bytes()).hexdigest()

    ours = {digest(train, index) for index in range(len(train))}
    return {name for index, name in enumerate(val.names) if digest(val, index) in ours}


def test_images_are_counted_by_class_and_split(make_folder: MakeFolder) -> None:
    root = make_folder()
    for index in range(4):
        (root / "train" / "class1" / f"{index}.jpg").unlink()
    seen: list[int] = []
    found = survey(*load_training(root), seen.append)
    assert found.classes == ("class0", "class1", "class2")
    assert found.train == (8, 4, 8)
    assert found.val == (4, 4, 4)
    assert found.imbalance == 2
    assert not found.unreadable
    assert not found.repeated
    assert sum(seen) == 32


def test_files_in_both_splits_are_found_by_content(make_folder: MakeFolder) -> None:
    root = make_folder()
    for index in (1, 3):
        shutil.copy(root / "train" / "class0" / f"{index}.jpg", root / "val" / "class0" / f"copy{index}.jpg")
    shutil.copy(root / "train" / "class0" / "2.jpg", root / "val" / "class2" / "other_label.jpg")
    data = bytearray((root / "train" / "class0" / "4.jpg").read_bytes())
    data[-3] ^= 1  # of the same size, and the same in the middle
    (root / "val" / "class0" / "almost.jpg").write_bytes(data)
    train, val = load_training(root)
    found = survey(train, val).repeated
    assert {name for _, name in found} == equal_by_content(train, val)
    assert ("train/class0/1.jpg", "val/class0/copy1.jpg") in found
    assert len(found) == 3


def test_large_files_that_differ_at_the_ends_only_are_told_apart(make_folder: MakeFolder) -> None:
    root = make_folder()
    (root / "train" / "class0" / "big.jpg").write_bytes(b"a" + bytes(20_000))
    (root / "val" / "class0" / "big.jpg").write_bytes(b"b" + bytes(20_000))
    assert survey(*load_training(root)).repeated == ()


def test_headers_that_cannot_be_read_are_counted(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder()
    (root / "train" / "class0" / "broken.jpg").write_bytes(b"no image")
    (root / "val" / "class0" / "empty.png").touch()
    assert survey(*load_training(root)).unreadable == ("train/class0/broken.jpg", "val/class0/empty.png")
    assert not has_header(tmp_path / "nowhere.jpg")
    assert not has_header(tmp_path)


def test_the_same_file_in_two_training_classes_is_found_and_twice_in_one_is_not(make_folder: MakeFolder) -> None:
    root = make_folder()
    train = root / "train"
    for source, copy in (
        ("class0/1.jpg", "class1/again.jpg"),
        ("class0/1.jpg", "class2/again.jpg"),
        ("class1/3.jpg", "class1/3b.jpg"),
    ):
        shutil.copy(train / source, train / copy)
    same_size = bytearray((train / "class0" / "2.jpg").read_bytes())
    same_size[-3] ^= 1
    (train / "class2" / "like.jpg").write_bytes(same_size)
    found = survey(*load_training(root))
    first = "train/class0/1.jpg"
    assert found.contradictory == ((first, "train/class1/again.jpg"), (first, "train/class2/again.jpg"))
