"""A damaged tar is an error that names the byte, or gives every image as it was: none vanishes."""

import io
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from vggcli.data.tar_entries import BLOCK, LONGEST_PADDING
from vggcli.data.tars import image_members
from vggcli.errors import DataError

LAYOUTS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
PNG = b"\x89PNG\r\n\x1a\n"


def packed(files: dict[str, bytes], layout: str = "gnu") -> bytes:
    """A tar as Python writes it."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=LAYOUTS[layout]) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return whole.getvalue()


def images(layout: str) -> dict[str, bytes]:
    """Twenty things that begin as images do, under short, long and foreign names, and a text beside each."""
    files, long = {}, "long/" if layout == "ustar" else "long" * 40 + "/"
    for index in range(20):
        folder = ("", long, "é/")[index % 3]
        files[f"{folder}{index:03d}.png"] = PNG + random.Random(index).randbytes(100 * index)
        files[f"{folder}{index:03d}.json"] = b"{}"
    return files


def read(path: Path, content: bytes) -> dict[str, bytes]:
    path.write_bytes(content)
    return {member.name: member.read() for member in image_members(path)}


def flipped(content: bytes, draw: random.Random) -> bytes:
    """With one bit of one header, long name or end mark changed; image data are left as they are."""
    starts = [place for place in range(0, len(content), BLOCK) if content[place + 257 : place + 262] == b"ustar"]
    place = draw.choice([*starts, len(content) - BLOCK]) + draw.randrange(BLOCK)
    return content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]


def cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content.rstrip(b"\0")) + 1024)]


def zeroed(content: bytes, draw: random.Random) -> bytes:
    """With one block of zeros in place of another."""
    place = draw.randrange(len(content) // BLOCK) * BLOCK
    if content[place : place + 8] == PNG:  # what is in an image is the image's own matter
        place += -BLOCK
    return content[:place] + bytes(BLOCK) + content[place + BLOCK :]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("damage", [flipped, cut, zeroed], ids=lambda damage: damage.__name__)
def test_damage_loses_no_image(tmp_path: Path, layout: str, damage: Callable[[bytes, random.Random], bytes]) -> None:
    files = images(layout)
    whole = packed(files, layout)
    wanted = {name for name in files if name.endswith(".png")}
    assert read(tmp_path / "s.tar", whole) == {name: files[name] for name in wanted}
    refused = 0
    for seed in range(60):
        try:
            found = read(tmp_path / "s.tar", damage(whole, random.Random(seed)))
        except DataError as error:
            refused += 1
            assert "s.tar" in str(error) and "byte" in str(error)
        else:
            assert set(found) == wanted, f"seed {seed}"
    assert refused > 20


ONE, OTHER = packed({"a.png": PNG * 100}), packed({"b.png": PNG * 200})
HEADER = ONE[:BLOCK]


def sparse(content: bytes) -> bytes:
    """The first entry as GNU tar marks sparse files."""
    header = bytearray(content[:BLOCK])
    header[156:157], header[148:156] = b"S", b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content[BLOCK:]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "byte 0 "),
        (ONE.rstrip(b"\0") + bytes(1), "has no end mark"),
        (HEADER + ONE[BLOCK:1536], "byte 1536 .it has no end mark"),
        (HEADER + ONE[BLOCK:1536] + bytes(BLOCK), "end mark is cut"),
        (ONE + b"garbage", "follows its end mark"),
        (ONE + b"x" * BLOCK, "byte 10240 .there is no valid header"),
        (ONE + bytes(LONGEST_PADDING), "as if data were missing"),
        (ONE[:1536] + bytes(BLOCK) + OTHER, "zeros instead of a header"),
        (ONE[:1536] + bytes(3 * BLOCK) + OTHER, "zeros instead of entries"),
        (ONE[:1024], "byte 1024 .a.png should end at byte 1312"),
        (sparse(ONE), "a.png .byte 0. is stored as a sparse file"),
        (ONE + ONE, "holds a.png twice, at bytes 512 and 10752"),
        (packed({"x" * 200 + ".png": PNG})[:1024] + bytes(1024), "byte 1024 "),
    ],
)  # fmt: skip
def test_what_is_not_as_tar_writes_it_is_named_by_its_byte(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(tmp_path / "s.tar", content)


@pytest.mark.parametrize(
    "content",
    [ONE + OTHER, ONE[:1536] + bytes(1024) + OTHER, ONE + OTHER + bytes(10_240), ONE[:1536] + bytes(1024) + OTHER[:3584]],
)  # fmt: skip
def test_joined_tars_of_any_writer_are_whole(tmp_path: Path, content: bytes) -> None:
    assert read(tmp_path / "s.tar", content) == {"a.png": PNG * 100, "b.png": PNG * 200}


def test_an_image_counts_whatever_its_name(tmp_path: Path) -> None:
    whole = packed({"a.pnh": PNG, "b.json": b"{}", ".c": PNG, "d.png": b"none"})
    assert list(read(tmp_path / "s.tar", whole)) == ["a.pnh", "d.png"]
