"""Training views (section 3.1): scale S, crop, flip and colour shift.

Randomness is a function of (seed, epoch, image), so a view does not depend on the number of workers or on where a run was
resumed. A worker decodes an image once and resamples only the region of the crop, directly to uint8; flip, colour shift and
mean subtraction are done on the device, for a whole batch at once.

Shapes: N images, H and W pixels, C = 3 channels in the order RGB.
"""

import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vggcli import paper
from vggcli.boxes import Region
from vggcli.colour import ColourStatistics, normalise
from vggcli.data.decode import Size, read_image
from vggcli.data.tars import Place
from vggcli.data.test_views import rescaled_size

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class TrainingView:
    """The random draws for one use of an image: the `region` of the crop (x0, y0, x1, y1, as shares of width and height),
    whether to `flip` it, and the three `alphas` of the colour shift."""

    scale: int
    region: Region
    flip: bool
    alphas: tuple[float, ...]


def view_generator(seed: int, epoch: int, index: int) -> random.Random:
    """The random generator of one use of one image."""
    digest = hashlib.blake2b(f"view {seed} {epoch} {index}".encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "little"))


def drawn_box(boxes: Sequence[Region], seed: int, epoch: int, index: int) -> Region:
    """The box of an image that its view in an epoch is learnt with, each as likely."""
    digest = hashlib.blake2b(f"box {seed} {epoch} {index}".encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "little")).choice(boxes)


def box_share(box: Region, size: Size) -> Region:
    """A box in pixels of an image of `size` (width, height) as shares of width and height."""
    width, height = size
    return box[0] / width, box[1] / height, box[2] / width, box[3] / height


def draw_view(draw: random.Random, size: tuple[int, int], scale: tuple[int, int], crop: int) -> TrainingView:
    """A random view of an image of `size` (width, height): S uniform over the whole numbers of `scale` (the
    distribution is not in the paper), one random crop of the rescaled image, a flip with probability 1/2."""
    shorter = draw.randint(*scale)
    width, height = rescaled_size(size, shorter)
    left, top = draw.randint(0, width - crop), draw.randint(0, height - crop)
    flip = draw.random() < 0.5
    alphas = tuple(draw.gauss(0, paper.COLOUR_SHIFT_STD) for _ in range(3))
    region = (left / width, top / height, (left + crop) / width, (top + crop) / height)
    return TrainingView(shorter, region, flip, alphas)


def training_pixels(path: Place, draw: random.Random, scale: tuple[int, int], crop: int) -> tuple[Pixels, TrainingView]:
    """One training view of the image at `path`: uint8 [crop, crop, 3], not yet flipped or shifted, and its draws.

    Raises ImageError where the image cannot be used.
    """
    image = read_image(path, at_least=scale[1])
    view = draw_view(draw, image.size, scale, crop)
    across, down = crop_spans(image.size, view.region, crop)
    region_HWC = torch.from_numpy(np.array(image.crop((across.first, down.first, across.last, down.last))))
    size = (down.pixels, across.pixels)
    resampled = F.interpolate(region_HWC[None].permute(0, 3, 1, 2), size=size, mode="bilinear", antialias=True)
    pixels = resampled[0].permute(1, 2, 0)[down.skip : down.skip + crop, across.skip : across.skip + crop]
    return pixels.contiguous().numpy(), view


@dataclass(frozen=True)
class CropSpan:
    """Along one side: the source pixels `first` to `last`, how many `pixels` they become, and how many of those to
    `skip` before the crop."""

    first: int
    last: int
    pixels: int
    skip: int


def crop_spans(size: Size, region: Region, crop: int) -> tuple[CropSpan, CropSpan]:
    """How the region of a view of an image of `size` (width, height) becomes a crop, across and down."""
    x0, y0, x1, y1 = region
    width, height = size
    return crop_span(width, x0 * width, x1 * width, crop), crop_span(height, y0 * height, y1 * height, crop)


def crop_span(side: int, low: float, high: float, crop: int) -> CropSpan:
    """How `low` to `high` of a side of `side` pixels become `crop` pixels. Its middle is exact to half a pixel of the
    view, and without bias. Only whole source pixels can be resampled by torch, whose antialiased bilinear filter takes half
    the time of Pillow's, which would take fractions. Where a view has fewer pixels than its region, the ends of the region
    are rounded to whole pixels; where it has more, a larger region is resampled and the view is cut out of it."""
    if high - low >= crop:
        return CropSpan(round(low), round(high), crop, 0)
    first, last = math.floor(low + 1e-6), min(side, math.ceil(high - 1e-6))
    pixels = max(crop, round((last - first) * crop / (high - low)))
    middle = ((low + high) / 2 - first) * pixels / (last - first)
    return CropSpan(first, last, pixels, min(pixels - crop, max(0, round(middle - crop / 2))))


def augment(images_NHWC: Tensor, flips_N: Tensor, shifts_NC: Tensor, colour: ColourStatistics) -> Tensor:
    """A batch of training views as the network gets them: flipped where `flips_N` (on the host) is set, with the colour
    shift, and normalised. uint8 [N, H, W, 3] to float32 [N, 3, H, W]."""
    flipped_NHWC = images_NHWC.clone()
    for index in flips_N.nonzero().flatten().tolist():  # one by one stays in cache
        flipped_NHWC[index] = images_NHWC[index].flip(1)
    return normalise(flipped_NHWC, colour, shifts_NC)
