"""Images that cannot be read here are counted and said wherever they lie, and no class vanishes with them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.data.test_extra_formats import box, without_pillow_heif  # noqa: F401 (a fixture)
from tests.data.voc_sets import annotation, voc_set
from vggcli.data.sources import load_split, load_training
from vggcli.errors import DataError

pytestmark = pytest.mark.usefixtures("without_pillow_heif")
Make = Callable[[Path], Path]
BOX = (5, 5, 40, 60)


def in_class_folders(root: Path) -> Path:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(root / split / name / "a.png")
    heic = box(b"heic")
    for place in ("train/cat/IMG_1.HEIC", "train/cat/without_suffix", "train/dog/b.heif", "val/dog/c.heic"):
        (root / place).write_bytes(heic)
    (root / "train" / "dog" / "._b.heif").write_bytes(heic)
    (root / "train" / "@eaDir").mkdir()
    (root / "train" / "@eaDir" / "d.heic").write_bytes(heic)
    (root / "train" / "cat" / "film").write_bytes(box(b"isom"))
    return root


def in_voc_splits(root: Path) -> Path:
    for split in ("train", "valid"):
        voc_set(root / split, {"cat": [("cat", BOX, 0)], "dog": [("dog", BOX, 0)]}, ".", ".")
        for index in range(2):
            (root / split / f"{index}.heic").write_bytes(box(b"heic"))
            (root / split / f"{index}.xml").write_text(annotation(f"{index}.heic", [("cat", BOX, 0)]))
    return root


def in_a_csv(root: Path) -> Path:
    lines = ["path,label,split"]
    for index in range(4):
        name = f"{index}.HEIC"
        (root / name).write_bytes(box(b"heic"))
        lines.append(f"{name},{'cat' if index % 2 else 'dog'},{'train' if index < 2 else 'val'}")
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            Image.new("RGB", (8, 8)).save(root / f"{split}-{name}.png")
            lines.append(f"{split}-{name}.png,{name},{split}")
    (root / "set.csv").write_text("\n".join(lines))
    return root / "set.csv"


@pytest.mark.parametrize("make", [in_class_folders, in_voc_splits, in_a_csv])
def test_they_are_counted_and_the_others_used(tmp_path: Path, make: Make) -> None:
    train, val = load_training(make(tmp_path))
    assert len(train) == len(val) == 2
    said = [remark for remark in train.remarks + val.remarks if "HEIC" in remark]
    counts = [int(remark.split()[0]) for remark in dict.fromkeys(said)]
    assert sum(counts) == 4
    assert all("cannot be read here and are left out; pip install pillow-heif" in remark for remark in said)


def test_a_jpeg_that_is_called_heic_is_used(tmp_path: Path) -> None:
    source = in_class_folders(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "train" / "cat" / "IMG_1.HEIC", "JPEG")
    train, _ = load_training(source)
    assert "train/cat/IMG_1.HEIC" in train.names
    assert [remark.split()[0] for remark in train.remarks] == ["3"]


def test_a_class_folder_of_nothing_else_says_so(tmp_path: Path) -> None:
    source = in_class_folders(tmp_path)
    (source / "train" / "dog" / "a.png").unlink()
    with pytest.raises(
        DataError, match=r"train/dog holds no image that can be read: 1 HEIC image below .* pillow-heif"
    ):
        load_training(source)


def test_a_class_of_nothing_else_says_so_in_annotations_and_csv(tmp_path: Path) -> None:
    source = in_a_csv(tmp_path)
    rows = source.read_text().splitlines()
    source.write_text("\n".join(row for row in rows if "-dog.png" not in row))
    with pytest.raises(DataError, match=r"class 'dog' has no image that can be read: 2 HEIC images of .*set.csv"):
        load_training(source)
    root = in_voc_splits(tmp_path / "voc")
    for suffix in ("jpg", "xml"):
        (root / "train" / f"cat.{suffix}").unlink()
    with pytest.raises(DataError, match=r"class 'cat' has no image that can be read: 2 HEIC images of .*train"):
        load_split(root, "train")
