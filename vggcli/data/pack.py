"""Packs a source as shards: tar files in the layout of WebDataset, which hold the files of images as they are.

Classes are numbers in .cls, as other readers of this layout expect them, with their names in classes.txt. A sample is named
by the place of its image in the split, so that a training from the shards draws the same views.
"""

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from vggcli.data.image_set import ImageSet, size_of
from vggcli.data.shard_samples import ANNOTATION, CLASS
from vggcli.data.shards import NAMES
from vggcli.data.tars import Place, TarMember
from vggcli.data.walking import KNOWN_SUFFIXES
from vggcli.errors import DataError, UsageError
from vggcli.files import appearing, machine_error

SHARD_BYTES = 1_000_000_000  # of the images in a shard, at most, unless one image has more


def check_new(folder: Path) -> None:
    """Raises UsageError where the folder of new shards exists, or the folder that it is to be in does not."""
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"{folder} exists already; give a new folder for the shards")
    if not folder.parent.is_dir():
        raise UsageError(f"there is no folder {folder.parent} for {folder}; create it first")


def pack(train: ImageSet, val: ImageSet, folder: Path, progress: Callable[[int], None] = lambda images: None) -> int:
    """Pack two splits with the same classes, as `load_both` returns them, in the new `folder`, whole or not at all. The
    same images give the same bytes. Returns the number of shards; `progress` is called with the number of images packed
    since its last call. Raises DataError for an image that cannot be read, MachineError where the disk refuses."""
    check_new(folder)
    try:
        with appearing(folder, NAMES[0]) as made:
            for images, split in ((train, "train"), (val, "val")):
                for number, rows in enumerate(_by_size(images)):
                    with tarfile.open(made / f"{split}-{number:06d}.tar", "w", format=tarfile.GNU_FORMAT) as tar:
                        for row in rows:
                            _add_sample(tar, images, row)
                            progress(1)
            (made / NAMES[0]).write_text("".join(f"{name}\n" for name in train.classes), "utf-8", "surrogateescape")
        return len(list(folder.glob("*.tar")))
    except OSError as error:
        raise machine_error(folder, error) from error


def _by_size(images: ImageSet) -> Iterator[list[int]]:
    """The rows of the images of each shard."""
    rows, total = list[int](), 0
    for row in range(len(images)):
        size = size_of(images.path(row))
        if rows and total + size > SHARD_BYTES:
            yield rows
            rows, total = [], 0
        rows.append(row)
        total += size
    yield rows


def _add_sample(tar: tarfile.TarFile, images: ImageSet, row: int) -> None:
    place, suffix = images.path(row), PurePosixPath(images.names[row]).suffix.lower()
    _add(tar, f"{row:08d}{suffix if suffix in KNOWN_SUFFIXES else ''}", _contents(place))
    _add(tar, f"{row:08d}.{CLASS}", str(images.labels[row]).encode())
    if marked := images.objects[row]:
        difficult = {True: {"difficult": True}, False: dict[str, bool]()}
        objects = [{"class": one.label, "box": one.box, **difficult[one.difficult]} for one in marked]
        about = {"objects": objects, **({"size": marked[0].stated} if marked[0].stated else {})}
        _add(tar, f"{row:08d}.{ANNOTATION}", json.dumps(about).encode())


def _contents(place: Place) -> bytes:
    try:
        return place.read() if isinstance(place, TarMember) else place.read_bytes()
    except OSError as error:
        raise DataError(f"{place} cannot be read: {(error.strerror or str(error)).lower()}") from error


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)  # without a date or an owner
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
