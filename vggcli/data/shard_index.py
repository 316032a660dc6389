"""Where the samples of shards are, found once: to read the headers of large shards takes minutes, so the index is kept in
the user's cache, under a name that changes when a shard does. It is arrays and one text, which load in a second.
"""

import hashlib
import itertools
import json
import os
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggcli.data.packed_names import PackedNames
from vggcli.data.shard_samples import Label, Marked, shard_samples
from vggcli.data.shards import Shards
from vggcli.data.tars import TarPlaces
from vggcli.data.workers import loaded
from vggcli.errors import DataError
from vggcli.files import machine_error, replacing
from vggcli.locks import Busy, let_go, lock
from vggcli.places import made_folder
from vggcli.progress import LOG, Progress, silent

VERSION = 1
WAIT = 0.1  # seconds between looks at the lock of another process
FOLDER = "shards"  # in the cache
ARRAYS = {  # of an index file: their types, and their columns
    "text": ("u1", ()),
    "bounds": ("<i8", ()),
    "archive": ("<i4", ()),
    "offset": ("<i8", ()),
    "size": ("<i8", ()),
    "label": ("<i4", ()),
    "object_row": ("<i8", ()),
    "object_label": ("<i4", ()),
    "object_box": ("<f8", (4,)),
    "object_difficult": ("?", ()),
    "object_size": ("<i8", (2,)),
    "about": ("u1", ()),
}
Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class IndexedObjects:
    """M objects: the rows of their images, ascending int64 [M]; their classes as numbers of the index, int32 [M]; boxes
    float64 [M, 4]; whether they are difficult, bool [M]; and the sizes stated for their images, int64 [M, 2], 0 if none."""

    row: Array
    label: Array
    box: Array
    difficult: Array
    size: Array


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """The samples of shards, sorted by their names `shard.tar/member`: their places, their classes, int32 [N] that index
    `labels`, their objects, and the format, by row, of those that cannot be read everywhere."""

    names: PackedNames
    places: TarPlaces
    labels: tuple[Label, ...]
    label_N: NDArray[np.int32]
    objects: IndexedObjects
    kinds: dict[int, str]


_last: dict[tuple[object, ...], ShardIndex] = {}  # the index that this process has used last


def shard_index(shards: Shards, cache: Path | None = None, workers: int = 0, progress: Progress = silent) -> ShardIndex:
    """The index of `shards`: that which this process has used last, else the one kept in `cache`, else a new one, made by
    `workers` processes. Raises DataError as `shard_samples` does, MachineError where the cache cannot be written."""
    try:
        stamps = shards.stamps
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {(error.strerror or str(error)).lower()}") from error
    key = shards.folder, stamps
    if key not in _last:
        found = _made(shards, workers, progress) if cache is None else _cached(shards, stamps, cache, workers, progress)
        _last.clear()
        _last[key] = found
    return _last[key]


def _cached(shards: Shards, stamps: Sequence[object], cache: Path, workers: int, progress: Progress) -> ShardIndex:
    path = cache / FOLDER / f"{hashlib.sha256(json.dumps(stamps).encode()).hexdigest()[:32]}.npz"
    if (found := _kept(path, shards)) is not None:
        return found
    made_folder(path.parent)
    with _alone(path):  # of several processes the first makes it
        return _kept(path, shards) or _new(path, shards, workers, progress)


def _kept(path: Path, shards: Shards) -> ShardIndex | None:
    if os.path.lexists(path):
        try:
            found = _read(path, shards)
            with suppress(OSError):  # it may be another user's
                os.utime(path)  # the time of its last use, for clearing the cache
            return found
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            LOG.info(f"{path}, the index of {shards.folder}, is damaged or of another version ({error}): made again")
    return None


def _new(path: Path, shards: Shards, workers: int, progress: Progress) -> ShardIndex:
    index = _made(shards, workers, progress)
    with replacing(path) as temporary:
        np.savez(temporary, allow_pickle=False, **_arrays(index))
    return index


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Waits until no other process is in a block for the same `path`."""
    file = path.parent / f".{path.stem}.tmp"
    while True:
        try:
            held = lock(file, create=True)
            break
        except Busy:
            time.sleep(WAIT)
        except OSError as error:
            raise machine_error(file, error) from error
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        let_go(held)


def _made(shards: Shards, workers: int, progress: Progress) -> ShardIndex:
    archives = [shards.folder / name for name in shards.names]
    workers = min(workers, len(archives)) if len(archives) > 1 else 0
    with closing(loaded(_part, archives, workers)) as read, progress("indexing shards", len(archives), "shards") as bar:
        parts = []
        for part in read:
            parts.append(part)
            bar(1)
    return _joined(parts)


def _part(archive: Path) -> ShardIndex:
    """The index of one shard."""
    samples = shard_samples(archive)
    marked = [(row, one, sample.stated or (0, 0)) for row, sample in enumerate(samples) for one in sample.objects]
    labels: dict[Label, int] = {}
    for label in (*(one.label for one in samples), *(one.label for _, one, _ in marked)):
        labels.setdefault(label, len(labels))
    places = TarPlaces(
        (archive,),
        np.zeros(len(samples), "<i4"),
        np.array([one.offset for one in samples], "<i8"),
        np.array([one.size for one in samples], "<i8"),
    )
    return ShardIndex(
        PackedNames.of(f"{archive.name}/{one.name}" for one in samples),
        places,
        tuple(labels),
        np.array([labels[one.label] for one in samples], "<i4"),
        _objects(marked, labels),
        {row: one.kind for row, one in enumerate(samples) if one.kind is not None},
    )


def _objects(marked: Sequence[tuple[int, Marked, tuple[int, int]]], labels: dict[Label, int]) -> IndexedObjects:
    return IndexedObjects(
        np.array([row for row, _, _ in marked], "<i8"),
        np.array([labels[one.label] for _, one, _ in marked], "<i4"),
        np.array([one.box for _, one, _ in marked], "<f8").reshape(-1, 4),
        np.array([one.difficult for _, one, _ in marked], "?"),
        np.array([size for _, _, size in marked], "<i8").reshape(-1, 2),
    )


def _joined(parts: Sequence[ShardIndex]) -> ShardIndex:
    """The indexes of single shards as one."""
    numbers: dict[Label, int] = {}
    for label in (label for part in parts for label in part.labels):
        numbers.setdefault(label, len(numbers))
    renumbered = [np.array([numbers[label] for label in part.labels], "<i4") for part in parts]
    first_rows = list(itertools.accumulate((len(part.names) for part in parts), initial=0))
    ends = itertools.accumulate((len(part.names.text) for part in parts), initial=0)
    bounds = [part.names.bounds[:-1] + start for part, start in zip(parts, ends, strict=False)]
    text = np.concatenate([part.names.text for part in parts])
    places = TarPlaces(
        tuple(part.places.archives[0] for part in parts),
        np.repeat(np.arange(len(parts), dtype="<i4"), [len(part.names) for part in parts]),
        np.concatenate([part.places.offset_N for part in parts]),
        np.concatenate([part.places.size_N for part in parts]),
    )
    objects = IndexedObjects(
        np.concatenate([part.objects.row + first for part, first in zip(parts, first_rows, strict=False)]),
        np.concatenate([of[part.objects.label] for part, of in zip(parts, renumbered, strict=True)]),
        *(np.concatenate([getattr(part.objects, name) for part in parts]) for name in ("box", "difficult", "size")),
    )
    return ShardIndex(
        PackedNames(text, np.concatenate([*bounds, [len(text)]]).astype("<i8")),
        places,
        tuple(numbers),
        np.concatenate([of[part.label_N] for part, of in zip(parts, renumbered, strict=True)]),
        objects,
        {row + first: kind for part, first in zip(parts, first_rows, strict=False) for row, kind in part.kinds.items()},
    )


def _arrays(index: ShardIndex) -> dict[str, Array]:
    kinds = [[row, kind] for row, kind in index.kinds.items()]
    about = {"version": VERSION, "labels": index.labels, "kinds": kinds}
    return {
        "text": index.names.text,
        "bounds": index.names.bounds,
        "archive": index.places.archive_N,
        "offset": index.places.offset_N,
        "size": index.places.size_N,
        "label": index.label_N,
        **{f"object_{name}": one for name, one in vars(index.objects).items()},
        "about": np.frombuffer(json.dumps(about).encode(), "u1"),
    }


def _read(path: Path, shards: Shards) -> ShardIndex:
    """The index in a file. Raises ValueError, KeyError, OSError or BadZipFile where it is not one."""
    if not zipfile.is_zipfile(path):
        raise ValueError("it is cut short")
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        found = {name: file[name] for name in ARRAYS}
    about = json.loads(found["about"].tobytes())
    if about["version"] != VERSION:
        raise ValueError(f"version {about['version']}")
    images, marked = len(found["label"]), len(found["object_row"])
    for name, (kind, columns) in ARRAYS.items():
        rows = {"text": found["bounds"][-1], "bounds": images + 1, "about": len(found["about"])}
        shape = rows.get(name, marked if name.startswith("object_") else images), *columns
        if found[name].dtype != np.dtype(kind) or found[name].shape != shape:
            raise ValueError(f"{name} is {found[name].dtype} of the shape {found[name].shape}")
    archives = tuple(shards.folder / name for name in shards.names)
    objects = IndexedObjects(**{name.removeprefix("object_"): one for name, one in found.items() if "object_" in name})
    return ShardIndex(
        PackedNames(found["text"], found["bounds"]),
        TarPlaces(archives, found["archive"], found["offset"], found["size"]),
        tuple(about["labels"]),
        found["label"],
        objects,
        dict(about["kinds"]),
    )
