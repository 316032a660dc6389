"""The one colour that a PNG without an alpha channel may call transparent, told apart in all its bits.

Pillow keeps it as the file has it, while the pixels come in 8 bits: few bits scaled up, 16 bits cut.
"""

import io

import numpy as np
from PIL import Image, PngImagePlugin

FEW_BITS = {"L;2": 2, "L;4": 4}  # Pillow's names of how samples are stored
WIDE_RGB = "RGB;16B"
LOW_BYTES = "RGB;16L"  # takes the second of each two bytes, the low one of the file's order


def settle_key(image: Image.Image) -> Image.Image | None:
    """The mask of the transparent pixels of a PNG, opened and not yet loaded, of 16-bit colour, which then has no
    transparent colour any more; else None, and its transparent colour is brought to the 8 bits of its pixels."""
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
    """The pixels [H, W, 3] of the same file, read anew as `stored` says."""
    assert isinstance(image.fp, io.BytesIO)
    with PngImagePlugin.PngImageFile(io.BytesIO(image.fp.getvalue())) as again:
        again.tile = [tile._replace(args=stored) for tile in again.tile]
        return np.asarray(again)
