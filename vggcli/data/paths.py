"""The images that PATH arguments mean: files, folders, globs, CSV files, tar files, and `-` for a list on standard input.

An image is named by its path as given, with `/` as the separator; one below a folder by the folder and the path below it.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path
from typing import IO

from vggcli.data.catalogue import KNOWN
from vggcli.data.csv_file import listed_paths
from vggcli.data.extra_formats import kind_named
from vggcli.data.left_out import left_out_below, unread_sentences
from vggcli.data.listed_text import listed_names
from vggcli.data.own_files import is_whole_run
from vggcli.data.tars import COMPRESSED, SUFFIX, Place, TarMember, TarPlaces, image_members
from vggcli.data.walking import HEAD_BYTES, begins_like_image, images_below, is_own_picture, unread_kind_of
from vggcli.errors import DataError, counted
from vggcli.progress import LOG


def texts_of(paths: str | Path | Iterable[str | Path]) -> list[str]:
    """One path or several as a list of strings."""
    return [str(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]


@dataclass(frozen=True)
class ImageList:
    """Images by name, relative to `root`; `members` are those inside tar files, and `places` has all of a set of shards."""

    root: Path
    names: Sequence[str]
    members: Mapping[str, TarMember] = field(default_factory=dict)
    places: TarPlaces | None = None

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Place:
        name = self.names[index]
        if self.places is not None:
            return self.places.member(index, name)
        return self.members.get(name) or self.root / name


def listed_images(paths: Sequence[str], stdin: IO[bytes] | None = None) -> ImageList:
    """The images that `paths` mean, also those inside tar files, each once and in order, relative to the current folder;
    for `-`, a list is read from `stdin`.

    Raises DataError where there is no image, or a list or a tar cannot be read.
    """
    names: dict[str, None] = {}
    members: dict[str, TarMember] = {}
    for name in images_once(paths, stdin):
        if not name.lower().endswith((SUFFIX, *COMPRESSED)) or not os.path.isfile(name):  # noqa: PTH113 (as below)
            names[name] = None
            continue
        for member in _members(Path(name)):
            names[str(member)] = None
            members[str(member)] = member
    if not names:
        raise DataError(f"there is no image in {', '.join(paths)}")
    return ImageList(Path(), tuple(names), members)


def _members(archive: Path) -> list[TarMember]:
    """The images in a tar; the number of those that cannot be read here is logged."""
    kept, unread = [], []
    for member in image_members(archive):
        kind = kind_named(member.name) and unread_kind_of(member.read(HEAD_BYTES), member.name)
        if kind is None:
            kept.append(member)
        else:
            unread.append(kind)
    for sentence in unread_sentences(unread, f"in {archive}"):
        LOG.info(sentence)
    return kept


def images_once(paths: Sequence[str], stdin: IO[bytes] | None = None) -> tuple[str, ...]:
    """The names that `image_names` gives, each once, in the order of first occurrence; logs how many are repeated."""
    given = list(image_names(paths, stdin))
    once = tuple(dict.fromkeys(given))
    if len(given) > len(once):
        LOG.info(f"{counted(len(given) - len(once), 'image is', 'images are')} named more than once, and used once")
    return once


def image_names(paths: Sequence[str], stdin: IO[bytes] | None = None, listed: bool = False) -> Iterator[str]:
    """The images that each of `paths` means. A tar file is not opened, and the name of a missing file is given as it is, to
    be reported later. A folder or a pattern without an image is logged if it is one of several, or `listed` in a list."""
    for path in paths:
        found = False
        for name in _expanded(path, stdin):
            found = True
            yield name.replace(os.sep, "/")
        if not found and (listed or len(paths) > 1):
            LOG.info(f"there is no image in {path}")


def _expanded(path: str, stdin: IO[bytes] | None) -> Iterator[str]:
    if path == "-":
        yield from (name for line in _listed_on(stdin) for name in image_names([line], listed=True))
    elif os.path.isdir(path):  # noqa: PTH112 (False where access is denied, so that the name counts as an image)
        if (real := Path(path).resolve()) == real.parent:
            raise DataError(f"{path} is the root of the file system, which is never searched; name a folder below it")
        yield from _below(path)
    elif path.lower().endswith(".csv"):
        try:
            yield from listed_paths(Path(path))
        except UnicodeDecodeError as error:
            raise DataError(f"{path} cannot be read as a CSV file: {error}") from error
        except OSError as error:
            raise DataError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
    elif has_magic(path) and not os.path.exists(path):  # noqa: PTH110
        yield from _matching(path)
    elif path in (*KNOWN, "shapes") and not os.path.lexists(path):
        raise DataError(f"there is no file {path}; the data set of that name has to be given as data, not as a path")
    else:
        yield path


def _matching(pattern: str) -> Iterator[str]:
    """The images that match a pattern; pictures that this program drew are left out where it has wildcards for files."""
    ours, any_file = 0, has_magic(os.path.basename(pattern))  # noqa: PTH119
    for match in sorted(glob(pattern, recursive=True)):  # noqa: PTH207 (absolute patterns too)
        if os.path.isdir(match):  # noqa: PTH112 (as above)
            yield from _below(match)
        elif any_file and is_own_picture(Path(match), is_whole_run(Path(match).parent)):
            ours += 1
        else:
            yield match
    if ours:
        verb = "is" if ours == 1 else "are"
        LOG.info(f"{counted(ours, 'picture')} that vgg drew, matching {pattern}, {verb} left out")


def _below(folder: str) -> list[str]:
    for sentence in left_out_below(Path(folder)):
        LOG.info(sentence)
    return sorted(str(image) for image in images_below(Path(folder), broken_links=True))


def _listed_on(stdin: IO[bytes] | None) -> Iterator[str]:
    """The paths in the list on stdin, as `listed_names` reads it; folders in it are logged."""
    if stdin is None:
        raise DataError("- means a list on standard input, and there is none here; name images, or a file - as ./-")
    try:
        raw = stdin.read()
    except (OSError, ValueError) as error:  # it may only be written to; its terminal has gone
        raise DataError(f"the list on stdin cannot be read: {error}; pipe one into this command") from error
    if begins_like_image(raw[:HEAD_BYTES]):
        raise DataError("stdin is an image, but - takes a list of paths; give the path of the image instead")
    try:
        names = listed_names(raw)
    except UnicodeDecodeError as error:
        raise DataError(f"the list on stdin cannot be read: {error}; write it as UTF-8") from error
    for name in names:
        if name == "-":
            raise DataError("the list on stdin names itself (-); list images, or a file - as ./-")
        if not os.path.lexists(name) and os.path.lexists(name.strip(" \t\"'")):
            name = name.strip(" \t\"'")  # as a spreadsheet or a shell quotes it  # noqa: PLW2901
        if os.path.isdir(name):  # noqa: PTH112 (as above)
            LOG.info(f"the list on stdin names the folder {name}: every image below it is used")
        yield name
