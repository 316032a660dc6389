"""Folders with Pascal VOC annotations: what they mean, and hostile or broken files."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torchvision

from tests.data.voc_sets import Marked, annotation, listed, voc_set
from vggcli.data.sources import load_split, load_training, load_whole
from vggcli.data.voc import MAX_BYTES, MarkedObject, read_annotation
from vggcli.errors import DataError

SMALL, LARGE, OTHER = (1, 2, 9, 12), (5, 5, 40, 60), (10.5, 3, 20, 9)
IMAGES: dict[str, Sequence[Marked]] = {
    "one": [("dog", SMALL, 0), ("cat", LARGE, 1), ("dog", OTHER, 0)],
    "two": [("dog", LARGE, 0)],
    "three": [("cat", SMALL, 0), ("cat", OTHER, 0)],
    "four": [("cat", SMALL, 0), ("bird", LARGE, 1)],
}


@pytest.mark.parametrize("annotations", ["Annotations", "annotations", "annots"])
@pytest.mark.parametrize("pictures", ["JPEGImages", "images", "."])
def test_an_image_has_the_label_of_its_largest_object_and_keeps_all(
    tmp_path: Path, annotations: str, pictures: str
) -> None:
    root = listed(voc_set(tmp_path / "set", IMAGES, annotations, pictures), train=["one", "two"], val=["three"])
    train, val = load_training(root)
    prefix = "" if pictures == "." else f"{pictures}/"
    assert train.names == (f"{prefix}one.jpg", f"{prefix}two.jpg")
    assert [train.classes[label] for label in train.labels] == ["cat", "dog"]
    assert [train.own_boxes(row) for row in range(2)] == [(LARGE,), (LARGE,)]  # of the label's class
    assert train.objects[0] == (
        MarkedObject("dog", SMALL), MarkedObject("cat", LARGE, difficult=True), MarkedObject("dog", OTHER)
    )  # fmt: skip
    assert val.own_boxes(0) == (SMALL, OTHER)
    assert (train.root / train.names[1]).is_file()


def test_it_reads_what_torchvision_reads(tmp_path: Path) -> None:
    datasets = torchvision.datasets
    root = listed(voc_set(tmp_path / "VOCdevkit" / "VOC2007", IMAGES), trainval=["one", "four"], test=["two"])
    for split in ("trainval", "test"):
        theirs = datasets.VOCDetection(tmp_path, year="2007", image_set=split)
        mine = load_split(root, split)
        assert {str(mine.path(index)) for index in range(len(mine))} == set(theirs.images)
        for path, (_, target) in zip(theirs.images, theirs, strict=True):
            objects = mine.objects[mine.names.index(f"JPEGImages/{Path(path).name}")]
            wanted = target["annotation"]["object"]
            assert [one.label for one in objects] == [one["name"] for one in wanted]
            assert [one.difficult for one in objects] == [one["difficult"] == "1" for one in wanted]
            assert [one.box[2] for one in objects] == [float(one["bndbox"]["xmax"]) for one in wanted]


def test_without_lists_the_split_is_the_hash_of_the_names(tmp_path: Path) -> None:
    root = voc_set(tmp_path / "set", {f"{n}": [("cat" if n % 2 else "dog", LARGE, 0)] for n in range(60)})
    train, val = load_training(root)
    assert 3 <= len(val) <= 25
    assert not set(train.names) & set(val.names)
    whole = load_whole(root)
    assert whole.names == tuple(sorted({*train.names, *val.names}))
    assert len(whole.objects) == len(whole) == 60
    assert whole.classes[whole.labels[whole.names.index("JPEGImages/7.jpg")]] == "cat"


def test_one_class_only_is_said(tmp_path: Path) -> None:
    root = voc_set(tmp_path / "set", {f"{n}": [("raccoon", LARGE, 0)] for n in range(30)})
    with pytest.raises(DataError, match="one class only, 'raccoon'"):
        load_training(root)


def test_a_split_that_is_not_listed_is_named_with_those_that_are(tmp_path: Path) -> None:
    root = listed(voc_set(tmp_path / "set", IMAGES), train=["one"], test=["two"])
    assert load_split(root, "val").names == ("JPEGImages/two.jpg",)  # under its other name
    with pytest.raises(DataError, match=r"no split 'trainval' \(it has train, test\)"):
        load_split(root, "trainval")


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<annotation><filename>&b;</filename></annotation>"
)
OUTSIDE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><annotation><filename>&x;</filename></annotation>'


@pytest.mark.parametrize(
    "content", [BOMB.encode(), OUTSIDE.encode(), OUTSIDE.encode("utf-16"), b"<!DOCTYPE annotation><annotation/>"]
)
def test_document_types_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.xml"
    path.write_bytes(content)
    with pytest.raises(DataError, match="declares a document type"):
        read_annotation(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object>", "cannot be read as an annotation"),
        ("", "cannot be read as an annotation"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', "cannot be read as an annotation"),
        ("<html/>", "root is <html>"),
        ("<annotation>" + " " * MAX_BYTES + "</annotation>", "larger than an annotation can be"),
        (annotation("x.jpg", [("", SMALL, 0)]), "without a name"),
        ("<annotation><object><name>dog</name></object></annotation>", "'dog' is not four numbers"),
        (f"<annotation><object><name>{'d' * 99_999}</name></object></annotation>", "its 'd{1,40}[.]{3}d{1,40}' is not"),
        ('<?xml version="1.0" encoding="punycode"?><annotation/>', "its encoding is not supported"),
        ("<annotation>" + "<a>" * 99_999, "cannot be read as an annotation"),
    ],
)
def test_what_is_wrong_with_an_annotation_is_said(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.xml"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_annotation(path)


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (7, 5, 5, 9), (float("nan"), 5, 7, 9), (1, 1, float("inf"), 9)])
def test_a_box_without_area_is_an_error_unless_boxes_are_checked_later(
    tmp_path: Path, box: tuple[float, float, float, float]
) -> None:
    root = listed(voc_set(tmp_path / "set", {"one": [("dog", box, 0), ("cat", SMALL, 0)]}), train=["one"])
    with pytest.raises(DataError, match=r"one\.jpg of .*: the box of its 'dog' .*(no area|not finite).*; correct it"):
        load_split(root, "train")
    images = load_split(root, "train", boxes=True)
    assert [one.label for one in images.objects[0]] == ["dog", "cat"]
    assert images.classes == ("cat",)  # what has no area is not the largest


def test_what_is_no_file_is_no_annotation(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.xml")
    with pytest.raises(DataError, match="not a regular file"):
        read_annotation(tmp_path / "x.xml")


def test_images_and_annotations_belong_together(tmp_path: Path) -> None:
    root = voc_set(tmp_path / "set", IMAGES)
    images, marks = root / "JPEGImages", root / "Annotations"
    (marks / "two.xml").rename(tmp_path / "two.xml")
    with pytest.raises(DataError, match=r"1 image of .* has no annotation; the first missing one is .*two\.xml"):
        load_split(root, "train")
    (tmp_path / "two.xml").rename(marks / "two.xml")
    (images / "three.jpg").rename(tmp_path / "three.jpg")
    with pytest.raises(DataError, match=r"three\.xml has no image"):
        load_whole(root)
    (tmp_path / "three.jpg").rename(images / "three.jpg")
    (images / "one.png").write_bytes((images / "one.jpg").read_bytes())
    assert "JPEGImages/one.jpg" in load_whole(root).names  # the one that the annotation states
    (marks / "one.xml").write_text(annotation("elsewhere.jpg", IMAGES["one"]))
    with pytest.raises(DataError, match="could belong to"):
        load_whole(root)
    (images / "one.png").unlink()
    (marks / "one.xml").write_text(annotation("one.jpg", []))
    with pytest.raises(DataError, match="marks no object"):
        load_whole(root)


def test_hidden_annotations_are_none(tmp_path: Path) -> None:
    root = listed(voc_set(tmp_path / "set", IMAGES), train=["one", "two"], val=["three"])
    (root / "Annotations" / "._one.xml").write_bytes(b"\0\5\26\7")
    (root / "ImageSets" / "Main" / "train.txt").unlink()
    (root / "ImageSets" / "Main" / "val.txt").unlink()
    assert len(load_whole(root)) == len(IMAGES)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lists_of_stems_with_spaces_in_any_encoding(tmp_path: Path, encoding: str) -> None:
    images = {"img (1)": IMAGES["one"], "img 1": IMAGES["two"], "img": IMAGES["three"]}
    root = listed(voc_set(tmp_path / "set", images), train=[], val=["img"])
    text = "img (1)  1\r\nimg 1\r\nimg -1\r\n"  # with the devkit's marks, where a stem may end in a 1 of its own
    (root / "ImageSets" / "Main" / "train.txt").write_bytes(text.encode(encoding))
    assert load_split(root, "train").names == ("JPEGImages/img (1).jpg", "JPEGImages/img 1.jpg", "JPEGImages/img.jpg")


@pytest.mark.parametrize("encoding", ["gb2312", "shift_jis", "utf-8", "latin-1"])
def test_an_annotation_is_read_in_the_encoding_that_it_declares(tmp_path: Path, encoding: str) -> None:
    label = "h\xe9" if encoding == "latin-1" else "帽"
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>12</ymax></bndbox>"
    text = f'<?xml version="1.0" encoding="{encoding}"?><annotation><object><name>{label}</name>{box}</object></annotation>'
    path = tmp_path / "a.xml"
    path.write_bytes(text.encode(encoding))
    assert read_annotation(path)[1] == (MarkedObject(label, (1, 2, 9, 12)),)


@pytest.mark.parametrize("encoding", ["gb2312", "no-such-code", "rot13", "zip"])
def test_an_annotation_that_is_not_what_it_declares_is_refused(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(f'<?xml version="1.0" encoding="{encoding}"?><annotation>'.encode() + b"\xff\xff</annotation>")
    with pytest.raises(DataError, match="UTF-8"):
        read_annotation(path)


def test_a_document_type_is_refused_in_any_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes(
        b'<?xml version="1.0" encoding="gb2312"?><!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>'
    )
    with pytest.raises(DataError, match="document type"):
        read_annotation(path)


def test_lists_are_found_in_any_case_and_two_of_a_name_are_refused(tmp_path: Path) -> None:
    root = listed(voc_set(tmp_path / "set", IMAGES), train=["one", "two"], val=["three"])
    lists = root / "ImageSets" / "Main"
    (lists / "train.txt").rename(lists / "Train.TXT")
    assert load_split(root, "train").names == ("JPEGImages/one.jpg", "JPEGImages/two.jpg")
    (lists / "TRAIN.txt").write_text("three\n")
    with pytest.raises(DataError, match="TRAIN.txt and Train.TXT"):
        load_split(root, "train")
