"""PNG, TIFF and JPEG files without the metadata that decide no pixel.

Pillow refuses a whole file, or loses the fields that follow, where some of them are long or broken.
"""

import struct

from vggcli.data.jpeg_check import START_OF_SCAN

PNG = b"\x89PNG\r\n\x1a\n"  # how every PNG begins
COLOUR_TYPE = 25  # where it stands
TRANSPARENCY = {0: {2}, 2: {6}, 3: range(257)}  # bytes that a PNG of a colour type may have of it
TIFF = {b"II*\0": "<", b"MM\0*": ">"}  # and every TIFF, with the order of its bytes
JPEG = b"\xff\xd8\xff"
PNG_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")  # which are left out
PIXEL_FIELDS = frozenset(  # of a TIFF, which are kept as they are: TIFF 6.0, and its notes on JPEG and sample formats
    (
        *(*range(254, 260), 262, 263, 266, 273, 274, 277, 278, 279, 284, *range(290, 294), 317, 320, *range(322, 326)),
        *(332, 334, *range(336, 342), 347, *range(512, 522), *range(529, 533)),
    )
)
XMP, XMP_TYPES = 700, (1, 7)  # bytes, or bytes of no defined kind
TYPE_BYTES = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4), start=1))  # of one value, by a field's type
SEGMENTS = {0xE0: (b"JFIF\0", 14), 0xE1: (b"Exif\0\0", 8), 0xEE: (b"Adobe", 12)}  # of a JPEG: begin, bytes at least


def without_broken(data: bytes) -> bytes:
    """The file in `data` as it is opened first: a PNG less texts, profile and transparency of a wrong length, a TIFF
    less the broken fields that decide no pixel, any other unchanged."""
    if data.startswith(PNG):
        return _png(data)
    return _tiff(data, TIFF[data[:4]]) if data[:4] in TIFF else data


def without_all(data: bytes) -> bytes:
    """The file in `data` as it is opened again where that failed: a JPEG less all but sound segments of the kinds that say
    how its pixels are to be taken (JFIF, Exif, Adobe), any other unchanged."""
    return _jpeg(data) if data.startswith(JPEG) else data


def _png(data: bytes) -> bytes:
    """A chunk that is cut short stays as it is."""
    kept, position = [data[: len(PNG)]], len(PNG)
    while position + 12 <= len(data):
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")  # length, name, content, checksum
        name, length = data[position + 4 : position + 8], end - position - 12
        broken = name == b"tRNS" and length not in TRANSPARENCY.get(data[COLOUR_TYPE], ())
        if not (name in PNG_CHUNKS or broken) or end > len(data):
            kept.append(data[position:end])
        position = end
    return b"".join(kept) + data[position:]


def _tiff(data: bytes, order: str) -> bytes:
    """The first directory is rewritten where it lies."""
    if len(data) < 10:
        return data
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    if start + 2 > len(data):
        return data
    (count,) = struct.unpack_from(f"{order}H", data, start)
    end = start + 2 + 12 * count
    if end + 4 > len(data):
        return data
    fields = [data[at : at + 12] for at in range(start + 2, end, 12)]
    sound = [field for field in fields if _is_sound(field, order, len(data))]
    if len(sound) == count:
        return data
    directory = (
        struct.pack(f"{order}H", len(sound)) + b"".join(sound) + data[end : end + 4]
    )  # then the next one's place
    return data[:start] + directory + data[start + len(directory) :]


def _is_sound(field: bytes, order: str, length: int) -> bool:
    tag, kind, values, place = struct.unpack(f"{order}HHII", field)
    size = TYPE_BYTES.get(kind, 0) * values
    inside = size > 0 and (size <= 4 or place + size <= length)
    return tag in PIXEL_FIELDS or (inside and (tag != XMP or kind in XMP_TYPES))


def _jpeg(data: bytes) -> bytes:
    kept, position = [data[:2]], 2
    while position + 4 < len(data) and data[position] == 0xFF and data[position + 1] != START_OF_SCAN:
        kind = data[position + 1]
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        begin, least = SEGMENTS.get(kind, (b"", 0))
        sound = least and data.startswith(begin, position + 4) and end - position - 4 >= least
        if sound or not (0xE0 <= kind <= 0xEF or kind == 0xFE):
            kept.append(data[position:end])
        position = end
    return b"".join(kept) + data[position:]
