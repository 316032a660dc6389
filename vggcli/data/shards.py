"""Shards, which are tar files of images in the layout of WebDataset: which a source has, their splits, and the names of
classes that they number.

The split of a shard is in its name: train-000000.tar, imagenet1k-validation-07.tar, val-0001-of-0064.tar.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vggcli.data.listed_text import listed_names
from vggcli.data.splits import loose_role, role_of
from vggcli.data.tars import COMPRESSED, SUFFIX
from vggcli.data.walking import check_link, composed, folders_in, images_below, images_in, is_junk
from vggcli.errors import DataError
from vggcli.records import parsed

NUMBER = re.compile(r"[\s_.\-]*\d+([\s_.\-]*of[\s_.\-]*\d+)?$", re.IGNORECASE)  # at the end of a shard's name
NAMES = ("classes.txt", "classes.json")  # of numbered classes, beside the shards


@dataclass(frozen=True)
class Shards:
    """The shards of a `folder`: their file names, in the order in which the names of all images are sorted."""

    folder: Path
    names: tuple[str, ...]

    @property
    def stamps(self) -> tuple[tuple[str, int, int], ...]:
        """The name, size and modification time of each."""
        states = ((name, (self.folder / name).stat()) for name in self.names)
        return tuple((name, state.st_size, state.st_mtime_ns) for name, state in states)

    @property
    def parts(self) -> dict[str, str]:
        """What is before the number in the name of each shard that is named like a split."""
        return {name: part for name in self.names if split_role(part := _before_number(name)) is not None}


def find_shards(source: Path) -> Shards | None:
    """The shards that `source` is or holds, or None. A folder with other images, too, is no source of shards; but if a tar
    in it is named like a split, DataError is raised, as for a broken link, and where all shards are compressed."""
    if source.is_file() and source.name.lower().endswith(SUFFIX):
        return Shards(source.parent, (source.name,))
    entries = sorted(source.iterdir()) if source.is_dir() else []
    paths = [path for path in entries if _is_shard(path)]
    if not paths:
        _refuse_compressed(source, entries)
        return None
    for path in paths:
        check_link(path)
    shards = Shards(source, tuple(sorted((path.name for path in paths), key=lambda name: f"{name}/")))
    beside = _images_beside(source)
    if beside is None:
        return shards
    if shards.parts:
        what = f"{source} holds shards, such as {min(shards.parts)}, and images, in {beside}"
        raise DataError(f"{what}; move either into a folder of their own", "data")
    return None


def split_role(part: str) -> str | None:
    """The role ("train", "val" or "test") of the shards that begin with `part`."""
    return role_of(part) or loose_role(part)


def class_names(folder: Path) -> tuple[str, ...] | None:
    """The names of numbered classes from number 0 on: the lines of classes.txt in `folder`, or the list in classes.json;
    None where there is neither. Raises DataError where both are there, or one cannot be read or has a name twice."""
    found = [folder / name for name in NAMES if (folder / name).is_file()]
    if len(found) > 1:
        raise DataError(f"{folder} has {' and '.join(NAMES)}; remove one of them")
    if not found:
        return None
    try:
        raw = found[0].read_bytes()
        names = listed_names(raw) if found[0].suffix == ".txt" else parsed(raw)
    except (OSError, ValueError) as error:
        raise DataError(f"{found[0]} cannot be read as a list of class names: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise DataError(f'{found[0]} is not a list of class names, as ["cat", "dog"]')
    named = tuple(composed(name.strip()) for name in names)
    twice = next((name for name in named if named.count(name) > 1), None)
    if twice is not None:
        numbers = " and ".join(str(number) for number, name in enumerate(named) if name == twice)
        raise DataError(f"{found[0]} gives the classes {numbers} one name, {twice!r}; change one")
    return named


def _is_shard(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIX) and not is_junk(path.name) and not path.is_dir()


def _refuse_compressed(source: Path, entries: Sequence[Path]) -> None:
    named = [path for path in entries if path.name.lower().endswith(COMPRESSED) and not is_junk(path.name)]
    stems = ((path, path.name[: path.name.lower().rindex(".t")]) for path in named)
    first = next((path for path, stem in stems if split_role(NUMBER.sub("", stem))), None)
    if first is not None and _images_beside(source) is None:
        raise DataError(f"{first} is compressed, so its images cannot be read in place; decompress it to a .tar first")


def _before_number(name: str) -> str:
    return NUMBER.sub("", name[: -len(SUFFIX)])


def _images_beside(folder: Path) -> Path | None:
    """The folder of an image in `folder` or below it, if there is one."""
    if images_in(folder):
        return folder
    inner = (folder / name for name in folders_in(folder))
    return next((one for one in inner if any(images_below(one, broken_links=True))), None)
