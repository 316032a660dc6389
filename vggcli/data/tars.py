"""Images inside tar files, such as the shards of WebDataset, read without unpacking them.

A tar is read through once to find the offsets of its members; after that any worker reads any member by its offset. Names
are `shard.tar/member`.
"""

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vggcli.data.tar_entries import tar_entries
from vggcli.data.walking import HEAD_BYTES, KNOWN_SUFFIXES, begins_like_image, head_of
from vggcli.errors import DataError

SUFFIX = ".tar"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
COMPRESSED_BEGIN = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")  # for any file name


@dataclass(frozen=True)
class TarMember:
    """A file inside a tar: `size` bytes at `offset` in `archive`."""

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


def image_members(archive: Path) -> Iterator[TarMember]:
    """The regular files of a tar that have an image's suffix or begin like an image, in their order there, then the links
    with such a suffix, each as the file that it leads to; hidden ones are left out. Concatenated tars are read as one.

    Raises DataError where `archive` is compressed, damaged or not a tar, has two images of one name, or a link that does
    not lead to a file in it.
    """
    if not archive.is_file():
        raise DataError(f"{archive} is not a regular file, so it cannot be read as a tar")
    if archive.name.lower().endswith(COMPRESSED) or head_of(archive).startswith(COMPRESSED_BEGIN):
        raise DataError(f"{archive} is compressed, so it cannot be read in place; decompress it to a .tar first")
    files: dict[str, TarMember] = {}
    links: dict[str, str] = {}
    try:
        for entry in tar_entries(archive):
            name = posixpath.normpath(entry.name)
            if "__MACOSX" in name.split("/"):
                continue
            if entry.special:
                if _has_suffix(name):
                    raise DataError(f"{archive}: {entry.name} is a device or a FIFO, not a file; pack it without that")
                continue
            if entry.linked is not None:
                folder = "" if entry.hard else posixpath.dirname(entry.name)
                links[name] = posixpath.normpath(posixpath.join(folder, entry.linked))
                continue
            member = TarMember(archive, entry.name, entry.offset, entry.size)
            hidden = posixpath.basename(name).startswith(".")
            if not hidden and (_has_suffix(name) or begins_like_image(member.read(HEAD_BYTES))):
                if name in files:  # as concatenated tars may have; one of the two would be lost
                    places = f"{files[name].offset} and {member.offset}"
                    raise DataError(f"{archive} holds {member.name} twice, at bytes {places}; pack each name once")
                yield member
            files[name] = member
        for name in links:
            if _has_suffix(name) and name not in files:
                target = _target(archive, name, files, links)
                yield TarMember(archive, name, target.offset, target.size)
    except OSError as error:
        raise DataError(f"{archive} cannot be read: {(error.strerror or str(error)).lower()}") from error


def _target(archive: Path, name: str, files: dict[str, TarMember], links: dict[str, str]) -> TarMember:
    place = name
    for _ in range(len(links) + 1):
        if place in files:
            return files[place]
        place = links.get(place, "")
    raise DataError(f"{archive}/{name} is a link to {links[name]}, which is not in the tar; pack the file itself")


def _has_suffix(name: str) -> bool:
    """Whether a file is named like an image and not hidden."""
    return posixpath.splitext(name)[1].lower() in KNOWN_SUFFIXES and not posixpath.basename(name).startswith(".")
