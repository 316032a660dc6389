"""A JPEG is used if and only if its data fit its pixels: what is added behind them is passed over, damage in them found."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.test_decode import photo_like
from vggcli.data.decode import ImageError, read_image
from vggcli.data.jpeg_check import frame_of, layout, scan_end, trimmed

END = b"\xff\xd9"
CODINGS: list[dict[str, Any]] = [
    {},
    {"optimize": True},
    {"restart_marker_blocks": 7},
    {"subsampling": 0, "quality": 95},
]


def coded(mode: str = "RGB", **coding: Any) -> bytes:
    file = io.BytesIO()
    photo_like().convert(mode).save(file, "JPEG", **coding)
    return file.getvalue()


def refused(path: Path, data: bytes, at_least: int | None = None) -> bool:
    path.write_bytes(data)
    try:
        read_image(path, at_least)
    except ImageError as error:
        assert "damaged or cut short" in str(error)
        return True
    return False


@pytest.mark.parametrize("coding", CODINGS, ids=str)
@pytest.mark.parametrize(
    "behind",
    [
        bytes(99) + END,  # to fill a block
        bytes(5000) + END,
        b"\xff" * 9 + END,  # fill bytes of a marker
        bytes(7) + b"\xff\xff" + END,
        END + b"\0" * 500,
        END + bytes(range(256)) * 4,
        END + coded(),  # another image
        END + coded(progressive=True) + b"and then text",
        END + b"\xff\xd8 a thumbnail " + END,
    ],
    ids=["zeros", "more zeros", "fill", "both", "padding", "trailer", "image", "image and text", "short"],
)
def test_what_lies_behind_the_data_changes_nothing(tmp_path: Path, coding: dict[str, Any], behind: bytes) -> None:
    plain = coded(**coding)
    (tmp_path / "a.jpg").write_bytes(plain.removesuffix(END) + behind)
    with Image.open(io.BytesIO(plain)) as image:
        wanted = np.asarray(image.convert("RGB"))
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.jpg")), wanted)


@pytest.mark.parametrize("coding", [*CODINGS, {"progressive": True}], ids=str)
def test_a_file_that_lacks_its_last_bytes_is_cut_short(tmp_path: Path, coding: dict[str, Any]) -> None:
    for cut in (1, 2, 3, 5, 9, 20):
        assert refused(tmp_path / "a.jpg", coded(**coding)[:-cut])


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("at_least", [None, 40])
def test_noise_in_the_data_is_found_unless_it_fits_by_chance(tmp_path: Path, mode: str, at_least: int | None) -> None:
    plain = coded(mode)
    start = frame_of(plain).start  # type: ignore[union-attr]
    draw = np.random.default_rng(0)
    found = 0
    for place in range(start + 100, len(plain) - 600, (len(plain) - start - 700) // 60):
        noise = bytes(draw.integers(0, 254, 400, dtype=np.uint8))  # no marker among them
        found += refused(tmp_path / "a.jpg", plain[:place] + noise + plain[place + 400 :], at_least)
    assert found > 40  # of 61; of RGB 1 where bytes may be left over


@pytest.mark.parametrize("length", [2048, 100_000])
def test_a_lost_block_is_found(tmp_path: Path, length: int) -> None:
    plain = coded()
    start = frame_of(plain).start  # type: ignore[union-attr]
    for place in range(start + 100, len(plain) - 2500, 1500):
        gap = min(length, len(plain) - 2 - place)
        assert refused(tmp_path / "a.jpg", plain[:place] + bytes(gap) + plain[place + gap :])


@pytest.mark.parametrize("marker", [0x01, 0x3A, 0xC4, 0xD0, 0xD8, 0xD9, 0xE1, 0xFE])
def test_a_marker_within_the_data_is_found(tmp_path: Path, marker: int) -> None:
    plain = coded()
    start = frame_of(plain).start  # type: ignore[union-attr]
    for place in (start + 50, (start + len(plain)) // 2, len(plain) - 500):
        assert refused(tmp_path / "a.jpg", plain[:place] + bytes((0xFF, marker)) + plain[place + 2 :])


def test_the_head_says_where_the_data_begin() -> None:
    plain = coded(restart_marker_blocks=7, comment=b"\xff\xda in a comment", exif=b"Exif\0\0\xff\xd9\xff\xda")
    frame = frame_of(plain)
    assert frame is not None and frame.one_scan and (frame.marker, frame.components) == (0xC0, 3)
    assert plain[frame.start - 14 : frame.start - 10] == b"\xff\xda\0\x0c"  # the head of the scan
    assert scan_end(plain, frame.start) == len(plain) - 2
    assert scan_end(plain[:-2], frame.start) == -1
    progressive = frame_of(coded(progressive=True))
    assert progressive is not None and not progressive.one_scan
    assert frame_of(b"\xff\xd8\xff\xe0\0\x10 cut short") is None


def test_filling_is_told_from_a_stuffed_byte() -> None:
    assert trimmed(b"\x12\x34\0\0\0") == b"\x12\x34"
    assert trimmed(b"\x12\xff\0\0\0") == b"\x12\xff\0"  # the first zero belongs to the 0xFF
    assert trimmed(b"\x12\xff\0") == b"\x12\xff\0"
    assert trimmed(b"\x12\0\xff\xff") == b"\x12"


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_scan_that_ends_early_is_found_wherever_it_stands(tmp_path: Path, mode: str) -> None:
    plain = coded(mode, progressive=True)
    found = layout(plain)
    assert found is not None and found.complete
    assert not refused(tmp_path / "a.jpg", plain)
    begins = [plain.rindex(b"\xff\xda", 0, end) for end in found.ends]
    assert len(begins) == (10 if mode == "RGB" else 6)
    for begin, end in zip(begins, found.ends, strict=True):
        data = begin + 2 + int.from_bytes(plain[begin + 2 : begin + 4], "big")
        middle = (data + end) // 2
        assert refused(tmp_path / "a.jpg", plain[:middle].rstrip(b"\xff") + plain[end:])
