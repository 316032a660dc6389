"""The targets of a probe, its random splits, and the images held out to choose C.

N images, K classes. A target is 1 where the image shows the class, -1 where it does not, and 0 where the image does not
count for the class.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vggcli import paper
from vggcli.data.voc import MarkedObject
from vggcli.errors import DataError, counted

Ints = NDArray[np.int64]
TrainTest = tuple[Ints, Ints]  # rows to train on, rows to test on


def label_targets(labels_N: Ints, classes: int) -> Ints:
    """Targets [N, K] of images with one class each."""
    return np.where(labels_N[:, None] == np.arange(classes), 1, -1)


def object_targets(objects: Sequence[Sequence[MarkedObject]], classes: Sequence[str]) -> Ints:
    """Targets [N, K] of images with marked objects, as the VOC devkit has them: 1 with an object of the class that is not
    difficult, 0 where all objects of the class are difficult, -1 without any. Objects of other classes are ignored."""
    order = {name: index for index, name in enumerate(classes)}
    targets_NK = np.full((len(objects), len(classes)), -1, np.int64)
    for row, marked in enumerate(objects):
        for one in marked:
            if one.label in order:
                column = order[one.label]
                targets_NK[row, column] = max(targets_NK[row, column], 0 if one.difficult else 1)
    return targets_NK


@dataclass(frozen=True)
class Drawing:
    """Random splits: images of each class to train on, the most to test on (None: the rest), and the number of splits."""

    train_per_class: int = paper.CALTECH_TRAIN
    test_per_class: int | None = paper.CALTECH_TEST
    splits: int = paper.CALTECH_SPLITS


def draw_parts(labels_N: Ints, classes: Sequence[str], drawing: Drawing, seed: int) -> list[TrainTest]:
    """The random splits of section 6's Caltech protocol; split i depends on (seed, i) alone.

    Raises DataError for a class too small to train on and keep an image to test on.
    """
    members = [np.flatnonzero(labels_N == index) for index in range(len(classes))]
    for name, rows in zip(classes, members, strict=True):
        if len(rows) <= drawing.train_per_class:
            what = f"class {name!r} has {counted(len(rows), 'image')}, too few to train on {drawing.train_per_class}"
            raise DataError(f"{what} and test on the rest; train on fewer", "train_per_class")
    parts = []
    for split in range(drawing.splits):
        draw = np.random.default_rng([seed, split])
        shuffled = [draw.permutation(rows) for rows in members]
        first, last = drawing.train_per_class, drawing.test_per_class
        end = None if last is None else first + last
        train = np.concatenate([rows[:first] for rows in shuffled])
        parts.append((train, np.concatenate([rows[first:end] for rows in shuffled])))
    return parts


def held_out_rows(labels_N: Ints, seed: int) -> NDArray[np.bool_]:
    """Which training images choose C: a fifth of each class, rounded, and at least one where it has two or more."""
    draw = np.random.default_rng([seed, 1 << 16])
    held_N = np.zeros(len(labels_N), bool)
    for label in np.unique(labels_N):
        rows = draw.permutation(np.flatnonzero(labels_N == label))
        count = max(1, round(paper.HELD_OUT_SHARE * len(rows))) if len(rows) > 1 else 0
        held_N[rows[:count]] = True
    return held_N
