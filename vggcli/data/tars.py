"""Images inside tar files, such as the shards of WebDataset, read without unpacking them.

A tar is read through once to find the offsets of its members; after that any worker reads any member by its offset. Names
are `shard.tar/member`.
"""

import posixpath
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vggcli.data.packed_names import Rows
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
        return self.part(0, self.size if at_most is None else at_most)

    def part(self, start: int, length: int) -> bytes:
        """The bytes from `start` on, at most `length`."""
        with self.archive.open("rb") as file:
            file.seek(self.offset + start)
            return file.read(max(0, min(length, self.size - start)))


Place = Path | TarMember  # where the bytes of an image are


def stamp_of(place: Place) -> tuple[int, int]:
    """The bytes of an image and the time (ns) of the last change of its file, or of the tar that it is in. Raises OSError
    where it is not there."""
    if isinstance(place, TarMember):
        return place.size, place.archive.stat().st_mtime_ns
    state = place.stat()
    return state.st_size, state.st_mtime_ns


@dataclass(frozen=True, eq=False)
class TarPlaces:
    """Where many images are in tar files of one folder: int32 [N] that index `archives`, and int64 [N] in bytes."""

    archives: tuple[Path, ...]
    archive_N: NDArray[np.int32]
    offset_N: NDArray[np.int64]
    size_N: NDArray[np.int64]

    def member(self, index: int, name: str) -> TarMember:
        """The image at `index`, whose `name` is `shard.tar/member`."""
        archive = self.archives[self.archive_N[index]]
        inner = name[len(archive.name) + 1 :]
        return TarMember(archive, inner, int(self.offset_N[index]), int(self.size_N[index]))

    def chosen(self, rows: Rows) -> "TarPlaces":
        """The images at `rows`."""
        return TarPlaces(self.archives, self.archive_N[rows], self.offset_N[rows], self.size_N[rows])

    def joined(self, other: "TarPlaces") -> "TarPlaces":
        """These images and then the `other` ones, which are in the same archives."""
        assert self.archives == other.archives
        pairs = ("archive_N", "offset_N", "size_N")
        return TarPlaces(
            self.archives, *(np.concatenate([getattr(one, name) for one in (self, other)]) for name in pairs)
        )


def image_members(archive: Path, suffixes: Collection[str] = KNOWN_SUFFIXES) -> Iterator[TarMember]:
    """The regular files of a tar that have one of `suffixes` or begin like an image, in their order there, then the links
    with such a suffix, each as the file that it leads to; hidden ones are left out. Concatenated tars are read as one.

    Raises DataError where `archive` is compressed, damaged or not a tar, has two such files of one name, or a link that
    does not lead to a file in it.
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
                if _has_suffix(name, suffixes):
                    raise DataError(f"{archive}: {entry.name} is a device or a FIFO, not a file; pack it without that")
                continue
            if entry.linked is not None:
                folder = "" if entry.hard else posixpath.dirname(entry.name)
                links[name] = posixpath.normpath(posixpath.join(folder, entry.linked))
                continue
            member = TarMember(archive, entry.name, entry.offset, entry.size)
            hidden = posixpath.basename(name).startswith(".")
            if not hidden and (_has_suffix(name, suffixes) or begins_like_image(member.read(HEAD_BYTES))):
                if name in files:  # as concatenated tars may have; one of the two would be lost
                    places = f"{files[name].offset} and {member.offset}"
                    raise DataError(f"{archive} holds {member.name} twice, at bytes {places}; pack each name once")
                yield member
            files[name] = member
        for name in links:
            if _has_suffix(name, suffixes) and name not in files:
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


def _has_suffix(name: str, suffixes: Collection[str]) -> bool:
    """Whether a file has one of `suffixes`, in any case, and is not hidden."""
    return posixpath.splitext(name)[1].lower() in suffixes and not posixpath.basename(name).startswith(".")
