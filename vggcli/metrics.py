"""Measures of scores and posteriors: top-k errors, confusion counts, calibration, and the average precision of a ranking.

Shapes: N images, K classes.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def count_correct(scores_NK: Tensor, labels_N: Tensor, k: int) -> int:
    """In how many rows the label is among the k highest scores. Among equal scores the true class counts as the lowest, so
    a network whose scores are all equal gets nothing right."""
    true_N1 = scores_NK.gather(1, labels_N[:, None])
    not_below_N = (scores_NK >= true_N1).sum(1)  # the true class itself is one of them
    return int((not_below_N <= k).sum())


def answers(scores_NK: Tensor, labels_N: Tensor) -> Tensor:
    """The predicted class of each row, int64 [N]: that of its highest score. As in `count_correct`, the true class counts
    as the lowest among equal scores, so this is the label exactly where `count_correct` counts the row for k = 1."""
    true_N1 = scores_NK.gather(1, labels_N[:, None])
    best_other_N, other_N = scores_NK.scatter(1, labels_N[:, None], float("-inf")).max(1)
    return other_N.where(best_other_N >= true_N1[:, 0], labels_N)


def error_rate(correct: int, images: int) -> float:
    """The error in per cent, of the number of `correct` answers."""
    return 100.0 * (images - correct) / images


def shows_top5(classes: int) -> bool:
    """Whether a top-5 error says anything to a reader: of five classes or fewer none can be wrong."""
    return classes > 5


def hidden_top5(classes: int) -> tuple[str, ...]:
    """The fields of results that are left out where people read them."""
    return () if shows_top5(classes) else ("top5_error", "correct_top5")


def chance_error(classes: int) -> float:
    """The error in per cent of guesses among so many classes."""
    return 100.0 * (1 - 1 / classes)


def is_chance(error: float, classes: int) -> bool:
    """Whether an error (per cent) is no better than guesses give, but for a hundredth of it."""
    return error >= 0.99 * chance_error(classes)


def confusion_counts(scores_NK: Tensor, labels_N: Tensor) -> Tensor:
    """How many images of each class (rows) are predicted as each class (columns), int64 [K, K]."""
    classes = scores_NK.shape[1]
    pairs_N = labels_N * classes + answers(scores_NK, labels_N)
    return torch.bincount(pairs_N, minlength=classes**2).reshape(classes, classes)


def calibration_error(posteriors_NK: Tensor, labels_N: Tensor, bins: int = 15) -> float:
    """The expected calibration error in per cent (Guo et al., 2017; not in the paper): the gap between the mean confidence
    and the share of right answers, averaged over equally wide bins of confidence, weighted by their images."""
    confidence_N = posteriors_NK.double().amax(1)
    right_N = (answers(posteriors_NK, labels_N) == labels_N).double()
    bin_N = (confidence_N * bins).ceil().long().clamp(1, bins) - 1
    gaps = torch.zeros(bins, dtype=torch.float64).index_add_(0, bin_N, confidence_N - right_N)
    return float(100 * gaps.abs().sum() / len(right_N))


def average_precision(
    scores_N: NDArray[np.float64], positive_N: NDArray[np.bool_], eleven_points: bool
) -> float | None:
    """The mean, from 0 to 1, of the highest precision at each recall or beyond it: over the recalls 0, 0.1, … 1 (with
    `eleven_points`, as the Pascal VOC devkit of 2007) or over every positive image (as that of 2012). None where there is
    no positive image.

    Among equal scores the negative images come first, so a constant score earns nothing (the devkit keeps their order).
    """
    positives = int(positive_N.sum())
    if not positives:
        return None
    order = np.lexsort((positive_N, -scores_N))
    found_N = positive_N[order].cumsum()
    precision_N = found_N / np.arange(1, len(order) + 1)
    best_N = np.maximum.accumulate(precision_N[::-1])[::-1]  # at this recall or beyond
    if not eleven_points:
        return float(best_N[positive_N[order]].mean())
    first_11 = [np.argmax(10 * found_N >= tenths * positives) for tenths in range(11)]  # whole numbers: no rounding
    return float(best_N[first_11].mean())
