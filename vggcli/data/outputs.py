"""Where results may go: to new files, and never among the images that they are made from, where they would be taken for
data the next time."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from vggcli.data.image_set import ImageSet
from vggcli.data.sources import load_split
from vggcli.errors import DataError, UsageError

Output = tuple[str, Path]  # the parameter that names it, and where it goes


def check_outside(outputs: Iterable[Output], root: Path, names: Iterable[str], whole: bool = True) -> None:
    """Raises UsageError for an output that would lie in a folder, right in `root`, that holds some of the images `names`
    (relative to it), or in any folder below `root` of an image; with `whole` unset only in the latter. Folders are
    compared as the system knows them, so links make no difference."""
    folders = {os.path.dirname(name) for name in names} - {""}  # noqa: PTH120 (names, not paths of this system)
    if whole:
        folders |= {PurePosixPath(name).parts[0] for name in folders if not name.startswith(("/", "..", "./"))}
    known = {identity: root / name for name in sorted(folders) if (identity := _identity(root / name))}
    for name, path in outputs:
        for parent in (path, *_real(path).parents):
            inside = known.get(_identity(parent) or (0, 0))
            if inside is not None:
                raise UsageError(
                    f"{path} lies in {inside}, among the images of the data, and would be taken for data itself; write it "
                    f"elsewhere",
                    name,
                )


def check_outside_source(outputs: Sequence[Output], source: Path, images: ImageSet) -> None:
    """As `check_outside`, for `images` of a source and for those of its training and its validation split."""
    check_outside(outputs, images.root, images.names)
    for split in {"train", "val"} - {images.split} if outputs else ():
        try:
            other = load_split(source, split)
        except DataError:  # there is none, or it is not what is asked for
            continue
        check_outside(outputs, other.root, other.names)


def check_run_outside(out: Path | None, runs: Path, *splits: ImageSet) -> None:
    """As `check_outside`, for the folder `out` of a run on some splits of a source or, where it is unset, for `runs`."""
    for images in splits:
        check_outside([("out", out or runs)], images.root, images.names)


def check_outside_folders(outputs: Sequence[Output], paths: Iterable[str], names: Sequence[str]) -> None:
    """Raises UsageError for an output inside a folder among `paths`, which were searched for the images `names`, or among
    those of these to which links lead from there."""
    for folder in (path for path in paths if os.path.isdir(path)):  # noqa: PTH112 (may be no path at all)
        for name, path in outputs:
            if _identity(Path(folder)) in {_identity(parent) for parent in _real(path).parents}:
                raise UsageError(f"{path} lies inside the input folder {folder}; write it elsewhere", name)
        begin = os.path.join(folder, "").replace(os.sep, "/")  # noqa: PTH118 (as the names were made)
        inside = [name.removeprefix(begin) for name in names if name.startswith(begin) or begin == "./"]
        check_outside(outputs, Path(folder), inside)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _identity(path: Path) -> tuple[int, int] | None:
    """What tells a folder, under whichever name, from all others."""
    try:
        state = path.stat()
    except (OSError, ValueError):
        return None
    return state.st_dev, state.st_ino
