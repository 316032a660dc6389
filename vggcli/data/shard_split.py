"""One split of a source of shards as a set of images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vggcli.data.extra_formats import can_read
from vggcli.data.image_set import ImageSet
from vggcli.data.left_out import unread_sentences
from vggcli.data.packed_names import Rows
from vggcli.data.shard_index import ShardIndex, shard_index
from vggcli.data.shards import NAMES, Shards, class_names, split_role
from vggcli.data.splits import is_hashed_into, need_hashed, picked
from vggcli.data.tars import SUFFIX
from vggcli.data.voc import MarkedObject
from vggcli.errors import DataError

Objects = tuple[MarkedObject, ...]


def shard_split(shards: Shards, split: str) -> ImageSet:
    """The images of one split of `shards`: of those that are named like it, or else of one side of a split by a hash of the
    paths in the shards. Raises DataError where there is no such split, a shard cannot be read, or a class has no image
    that can be."""
    index, remarks = shard_index(shards), list[str]()
    rows, names = _rows(shards, index, split, remarks), _class_names(shards, index, remarks)
    rows = _readable(shards, index, rows, names, remarks)
    label_N = index.label_N[rows]
    used = np.unique(label_N).tolist()
    classes = tuple(sorted({names[label] for label in used}))
    order = {name: number for number, name in enumerate(classes)}
    number_of = {label: order[names[label]] for label in used}
    return ImageSet(
        root=shards.folder,
        split=split,
        classes=classes,
        names=index.names.chosen(rows),
        labels=tuple(map(number_of.__getitem__, label_N)),
        objects=_objects(index, rows, len(label_N), names),
        remarks=tuple(remarks),
        places=index.places.chosen(rows),
    )


def _rows(shards: Shards, index: ShardIndex, split: str, remarks: list[str]) -> Rows:
    """The rows of a split: a slice where they follow each other."""
    parts = shards.parts
    if not parts:
        need_hashed(split)
        inner = (name.partition(f"{SUFFIX}/")[2] for name in index.names)
        return np.flatnonzero([is_hashed_into(split, name) for name in inner])
    others = [name for name in shards.names if name not in parts]
    if others:
        shown = ", ".join(others[:3]) + ", …" * (len(others) > 3)
        remarks.append(f"{shown} beside the shards of splits in {shards.folder}: what it holds is left out")
    part = picked(split, sorted(set(parts.values())), shards.folder, split_role, shards=True)
    mine = [number for number, name in enumerate(shards.names) if parts.get(name) == part]
    rows = np.flatnonzero(np.isin(index.places.archive_N, mine))
    together = len(rows) > 0 and rows[-1] - rows[0] == len(rows) - 1
    return slice(int(rows[0]), int(rows[-1]) + 1) if together else rows


def _class_names(shards: Shards, index: ShardIndex, remarks: list[str]) -> Sequence[str]:
    """The name of each label of the index; numbers without names have as many digits as the largest of them."""
    numbers = [label for label in index.labels if isinstance(label, int)]
    known = class_names(shards.folder) if numbers else None
    if numbers and known is None:
        where = f"{shards.folder / NAMES[0]}, with a name a line"
        remarks.append(f"the classes of {shards.folder} have numbers and no names; give them in {where}")
    if known is not None and max(numbers) >= len(known):
        of = next(one for one in NAMES if (shards.folder / one).is_file())
        number = max(numbers)
        row = int(np.argmax(index.label_N == index.labels.index(number))) if number in index.labels else 0
        raise DataError(f"{shards.folder / index.names[row]} has the class {number}, but {of} names {len(known)}")
    width = len(str(max(numbers, default=0)))
    named = known or {number: f"{number:0{width}d}" for number in numbers}
    return [named[label] if isinstance(label, int) else label for label in index.labels]


def _readable(shards: Shards, index: ShardIndex, rows: Rows, names: Sequence[str], remarks: list[str]) -> Rows:
    """The `rows` without images of formats that cannot be read here."""
    unread = {row: kind for row, kind in index.kinds.items() if not can_read(kind)}
    all_rows = np.arange(len(index.names))[rows] if unread else np.empty(0, np.int64)
    lost = [row for row in all_rows.tolist() if row in unread]
    if not lost:
        return rows
    where = f"in the shards of {shards.folder}"
    remarks += unread_sentences((unread[row] for row in lost), where)
    kept: NDArray[np.int64] = np.setdiff1d(all_rows, lost)
    left = {names[label] for label in np.unique(index.label_N[kept]).tolist()}
    for row in lost:
        if (label := names[index.label_N[row]]) not in left:
            said = unread_sentences([unread[row]], where)[0]
            raise DataError(f"the class {label!r} has no image that can be read: {said}")
    return kept


def _objects(index: ShardIndex, rows: Rows, count: int, names: Sequence[str]) -> tuple[Objects, ...]:
    found: list[Objects] = [()] * count
    if not len(index.objects.row):
        return tuple(found)
    place = np.full(len(index.names), -1, np.int64)
    place[rows] = np.arange(count)
    lists = (one.tolist() for one in (place[index.objects.row], *list(vars(index.objects).values())[1:]))
    for at, label, box, difficult, (width, height) in zip(*lists, strict=True):
        if at >= 0:
            stated = (width, height) if width else None
            found[at] = (*found[at], MarkedObject(names[label], tuple(box), difficult, stated))
    return tuple(found)
