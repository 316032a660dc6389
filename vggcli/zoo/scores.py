"""What class scores and posteriors say: how many of them put the true class among the first k."""

from torch import Tensor


def count_correct(scores_NK: Tensor, labels_N: Tensor, k: int) -> int:
    """How many rows hold their label among their k highest scores. Of equal scores the true class counts as the lower,
    so that a constant answer earns nothing."""
    true_N1 = scores_NK.gather(1, labels_N[:, None])
    not_below_N = (scores_NK >= true_N1).sum(1)  # the true class itself is one of them
    return int((not_below_N <= k).sum())


def error_rate(correct: int, images: int) -> float:
    """The error in per cent."""
    return 100.0 * (images - correct) / images
