"""Removes metadata from PNG, TIFF and JPEG files that do not change any pixel.

If some of these are long or broken, Pillow refuses the whole file or loses the fields after them.
"""

import struct

from vggcli.data.jpeg_check import START_OF_SCAN

PNG = b"\x89PNG\r\n\x1a\n"  # the first bytes of every PNG
COLOUR_TYPE = 25  # offset in a PNG
TRANSPARENCY = {0: {2}, 2: {6}, 3: range(257)}  # by colour type, the valid lengths of the chunk tRNS
TIFF = {b"II*\0": "<", b"MM\0*": ">"}  # the first bytes of a TIFF, with its byte order
JPEG = b"\xff\xd8\xff"
PNG_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")  # that are removed
PIXEL_FIELDS = {  # tags of a TIFF that are always kept: those of TIFF 6.0 and its notes on JPEG and sample formats
    *(*range(254, 260), 262, 263, 266, 273, 274, 277, 278, 279, 284, *range(290, 294), 317, 320, *range(322, 326)),
    *(332, 334, *range(336, 342), 347, *range(512, 522), *range(529, 533)),
}
XMP, XMP_TYPES = 700, (1, 7)  # bytes, or bytes of undefined meaning
TYPE_BYTES = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4), start=1))  # bytes of a value, by a field's type
SEGMENTS = {0xE0: (b"JFIF\0", 14), 0xE1: (b"Exif\0\0", 8), 0xEE: (b"Adobe", 12)}  # of a JPEG: beginning, least bytes


def without_broken(data: bytes) -> bytes:
    """The file in `data` for the first attempt to open it: a PNG without texts, colour profile and transparency of a wrong
    length, a TIFF without broken fields that do not change any pixel, any other unchanged."""
    if data.startswith(PNG):
        return _png(data)
    return _tiff(data, TIFF[data[:4]]) if data[:4] in TIFF else data


def without_all(data: bytes) -> bytes:
    """The file in `data` for the second attempt: a JPEG with only those application segments that are intact and say how to
    read its pixels (JFIF, Exif, Adobe), any other unchanged."""
    return _jpeg(data) if data.startswith(JPEG) else data


def _png(data: bytes) -> bytes:
    """A truncated chunk is kept."""
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
    """The first directory is rewritten in place."""
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
    except struct.error:  # the file is too short
        return data
    end = start + 2 + 12 * count
    if end + 4 > len(data):
        return data
    fields = [data[at : at + 12] for at in range(start + 2, end, 12)]
    sound = [field for field in fields if _is_sound(field, order, len(data))]
    if len(sound) == count:
        return data
    next_directory = data[end : end + 4]  # its offset
    directory = struct.pack(f"{order}H", len(sound)) + b"".join(sound) + next_directory
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
