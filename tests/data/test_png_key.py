"""Transparency in PNG files of every kind, over white, against a composition in floating point of the stored values."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.test_decode import chunk
from vggcli.data.decode import read_image

Values = np.ndarray[Any, np.dtype[np.int64]]
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6  # colour types
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}


def png(values_HWC: Values, bits: int, colour: int, palette: bytes = b"", transparent: bytes | None = None) -> bytes:
    """The file, written out by hand."""
    height, width = values_HWC.shape[:2]
    rows = b""
    for row in values_HWC.reshape(height, -1):
        line = "".join(f"{int(value):0{bits}b}" for value in row)
        line += "0" * (-len(line) % 8)
        rows += b"\0" + int(line, 2).to_bytes(len(line) // 8, "big")
    head = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    found = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    found += chunk(b"PLTE", palette) if palette else b""
    found += chunk(b"tRNS", transparent) if transparent is not None else b""
    return found + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def over_white(colour: Any, alpha: Any) -> Any:
    """255 for white; colour and alpha from 0 to 1."""
    return 255 * (colour * alpha + 1 - alpha)


def check(path: Path, data: bytes, wanted_HWC: Any, tolerance: float) -> None:
    path.write_bytes(data)
    found = np.asarray(read_image(path)).astype(float)
    assert np.abs(found - wanted_HWC).max() <= tolerance + 1e-9


def drawn(bits: int, colour: int, seed: int = 0) -> Values:
    return np.random.default_rng(seed).integers(0, 2**bits, (12, 13, CHANNELS[colour]))


@pytest.mark.parametrize("bits", [8, 16])
def test_the_transparent_colour_is_told_from_its_neighbours_in_every_bit(tmp_path: Path, bits: int) -> None:
    values = drawn(bits, RGB)
    key = (2**bits // 3, 77, 2**bits - 2)
    values[2:5] = key
    values[6], values[7], values[8] = (key[0] + 1, *key[1:]), (*key[:2], key[2] + 1), (key[0], 78, key[2])
    alpha = 1 - (values == key).all(2, keepdims=True)
    wanted = over_white(values / (2**bits - 1), alpha)
    check(tmp_path / "a.png", png(values, bits, RGB, transparent=struct.pack(">HHH", *key)), wanted, 1)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_any_depth(tmp_path: Path, bits: int) -> None:
    values = drawn(bits, GREY)
    for key in {0, 1, 2**bits // 2, 2**bits - 1}:
        values[3:5, 3:9] = key
        wanted = over_white(values / (2**bits - 1), values != key)
        check(tmp_path / "a.png", png(values, bits, GREY, transparent=struct.pack(">H", key)), wanted, 1)


def test_bits_of_the_key_that_no_pixel_has_are_left_out_of_it(tmp_path: Path) -> None:
    """As section 11.3.2.1 of the PNG specification asks."""
    grey, rgb = drawn(8, GREY), drawn(8, RGB)
    grey[3:5], rgb[3:5] = 7, (7, 8, 9)
    check(tmp_path / "a.png", png(grey, 8, GREY, transparent=b"\1\7"), over_white(grey / 255, grey != 7), 0)
    alpha = 1 - (rgb == (7, 8, 9)).all(2, keepdims=True)
    check(tmp_path / "a.png", png(rgb, 8, RGB, transparent=b"\1\7\2\x08\3\x09"), over_white(rgb / 255, alpha), 0)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_a_palette_with_opacities(tmp_path: Path, bits: int, share: float) -> None:
    colours, draw = 2**bits, np.random.default_rng(1)
    values = drawn(bits, PALETTE)
    palette = draw.integers(0, 256, (colours, 3), dtype=np.uint8)
    opacities = draw.integers(0, 256, int(colours * share), dtype=np.uint8)
    alpha = np.concatenate([opacities, np.full(colours - len(opacities), 255)])[values] / 255
    data = png(values, bits, PALETTE, palette.tobytes(), opacities.tobytes())
    check(tmp_path / "a.png", data, over_white(palette[values[..., 0]] / 255, alpha), 0.5)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("colour", [GREY_ALPHA, RGB_ALPHA])
def test_an_alpha_channel(tmp_path: Path, bits: int, colour: int) -> None:
    values = drawn(bits, colour)
    values[2:4, :, -1], values[5:7, :, -1] = 0, 2**bits - 1
    parts = values / (2**bits - 1)
    wanted = over_white(parts[..., :-1], parts[..., -1:])
    check(tmp_path / "a.png", png(values, bits, colour), wanted, 0.5 if bits == 8 else 2)


@pytest.mark.parametrize(
    ("colour", "transparent"),
    [(GREY, b"\1"), (RGB, b"\0\1\0"), (PALETTE, bytes(300)), (GREY_ALPHA, b"\0\1"), (RGB, b"")],
)
def test_transparency_of_a_wrong_length_is_left_out(tmp_path: Path, colour: int, transparent: bytes) -> None:
    values = drawn(8, colour)
    palette = bytes(range(256)) * 3 if colour == PALETTE else b""
    check(
        tmp_path / "a.png",
        png(values, 8, colour, palette, transparent),
        np.asarray(_plain(tmp_path / "b.png", png(values, 8, colour, palette))),
        0,
    )


def _plain(path: Path, data: bytes) -> Any:
    path.write_bytes(data)
    return read_image(path)
