"""Targets, random splits and held-out images of a probe."""

import numpy as np
import pytest

from vggcli.data.voc import MarkedObject
from vggcli.errors import DataError
from vggcli.probe.targets import Drawing, draw_parts, held_out_rows, label_targets, object_targets

BOX = (0.0, 0.0, 1.0, 1.0)


def test_an_image_with_only_difficult_objects_of_a_class_does_not_count_for_it() -> None:
    objects = [
        [MarkedObject("cat", BOX, True), MarkedObject("dog", BOX)],
        [MarkedObject("cat", BOX, True), MarkedObject("cat", BOX)],
        [MarkedObject("cat", BOX), MarkedObject("cat", BOX, True), MarkedObject("stranger", BOX)],
        [MarkedObject("dog", BOX, True), MarkedObject("dog", BOX, True)],
        [],
    ]
    assert object_targets(objects, ("cat", "dog")).tolist() == [[0, 1], [1, -1], [1, -1], [-1, 0], [-1, -1]]


def test_labels_as_targets() -> None:
    assert label_targets(np.array([1, 0, 2]), 3).tolist() == [[-1, 1, -1], [1, -1, -1], [-1, -1, 1]]


LABELS = np.repeat([0, 1, 2], [12, 40, 9])
CLASSES = ("few", "many", "fewest")


def test_random_splits_are_the_protocols() -> None:
    parts = draw_parts(LABELS, CLASSES, Drawing(6, 5, 4), seed=3)
    assert len(parts) == 4
    for train, test in parts:
        assert not set(train) & set(test)
        assert len(set(train)) == len(train) == 18
        assert np.bincount(LABELS[train]).tolist() == [6, 6, 6]
        assert np.bincount(LABELS[test]).tolist() == [5, 5, 3]  # at most 5
    assert len({tuple(sorted(train)) for train, _ in parts}) == 4
    again = draw_parts(LABELS, CLASSES, Drawing(6, 5, 2), seed=3)
    np.testing.assert_array_equal(again[1][0], parts[1][0])  # whatever the number of splits
    assert set(draw_parts(LABELS, CLASSES, Drawing(6, 5, 1), seed=4)[0][0]) != set(parts[0][0])


def test_the_rest_is_tested_where_no_number_is_given() -> None:
    ((train, test),) = draw_parts(LABELS, CLASSES, Drawing(8, None, 1), seed=0)
    assert sorted([*train, *test]) == list(range(61))


def test_a_class_that_is_too_small_is_named() -> None:
    with pytest.raises(DataError, match="'fewest' has 9 images, too few to train on 9"):
        draw_parts(LABELS, CLASSES, Drawing(9, 5, 1), seed=0)


def test_a_fifth_of_each_class_is_held_out() -> None:
    labels_N = np.repeat([0, 1, 2, 3, 4], [100, 10, 3, 2, 1])
    held_N = held_out_rows(labels_N, seed=0)
    assert np.bincount(labels_N[held_N], minlength=5).tolist() == [20, 2, 1, 1, 0]
    np.testing.assert_array_equal(held_out_rows(labels_N, seed=0), held_N)
    assert (held_out_rows(labels_N, seed=1) != held_N).any()


@pytest.mark.parametrize(("images", "held"), [(1, 0), (2, 1), (7, 1), (8, 2), (10, 2), (13, 3), (30, 6)])
def test_a_fifth_of_a_class_is_held_out_rounded(images: int, held: int) -> None:
    assert held_out_rows(np.zeros(images, np.int64), 3).sum() == held
