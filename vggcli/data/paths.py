"""The images that PATH arguments name: files, folders, globs, CSV files, tar files, and `-` for a list on standard input.

A name is the path as it was given, with `/` between its parts; an image below a folder is named with the folder before it.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path
from typing import IO

from vggcli.data.csv_file import listed_paths
from vggcli.data.decode import Place
from vggcli.data.extra_formats import EXTRA_SUFFIXES, kind_named
from vggcli.data.left_out import left_out_below, unread_sentences
from vggcli.data.listed_text import listed_names
from vggcli.data.own_files import is_whole_run
from vggcli.data.sources import IMAGE_SUFFIXES, images_below
from vggcli.data.tars import COMPRESSED, SUFFIX, TarMember, image_members
from vggcli.data.walking import HEAD_BYTES, begins_like_image, is_own_picture, unread_kind_of
from vggcli.errors import DataError, counted
from vggcli.progress import LOG


@dataclass(frozen=True)
class ImageList:
    """Images by name, relative to `root`; `members` are those that lie in a tar."""

    root: Path
    names: tuple[str, ...]
    members: Mapping[str, TarMember] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Place:
        name = self.names[index]
        return self.members.get(name) or self.root / name


def listed_images(paths: Sequence[str], stdin: IO[bytes] | None = None) -> ImageList:
    """The images that `paths` name, each once, in order, relative to the current folder, images in tar files too; `stdin`
    is where `-` reads a list.

    Raises DataError where there is none, or a list or a tar cannot be read.
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
    """The images in a tar; those that cannot be read here are noted."""
    kept, unread = [], []
    for member in image_members(archive, IMAGE_SUFFIXES | EXTRA_SUFFIXES):
        named = kind_named(member.name)
        kind = named and unread_kind_of(member.read(HEAD_BYTES), member.name)
        if kind is None:
            kept.append(member)
        else:
            unread.append(kind)
    for sentence in unread_sentences(unread, f"in {archive}"):
        LOG.info(sentence)
    return kept


def images_once(paths: Sequence[str], stdin: IO[bytes] | None = None) -> tuple[str, ...]:
    """What `image_names` gives, each name once, in the order of the first; says how many come again."""
    given = list(image_names(paths, stdin))
    once = tuple(dict.fromkeys(given))
    again = len(given) - len(once)
    if again:
        LOG.info(f"{counted(again, 'image is', 'images are')} named more than once, and taken once")
    return once


def image_names(paths: Sequence[str], stdin: IO[bytes] | None = None, listed: bool = False) -> Iterator[str]:
    """What each of `paths` stands for, tar files as such; a file that is not there stays, to be listed as such. A folder
    or a pattern without an image is noted, where it is one of several, or of those `listed`."""
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
    elif os.path.isdir(path):  # noqa: PTH112 (what the system refuses to look at is no error yet, but a listed image)
        _check_not_the_root(path)
        yield from _below(path)
    elif path.lower().endswith(".csv"):
        yield from _listed_in_csv(Path(path))
    elif has_magic(path) and not os.path.exists(path):  # noqa: PTH110
        yield from _matching(path)
    else:
        yield path


def _matching(pattern: str) -> Iterator[str]:
    """What a pattern stands for; where it leaves the names of files open, pictures that this program drew are none of
    them."""
    ours = 0
    for match in sorted(glob(pattern, recursive=True)):  # noqa: PTH207 (absolute patterns too)
        if os.path.isdir(match):  # noqa: PTH112 (as above)
            yield from _below(match)
        elif has_magic(os.path.basename(pattern)) and _is_ours(Path(match)):  # noqa: PTH119
            ours += 1
        else:
            yield match
    if ours:
        LOG.info(
            f"{counted(ours, 'picture')} that vgg drew, matching {pattern}, {'is' if ours == 1 else 'are'} left out"
        )


def _is_ours(path: Path) -> bool:
    return is_own_picture(path, is_whole_run(path.parent))


def _below(folder: str) -> list[str]:
    for sentence in left_out_below(Path(folder)):
        LOG.info(sentence)
    return sorted(str(image) for image in images_below(Path(folder), broken_links=True))


def _check_not_the_root(path: str) -> None:
    real = Path(path).resolve()
    if real == real.parent:
        raise DataError(f"{path} is the root of the file system, which is never searched; name a folder below it")


def _listed_on(stdin: IO[bytes] | None) -> Iterator[str]:
    """One path a line or, where there is a NUL byte (`find -print0`), one between two of them; UTF-8, UTF-16 or any bytes.
    A folder in the list is said."""
    if stdin is None:
        raise DataError("there is no standard input here, for which - stands; name images, or a file called so as ./-")
    try:
        raw = stdin.read()
    except (OSError, ValueError) as error:  # it may only be written to; its terminal has gone
        raise DataError(f"the list on stdin cannot be read: {error}; pipe one into this command") from error
    if begins_like_image(raw[:HEAD_BYTES]):
        raise DataError("stdin holds an image, where - takes a list of paths; give the path of the image")
    try:
        names = listed_names(raw)
    except UnicodeDecodeError as error:
        raise DataError(f"the list on stdin cannot be read: {error}; write it as UTF-8") from error
    for name in names:
        if name == "-":
            raise DataError("the list on stdin names itself (-); list images, or give a file called so as ./-")
        if not os.path.lexists(name) and os.path.lexists(name.strip(" \t\"'")):
            name = name.strip(" \t\"'")  # as a spreadsheet or a shell quotes it  # noqa: PLW2901
        if os.path.isdir(name):  # noqa: PTH112 (as above)
            LOG.info(f"the list on stdin names the folder {name}: every image below it is taken")
        yield name


def _listed_in_csv(path: Path) -> Iterator[str]:
    try:
        yield from listed_paths(path)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be read as a CSV file: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from error
