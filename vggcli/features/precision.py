"""Average precision of a ranking, as the Pascal VOC devkits compute it: at 11 recalls (2007), or at all of them (2012)."""

import numpy as np
from numpy.typing import NDArray


def average_precision(
    scores_N: NDArray[np.float64], positive_N: NDArray[np.bool_], eleven_points: bool
) -> float | None:
    """The average, from 0 to 1, of the precision that is reached at a recall or beyond: over the recalls 0, 0.1, … 1, or
    over every positive image. None where there is no positive image.

    Of equal scores the negative images come first, so that a constant score earns nothing (the devkit keeps their order).
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
    first_11 = [
        int(np.argmax(10 * found_N >= tenths * positives)) for tenths in range(11)
    ]  # whole numbers: no rounding
    return float(best_N[first_11].mean())
