"""Whether a JPEG's data go on to its end.

libjpeg fills what is missing with grey when a marker stops the data early, and Pillow keeps its warning to itself. Here the
same decoder gets the data without the marker that ends them: one that still waits for more was cut short.
"""

import re
from dataclasses import dataclass
from typing import Any

from PIL import Image, JpegImagePlugin

CODEC = "jpeg_to_its_end"
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9  # ITU T.81, table B.1
ONE_SCAN, PROGRESSIVE = (0xC0, 0xC1), 0xC2  # frames coded by Huffman
MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)  # one that ends a scan: no stuffed 0xFF, no restart
PADDING = bytes(16)  # more than the decoder reads ahead
MAX_EXTRA = 1 / 8  # of the file may be left over when the last row is there


@dataclass(frozen=True)
class Layout:
    """Where the data of the last scan end (an offset), whether there is more than one scan to be gathered, and whether the
    scans bring every coefficient down to its last bit."""

    end: int
    gathered: bool
    complete: bool


def layout(data: bytes) -> Layout | None:
    """How the JPEG in `data` is laid out; None where its end marker is missing or its coding is a rare one."""
    position, frame, components, scanned = 2, 0, 0, 0
    brought: set[tuple[int, int]] = set()  # component, coefficient
    while (found := MARKER.search(data, position)) is not None:
        marker, position = data[found.end() - 1], found.end()
        if marker == END_OF_IMAGE:
            known = frame in (*ONE_SCAN, PROGRESSIVE) and scanned
            gathered = frame == PROGRESSIVE or scanned != components
            return Layout(found.start(), gathered, not gathered or len(brought) == 64 * components) if known else None
        segment = data[position : position + int.from_bytes(data[position : position + 2], "big")]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame, not tables or their kin
            frame, components = marker, segment[7] if len(segment) > 7 else 0
        if marker == START_OF_SCAN:
            scanned = segment[2] if len(segment) > 2 else 0
            first, last, bits = segment[-3:] if len(segment) == 6 + 2 * scanned else (0, -1, 0)
            if frame == PROGRESSIVE and bits & 15 == 0:
                brought |= {(part, at) for part in segment[3:-3:2] for at in range(first, last + 1)}
            elif frame != PROGRESSIVE and scanned != components:
                brought |= {(part, at) for part in segment[3:-3:2] for at in range(64)}
        position += len(segment)
    return None


class ToItsEnd:
    """Pillow's JPEG decoder, given the whole file at once. Raises OSError where the data end early, or go on long after the
    last row."""

    pulls_fd = False

    def __init__(self, mode: str, *args: Any) -> None:
        self._inner = Image.core.jpeg_decoder(mode, *args)  # type: ignore[attr-defined]

    def setimage(self, *args: Any) -> None:
        """Where the rows go."""
        self._inner.setimage(*args)

    def cleanup(self) -> None:
        """Frees the decoder."""
        self._inner.cleanup()

    def decode(self, data: bytes) -> tuple[int, int]:
        """As Pillow's decoders: bytes used (-1 when done) and an error number (below 0 for one)."""
        found = layout(data)
        if found is None:
            return self._ended(self._inner.decode(data))
        if found.gathered:
            if not found.complete:
                raise OSError("scans are missing")
            return self._gathered(data[: found.end], data[found.end :])
        early = int(found.end * (1 - MAX_EXTRA))
        used, error = self._inner.decode(data[:early])
        if error < 0:
            return used, error
        if used < 0:
            raise OSError("its data do not fit its size")
        return self._ended(self._inner.decode(data[used : found.end] + PADDING))

    def _gathered(self, body: bytes, rest: bytes) -> tuple[int, int]:
        """Several scans are decoded when the end marker comes. Before it, a decoder that is through with the last scan
        skips byte after byte; one that is not holds on to those that complete no block."""
        left = body
        for more in (PADDING, b"\0", b"\0", b"\0"):
            left += more
            used, error = self._inner.decode(left)
            if used < 0:
                return used, error
            left = left[used:]
            if left and more != PADDING:
                raise OSError("its data end early")
        return self._ended(self._inner.decode(left + rest))

    @staticmethod
    def _ended(result: tuple[int, int]) -> tuple[int, int]:
        if result[0] >= 0:
            raise OSError("its data end early")
        return result


def decode_to_its_end(image: Image.Image) -> None:
    """Has `image`, opened and not yet loaded, decoded by `ToItsEnd` if it is a JPEG; any other stays as it is.

    CMYK is inverted only where Adobe's marker says who wrote it, as ImageMagick does; Pillow inverts all.
    """
    if isinstance(image, JpegImagePlugin.JpegImageFile) and len(image.tile) == 1 and image.tile[0][0] == "jpeg":
        _, extents, offset, args = image.tile[0]
        if isinstance(args, tuple) and args[0] == "CMYK;I" and "adobe" not in image.info:
            args = ("CMYK", *args[1:])
        Image.register_decoder(CODEC, ToItsEnd)  # type: ignore[arg-type]
        image.tile = [(CODEC, extents, offset, args)]  # type: ignore[list-item]
        image.decodermaxblock = max(image.fp.seek(0, 2), 1)  # type: ignore[union-attr]
