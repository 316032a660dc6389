"""Images in tar files are read where they lie, whatever else the tar holds."""

import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vggcli.data.decode import ImageError, read_image
from vggcli.data.tars import image_members
from vggcli.errors import DataError


def added(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_the_images_and_their_pixels_are_exact(tmp_path: Path, layout: int) -> None:
    odd = os.fsdecode(b"\xff\xfe new\nline.PNG")
    pixels = {}
    with tarfile.open(tmp_path / "s.tar", "w", format=layout, errors="surrogateescape") as tar:
        for index, name in enumerate(["a/000.png", odd, "x" * 90 + "/long.png"]):
            pixels[name] = np.random.default_rng(index).integers(0, 256, (9, 7, 3), dtype=np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels[name]).save(buffer, format="PNG")
            added(tar, name, buffer.getvalue())
            added(tar, f"a/00{index}.json", b"{}")
            added(tar, f"a/._00{index}.png", b"junk of another system")
        tar.add(tmp_path, "folder.png", recursive=False)
    members = list(image_members(tmp_path / "s.tar"))
    assert [member.name for member in members] == list(pixels)
    for member in members:
        sent = pickle.loads(pickle.dumps(member))  # as to a worker
        assert np.array_equal(np.asarray(read_image(sent)), pixels[member.name])
        assert str(member) == f"{tmp_path}/s.tar/{member.name}"


def test_a_damaged_member_is_one_bad_image(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        added(tar, "bad.jpg", b"no image")
    (member,) = image_members(tmp_path / "s.tar")
    with pytest.raises(ImageError, match=r"s.tar/bad.jpg cannot be used: it is not an image"):
        read_image(member)


def test_what_is_no_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "whole.tar", "w") as tar:
        added(tar, "a.jpg", bytes(50_000))
        added(tar, "b.jpg", bytes(50_000))
    (tmp_path / "cut.tar").write_bytes((tmp_path / "whole.tar").read_bytes()[:70_000])
    (tmp_path / "text.tar").write_text("no tar")
    (tmp_path / "packed.tar.gz").touch()
    os.mkfifo(tmp_path / "fifo.tar")
    for name, words in [
        ("cut.tar", "damaged or cut short"),
        ("text.tar", "damaged or cut short"),
        ("packed.tar.gz", "decompress it"),
        ("fifo.tar", "not a regular file"),
        ("none.tar", "not a regular file"),
    ]:
        with pytest.raises(DataError, match=words):
            list(image_members(tmp_path / name))


def test_joined_tars_are_read_whole(tmp_path: Path) -> None:
    for name in "ab":
        with tarfile.open(tmp_path / f"{name}.tar", "w") as tar:
            added(tar, f"{name}.jpg", name.encode() * 700)
    (tmp_path / "s.tar").write_bytes((tmp_path / "a.tar").read_bytes() + (tmp_path / "b.tar").read_bytes())
    members = image_members(tmp_path / "s.tar")
    assert [(member.name, member.read()) for member in members] == [("a.jpg", b"a" * 700), ("b.jpg", b"b" * 700)]


def linked(tar: tarfile.TarFile, name: str, target: str, kind: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    tar.addfile(entry)


def test_links_are_the_files_that_they_lead_to(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        linked(tar, "x/soft.jpg", "../a/one.jpg", tarfile.SYMTYPE)
        added(tar, "a/one.jpg", b"one")
        linked(tar, "x/hard.jpg", "a/one.jpg", tarfile.LNKTYPE)
    members = list(image_members(tmp_path / "s.tar"))
    assert [(one.name, one.read()) for one in members] == [
        ("a/one.jpg", b"one"), ("x/soft.jpg", b"one"), ("x/hard.jpg", b"one")
    ]  # fmt: skip


@pytest.mark.parametrize("target", ["none.jpg", "soft.jpg"])
def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path, target: str) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        linked(tar, "soft.jpg", target, tarfile.SYMTYPE)
    with pytest.raises(DataError, match=f"soft.jpg is a link to {target}"):
        list(image_members(tmp_path / "s.tar"))


def test_files_of_a_kind_that_nobody_knows_count_as_files_and_devices_are_refused(tmp_path: Path) -> None:
    def packed(name: str, kind: bytes) -> list[str]:
        with tarfile.open(tmp_path / "s.tar", "w") as tar:
            added(tar, "a.jpg", b"1234")
            entry = tarfile.TarInfo(name)
            entry.type, entry.size = kind, 4 if kind == b"Q" else 0
            tar.addfile(entry, io.BytesIO(b"5678"))
        return [f"{member.name} {member.read().decode()}" for member in image_members(tmp_path / "s.tar")]

    assert packed("b.jpg", b"Q") == ["a.jpg 1234", "b.jpg 5678"]
    assert packed("device", tarfile.CHRTYPE) == ["a.jpg 1234"]
    for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
        with pytest.raises(DataError, match=r"b.jpg is a device or a FIFO"):
            packed("b.jpg", kind)
    assert packed("__MACOSX/b.jpg", tarfile.REGTYPE) == ["a.jpg 1234"]


def test_a_compressed_tar_is_told_by_its_content(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w:gz") as tar:
        added(tar, "a.jpg", b"1234")
    with pytest.raises(DataError, match=r"s.tar is compressed"):
        list(image_members(tmp_path / "s.tar"))
