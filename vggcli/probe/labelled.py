"""The images of a data set with their descriptors and classes: which are trained on, and which measured on.

Descriptors are matched by name in every store, so that several can be stacked row by row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vggcli.data.image_set import ImageSet, joined
from vggcli.data.sources import load_split, load_whole
from vggcli.errors import DataError, counted
from vggcli.probe.descriptors import Descriptors, matched_rows
from vggcli.probe.targets import Drawing, Ints, TrainTest, draw_parts, label_targets, object_targets


@dataclass(frozen=True)
class Labelled:
    """Images with their targets [N, K], the rows of their descriptors in each store, and which of them train and test in
    each split. `skipped` images have no descriptor, `unused` descriptors (of each store) no image."""

    images: ImageSet
    targets_NK: Ints
    rows: tuple[Ints, ...]
    parts: tuple[TrainTest, ...]
    skipped: int
    unused: tuple[int, ...]


def split_images(
    source: Path, train_split: str, split: str, stores: Sequence[Descriptors], by_objects: bool, skip_missing: bool
) -> Labelled:
    """Two splits of a source, one to train on and one to test on; with `by_objects` the classes of an image are those of
    its marked objects, where every image has some. Raises DataError as `with_descriptors` does."""
    train, test = load_split(source, train_split), load_split(source, split)
    images, rows, unused = with_descriptors(joined(train, test), stores, skip_missing)
    trained_on = set(train.names)
    in_train = np.array([name in trained_on for name in images.names])
    if in_train.all() or not in_train.any():
        raise DataError(
            f"no image of the {split if in_train.all() else train_split} split of {source} has a descriptor"
        )
    part = (np.flatnonzero(in_train), np.flatnonzero(~in_train))
    if by_objects and all(images.objects):
        classes = tuple(sorted({one.label for marked in images.objects for one in marked}))
        images, targets_NK = images.with_classes(classes), object_targets(images.objects, classes)
    else:
        targets_NK = label_targets(np.array(images.labels, np.int64), len(images.classes))
    skipped = len(train) + len(test) - len(images)
    return Labelled(images, targets_NK, rows, (part,), skipped, unused)


def drawn_images(
    source: Path, stores: Sequence[Descriptors], drawing: Drawing, seed: int, skip_missing: bool
) -> Labelled:
    """All images of a source, in random splits. Raises DataError as `with_descriptors` and `draw_parts` do."""
    whole = load_whole(source)
    images, rows, unused = with_descriptors(whole, stores, skip_missing)
    labels_N = np.array(images.labels, np.int64)
    parts = draw_parts(labels_N, images.classes, drawing, seed)
    targets_NK = label_targets(labels_N, len(images.classes))
    return Labelled(images, targets_NK, rows, tuple(parts), len(whole) - len(images), unused)


def with_descriptors(
    images: ImageSet, stores: Sequence[Descriptors], skip_missing: bool
) -> tuple[ImageSet, tuple[Ints, ...], tuple[int, ...]]:
    """The images that every store describes, the rows of their descriptors, and how many of each store's no image has.

    Raises DataError where one is not described, unless it may be skipped, and where none is.
    """
    rows = [matched_rows(store, images) for store in stores]
    for store, rows_N in zip(stores, rows, strict=True):
        missing = np.flatnonzero(rows_N < 0)
        if len(missing) == len(images):
            raise DataError(
                f"{store.path} describes none of the {counted(len(images), 'image')} of {images.root} ({images.split})"
            )
        if len(missing) and not skip_missing:
            few = f"{len(missing)} of the {counted(len(images), 'image')} of {images.root}"
            what = f"{store.path} has no descriptor of {few}; the first is {images.names[missing[0]]}"
            raise DataError(f"{what}: describe them, or leave them out", "skip_missing")
    kept = np.flatnonzero(np.all([rows_N >= 0 for rows_N in rows], axis=0))
    if not len(kept):
        raise DataError(f"no image of {images.root} ({images.split}) is described by all of the {len(stores)} stores")
    unused = tuple(len(store.images) - int((rows_N >= 0).sum()) for store, rows_N in zip(stores, rows, strict=True))
    return images.chosen(kept.tolist()), tuple(rows_N[kept] for rows_N in rows), unused
