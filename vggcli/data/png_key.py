"""The one colour that a PNG without an alpha channel can declare transparent, compared in all its bits.

Pillow keeps it as the file has it, but gives pixels in 8 bits: fewer bits are scaled up, and 16 bits are truncated.
"""

import io

import numpy as np
from PIL import Image, PngImagePlugin

FEW_BITS = {"L;2": 2, "L;4": 4}  # Pillow's names of how samples are stored
WIDE_RGB = "RGB;16B"
LOW_BYTES = "RGB;16L"  # reads the second of each two bytes, which is the low one


def settle_key(image: Image.Image) -> Image.Image | None:
    """For a PNG of 16-bit colour, opened and not yet loaded: the mask of its transparent pixels, and its transparent colour
    is removed. For any other image None, and a PNG's transparent colour is converted to 8 bits as its pixels are."""
    if not isinstance(image, PngImagePlugin.PngImageFile) or not image.tile:
        return None
    key, stored = image.info.get("transparency"), image.tile[0][3]
    if isinstance(key, int) and stored in FEW_BITS:
        top = 2 ** FEW_BITS[stored] - 1
        image.info["transparency"] = (key & top) * 255 // top
    elif isinstance(key, int) and stored == "L":
        image.info["transparency"] = key & 255
    elif isinstance(key, tuple) and stored == "RGB":
        image.info["transparency"] = tuple(value & 255 for value in key)
    elif isinstance(key, tuple) and stored == WIDE_RGB:
        del image.info["transparency"]
        high_HWC, low_HWC = (_bytes(image, part) for part in (WIDE_RGB, LOW_BYTES))
        values_HWC = high_HWC.astype(np.uint16) << 8 | low_HWC
        return Image.fromarray((values_HWC == key).all(2))
    return None


def _bytes(image: PngImagePlugin.PngImageFile, stored: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The pixels [H, W, 3] of the same file, decoded again with the raw mode `stored`."""
    assert isinstance(image.fp, io.BytesIO)
    with PngImagePlugin.PngImageFile(io.BytesIO(image.fp.getvalue())) as again:
        again.tile = [tile._replace(args=stored) for tile in again.tile]
        return np.asarray(again)
