"""Images inside tar files, such as the shards that WebDataset writes, read where they lie: nothing is unpacked.

A tar is gone through once for the places of its members; after that any worker reads any member by its place. Names are
`shard.tar/member`. The standard library is enough for it.
"""

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

    def read(self) -> bytes:
        """The member's bytes; fewer where the archive is cut short."""
        with self.archive.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def image_members(archive: Path, suffixes: frozenset[str]) -> Iterator[TarMember]:
    """The regular files of a tar whose names end in one of `suffixes`, in their order there; hidden ones are left out.

    Raises DataError where `archive` is compressed, damaged or no tar.
    """
    if archive.name.lower().endswith(COMPRESSED):
        raise DataError(
            f"{archive} is compressed, so its images cannot be read where they lie; unpack it to a .tar first"
        )
    if not archive.is_file():
        raise DataError(f"{archive} is not a regular file, so it cannot be read as a tar")
    try:
        with tarfile.open(archive, "r:", encoding="utf-8", errors="surrogateescape") as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if member.isreg() and path.suffix.lower() in suffixes and not path.name.startswith("."):
                    yield TarMember(archive, member.name, member.offset_data, member.size)
                tar.members = []  # type: ignore[attr-defined]  # else it keeps a record of every member
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive} cannot be read as a tar file (damaged or cut short): {error}") from error
    except OSError as error:
        raise DataError(f"{archive} cannot be read: {(error.strerror or str(error)).lower()}") from error
