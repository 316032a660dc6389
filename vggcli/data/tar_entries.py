"""A strict reader of the entries of a tar file: whatever tar would not write is an error that names the byte.

Python's `tarfile` takes a damaged header for the end, so the entries after it silently disappear. Here a tar ends with two
blocks of zeros, and only further zeros or another archive may follow them.

Headers in the formats ustar, GNU and pax are read; sparse files and archives of several volumes are refused.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from vggcli.errors import DataError

BLOCK = 512
LONGEST_EXTENDED = 16 << 20  # bytes of extended headers: at most 4096 for a path, but more for other attributes
TAR_RECORD = 20 * BLOCK  # tar pads archives with zeros to a multiple of this, by default
LONGEST_PADDING = 1 << 16  # bytes of zeros after an end mark: the longest records in use
LINKS, SPECIAL, WITHOUT_DATA = b"12", b"346", b"123456V"  # SPECIAL: devices and FIFOs
OTHER_DATA = b"5DNAEIX"  # which tar does not extract as files; other unknown types count as files, as POSIX says
PAX_RECORD = re.compile(rb"(\d{1,9}) ([^=\n\0]+)=")
NO_HEADER = "there is no valid header of an entry, or its checksum is wrong"
NUMBER = re.compile(rb" *([0-7]+)[ \0]*|[ \0]*")  # in octal, as tar writes it


@dataclass(frozen=True)
class TarEntry:
    """A file or link in a tar: `size` bytes at `offset`. `linked` is the target of a link: a name in the archive for a
    `hard` link, otherwise relative to the folder of the link. A device or FIFO is `special`."""

    name: str
    offset: int
    size: int
    linked: str | None = None
    hard: bool = False
    special: bool = False


def tar_entries(archive: Path) -> Iterator[TarEntry]:
    """The regular files, links, devices and FIFOs of a tar, and of tars that were appended to it, in their order.

    Raises DataError, which names the byte, for anything that tar would not write, OSError where it cannot be read.
    """
    size = archive.stat().st_size
    with archive.open("rb") as file:
        start = place = 0
        while place < size or place > start or size == 0:
            block = _block(archive, file, place, size, "it has no end mark")
            if not any(block):
                start = place = _next_archive(archive, file, start, place, size)
                continue
            header = _Header(archive, place, block)
            extended: dict[str, bytes] = {}  # what extended headers say about the entry after them
            while header.kind in b"xgLK":
                place = _extend(archive, file, header, extended, size)
                header = _Header(archive, place, _block(archive, file, place, size, "an entry is missing there"))
            place, entry = _entry(archive, header, extended, size)
            if entry is not None:
                yield entry


def damaged_tar(archive: Path, byte: int, what: str) -> DataError:
    """The error for an archive that is wrong at a byte."""
    reason = f"damaged or cut short at byte {byte} ({what})"
    return DataError(f"{archive} cannot be read as a tar file: {reason}; get or pack it again")


class _Header:
    """A block that must be a header: raises DataError where its checksum or a number in it is invalid."""

    def __init__(self, archive: Path, place: int, block: bytes) -> None:
        self.archive, self.place, self.block = archive, place, block
        stored, blank = self._number(148, 8), block[:148] + b" " * 8 + block[156:]
        if not any(block) or (stored != sum(blank) and stored != _signed_sum(blank)):
            raise damaged_tar(archive, place, NO_HEADER)
        self.kind, self.size = block[156:157], self._number(124, 12)

    def _number(self, start: int, length: int) -> int:
        text = self.block[start : start + length]
        if text[0] == 0x80:  # large numbers, as GNU tar writes them
            return int.from_bytes(text[1:], "big")
        found = NUMBER.fullmatch(text)
        if found is None:
            raise damaged_tar(self.archive, self.place, NO_HEADER)
        return int(found[1] or b"0", 8)

    def text(self, start: int, length: int) -> bytes:
        return self.block[start : start + length].split(b"\0", 1)[0]

    @property
    def name(self) -> bytes:
        prefix = self.text(345, 155) if self.block[257:263] == b"ustar\0" else b""
        return prefix + b"/" + self.text(0, 100) if prefix else self.text(0, 100)


def _signed_sum(block: bytes) -> int:
    """How some old programs add the bytes of a header up."""
    return sum(byte - 256 if byte > 127 else byte for byte in block)


def _block(archive: Path, file: BinaryIO, place: int, size: int, lacking: str) -> bytes:
    file.seek(place)
    block = file.read(BLOCK)
    if len(block) < BLOCK:
        raise damaged_tar(archive, size, lacking)
    return block


def _next_archive(archive: Path, file: BinaryIO, start: int, place: int, size: int) -> int:
    """The offset of the archive, or of the end, after the end mark at `place` of an archive that began at `start`. An
    archive must begin directly after the mark or at the end of a record; elsewhere, zeros have replaced entries."""
    if any(_block(archive, file, place + BLOCK, size, "its end mark is cut")):
        raise damaged_tar(archive, place, "there are zeros instead of a header")
    after = place + 2 * BLOCK
    file.seek(after)
    padding = file.read(LONGEST_PADDING)
    zeros = (len(padding) - len(padding.lstrip(b"\0"))) // BLOCK * BLOCK
    if not any(padding):
        if len(padding) >= LONGEST_PADDING:
            what = f"more than {LONGEST_PADDING} zeros follow its end mark, as if data were missing"
            raise damaged_tar(archive, place, what)
        return size
    record = start + -(-(after - start) // TAR_RECORD) * TAR_RECORD
    if after + zeros not in (after, record):
        raise damaged_tar(archive, place, "there are zeros instead of entries, or something follows its end mark")
    _Header(archive, after + zeros, _block(archive, file, after + zeros, size, "something follows its end mark"))
    return after + zeros


def _extend(archive: Path, file: BinaryIO, header: _Header, extended: dict[str, bytes], size: int) -> int:
    """Add the content of an extended header to `extended`; returns the offset of the next header."""
    first, place = header.place + BLOCK, header.place
    after = first + -(-header.size // BLOCK) * BLOCK
    if header.size > LONGEST_EXTENDED or after > size:
        raise damaged_tar(archive, place, f"an extended header claims {header.size} bytes")
    file.seek(first)
    data = file.read(after - first)
    text, padding = data[: header.size], data[header.size :]
    if header.kind in b"LK":
        name = text.removesuffix(b"\0")
        if any(padding) or not name or b"\0" in name:
            raise damaged_tar(archive, first, "a long name is invalid")
        extended["path" if header.kind == b"L" else "linkpath"] = name
        return after
    said = _pax_records(text)
    if said is None or any(padding):
        raise damaged_tar(archive, first, "a pax header is invalid")
    if header.kind == b"g":  # for all entries, so it cannot have a name or a size
        said = {key: value for key, value in said.items() if key.startswith("GNU.sparse")}
    extended |= said
    return after


def _pax_records(text: bytes) -> dict[str, bytes] | None:
    """Records `LENGTH KEY=VALUE`, each with a line break, one after another; None for anything else."""
    said, place = {}, 0
    while place < len(text):
        found = PAX_RECORD.match(text, place)
        end = place + int(found[1]) if found else 0
        if found is None or end <= found.end() or end > len(text) or text[end - 1] != 0x0A:
            return None
        said[found[2].decode("utf-8", "replace")] = text[found.end() : end - 1]
        place = end
    return said


def _entry(archive: Path, header: _Header, said: dict[str, bytes], size: int) -> tuple[int, TarEntry | None]:
    """The offset of the header after an entry, and the entry if it is to be yielded. `said` is from extended headers."""
    place = header.place
    name = said.get("path", header.name).decode("utf-8", "surrogateescape")
    if header.kind == b"S" or any(key.startswith("GNU.sparse") for key in said):
        raise DataError(f"{archive}: {name} (byte {place}) is stored as a sparse file; pack it again with plain files")
    if header.kind == b"M":
        raise DataError(f"{archive} continues a file of another volume (byte {place}); pack it as one archive")
    if not name or "\0" in name:
        raise damaged_tar(archive, place, "an entry has no name")
    if header.kind in LINKS:
        linked = said.get("linkpath", header.text(157, 100)).decode("utf-8", "surrogateescape")
        return place + BLOCK, TarEntry(name, place, 0, linked, hard=header.kind == b"1")
    if header.kind in WITHOUT_DATA:
        return place + BLOCK, TarEntry(name, place, 0, special=True) if header.kind in SPECIAL else None
    bytes_said = said.get("size", b"%d" % header.size)
    if not bytes_said.isdigit() or len(bytes_said) > 18:
        raise damaged_tar(archive, place, "the size of an entry is not a number")
    first, long = place + BLOCK, int(bytes_said)
    after = first + -(-long // BLOCK) * BLOCK
    if after > size:
        what = f"{name} should end at byte {first + long}" if first + long > size else "it has no end mark"
        raise damaged_tar(archive, size, what)
    regular = header.kind not in OTHER_DATA and not (header.kind == b"\0" and name.endswith("/"))
    return after, TarEntry(name, first, long) if regular else None
