"""Packed shards train as their source does: the same classes, labels, boxes and bytes in the same order."""

import tarfile
from pathlib import Path

import pytest

from tests.conftest import MakeFolder
from tests.data.test_shards import in_shards
from tests.data.voc_sets import voc_set
from vggcli.data import pack as packing
from vggcli.data.decode import read_image
from vggcli.data.image_set import ImageSet
from vggcli.data.pack import pack
from vggcli.data.sources import load_both
from vggcli.errors import DataError, UsageError


def contents(images: ImageSet) -> list[bytes]:
    return [read_image(images.path(row)).tobytes() for row in range(len(images))]


def same(shards: ImageSet, source: ImageSet) -> bool:
    assert contents(shards) == contents(source)
    assert [[one.stated for one in some] for some in shards.objects] == [
        [one.stated for one in some] for some in source.objects
    ]
    return (shards.classes, shards.labels, shards.objects) == (source.classes, source.labels, source.objects)


def test_packed_shards_hold_their_source(
    tmp_path: Path, make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = make_folder(classes=3, train=4, val=2)
    for split in ("train", "val"):  # names of classes that look like numbers
        (photos / split / "class0").rename(photos / split / "7")
        (photos / split / "class1").rename(photos / split / "10")
    monkeypatch.setattr(packing, "SHARD_BYTES", 8000)
    source, done = load_both(photos), list[int]()
    count = pack(*source, tmp_path / "s", done.append)
    files = {path.name: path.read_bytes() for path in (tmp_path / "s").iterdir()}
    assert count == len(files) - 1 > 3 and sum(done) == 18
    shards = load_both(tmp_path / "s")
    assert all(map(same, shards, source)) and not shards[0].remarks
    with tarfile.open(tmp_path / "s" / "train-000000.tar") as tar:
        first = (photos / "train" / "10" / "0.jpg").read_bytes()
        assert tar.getnames()[:2] == ["00000000.jpg", "00000000.cls"]
        assert [file.read() for name in tar.getnames()[:2] if (file := tar.extractfile(name))] == [first, b"0"]
    pack(*source, tmp_path / "again")
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == files
    pack(*shards, tmp_path / "repacked")
    assert {path.name: path.read_bytes() for path in (tmp_path / "repacked").iterdir()} == files


def test_boxes_are_packed(tmp_path: Path) -> None:
    marked = {f"{n}": [("dog", (1.5, 2, 30, 40), n % 2), ("007", (0, 0, 48, 64), 0)] for n in range(20)}
    source = load_both(voc_set(tmp_path / "voc", marked), boxes=True)
    pack(*source, tmp_path / "s")
    assert all(map(same, load_both(tmp_path / "s", boxes=True), source))


def test_shards_appear_whole_or_not_at_all(tmp_path: Path, make_folder: MakeFolder) -> None:
    photos = make_folder(classes=2, train=2, val=1)
    train, val = load_both(in_shards(tmp_path / "given", photos, 1))
    (tmp_path / "given" / "val-000000.tar").unlink()
    with pytest.raises(DataError, match=r"val-000000.tar/class0/0.jpg cannot be read: no such file"):
        pack(train, val, tmp_path / "s")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given", "photos"]
    with pytest.raises(UsageError, match="given exists already; give a new folder"):
        pack(train, val, tmp_path / "given")
    with pytest.raises(UsageError, match="there is no folder"):
        pack(train, val, tmp_path / "no" / "s")
