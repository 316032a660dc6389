"""Whole images with broken metadata are used, and turned where their orientation can be read."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from tests.data.test_decode import gradient
from vggcli.data.decode import decode_image
from vggcli.data.image_metadata import without_broken
from vggcli.data.survey import has_header

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PROFILES = {
    "text": b"no profile at all",
    "empty": b"",
    "cut": PROFILE[:100],
    "head only": PROFILE[:128],
    "long": PROFILE + bytes(100_000),
    "zeros": bytes(200),
    "size": b"\xff\xff\xff\xff" + PROFILE[4:],
}
XMPS = {
    "cut": b"<x:xmpmeta <",
    "bytes": bytes(range(256)),
    "not utf-8": b"\xff\xfe<x:xmpmeta tiff:Orientation='9'>",
    "entity": b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
    "number": b'<x:xmpmeta tiff:Orientation="99999999999999999999"/>',
    "long": b"<x>" + b"y" * 60_000,
}


def saved(kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    gradient().save(file, kind, **options)
    return file.getvalue()


def segment(kind: int, content: bytes) -> bytes:
    return bytes((0xFF, kind)) + (len(content) + 2).to_bytes(2, "big") + content


def in_jpeg(*segments: bytes) -> bytes:
    plain = saved("JPEG")
    return plain[:2] + b"".join(segments) + plain[2:]


def in_png(name: bytes, content: bytes) -> bytes:
    plain = saved("PNG")
    check = zlib.crc32(name + content).to_bytes(4, "big")
    return plain[:33] + len(content).to_bytes(4, "big") + name + content + check + plain[33:]


def field(tag: int, kind: int, count: int, value: int) -> bytes:
    return struct.pack("<HHII", tag, kind, count, value)


def exif(*fields: bytes, count: int | None = None, following: int = 0) -> bytes:
    head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(fields) if count is None else count)
    return head + b"".join(fields) + struct.pack("<I", following)


SIX = field(0x0112, 3, 1, 6)  # to be turned by 90 degrees
BROKEN_EXIF = {
    "huge count": exif(SIX, field(0x010F, 2, 0xFFFFFFFF, 8)),
    "huge count first": exif(field(0x010F, 2, 0xFFFFFFFF, 8), SIX),
    "far offset first": exif(field(0x010F, 2, 100, 0xFFFFFFF0), SIX),
    "count of fields": exif(SIX, count=0xFFFF),
    "circle": exif(SIX, following=8),
    "circle of directories": exif(SIX, field(0x8769, 4, 1, 8)),
    "place": exif(SIX, field(0x8825, 4, 1, 0xFFFFFF)),
    "type": exif(field(0x9999, 99, 1, 0), SIX),
    "ratio": exif(SIX, field(0x011A, 5, 1, 0)),
    "wide": exif(field(0x0112, 4, 1, 6)),
}
LOST_EXIF = {
    "count of orientation": exif(field(0x0112, 3, 0x7FFFFFFF, 6)),
    "text": exif(field(0x0112, 2, 2, 0x36)),
    "beyond": b"II*\0\xff\xff\xff\xff",
    "no header": b"XX*\0\x08\0\0\0",
    "empty": b"",
    "ones": b"II*\0\x08\0\0\0" + b"\xff" * 60,
}


def check(path: Path, data: bytes, turned: bool = False) -> None:
    path.write_bytes(data)
    image, was_turned = decode_image(path)
    assert has_header(path)
    assert was_turned == turned
    stored = image.transpose(Image.Transpose.ROTATE_90) if turned else image
    difference = np.asarray(stored).astype(int) - np.asarray(gradient())
    assert np.abs(difference).mean() < 5


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_a_broken_colour_profile(tmp_path: Path, kind: str, profile: bytes) -> None:
    check(tmp_path / "a", saved(kind, icc_profile=profile))


@pytest.mark.parametrize("xmp", XMPS.values(), ids=XMPS)
def test_broken_xmp(tmp_path: Path, xmp: bytes) -> None:
    check(tmp_path / "a", in_jpeg(segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)))
    check(tmp_path / "a", saved("WEBP", xmp=xmp))
    check(tmp_path / "a", in_png(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp))
    for compression in ("raw", "tiff_lzw"):
        for orientation in (1, 6):
            found = TiffImagePlugin.ImageFileDirectory_v2()
            found[700], found[0x0112] = xmp, orientation
            found.tagtype[700] = 7
            check(tmp_path / "a", saved("TIFF", tiffinfo=found, compression=compression), orientation == 6)


@pytest.mark.parametrize("content", BROKEN_EXIF.values(), ids=BROKEN_EXIF)
def test_exif_with_absurd_sizes_turns_where_the_orientation_can_be_read(tmp_path: Path, content: bytes) -> None:
    check(tmp_path / "a", in_jpeg(segment(0xE1, b"Exif\0\0" + content)), turned=True)
    check(tmp_path / "a", in_png(b"eXIf", content), turned=True)
    check(tmp_path / "a", saved("WEBP", exif=b"Exif\0\0" + content), turned=True)


@pytest.mark.parametrize("content", LOST_EXIF.values(), ids=LOST_EXIF)
def test_exif_whose_orientation_cannot_be_read_turns_nothing(tmp_path: Path, content: bytes) -> None:
    check(tmp_path / "a", in_jpeg(segment(0xE1, b"Exif\0\0" + content)))
    check(tmp_path / "a", in_png(b"eXIf", content))
    check(tmp_path / "a", saved("WEBP", exif=b"Exif\0\0" + content))


@pytest.mark.parametrize(
    "segments",
    [
        [segment(0xE2, b"ICC_PROFILE\0")],
        [segment(0xE2, b"ICC_PROFILE\0\0\0" + PROFILE)],
        [segment(0xE2, b"ICC_PROFILE\0\1\3" + PROFILE)],
        [segment(0xE2, b"ICC_PROFILE\0\1\2" + PROFILE)] * 2,
        [segment(0xE2, b"MPF\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40)],
        [segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\xff\xff\xff\xff")],
        [segment(0xEE, b"Adobe")],
        [segment(0xE0, b"JFIF")],
    ],
    ids=["short", "none of none", "one of three", "twice", "pictures", "photoshop", "adobe", "jfif"],
)
def test_broken_segments_of_a_jpeg(tmp_path: Path, segments: list[bytes]) -> None:
    check(tmp_path / "a", in_jpeg(*segments))
    check(tmp_path / "a", in_jpeg(segment(0xE1, b"Exif\0\0" + exif(SIX)), *segments), turned=True)


FIELDS = {"make": 271, "xmp": 700, "news": 33723, "photoshop": 34377, "profile": 34675, "of no known use": 42112}
LIES = {
    "count": (7, 0xFFFFFFFF, None),
    "offset": (7, 1000, 0xFFFFFFF0),
    "both": (2, 0x7FFFFFFF, 0xFFFFFFF0),
    "number": (4, 1, 0xFFFFFF),
    "ratio": (5, 3, None),
    "type": (99, 5, None),
}


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("tag", FIELDS.values(), ids=FIELDS)
@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_broken_fields_of_a_tiff(tmp_path: Path, tag: int, lie: tuple[int, int, int | None], orientation: int) -> None:
    found = TiffImagePlugin.ImageFileDirectory_v2()
    found[tag], found[0x0112] = b"abcdefgh", orientation
    found.tagtype[tag] = 7
    data = bytearray(saved("TIFF", tiffinfo=found))
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    place = next(
        at for at in range(start + 2, start + 2 + 12 * count, 12) if data[at : at + 2] == struct.pack("<H", tag)
    )
    kind, values, offset = lie
    struct.pack_into("<HI", data, place + 2, kind, values)
    if offset is not None:
        struct.pack_into("<I", data, place + 8, offset)
    check(tmp_path / "a", bytes(data), turned=orientation == 6)


def test_what_is_sound_is_not_touched() -> None:
    for kind in ("TIFF", "JPEG", "WEBP", "BMP"):
        data = saved(kind)
        assert without_broken(data) == data
    for cut in (b"II*\0", b"MM\0*\0\0\0\x08", b"II*\0\x08\0\0\0\xff\xff", b"\x89PNG\r\n\x1a\n\0\0"):
        assert without_broken(cut) == cut
