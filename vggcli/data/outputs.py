"""Checks that results are not written among the images that they are made from, where they would be read as data later."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from vggcli.data.image_set import ImageSet
from vggcli.data.sources import load_split
from vggcli.errors import DataError, UsageError

Output = tuple[str, Path]  # the parameter that it comes from ("": none), and the path


def check_outside(outputs: Iterable[Output], root: Path, names: Iterable[str], whole: bool = True) -> None:
    """Raises UsageError for an output that would be in the folder of one of the images `names` (relative to `root`) or, if
    `whole`, anywhere in a folder of `root` with images in or below it. Links make no difference."""
    folders = {os.path.dirname(name) for name in names} - {""}  # noqa: PTH120 (names, not paths of this system)
    if whole:
        folders |= {PurePosixPath(name).parts[0] for name in folders if not name.startswith(("/", "..", "./"))}
    known = {identity: root / name for name in sorted(folders) if (identity := _identity(root / name))}
    for name, path in outputs:
        for parent in (path, *Path(os.path.realpath(path)).parents):
            inside = known.get(_identity(parent) or (0, 0))
            if inside is not None:
                where = f"{path} is in {inside}, among the images of the data"
                raise UsageError(f"{where}, and would be read as data later; write it elsewhere", *filter(None, [name]))


def check_outside_source(outputs: Sequence[Output], source: Path, images: ImageSet) -> None:
    """As `check_outside`, for `images` of a source and for its training and its validation split."""
    check_outside(outputs, images.root, images.file_names)
    for split in {"train", "val"} - {images.split} if outputs else ():
        try:
            other = load_split(source, split)
        except DataError:  # it does not exist, or cannot be read
            continue
        check_outside(outputs, other.root, other.file_names)


def check_outside_folders(outputs: Sequence[Output], paths: Iterable[str], names: Sequence[str]) -> None:
    """Raises UsageError for an output in a folder among `paths`, or among those of the images `names` found below it."""
    for folder in (path for path in paths if os.path.isdir(path)):  # noqa: PTH112 (may be no valid path)
        for name, path in outputs:
            real = Path(os.path.realpath(path))
            if _identity(Path(folder)) in map(_identity, (real, *real.parents)):
                raise UsageError(
                    f"{path} is inside the input folder {folder}; write it elsewhere", *filter(None, [name])
                )
        begin = os.path.join(folder, "").replace(os.sep, "/")  # noqa: PTH118 (as in the names)
        inside = [name.removeprefix(begin) for name in names if name.startswith(begin) or begin == "./"]
        check_outside(outputs, Path(folder), inside)


def _identity(path: Path) -> tuple[int, int] | None:
    """What identifies a file or folder, whatever path leads to it; None where it does not exist."""
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    return state.st_dev, state.st_ino
