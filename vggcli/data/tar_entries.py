"""The entries of a tar file, block by block, strictly: whatever is not as tar writes it is an error that names the byte.

Python's `tarfile` takes a damaged header for the end, and the entries behind it vanish without a word. Here a tar ends with
two blocks of zeros, and nothing may follow them but further zeros or a further archive.

Ustar, GNU's and pax' headers are read; sparse files and parts of several volumes are refused.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from vggcli.errors import DataError

BLOCK = 512
LONGEST_EXTENDED = 16 << 20  # bytes of extended headers; a path has at most 4096, attributes of files may have more
TAR_RECORD = 20 * BLOCK  # what tar fills up with zeros, by default
LONGEST_PADDING = 1 << 16  # bytes of zeros behind an end mark: the longest records in use
LINKS, SPECIAL, WITHOUT_DATA = b"12", b"346", b"123456V"  # SPECIAL: devices and FIFOs
OTHER_DATA = b"5DNAEIX"  # of which tar makes no file; whatever else is unknown counts as one, as POSIX has it
PAX_RECORD = re.compile(rb"(\d{1,9}) ([^=\n\0]+)=")
NO_HEADER = "no header of an entry is there, or its checksum does not fit"
NUMBER = re.compile(rb" *([0-7]+)[ \0]*|[ \0]*")  # as tar writes it, in octal


@dataclass(frozen=True)
class TarEntry:
    """A file or link of a tar: `size` bytes from `offset` on. `linked` is where a link leads, else None; a `hard` link's is
    a name in the archive, any other's relative to the folder it lies in. A device or FIFO is `special`."""

    name: str
    offset: int
    size: int
    linked: str | None = None
    hard: bool = False
    special: bool = False


@dataclass
class _Extended:
    """What extended headers say of the entry that follows them, and the byte where the first of them begins."""

    start: int | None = None
    said: dict[str, bytes] = field(default_factory=dict)


def tar_entries(archive: Path) -> Iterator[TarEntry]:
    """The regular files, links, devices and FIFOs of a tar in their order, and of those that were joined to it end to end.

    Raises DataError, which names the byte, where anything is not as tar writes it, OSError where it cannot be read.
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
            extended = _Extended()
            while header.kind in b"xgLK":
                place = _extend(archive, file, header, extended, size)
                header = _Header(archive, place, _block(archive, file, place, size, "an entry is missing there"))
            place, entry = _entry(archive, header, extended, size)
            if entry is not None:
                yield entry


def damaged_tar(archive: Path, byte: int, what: str) -> DataError:
    """The error for an archive in which something is wrong at a byte."""
    return DataError(
        f"{archive} cannot be read as a tar file: damaged or cut short at byte {byte} ({what}); get or pack it again"
    )


class _Header:
    """A block that must be a header: raises DataError where its checksum does not fit or a number is none."""

    def __init__(self, archive: Path, place: int, block: bytes) -> None:
        self.archive, self.place, self.block = archive, place, block
        stored, blank = self._number(148, 8), block[:148] + b" " * 8 + block[156:]
        signed = sum(byte - 256 if byte > 127 else byte for byte in blank)  # as some old tars add up
        if not any(block) or stored not in (sum(blank), signed):
            raise damaged_tar(archive, place, NO_HEADER)
        self.kind, self.size = block[156:157], self._number(124, 12)

    def _number(self, start: int, length: int) -> int:
        text = self.block[start : start + length]
        if text[0] == 0x80:  # GNU's way to write large numbers
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


def _block(archive: Path, file: BinaryIO, place: int, size: int, lacking: str) -> bytes:
    file.seek(place)
    block = file.read(BLOCK)
    if len(block) < BLOCK:
        raise damaged_tar(archive, size, lacking)
    return block


def _next_archive(archive: Path, file: BinaryIO, start: int, place: int, size: int) -> int:
    """Where the file goes on behind an end mark at `place`, of an archive that began at `start`: at its end, or at a
    further archive. That stands where tar would have ended the one before, right behind the mark or at the end of a
    record; elsewhere the zeros are in place of entries."""
    if any(_block(archive, file, place + BLOCK, size, "its end mark is cut")):
        raise damaged_tar(archive, place, "there are zeros in place of a header")
    after = place + 2 * BLOCK
    file.seek(after)
    padding = file.read(LONGEST_PADDING)
    zeros = (len(padding) - len(padding.lstrip(b"\0"))) // BLOCK * BLOCK
    if not any(padding):
        if len(padding) >= LONGEST_PADDING:
            raise damaged_tar(
                archive, place, f"more than {LONGEST_PADDING} zeros follow its end mark, as where data are missing"
            )
        return size
    record = start + -(-(after - start) // TAR_RECORD) * TAR_RECORD
    if after + zeros not in (after, record):
        raise damaged_tar(archive, place, "there are zeros in place of entries, or something follows its end mark")
    _Header(archive, after + zeros, _block(archive, file, after + zeros, size, "something follows its end mark"))
    return after + zeros


def _extend(archive: Path, file: BinaryIO, header: _Header, extended: _Extended, size: int) -> int:
    """Add what an extended header says to `extended`; returns where the next header is."""
    first, place = header.place + BLOCK, header.place
    after = first + -(-header.size // BLOCK) * BLOCK
    if header.size > LONGEST_EXTENDED or after > size:
        raise damaged_tar(archive, place, f"an extended header is to have {header.size} bytes")
    extended.start = place if extended.start is None else extended.start
    file.seek(first)
    data = file.read(after - first)
    text, padding = data[: header.size], data[header.size :]
    if header.kind in b"LK":
        name = text.removesuffix(b"\0")
        if any(padding) or not name or b"\0" in name:
            raise damaged_tar(archive, first, "a long name is none")
        extended.said["path" if header.kind == b"L" else "linkpath"] = name
        return after
    said = _pax_records(text)
    if said is None or any(padding):
        raise damaged_tar(archive, first, "a pax header is none")
    if header.kind == b"g":  # of all entries; what it may say of them is no name, no place and no size
        said = {key: value for key, value in said.items() if key.startswith("GNU.sparse")}
    extended.said |= said
    return after


def _pax_records(text: bytes) -> dict[str, bytes] | None:
    """Records `LENGTH KEY=VALUE` and a line's end, one after another; None where anything else is there."""
    said, place = {}, 0
    while place < len(text):
        found = PAX_RECORD.match(text, place)
        end = place + int(found[1]) if found else 0
        if found is None or end <= found.end() or end > len(text) or text[end - 1] != 0x0A:
            return None
        said[found[2].decode("utf-8", "replace")] = text[found.end() : end - 1]
        place = end
    return said


def _entry(archive: Path, header: _Header, extended: _Extended, size: int) -> tuple[int, TarEntry | None]:
    """Where the header behind an entry is, and the entry, where it is a file, a link, a device or a FIFO."""
    said, place = extended.said, header.place
    name = said.get("path", header.name).decode("utf-8", "surrogateescape")
    if header.kind == b"S" or any(key.startswith("GNU.sparse") for key in said):
        raise DataError(f"{archive}: {name} (byte {place}) is stored as a sparse file; pack it again with plain files")
    if header.kind == b"M":
        raise DataError(f"{archive} goes on with a file of another volume (byte {place}); pack it in one piece")
    if not name or "\0" in name:
        raise damaged_tar(archive, place, "an entry has no name")
    if header.kind in LINKS:
        linked = said.get("linkpath", header.text(157, 100)).decode("utf-8", "surrogateescape")
        return place + BLOCK, TarEntry(name, place, 0, linked, hard=header.kind == b"1")
    if header.kind in WITHOUT_DATA:
        return place + BLOCK, TarEntry(name, place, 0, special=True) if header.kind in SPECIAL else None
    bytes_said = said.get("size", b"%d" % header.size)
    if not bytes_said.isdigit() or len(bytes_said) > 18:
        raise damaged_tar(archive, place, "the size of an entry is no number")
    first, long = place + BLOCK, int(bytes_said)
    after = first + -(-long // BLOCK) * BLOCK
    if after > size:
        what = f"{name} is to go on to byte {first + long}" if first + long > size else "it has no end mark"
        raise damaged_tar(archive, size, what)
    regular = header.kind not in OTHER_DATA and not (header.kind == b"\0" and name.endswith("/"))
    return after, TarEntry(name, first, long) if regular else None
