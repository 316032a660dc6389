"""Zip archives of weights, checked before they are unpacked: torch and Keras do not compress the members, so an archive
with compressed members, or with larger ones than the file, is not theirs."""

import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from vggcli.errors import WeightsError
from vggcli.weights.checked_once import once

LARGEST_DIRECTORY = 1 << 20  # bytes; a network of a hundred tensors needs ten thousand
_END, END64, LOCATOR64 = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
UNREADABLE = (  # what zipfile raises for damaged archives, whichever part of them is damaged
    *(zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, RuntimeError, OverflowError, ValueError),
)
LONGEST_END = (1 << 16) + 22  # bytes: the record and its comment


def stored_members(path: Path) -> dict[str, zipfile.ZipInfo]:
    """The members of an archive of weights by name. Raises WeightsError where it is damaged or compressed."""
    try:
        members = directory(path)
    except ValueError as error:
        raise WeightsError(f"{path} cannot be read as an archive of weights (damaged or cut short): {error}") from error
    if any("/code/" in name for name in members):
        raise WeightsError(
            f"{path} is a TorchScript program, which is not run here; save its weights alone: "
            f"torch.save(torch.jit.load({path.name!r}).state_dict(), 'weights.pth')"
        )
    if compressed(members):
        raise WeightsError(f"{path} is a compressed archive, which no framework writes; unpack it, or save it again")
    if claimed(members) > path.stat().st_size:
        raise WeightsError(f"{path} claims more bytes of members than it has; it is damaged or cut short")
    return members


def directory(path: Path) -> dict[str, zipfile.ZipInfo]:
    """The members of any archive by name, without reading them. Raises ValueError where the directory cannot be read."""
    try:
        if _directory_bytes(path) > LARGEST_DIRECTORY:
            raise ValueError("its directory is far too long")
        with zipfile.ZipFile(path) as archive:
            return {one.filename: one for one in archive.infolist()}
    except UNREADABLE as error:
        raise ValueError(str(error)) from error


def compressed(members: Mapping[str, zipfile.ZipInfo]) -> bool:
    """Whether any member is compressed."""
    stored = zipfile.ZIP_STORED
    return any(one.compress_type != stored or one.file_size != one.compress_size for one in members.values())


def claimed(members: Mapping[str, zipfile.ZipInfo]) -> int:
    """The number of bytes that the members claim to have."""
    return sum(one.file_size for one in members.values())


def member_start(path: Path, member: zipfile.ZipInfo) -> int:
    """The offset in the file of a member's content. Raises WeightsError where it does not fit into the file."""
    with path.open("rb") as file:
        file.seek(max(0, member.header_offset))
        header = file.read(30)
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    start = member.header_offset + 30 + lengths
    if len(header) < 30 or start + member.file_size > path.stat().st_size:
        raise WeightsError(f"{path} cannot be read as an archive of weights (damaged or cut short)")
    return start


@once
def check_sums(path: Path) -> None:
    """Raises WeightsError where a member of an archive does not match its checksum, which Python's zipfile always writes
    (torch may leave it out)."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except UNREADABLE as error:
        raise WeightsError(f"{path} is damaged: {error}") from error
    if broken is not None:
        raise WeightsError(
            f"{path} is damaged: its member {broken} does not match its checksum; restore it from a copy"
        )


def _directory_bytes(path: Path) -> int:
    """The length of the directory that the archive states, the largest where it states several."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LONGEST_END))
        tail = file.read()
        end = tail.rfind(_END)
        if end < 0:
            raise zipfile.BadZipFile("it has no directory")
        found = [int.from_bytes(tail[end + 12 : end + 16], "little")]
        if tail[end - 20 : end - 16] == LOCATOR64:
            found.append(int.from_bytes(tail[end - 36 : end - 28], "little"))
            file.seek(int.from_bytes(tail[end - 12 : end - 4], "little"))
            record = file.read(56)
            found += [int.from_bytes(record[40:48], "little")] * record.startswith(END64)
    return max(found)
