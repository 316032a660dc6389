"""Images inside tar files, such as the shards that WebDataset writes, read where they lie: nothing is unpacked.

A tar is gone through once for the places of its members; after that any worker reads any member by its place. Names are
`shard.tar/member`. The standard library is enough for it.
"""

import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vggcli.errors import DataError

SUFFIX = ".tar"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


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
    """The regular files of a tar whose names end in one of `suffixes`, in their order there, then the links so called,
    each as the file it leads to; hidden ones are left out. Tars that were joined end to end are read as one.

    Raises DataError where `archive` is compressed, damaged or no tar, or a link in it leads to no file of it.
    """
    if archive.name.lower().endswith(COMPRESSED):
        raise DataError(
            f"{archive} is compressed, so its images cannot be read where they lie; unpack it to a .tar first"
        )
    if not archive.is_file():
        raise DataError(f"{archive} is not a regular file, so it cannot be read as a tar")
    try:
        files: dict[str, TarMember] = {}
        links: dict[str, str] = {}
        for entry in _entries(archive):
            if entry.issym() or entry.islnk():
                folder = posixpath.dirname(entry.name) if entry.issym() else ""
                links[_plain(entry.name)] = _plain(posixpath.join(folder, entry.linkname))
            elif entry.isreg():
                member = TarMember(archive, entry.name, entry.offset_data, entry.size)
                files[_plain(entry.name)] = member
                if _wanted(entry.name, suffixes):
                    yield member
        for name in links:
            if _wanted(name, suffixes) and name not in files:
                target = _target(archive, name, files, links)
                yield TarMember(archive, name, target.offset, target.size)
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive} cannot be read as a tar file (damaged or cut short): {error}") from error
    except OSError as error:
        raise DataError(f"{archive} cannot be read: {(error.strerror or str(error)).lower()}") from error


def _entries(archive: Path) -> Iterator[tarfile.TarInfo]:
    """The entries of an archive and of those that follow it in the same file."""
    with archive.open("rb") as file:
        more = True
        while more:
            with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
                for entry in tar:
                    yield entry
                    tar.members = []  # type: ignore[attr-defined]  # else it keeps a record of every member
                end = tar.offset
            file.seek(end)
            while (block := file.read(tarfile.BLOCKSIZE)) and not any(block):
                pass
            more = bool(block)
            file.seek(-len(block), 1)


def _target(archive: Path, name: str, files: dict[str, TarMember], links: dict[str, str]) -> TarMember:
    place = name
    for _ in range(len(links) + 1):
        if place in files:
            return files[place]
        place = links.get(place, "")
    raise DataError(f"{archive}/{name} is a link to {links[name]}, which is no file of the tar; pack the file itself")


def _wanted(name: str, suffixes: frozenset[str]) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in suffixes and not path.name.startswith(".")


def _plain(name: str) -> str:
    return posixpath.normpath(name)
