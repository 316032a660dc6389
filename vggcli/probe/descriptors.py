"""Stored descriptors: read with the names of their images, and matched to the images of a data set by those names.

Rows are matched by name, so their order and number may differ from those of the data set.
"""

import os.path
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from vggcli.data.image_set import ImageSet
from vggcli.errors import DataError, counted
from vggcli.features.pooling import l2_normalised
from vggcli.features.read import open_store

# Stores with equal values of these are parts of one
SETTINGS = tuple("weights_sha256 arch layer pool scales aggregate norm flip".split())


@dataclass(frozen=True)
class Descriptors:
    """A file of descriptors: float32 `features_ND`, the names of their `images` relative to the folder `root` (empty where
    the file does not say), and `about`, the other metadata. `path` is for messages."""

    path: str
    features_ND: NDArray[np.float32]
    images: tuple[str, ...]
    root: str = ""
    about: Mapping[str, str] = field(default_factory=dict)

    @property
    def dimension(self) -> int:
        return int(self.features_ND.shape[1])


def read_descriptors(path: Path) -> Descriptors:
    """The descriptors in a file of `vgg features`, or in a folder of its shards (an .npz needs only arrays `features` and
    `images`, a .safetensors a tensor `features` with the metadata `images`).

    Raises DataError where it is missing, damaged, of another kind, empty, does not have one descriptor for each image,
    names an image twice, or holds a value that is not finite.
    """
    stored = open_store(path)
    features_ND, start = np.empty((len(stored.names), stored.width), np.float32), 0
    for rows in stored.chunks():
        features_ND[start : start + len(rows)] = rows
        start += len(rows)
    about = dict(stored.metadata)
    return Descriptors(str(path), features_ND, stored.names, about.pop("root", ""), about)


def with_parts_joined(stores: Sequence[Descriptors]) -> list[Descriptors]:
    """The same descriptors, with stores made by the same weights and settings joined into one: they are of different
    images, such as those of a training and of a validation split.

    Raises DataError where two of them describe the same image.
    """
    groups: dict[tuple[object, ...], list[Descriptors]] = {}
    for index, store in enumerate(stores):
        said = "weights_sha256" in store.about
        settings = tuple(store.about.get(name) for name in SETTINGS) if said else (index,)
        groups.setdefault((store.dimension, *settings), []).append(store)
    return [_joined(parts) if len(parts) > 1 else parts[0] for parts in groups.values()]


def _joined(parts: Sequence[Descriptors]) -> Descriptors:
    owner: dict[str, str] = {}
    for part in parts:
        for name in part.images:
            image = _absolute(part.root, name)
            if image in owner:
                what = f"{owner[image]} and {part.path} were made with the same settings, and both describe {name}"
                raise DataError(f"{what}; give only one of them")
            owner[image] = part.path
    features_ND = np.concatenate([part.features_ND for part in parts])
    return Descriptors(
        " + ".join(part.path for part in parts), features_ND, tuple(owner), parts[0].root, parts[0].about
    )


def matched_rows(store: Descriptors, images: ImageSet) -> NDArray[np.int64]:
    """For each image of a set the row of its descriptor, -1 where there is none: that of the same absolute path, else the
    only row whose name is, or ends in, the image's name relative to the set.

    Raises DataError where several rows could be meant, or one row by several images.
    """
    by_path = {_absolute(store.root, name): row for row, name in enumerate(store.images)} if store.root else {}
    by_file: dict[str, list[int]] = {}
    for number, name in enumerate(store.images):
        by_file.setdefault(PurePosixPath(name).name, []).append(number)
    rows = np.full(len(images), -1, np.int64)
    ambiguous: list[tuple[str, list[str]]] = []
    for index, name in enumerate(images.names):
        row = by_path.get(_absolute(str(images.root), name))
        if row is None:
            wanted = PurePosixPath(name).as_posix()
            same_file = by_file.get(PurePosixPath(name).name, [])
            found = [one for one in same_file if f"/{store.images[one]}".endswith(f"/{wanted}")]
            if len(found) > 1:
                ambiguous.append((name, [store.images[one] for one in found[:2]]))
            row = found[0] if len(found) == 1 else -1
        rows[index] = row
    if ambiguous:
        name, (one, other) = ambiguous[0]
        raise DataError(
            f"{store.path}: the descriptor of {name} could be that of {one!r} or of {other!r} ({len(ambiguous)} of "
            f"{counted(len(images), 'image')} are ambiguous); describe the images below {images.root} by their own paths"
        )
    _check_once(store, images, rows)
    return rows


def _check_once(store: Descriptors, images: ImageSet, rows: NDArray[np.int64]) -> None:
    taken: dict[int, str] = {}
    for name, row in zip(images.names, rows.tolist(), strict=True):
        if row >= 0 and row in taken:
            raise DataError(
                f"{store.path}: the descriptor of {store.images[row]!r} could belong to {taken[row]} and to {name}; "
                f"describe the images below {images.root} by their own paths"
            )
        taken[row] = name


def _absolute(root: str, name: str) -> str:
    return os.path.normpath(os.path.join(root, name))  # noqa: PTH118 (names may hold "..", which Path keeps)


def stacked(stores: Sequence[Descriptors], rows: Sequence[NDArray[np.int64]], normalise: bool) -> NDArray[np.float32]:
    """The descriptors of the same images from several stores side by side, in the order of `rows`: float32
    [N, sum of D]. With `normalise` each store's are brought to length 1 first, so that each weighs the same (Appendix B:
    L2-normalised; before stacking, where the paper does not say)."""
    blocks = [store.features_ND[of] for store, of in zip(stores, rows, strict=True)]
    return np.concatenate([l2_normalised(block) for block in blocks] if normalise else blocks, axis=1)
