"""Training views (section 3.1): scale S, crop, flip and colour shift, and the colour statistics behind them.

Randomness is a function of (seed, epoch, image), not of a stream, so a view does not depend on the number of workers or
on where a run was resumed. A worker decodes an image once and resamples the crop's region alone, straight to uint8; flip,
colour shift and mean subtraction happen on the device, a whole batch in one pass.

Shapes: N images, H and W pixels, C = 3 channels in the order RGB.
"""

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vggcli import paper
from vggcli.data.decode import read_image
from vggcli.data.views import rescaled_size
from vggcli.records import RECORD, Positive, read_record

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class ColourStatistics:
    """Of the training set's pixels: `mean` RGB and one common `divisor` (their overall standard deviation), 0 to 255, or
    one a channel, as weights of other frameworks have it;
    `eigenvalues` and `eigenvectors` (a column each, as rows of RGB) of the covariance of RGB in the range 0 to 1.

    The paper subtracts the mean alone (section 2.1). The divisor, one number for all channels, is not in the paper: it
    gives the input unit variance, which the initialisations assume.
    """

    mean: tuple[float, float, float]
    divisor: Positive | tuple[Positive, Positive, Positive]
    eigenvalues: tuple[float, ...]
    eigenvectors: tuple[tuple[float, ...], ...]
    __pydantic_config__ = RECORD

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "ColourStatistics":
        """Raises ValueError where the fields are not what `to_json` writes."""
        return read_record(cls, fields)

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


@dataclass(frozen=True)
class TrainingView:
    """What one use of one image looks like: the region `box` (x0, y0, x1, y1, as shares of width and height) becomes
    the crop; `flip` mirrors it; `alphas` are the three draws of the colour shift."""

    scale: int
    box: tuple[float, float, float, float]
    flip: bool
    alphas: tuple[float, ...]


def pixel_moments(image_HWC: Pixels) -> NDArray[np.float64]:
    """Number of pixels, sum of RGB and sum of the products of RGB, float64 [13]: whole numbers, so their sum is exact
    and does not depend on the order in which images are added."""
    pixels = image_HWC.reshape(-1, 3).astype(np.float64)
    return np.concatenate(([len(pixels)], pixels.sum(0), (pixels.T @ pixels).ravel()))


def view_generator(seed: int, epoch: int, index: int) -> random.Random:
    """The random stream of one use of one image."""
    digest = hashlib.blake2b(f"view {seed} {epoch} {index}".encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "little"))


def draw_view(draw: random.Random, size: tuple[int, int], scale: tuple[int, int], crop: int) -> TrainingView:
    """A random view of an image of `size` (width, height): S uniform over the whole numbers of `scale` (the
    distribution is not in the paper), one random crop of the rescaled image, a flip with probability 1/2."""
    shorter = draw.randint(*scale)
    width, height = rescaled_size(size, shorter)
    left, top = draw.randint(0, width - crop), draw.randint(0, height - crop)
    flip = draw.random() < 0.5
    alphas = tuple(draw.gauss(0, paper.COLOUR_SHIFT_STD) for _ in range(3))
    box = (left / width, top / height, (left + crop) / width, (top + crop) / height)
    return TrainingView(shorter, box, flip, alphas)


def training_pixels(path: Path, draw: random.Random, scale: tuple[int, int], crop: int) -> tuple[Pixels, TrainingView]:
    """One training view of the image at `path`: uint8 [crop, crop, 3], not yet flipped or shifted, and its draws.

    Raises ImageError where the image cannot be used.
    """
    image = read_image(path, at_least=scale[1])
    view = draw_view(draw, image.size, scale, crop)
    x0, y0, x1, y1 = view.box
    across = cut(image.width, x0 * image.width, x1 * image.width, crop)
    down = cut(image.height, y0 * image.height, y1 * image.height, crop)
    region_HWC = torch.from_numpy(np.array(image.crop((across.first, down.first, across.last, down.last))))
    size = (down.pixels, across.pixels)
    resampled = F.interpolate(region_HWC[None].permute(0, 3, 1, 2), size=size, mode="bilinear", antialias=True)
    pixels = resampled[0].permute(1, 2, 0)[down.skip : down.skip + crop, across.skip : across.skip + crop]
    return pixels.contiguous().numpy(), view


@dataclass(frozen=True)
class Cut:
    """Along one side: the source pixels `first` to `last`, how many `pixels` they are resampled to, and how many of those
    to `skip` before the crop."""

    first: int
    last: int
    pixels: int
    skip: int


def cut(side: int, low: float, high: float, crop: int) -> Cut:
    """How `low` to `high` of a side of so many source pixels become `crop` pixels, its middle to half a pixel of the view
    and right on average: whole source pixels are resampled by torch, whose antialiased bilinear filter takes half the time
    of Pillow's, which would take fractions. Where a view has fewer pixels than its region, the region's ends are rounded to
    whole pixels; where it has more, the view is rounded inside a region that holds it."""
    if high - low >= crop:
        return Cut(round(low), round(high), crop, 0)
    first, last = math.floor(low + 1e-6), min(side, math.ceil(high - 1e-6))
    pixels = max(crop, round((last - first) * crop / (high - low)))
    middle = ((low + high) / 2 - first) * pixels / (last - first)
    return Cut(first, last, pixels, min(pixels - crop, max(0, round(middle - crop / 2))))


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


def augment(images_NHWC: Tensor, flips_N: Tensor, shifts_NC: Tensor, colour: ColourStatistics) -> Tensor:
    """A batch of training views as the network sees them: flipped where `flips_N` (on the host), shifted in colour,
    normalised."""
    flipped_NHWC = images_NHWC.clone()
    for index in flips_N.nonzero().flatten().tolist():  # one by one stays in cache
        flipped_NHWC[index] = images_NHWC[index].flip(1)
    return normalise(flipped_NHWC, colour, shifts_NC)
