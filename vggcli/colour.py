"""What a checkpoint says of pixels: the colour statistics of a training set, and how pixels become the network's input.

Shapes: N images, H and W pixels, C = 3 channels in the order RGB.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vggcli.records import RECORD, Positive


@dataclass(frozen=True)
class ColourStatistics:
    """Of the training set's pixels: `mean` RGB and one common `divisor` (their overall standard deviation), 0 to 255, or
    one a channel, as weights of other frameworks have it;
    `eigenvalues` and `eigenvectors` (a column each, as rows of RGB) of the covariance of RGB in the range 0 to 1, empty
    where they are not known.

    The paper subtracts the mean alone (section 2.1). The divisor, one number for all channels, is not in the paper: it
    gives the input unit variance, which the initialisations assume.
    """

    mean: tuple[float, float, float]
    divisor: Positive | tuple[Positive, Positive, Positive]
    eigenvalues: tuple[float, ...] = ()
    eigenvectors: tuple[tuple[float, ...], ...] = ()
    __pydantic_config__ = RECORD

    def __post_init__(self) -> None:
        if [len(self.eigenvalues), *map(len, self.eigenvectors)] not in ([0], [3, 3, 3, 3]):
            raise ValueError("the eigenvalues and eigenvectors of a preprocessing are not three of three, or none")

    @classmethod
    def from_moments(cls, moments: NDArray[np.float64]) -> "ColourStatistics":
        """From the sum of `pixel_moments` over the training images; each image counts by its number of pixels."""
        count, total, products = moments[0], moments[1:4], moments[4:].reshape(3, 3)
        mean = total / count
        covariance = products / count - np.outer(mean, mean)
        values, vectors = np.linalg.eigh(covariance / 255**2)
        divisor = float(np.sqrt(np.trace(covariance) / 3)) or 1.0  # a set of one flat colour has no spread
        red, green, blue = (float(value) for value in mean)
        rows = tuple(tuple(float(value) for value in row) for row in vectors)
        return cls((red, green, blue), divisor, tuple(float(value) for value in values), rows)

    def shifts(self, alphas_NC: Sequence[Sequence[float]]) -> NDArray[np.float64]:
        """AlexNet's colour shifts [p1 p2 p3][a1 l1, a2 l2, a3 l3]^T [N, 3] in the range 0 to 255 for draws [N, 3]."""
        scaled_NC = np.array(alphas_NC) * np.array(self.eigenvalues)
        return np.asarray(255 * scaled_NC @ np.array(self.eigenvectors).T)


def pixel_moments(image_HWC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Number of pixels, sum of RGB and sum of the products of RGB, float64 [13]: whole numbers, so their sum is exact
    and does not depend on the order in which images are added."""
    pixels = image_HWC.reshape(-1, 3).astype(np.float64)
    return np.concatenate(([len(pixels)], pixels.sum(0), (pixels.T @ pixels).ravel()))


def normalise(images_NHWC: Tensor, colour: ColourStatistics, shifts_NC: Tensor | None = None) -> Tensor:
    """uint8 [N, H, W, 3] to float32 [N, 3, H, W] in channels_last: the mean subtracted, `shifts_NC` (0 to 255) added,
    divided by the common divisor. On whatever device the images are."""
    n, height, width, channels = images_NHWC.shape
    offsets_NC = -torch.tensor(colour.mean, device=images_NHWC.device).expand(n, channels)
    if shifts_NC is not None:
        offsets_NC = offsets_NC + shifts_NC
    rows = images_NHWC.to(torch.float32).view(n, height, width * channels)
    rows += offsets_NC.repeat(1, width)[
        :, None
    ]  # whole rows: four times faster on a CPU than threes along the last axis
    rows /= colour.divisor if isinstance(colour.divisor, float) else _divisors(colour.divisor, width).to(rows.device)
    return rows.view(n, height, width, channels).permute(0, 3, 1, 2)


def _divisors(divisor: tuple[float, float, float], width: int) -> Tensor:
    return torch.tensor(divisor).repeat(width)
