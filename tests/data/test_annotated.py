"""Where images with Pascal VOC annotations lie: one folder or one a split, annotations apart or beside them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import picture
from tests.data.voc_sets import Marked, listed, voc_set
from vggcli.data.image_set import ImageSet
from vggcli.data.sources import load_split, load_training
from vggcli.errors import DataError

SMALL, LARGE = (1, 2, 9, 12), (5, 5, 40, 60)
TRAIN: dict[str, list[Marked]] = {
    "one_jpg.rf.0a1b": [("dog", SMALL, 0), ("cat", LARGE, 0)],
    "two": [("dog", LARGE, 0)],
}
VAL: dict[str, list[Marked]] = {"two": [("cat", SMALL, 0)]}  # another image of the same name
Layout = Callable[[Path], None]


def apart(annotations: str, pictures: str, train: str = "train", val: str = "valid") -> Layout:
    """A folder for each split with these two folders in it; "." is the split's own."""

    def make(root: Path) -> None:
        voc_set(root / train, TRAIN, annotations, pictures)
        voc_set(root / val, VAL, annotations, pictures)

    return make


def split_inside(root: Path) -> None:
    """images/train and annotations/train, as some tools order them."""
    for name, images in (("train", TRAIN), ("val", VAL)):
        voc_set(root, images, f"annotations/{name}", f"images/{name}")


def shared_annotations(root: Path) -> None:
    """The images of each split apart, all annotations together."""
    voc_set(root, {"one": TRAIN["one_jpg.rf.0a1b"], "two": TRAIN["two"]}, "Annotations", "train")
    voc_set(root, {"three": VAL["two"]}, "Annotations", "val")


LAYOUTS: dict[str, Layout] = {
    "roboflow": apart(".", "."),
    "folders": apart("annotations", "images"),
    "devkit": apart("Annotations", "JPEGImages", "Training", "TEST"),
    "in images": apart("images", "images"),
    "images below": apart(".", "images"),
    "xml": apart("xml", "."),
    "split inside": split_inside,
    "shared": shared_annotations,
}


def labels(images: ImageSet) -> dict[str, str]:
    return {Path(name).stem[:3]: images.classes[label] for name, label in zip(images.names, images.labels, strict=True)}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_folders_of_splits_are_splits_with_the_class_of_the_largest_object(tmp_path: Path, layout: Layout) -> None:
    layout(tmp_path)
    train, val = load_training(tmp_path)
    assert labels(train) == {"one": "cat", "two": "dog"}
    assert list(labels(val).values()) == ["cat"]
    assert [train.own_boxes(row) for row in range(2)] == [(LARGE,), (LARGE,)]
    assert val.own_boxes(0) == (SMALL,)
    assert len(train.objects[0]) == 2
    assert all((images.root / images.names[row]).is_file() for images in (train, val) for row in range(len(images)))
    assert not train.remarks + val.remarks


def test_each_split_is_had_by_its_name(tmp_path: Path) -> None:
    apart(".", ".")(tmp_path)
    voc_set(tmp_path / "test", {"three": [("dog", SMALL, 0)]}, ".", ".")
    assert load_split(tmp_path, "test").names == ("test/three.jpg",)
    assert load_split(tmp_path, "val").names == ("valid/two.jpg",)


@pytest.mark.parametrize("suffix", ["xml", "XML"])
def test_a_flat_folder_of_images_with_annotations_beside_them_is_split_by_the_hash(tmp_path: Path, suffix: str) -> None:
    voc_set(tmp_path, {f"{n}": [("cat" if n % 2 else "dog", LARGE, 0)] for n in range(40)}, ".", ".")
    for path in list(tmp_path.glob("*.xml")):
        path.rename(path.with_suffix(f".{suffix}"))
    (tmp_path / "classes.txt").write_text("cat\ndog\n")  # as LabelImg leaves it
    (tmp_path / "._3.xml").write_bytes(b"\0\5\26\7")
    train, val = load_training(tmp_path)
    assert sorted((*train.names, *val.names)) == sorted(f"{n}.jpg" for n in range(40))
    assert 2 <= len(val) <= 18
    assert labels(train) == {stem: "cat" if int(stem) % 2 else "dog" for stem in labels(train)}


def test_class_folders_stay_classes_whatever_lies_beside_their_images(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("hat", "shoe"):
            voc_set(tmp_path / split / name, {"a": [("something else", LARGE, 0)]}, ".", ".")
    (tmp_path / "train" / "notes.xml").write_text("<notes/>")
    assert load_training(tmp_path)[0].classes == ("hat", "shoe")


def beside_and_classes(root: Path) -> None:
    voc_set(root, TRAIN, ".", ".")
    (root / "cat").mkdir()
    picture(0, 0).save(root / "cat" / "a.jpg")


def whole_and_split(root: Path) -> None:
    voc_set(root, TRAIN)
    voc_set(root / "train", TRAIN, ".", ".")


def two_folders(root: Path) -> None:
    voc_set(root, TRAIN)
    voc_set(root, TRAIN, "annots")


def one_split_without(root: Path) -> None:
    apart(".", ".")(root)
    for path in (root / "valid").glob("*.xml"):
        path.unlink()


def image_without(root: Path) -> None:
    apart(".", ".")(root)
    (root / "train" / "two.xml").unlink()


def annotation_without(root: Path) -> None:
    shared_annotations(root)
    (root / "train" / "two.jpg").unlink()


def empty_annotation(root: Path) -> None:
    voc_set(root / "train", {"a": []}, ".", ".")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (beside_and_classes, r"holds images with annotations beside them and a folder of images, cat/; move"),
        (whole_and_split, r"has annotations in .*/Annotations and, for train/ only, in .*/train; move"),
        (two_folders, r"has annotations in .*/Annotations and in .*/annots; move one of the two away"),
        (one_split_without, r"/valid has no Pascal VOC annotations, but train/ has some; add them"),
        (image_without, r"1 image of .* has no annotation; the first missing one is .*/train/two\.xml"),
        (annotation_without, r"/Annotations/two\.xml has no image in train/ or val/"),
        (empty_annotation, r"/train/a\.xml marks no object"),
    ],
)
def test_what_could_be_read_in_two_ways_is_said(tmp_path: Path, make: Layout, message: str) -> None:
    make(tmp_path)
    with pytest.raises(DataError, match=message):
        load_training(tmp_path)


@pytest.mark.parametrize("line", ["{}.jpg", "JPEGImages/{}.jpg", "{}.jpg  1", "{}"])
def test_lists_may_name_the_files(tmp_path: Path, line: str) -> None:
    images: dict[str, list[Marked]] = {"one": [("cat", LARGE, 0)], "one.two": [("dog", LARGE, 0)]}
    root = listed(voc_set(tmp_path / "set", images), train=[line.format(stem) for stem in images], val=["one"])
    assert labels(load_split(root, "train")) == {"one": "dog"} and len(load_split(root, "train")) == 2


def test_stems_are_the_same_in_every_unicode_form(tmp_path: Path) -> None:
    voc_set(tmp_path, {"b\u00e9ret": [("cat", LARGE, 0)], "two": [("dog", LARGE, 0)]}, ".", ".")
    (tmp_path / "b\u00e9ret.xml").rename(tmp_path / "be\u0301ret.xml")
    assert len(load_split(tmp_path, "train")) == 2
