"""Average precision against the devkits' own loops and scikit-learn."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from vggcli.metrics import average_precision


def devkit(scores: list[float], positive: list[bool], eleven_points: bool) -> Fraction:
    """VOCevalcls of the devkits of 2007 and 2012, line by line, in fractions."""
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    recall, precision, found = [], [], 0
    for rank, index in enumerate(order, start=1):
        found += positive[index]
        recall.append(Fraction(found, sum(positive)))
        precision.append(Fraction(found, rank))
    if eleven_points:
        total = Fraction(0)
        for tenths in range(11):
            reached = [p for r, p in zip(recall, precision, strict=True) if r >= Fraction(tenths, 10)]
            total += max(reached, default=Fraction(0)) / 11
        return total
    recall, precision = [Fraction(0), *recall, Fraction(1)], [Fraction(0), *precision, Fraction(0)]
    for index in range(len(precision) - 2, -1, -1):
        precision[index] = max(precision[index], precision[index + 1])
    steps = [(after - before, index + 1) for index, (before, after) in enumerate(pairwise(recall))]
    return sum((step * precision[index] for step, index in steps), Fraction(0))


@pytest.mark.parametrize("eleven_points", [True, False])
@pytest.mark.parametrize(("images", "share"), [(1, 1.0), (7, 0.5), (10, 0.3), (60, 0.1), (200, 0.4)])
def test_it_is_the_devkits(images: int, share: float, eleven_points: bool) -> None:
    draw = np.random.default_rng(images)
    for _ in range(10):
        positive_N = draw.random(images) < share
        positive_N[draw.integers(images)] = True
        scores_N = draw.normal(size=images) + positive_N
        wanted = devkit(scores_N.tolist(), positive_N.tolist(), eleven_points)
        assert average_precision(scores_N, positive_N, eleven_points) == pytest.approx(float(wanted), abs=1e-12)


def test_it_is_above_scikit_learns_which_does_not_interpolate() -> None:
    draw = np.random.default_rng(0)
    positive_N = draw.random(300) < 0.3
    scores_N = draw.normal(size=300) + positive_N
    plain = average_precision_score(positive_N, scores_N)
    mine = average_precision(scores_N, positive_N, eleven_points=False)
    assert mine is not None
    assert plain < mine < plain + 0.05
    ordered_N = np.sort(positive_N)[::-1].astype(float)
    assert average_precision(ordered_N + scores_N * 1e-3, ordered_N == 1, eleven_points=False) == 1.0


def test_a_constant_score_earns_the_worst_order() -> None:
    positive_N = np.array([True, False, True, False])
    assert average_precision(np.zeros(4), positive_N, eleven_points=False) == pytest.approx(0.5)  # (2/4 twice)
    assert average_precision(np.zeros(4), ~positive_N, eleven_points=True) == pytest.approx(0.5)


def test_without_a_positive_image_there_is_none() -> None:
    assert average_precision(np.zeros(3), np.zeros(3, bool), eleven_points=True) is None
