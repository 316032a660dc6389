"""Shards are a source like any other: the same images, labels, boxes and pixels as the files that were packed."""

import io
import json
import pickle
import shutil
import tarfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import MakeFolder, picture
from vggcli.data import shard_index, shard_split
from vggcli.data.boxes import checked_boxes
from vggcli.data.decode import read_image, upright_size
from vggcli.data.find import find_source
from vggcli.data.image_set import ImageSet
from vggcli.data.outputs import check_outside_source
from vggcli.data.shards import Shards, find_shards
from vggcli.data.sources import load_both, load_split, load_training, load_whole
from vggcli.data.survey import survey
from vggcli.data.usable import usable
from vggcli.errors import DataError
from vggcli.places import Places


def jpeg(label: int = 0, index: int = 0) -> bytes:
    buffer = io.BytesIO()
    picture(label, index).save(buffer, format="JPEG", quality=95)
    return buffer.getvalue()


def packed(path: Path, files: Mapping[str, bytes]) -> Path:
    """A tar of `files`; returns its folder."""
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path.parent


def in_shards(folder: Path, photos: Path, shards: int = 2) -> Path:
    """The class folders of train/ and val/ below `photos`, each split in some shards."""
    for split in ("train", "val"):
        files = sorted(path for path in (photos / split).rglob("*") if path.is_file())
        for shard in range(shards):
            some = {path.relative_to(photos / split).as_posix(): path.read_bytes() for path in files[shard::shards]}
            packed(folder / f"{split}-{shard:06d}.tar", some)
    return folder


def by_member(images: ImageSet) -> dict[str, tuple[str, bytes]]:
    """The class name and the bytes of each image, by its name without the shard or the split."""
    found = {}
    for row, name in enumerate(images.names):
        place = images.path(row)
        data = place.read_bytes() if isinstance(place, Path) else place.read()
        found[name.split("/", 1)[1]] = (images.classes[images.labels[row]], data)
    return found


def test_shards_hold_what_was_packed(tmp_path: Path, make_folder: MakeFolder) -> None:
    photos = make_folder(classes=3, train=5, val=3)
    folders, shards = load_training(photos), load_training(in_shards(tmp_path / "s", photos))
    for split, other in zip(shards, folders, strict=True):
        assert by_member(split) == by_member(other)
        assert split.classes == other.classes
        assert list(split.names) == sorted(split.names)
        sent = pickle.loads(pickle.dumps(split))  # as to a worker
        assert [str(sent.path(row)) for row in range(len(split))] == [f"{tmp_path}/s/{name}" for name in split.names]
    train = shards[0]
    rows = [4, 0, 7]
    some = train.chosen(rows)
    assert list(some.names) == [train.names[row] for row in rows] and some.names.index(train.names[7]) == 2
    assert [some.path(at) for at in range(3)] == [train.path(row) for row in rows]
    assert len(load_whole(tmp_path / "s")) == 24
    assert train.fingerprint() == load_split(tmp_path / "s", "train").fingerprint() != some.fingerprint()
    found = survey(*shards)
    assert (found.train, found.val, found.unreadable) == ((5, 5, 5), (3, 3, 3), ())
    check_outside_source([("out", tmp_path / "s" / "run")], tmp_path / "s", train)


def test_equal_and_unreadable_images_of_shards_are_surveyed(tmp_path: Path) -> None:
    image = jpeg()
    packed(tmp_path / "s" / "train.tar", {"a/0.jpg": image, "b/0.jpg": image, "b/1.jpg": b"none", "b/2.jpg": b"none"})
    packed(tmp_path / "s" / "val.tar", {"a/1.jpg": image, "b/0.jpg": jpeg(1)})
    train, val = load_training(tmp_path / "s")
    found = survey(train, val)
    assert found.unreadable == ("train.tar/b/1.jpg", "train.tar/b/2.jpg")
    assert found.repeated == (("train.tar/a/0.jpg", "val.tar/a/1.jpg"),)
    assert found.contradictory == (("train.tar/a/0.jpg", "train.tar/b/0.jpg"),)
    kept, bad = usable(train, 0, lambda images: None)
    assert list(kept.names) == ["train.tar/a/0.jpg", "train.tar/b/0.jpg"] and [one.index for one in bad] == [2, 3]
    assert read_image(kept.path(1)).size == (48, 64)


def test_a_split_by_a_hash_is_that_of_the_folder_which_was_packed(tmp_path: Path, make_folder: MakeFolder) -> None:
    photos = make_folder(classes=2, train=30, val=0) / "train"
    files = {path.relative_to(photos).as_posix(): path.read_bytes() for path in photos.rglob("*.jpg")}
    packed(tmp_path / "s" / "photos.tar", {f"./{name}": data for name, data in files.items()})
    for split in ("train", "val"):
        names = [name.removeprefix("photos.tar/") for name in load_split(tmp_path / "s", split).names]
        assert names == list(load_split(photos, split).names)
        assert names == [
            name.removeprefix("photos.tar/") for name in load_split(tmp_path / "s" / "photos.tar", split).names
        ]
    with pytest.raises(DataError, match="has no split 'test'"):
        load_split(tmp_path / "s", "test")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-000000.tar", "train"),
        ("imagenet1k-validation-07.tar", "val"),
        ("val_0001-of-0064.tar", "val"),
        ("Training.TAR", "train"),
        ("test-0.tar", "val"),
    ],
)
def test_names_of_splits(tmp_path: Path, name: str, split: str) -> None:
    packed(tmp_path / "s" / name, {"a/0.jpg": jpeg()})
    packed(tmp_path / "s" / "more.tar", {"a/1.jpg": jpeg()})
    images = load_split(tmp_path / "s", split)
    assert list(images.names) == [f"{name}/a/0.jpg"]
    assert images.remarks[0].startswith("more.tar beside the shards of splits")
    assert len(load_split(tmp_path / "s" / name, split)) == 1
    with pytest.raises(DataError, match=r"has no dev-\*.tar" if split == "train" else r"has no train-\*.tar \(it has "):
        load_split(tmp_path / "s", "dev" if split == "train" else "train")


def test_classes_are_from_cls_else_the_folder_else_json(tmp_path: Path) -> None:
    files = {
        "dog/a.cls": b"\xef\xbb\xbfcat\n", "dog/a.jpg": jpeg(), "dog/a.txt": b"a caption",
        "dog/b.jpg": jpeg(), "dog/b.json": b'{"label": "cow"}', "dog/b.mask.json": b"[",
        "images/c.jpg": jpeg(), "images/c.json": b'{"class": "cow"}',
        "d.JPG": jpeg(),
        "d.JSON": b'{"objects": [{"class": "x", "box": [1, 1, 5, 5]}, {"class": "elk", "box": [0, 0, 9, 9]}]}',
        ".e.cls": b"hidden", "__MACOSX/f.jpg": jpeg(),
    }  # fmt: skip
    images = load_split(packed(tmp_path / "s" / "train.tar", files), "train")
    labels = [images.classes[label] for label in images.labels]
    assert list(images.names) == [f"train.tar/{name}" for name in ("d.JPG", "dog/a.jpg", "dog/b.jpg", "images/c.jpg")]
    assert labels == ["elk", "cat", "dog", "cow"]


def test_numbered_classes_sort_as_numbers_and_take_the_names_beside_them(tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    for number in (10, 2, 0):
        files |= {f"{number}.cls": b"%d" % number, f"{number}.jpg": jpeg()}
    folder = packed(tmp_path / "s" / "train-0.tar", files)
    packed(tmp_path / "s" / "val-0.tar", {"x.cls": b"2", "x.jpg": jpeg()})
    train, val = load_both(folder)
    assert train.classes == val.classes == ("00", "02", "10") and val.labels == (1,)
    assert "have numbers and no names" in train.remarks[0]
    (folder / "classes.txt").write_text("".join(f"class {11 - number:02d}\n" for number in range(11)))
    assert load_split(folder, "val").classes == ("class 09",) and not load_split(folder, "val").remarks
    (folder / "classes.txt").rename(folder / "classes.json")
    with pytest.raises(DataError, match=r"classes.json cannot be read as a list of class names"):
        load_split(folder, "val")
    (folder / "classes.json").write_text('["a", "b", "a"]')
    with pytest.raises(DataError, match="gives the classes 0 and 2 one name, 'a'"):
        load_split(folder, "val")
    (folder / "classes.json").write_text('["a", "b", "c"]')
    with pytest.raises(DataError, match=r"train-0.tar/10.jpg has the class 10, but classes.json names 3"):
        load_split(folder, "val")


def test_boxes_in_json_are_those_of_pascal_voc(tmp_path: Path) -> None:
    marked = {
        "objects": [
            {"class": 1, "box": [3, 4.5, 20, 30], "difficult": True, "id": 7},
            {"class": "cat", "box": [-1, 0, 48, 64]},
        ],
        "size": [48, 64],
    }
    files = {"0.jpg": jpeg(), "0.json": json.dumps(marked).encode(), "0.cls": b"1", "1.jpg": jpeg(), "1.cls": b"1"}
    folder = packed(tmp_path / "s" / "train-0.tar", files)
    images = load_split(folder, "train")
    first, second = images.objects[0]
    assert (first.label, first.box, first.difficult, first.stated) == ("1", (3, 4.5, 20, 30), True, (48, 64))
    assert (second.label, second.box, second.difficult) == ("cat", (-1, 0, 48, 64), False)
    assert images.own_boxes(0) == ((3, 4.5, 20, 30),) and images.objects[1] == ()
    checked, bad = checked_boxes(images, 0, skip_bad=True)
    assert len(checked) == 1 and not bad
    assert checked.sizes == ((48, 64),) and checked.objects[0][1].box == (0, 0, 48, 64)
    assert upright_size(images.path(0)) == ((48, 64), 1)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.jpg": b""}, r"train.tar/a.jpg has no class; add a .cls"),
        ({"train/a.jpg": b""}, r"train.tar/train/a.jpg has no class; add a .cls"),
        ({"b/a.1.jpg": b"", "b/a.2.jpg": b""}, r"train.tar has two files \(b/a.1.jpg and b/a.2.jpg\) as the image of one"),
        ({"b/a.jpg": b"", "b/a.cls": b"1", "b/a.CLS": b"1"}, r"two files \(b/a.cls and b/a.CLS\) as the .cls of one"),
        ({"a.jpg": b"", "a.cls": b"\xff\xd8"}, r"train.tar/a.cls is not a text in UTF-8 \(byte 0\)"),
        ({"a.jpg": b"", "a.cls": b" \n"}, r"train.tar/a.cls is '', not the name or number of a class"),
        ({"a.jpg": b"", "a.cls": b"two\nlines"}, r"train.tar/a.cls is 'two\\nlines', not the name or number of a class"),
        ({"a.jpg": b"", "a.cls": bytes(9999)}, r"a.cls has 9999 bytes, more than the name of a class can have"),
        ({"b/a.jpg": b"", "c.cls": b"1"}, r"train.tar/c.cls is the class of no image"),
        ({"a.jpg": b"", "a.json": b"[]"}, r"train.tar/a.json is not a JSON object"),
        ({"a.jpg": b"", "a.json": b"{"}, r"train.tar/a.json cannot be read as an annotation: it is not JSON"),
        ({"a.jpg": b"", "a.json": b'{"label": [1]}'}, r"train.tar/a.jpg: the label in its .json is \[1\], not the name"),
        ({"b/a.jpg": b"", "b/a.json": b'{"objects": {"a": 1}}'}, r"a.json: its objects are \{'a': 1\}, not a list"),
        ({"b/a.jpg": b"", "b/a.json": b'{"objects": [{"box": []}]}'}, r"a.json: an object is \{'box': \[\]\}, not"),
        (
            {"b/a.jpg": b"", "b/a.json": b'{"objects": [{"class": "b", "box": [1, 2, 3]}]}'},
            r"a.json: the box of its 'b' is not four numbers \(xmin,ymin,xmax,ymax\), but 1,2,3",
        ),
        (
            {"b/a.jpg": b"", "b/a.json": b'{"objects": [{"class": "b", "box": [1, 2, 3, "4"]}]}'},
            r"a.json: the box of its 'b' is \[1, 2, 3, '4'\], not four numbers",
        ),
        (
            {"b/a.jpg": b"", "b/a.json": b'{"objects": [{"class": "b", "box": [5, 5, 5, 9]}]}'},
            r"train.tar/b/a.jpg of .*: the box of its 'b' \(5,5,5,9\) has no area",
        ),
        ({"b/a.jpg": b"", "b/a.json": b'{"objects": [{"class": "b", "box": [1, 2, 3, 4]}], "size": 3}'}, r"its size is 3"),
        ({"../a.jpg": b""}, r"train.tar holds ../a.jpg, whose path leads out of it"),
        ({"a.txt": b"no image"}, r"the train split of .* is empty: there is no image in it"),
    ],
)  # fmt: skip
def test_what_no_sample_can_be(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_split(packed(tmp_path / "s" / "train.tar", files), "train")


def test_shards_and_other_images_in_one_folder(tmp_path: Path, make_folder: MakeFolder) -> None:
    photos = make_folder(classes=2, train=2, val=1)
    packed(photos / "photos.tar", {"a/0.jpg": jpeg()})  # what it was unpacked from, perhaps
    assert len(load_split(photos, "train")) == 4
    packed(photos / "train.tar", {"a/0.jpg": jpeg()})
    with pytest.raises(DataError, match=r"photos holds shards, such as train.tar, and images, in .*/photos/train"):
        load_split(photos, "train")


def test_compressed_shards_are_told_what_to_do(tmp_path: Path, make_folder: MakeFolder) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "train-000001.tar.gz").touch()
    with pytest.raises(DataError, match=r"train-000001.tar.gz is compressed, .*; decompress it to a .tar first"):
        load_split(tmp_path / "s", "train")
    photos = make_folder(classes=2, train=2, val=1)
    (photos / "train.tar.gz").touch()  # what it was unpacked from
    assert len(load_split(photos, "train")) == 4


class Bars:
    """A Progress that notes its titles and totals."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, int, str]] = []

    def __call__(self, title: str, total: int, unit: str) -> Any:
        from vggcli.progress import silent

        self.shown.append((title, total, unit))
        return silent(title, total, unit)


def test_an_index_is_made_once_and_again_after_a_change(
    tmp_path: Path, make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def again() -> tuple[ImageSet, list[tuple[str, int, str]]]:
        monkeypatch.setattr(shard_index, "_last", {})  # as a new process
        bars = Bars()
        source = find_source(str(folder), Places(tmp_path, tmp_path / "cache"), 2, bars)
        return load_split(source.path, "train", boxes=True), bars.shown

    caplog.set_level("INFO", "vggcli")
    folder = in_shards(tmp_path / "s", make_folder(classes=2, train=4, val=2))
    boxes = b'{"objects": [{"class": 3, "box": [1, 2, 3, 4]}], "size": [48, 64]}'
    packed(folder / "train-7.tar", {"a/0.jpg": jpeg(), "a/0.json": boxes, "x/1.jpg": jpeg()})
    plain = load_split(folder, "train", boxes=True)  # without a cache
    made, shown = again()
    assert shown == [("indexing shards", 5, "shards")]
    kept, shown = again()
    assert not shown
    (file,) = (tmp_path / "cache" / "shards").iterdir()
    for one in (made, kept):
        assert (one.names, one.labels, one.classes) == (plain.names, plain.labels, plain.classes)
        assert one.objects == plain.objects and one.objects[8][0].stated == (48, 64)
        assert [one.path(row) for row in range(len(one))] == [plain.path(row) for row in range(len(one))]
    whole = file.read_bytes()
    for damaged in (whole[:-100], whole.replace(b"train-7.tar/a/0.jpg", b"train-7.tar/a/O.jpg", 1), b""):
        file.write_bytes(damaged)
        caplog.clear()
        assert again()[0].names == plain.names and "is damaged or of another version" in caplog.text
    monkeypatch.setattr(shard_index, "VERSION", 2)
    assert again()[1] and "(version 1): made again" in caplog.text
    shutil.move(folder, tmp_path / "moved")
    folder = tmp_path / "moved"
    moved, shown = again()
    assert not shown and str(moved.path(0)).startswith(str(folder)) and np.asarray(read_image(moved.path(0))).any()
    packed(folder / "train-7.tar", {"a/new.jpg": jpeg()})
    assert again()[1] and list(again()[0].names)[-1] == "train-7.tar/a/new.jpg"


def test_several_processes_make_one_index(
    tmp_path: Path, make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, make = list[Shards](), shard_index._made

    def slowly(shards: Shards, workers: int, progress: Any) -> shard_index.ShardIndex:
        made.append(shards)
        time.sleep(0.2)
        return make(shards, workers, progress)

    monkeypatch.setattr(shard_index, "_made", slowly)
    monkeypatch.setattr(shard_index, "_last", Forgetful())
    monkeypatch.setattr(shard_index, "WAIT", 0.01)
    shards = find_shards(in_shards(tmp_path / "s", make_folder(classes=2, train=2, val=1)))
    assert shards is not None
    with ThreadPoolExecutor(3) as pool:  # locks keep threads apart as they do processes
        found = list(pool.map(lambda _: shard_index.shard_index(shards, tmp_path / "cache"), range(3)))
    assert len(made) == 1 and {len(one.names) for one in found} == {6}
    assert len(list((tmp_path / "cache" / "shards").iterdir())) == 1


class Forgetful(dict[Any, Any]):
    """What several processes know of each other."""

    def __contains__(self, key: object) -> bool:
        return False


def test_images_that_cannot_be_read_here_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heic = b"\0\0\0\x18ftypheic\0\0\0\0heicmif1"
    folder = packed(tmp_path / "s" / "train-0.tar", {"a/0.jpg": jpeg(), "a/1.heic": heic, "a/2.HEIC": jpeg(1)})
    monkeypatch.setattr(shard_split, "can_read", lambda kind: True)
    assert len(load_split(folder, "train")) == 3
    monkeypatch.setattr(shard_split, "can_read", lambda kind: False)
    images = load_split(folder, "train")
    assert list(images.names) == ["train-0.tar/a/0.jpg", "train-0.tar/a/2.HEIC"]
    assert images.remarks[0].startswith("1 HEIC image in the shards of ") and "is left out" in images.remarks[0]
    packed(folder / "train-1.tar", {"b/1.heic": heic})
    with pytest.raises(DataError, match=r"the class 'b' has no image that can be read: 1 HEIC image"):
        load_split(folder, "train")
