"""Checks that the data of a JPEG fill the image exactly.

libjpeg fills missing parts with grey when a marker ends the data early, and Pillow hides its warnings. Here the same
decoder gets the data without the end marker: if it still waits for more, the file is truncated, and if it is done before
the last bytes, the data are damaged.
"""

import itertools
import re
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from PIL import Image, JpegImagePlugin

CODEC = "jpeg_to_its_end"
START_OF_SCAN, END_OF_IMAGE, NUMBER_OF_LINES = 0xDA, 0xD9, 0xDC  # ITU T.81, table B.1
ONE_SCAN, PROGRESSIVE = (0xC0, 0xC1), 0xC2  # frames coded by Huffman
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # those are tables and other markers
SEGMENT = struct.Struct(">BBH").unpack_from  # 0xFF, marker, length of the segment
LAST_MARKER = b"\xff\xd9"
MARKER = re.compile(
    rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL
)  # one that ends a scan: neither a stuffed 0xFF nor a restart
PADDING = bytes(16)  # longer than what the decoder reads ahead
SLACK = 8  # bytes that may be left when the last row is complete
TRAILER = 64  # with so many bytes after the last end marker, the first one is tried first


class Frame(NamedTuple):
    """A JPEG's frame: its marker, its number of components, that of the first scan, and the offset of that scan's data."""

    marker: int
    components: int
    scanned: int
    start: int

    @property
    def one_scan(self) -> bool:
        """Whether the first scan is the only one, that is, has all components."""
        return self.marker in ONE_SCAN and self.scanned == self.components


def frame_of(data: bytes) -> Frame | None:
    """The frame of the JPEG in `data`, or None where its header is unusual."""
    position, marker, components = 2, 0, 0
    last = len(data) - 10
    while position < last:
        begin, kind, length = SEGMENT(data, position)
        if begin != 0xFF:
            return None
        if kind == START_OF_SCAN:
            return Frame(marker, components, data[position + 4], position + 2 + length)
        if kind in FRAMES:
            marker, components = kind, data[position + 9]
        position += 1 if kind == 0xFF else 2 + length  # a fill byte
    return None


class JpegLayout(NamedTuple):
    """The offsets at which the data of each scan end, and whether the scans have every coefficient down to its last bit."""

    ends: tuple[int, ...]
    complete: bool


def layout(data: bytes) -> JpegLayout | None:
    """The scans of the JPEG in `data`; None where its end marker is missing or its coding is a rare one."""
    position, frame, components, scanned, within = 2, 0, 0, 0, False
    brought: set[tuple[int, int]] = set()  # component, coefficient
    ends: list[int] = []
    while (found := MARKER.search(data, position)) is not None:
        marker, position = data[found.end() - 1], found.end()
        if within:
            ends.append(found.start())
        within = marker == START_OF_SCAN
        if marker == END_OF_IMAGE:
            known = frame in (*ONE_SCAN, PROGRESSIVE) and scanned
            gathered = frame == PROGRESSIVE or scanned != components
            return JpegLayout(tuple(ends), not gathered or len(brought) == 64 * components) if known else None
        segment = data[position : position + int.from_bytes(data[position : position + 2], "big")]
        if marker in FRAMES:
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


def ends(data: bytes, start: int) -> Iterator[int]:
    """The offsets at which the data of the only scan, which begin at `start`, may end, the most likely first: before the
    last end marker, before the first one, and before the bytes that pad the file. The next one is to be tried where the
    last row is complete before this one. Raises OSError where there is no end marker."""
    last = data.rfind(LAST_MARKER, start)
    if last < 0:
        raise OSError("its end marker is missing")
    if len(data) - last < TRAILER:
        yield last
    first = scan_end(data, start)
    if first >= 0:
        if first != last or len(data) - last >= TRAILER:
            yield first
        filled = len(trimmed(data[start:first])) + start
        if filled < first:
            yield filled


def scan_end(data: bytes, start: int) -> int:
    """The offset at which the data of the last scan, which begins at `start`, end; -1 where no end marker follows them."""
    found = MARKER.search(data, start)
    if found is not None and data[found.end() - 1] == NUMBER_OF_LINES:
        found = MARKER.search(data, found.end())
    return found.start() if found is not None and data[found.end() - 1] == END_OF_IMAGE else -1


def trimmed(scan: bytes) -> bytes:
    """A scan's data without the padding after them."""
    body = scan.rstrip(b"\xff").rstrip(b"\0")
    return body + b"\0" if body.endswith(b"\xff") else body  # a stuffed 0xFF


class ToItsEnd:
    """Pillow's JPEG decoder for a whole file at once. Raises OSError where the data end before or after the last row."""

    pulls_fd = False

    def __init__(self, mode: str, *args: Any) -> None:
        self._arguments = (mode, *args)
        self._inner = Image.core.jpeg_decoder(mode, *args)  # type: ignore[attr-defined]

    def setimage(self, *args: Any) -> None:
        """As Pillow's decoders: the image that gets the rows."""
        self._target = args
        self._inner.setimage(*args)

    def cleanup(self) -> None:
        """Frees the decoder."""
        self._inner.cleanup()

    def decode(self, data: bytes) -> tuple[int, int]:
        """As Pillow's decoders: the number of bytes used (-1 when done) and an error number (negative for an error)."""
        frame = frame_of(data)
        if frame is None or not frame.one_scan:
            return self._several_scans(data)
        for end in ends(data, frame.start):
            used, error = self._inner.decode(memoryview(data)[: max(frame.start, end - SLACK)])
            if error < 0:
                return used, error
            if used >= 0:
                return self._ended(self._inner.decode(data[used:end] + PADDING))
            self._inner.cleanup()
            self._inner = Image.core.jpeg_decoder(*self._arguments)  # type: ignore[attr-defined]
            self._inner.setimage(*self._target)
        raise OSError("its data do not fit its size")

    def _several_scans(self, data: bytes) -> tuple[int, int]:
        """Several scans are decoded when the end marker comes. At the end of a scan's data, a decoder that has finished the
        scan skips further bytes, and one that has not keeps those that do not complete a block."""
        found = layout(data)
        if found is None:
            return self._ended(self._inner.decode(data))
        if not found.complete:
            raise OSError("scans are missing")
        left = b""
        for begin, end in itertools.pairwise((0, *found.ends)):
            left += data[begin:end]
            for more in (PADDING, b"\0", b"\0", b"\0"):
                left += more
                used, error = self._inner.decode(left)
                if used < 0:
                    return used, error
                left = left[used:]
                if left and more != PADDING:
                    raise OSError("its data end early")
        return self._ended(self._inner.decode(left + data[found.ends[-1] :]))

    @staticmethod
    def _ended(result: tuple[int, int]) -> tuple[int, int]:
        if result[0] >= 0:
            raise OSError("its data end early")
        return result


def decode_to_its_end(image: Image.Image) -> None:
    """Make `image`, opened and not yet loaded, use `ToItsEnd` if it is a JPEG; any other stays as it is.

    CMYK is inverted only in files with Adobe's marker, as ImageMagick does; Pillow inverts it in all.
    """
    if isinstance(image, JpegImagePlugin.JpegImageFile) and len(image.tile) == 1 and image.tile[0][0] == "jpeg":
        _, extents, offset, args = image.tile[0]
        if isinstance(args, tuple) and args[0] == "CMYK;I" and "adobe" not in image.info:
            args = ("CMYK", *args[1:])
        Image.register_decoder(CODEC, ToItsEnd)  # type: ignore[arg-type]
        image.tile = [(CODEC, extents, offset, args)]  # type: ignore[list-item]
        image.decodermaxblock = max(image.fp.seek(0, 2), 1)  # type: ignore[union-attr]
