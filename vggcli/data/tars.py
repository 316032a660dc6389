"""Images inside tar files, such as the shards that WebDataset writes, read where they lie: nothing is unpacked.

A tar is gone through once for the places of its members; after that any worker reads any member by its place. Names are
`shard.tar/member`. The standard library is enough for it.
"""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vggcli.data.tar_entries import tar_entries
from vggcli.data.walking import HEAD_BYTES, begins_like_image, head_of
from vggcli.errors import DataError

SUFFIX = ".tar"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
COMPRESSED_BEGIN = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")  # whatever the file is called
JUNK_FOLDER = "__MACOSX"


@dataclass(frozen=True)
class TarMember:
    """A file inside a tar: `size` bytes from `offset` of `archive` on."""

    archive: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.archive}/{self.name}"

    def read(self, at_most: int | None = None) -> bytes:
        """The member's bytes, or its first ones; fewer where the archive is cut short."""
        with self.archive.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size if at_most is None else min(at_most, self.size))


def image_members(archive: Path, suffixes: frozenset[str]) -> Iterator[TarMember]:
    """The regular files of a tar whose names end in one of `suffixes` or that begin as images do, in their order there,
    then the links so called, each as the file it leads to; hidden ones are left out. Tars that were joined end to end are
    read as one.

    Raises DataError where `archive` is compressed, damaged anywhere or no tar, holds two files of one name, or a link in
    it leads to no file of it.
    """
    if not archive.is_file():
        raise DataError(f"{archive} is not a regular file, so it cannot be read as a tar")
    if archive.name.lower().endswith(COMPRESSED) or head_of(archive).startswith(COMPRESSED_BEGIN):
        raise DataError(
            f"{archive} is compressed, so its images cannot be read where they lie; unpack it to a .tar first"
        )
    files: dict[str, TarMember] = {}
    links: dict[str, str] = {}
    try:
        for entry in tar_entries(archive):
            name = _plain(entry.name)
            if JUNK_FOLDER in name.split("/"):
                continue
            if entry.special:
                if _visible(name, suffixes):
                    raise DataError(f"{archive}: {entry.name} is a device or a FIFO, no file; pack it without that")
                continue
            if entry.linked is not None:
                folder = "" if entry.hard else posixpath.dirname(entry.name)
                links[name] = _plain(posixpath.join(folder, entry.linked))
                continue
            member = TarMember(archive, entry.name, entry.offset, entry.size)
            if _is_image(member, suffixes):
                _check_once(archive, files.get(name), member)
                yield member
            files[name] = member
        for name in links:
            if _visible(name, suffixes) and name not in files:
                target = _target(archive, name, files, links)
                yield TarMember(archive, name, target.offset, target.size)
    except OSError as error:
        raise DataError(f"{archive} cannot be read: {(error.strerror or str(error)).lower()}") from error


def _check_once(archive: Path, before: TarMember | None, member: TarMember) -> None:
    """Raises DataError for a second file of one name, as tars that were joined may hold: one of the two would be lost."""
    if before is not None:
        raise DataError(
            f"{archive} holds {member.name} twice, at bytes {before.offset} and {member.offset}; pack each name once"
        )


def _target(archive: Path, name: str, files: dict[str, TarMember], links: dict[str, str]) -> TarMember:
    place = name
    for _ in range(len(links) + 1):
        if place in files:
            return files[place]
        place = links.get(place, "")
    raise DataError(f"{archive}/{name} is a link to {links[name]}, which is no file of the tar; pack the file itself")


def _is_image(member: TarMember, suffixes: frozenset[str]) -> bool:
    """As files of a folder are: by suffix, or else by its first bytes."""
    hidden = PurePosixPath(member.name).name.startswith(".")
    return _visible(member.name, suffixes) or (not hidden and begins_like_image(member.read(HEAD_BYTES)))


def _visible(name: str, suffixes: frozenset[str]) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in suffixes and not path.name.startswith(".")


def _plain(name: str) -> str:
    return posixpath.normpath(name)
