"""What class scores and posteriors say: how many of them put the true class among the first k."""

from torch import Tensor


def count_correct(scores_NK: Tensor, labels_N: Tensor, k: int) -> int:
    """How many rows hold their label among their k highest scores. Of equal scores the true class counts as the lower,
    so that a constant answer earns nothing."""
    true_N1 = scores_NK.gather(1, labels_N[:, None])
    not_below_N = (scores_NK >= true_N1).sum(1)  # the true class itself is one of them
    return int((not_below_N <= k).sum())


def answers(scores_NK: Tensor, labels_N: Tensor) -> Tensor:
    """The class that each row answers, int64 [N]: that of its highest score. By the rule of `count_correct`, of equal
    scores the true class is never the answer, so that row is right just where it counts among the first."""
    true_N1 = scores_NK.gather(1, labels_N[:, None])
    best_other_N, other_N = scores_NK.scatter(1, labels_N[:, None], float("-inf")).max(1)
    return other_N.where(best_other_N >= true_N1[:, 0], labels_N)


def error_rate(correct: int, images: int) -> float:
    """The error in per cent."""
    return 100.0 * (images - correct) / images
