"""Test views (section 3.2): an image rescaled to Q, exactly as published numbers are made, and its centre crop.

Full decode, antialiased bilinear resampling of the whole image by Pillow, the size rule of torchvision's `Resize`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vggcli.data.decode import MAX_PIXELS, ImageError, Origin, Size, check_pixels


def rescaled_size(size: Size, shorter: int) -> Size:
    """(width, height) with the shorter side made `shorter` and the other in proportion, cut to a whole number."""
    width, height = size
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter


@dataclass(frozen=True)
class ViewPlan:
    """Which views of an image are wanted: one a scale Q (shorter side in pixels), the whole rescaled image or, where
    `centre_crop` is given, its middle square of that side. A whole one may have `most_pixels`."""

    scales: tuple[int, ...]
    centre_crop: int | None = None
    most_pixels: int = MAX_PIXELS


def rescaled_views(place: Origin, image: Image.Image, views: ViewPlan) -> list[NDArray[np.uint8]]:
    """The views of a decoded image, uint8 [H, W, 3], in the order of the scales; `place` is what errors call it.

    Raises ImageError, before any work, where the image would have over 100 megapixels at some scale, or over
    `most_pixels` as a whole view.
    """
    for shorter in views.scales:
        width, height = size = rescaled_size(image.size, shorter)
        check_pixels(place, size)
        if views.centre_crop is None and width * height > views.most_pixels:
            most = f"{views.most_pixels / 1e6:.1f} megapixels that the network can be run over"
            raise ImageError(place, f"at Q = {shorter} it is {width}x{height}, more than the {most}")
    return [_view(image, shorter, views.centre_crop) for shorter in views.scales]


def _view(image: Image.Image, shorter: int, crop: int | None) -> NDArray[np.uint8]:
    size = rescaled_size(image.size, shorter)
    scaled = np.asarray(image.resize(size, Image.Resampling.BILINEAR) if size != image.size else image)
    if crop is None:
        return scaled
    top, left = centre_offsets(scaled.shape[:2], crop)
    return scaled[top : top + crop, left : left + crop]


def centre_offsets(shape: Sequence[int], crop: int) -> tuple[int, int]:
    """Top and left of the centre crop of an image of (height, width), rounded as torchvision's `CenterCrop` rounds."""
    height, width = shape
    return round((height - crop) / 2.0), round((width - crop) / 2.0)


def grid_offsets(side: int, crop: int, count: int) -> list[int]:
    """Where `count` crops begin along a side of `side` pixels: evenly from the first to the last place (section 3.2 says
    a regular grid; the even spacing, rounded, is an interpretation)."""
    return [round(index * (side - crop) / (count - 1)) for index in range(count)]
