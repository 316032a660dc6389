"""Test views (section 3.2): an image rescaled to Q, exactly as for published numbers, and its centre crop.

The whole image is decoded and resampled by Pillow (bilinear, antialiased) to the size that torchvision's `Resize` gives it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vggcli.data.decode import MAX_PIXELS, ImageError, Origin, Size, check_pixels


def rescaled_size(size: Size, shorter: int) -> Size:
    """(width, height) with the shorter side set to `shorter` and the other in proportion, rounded down."""
    width, height = size
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter


@dataclass(frozen=True)
class ViewPlan:
    """Which views of an image to make: one for each scale Q (shorter side in pixels), the whole rescaled image or, with
    `centre_crop`, its central square of that side. A whole image may have at most `most_pixels`."""

    scales: tuple[int, ...]
    centre_crop: int | None = None
    most_pixels: int = MAX_PIXELS


def rescaled_views(place: Origin, image: Image.Image, views: ViewPlan) -> list[NDArray[np.uint8]]:
    """The views of a decoded image, uint8 [H, W, 3], in the order of the scales; `place` names it in errors.

    Raises ImageError as `check_views` does, before any resampling.
    """
    check_views(place, image.size, views)
    made, crop = [], views.centre_crop
    for shorter in views.scales:
        size = rescaled_size(image.size, shorter)
        scaled = np.asarray(image.resize(size, Image.Resampling.BILINEAR) if size != image.size else image)
        top, left = (0, 0) if crop is None else centre_offsets(scaled.shape[:2], crop)
        made.append(scaled if crop is None else scaled[top : top + crop, left : left + crop])
    return made


def check_views(place: Origin, image: Size, views: ViewPlan) -> None:
    """Raises ImageError where an image of that size (width, height) has over 100 megapixels at some scale, or over
    `most_pixels` as a whole view."""
    for shorter in views.scales:
        width, height = size = rescaled_size(image, shorter)
        check_pixels(place, size)
        if views.centre_crop is None and width * height > views.most_pixels:
            most = f"{views.most_pixels / 1e6:.1f} megapixels that the network can be applied to"
            raise ImageError(place, f"at Q = {shorter} it is {width}x{height}, more than the {most}")


def centre_offsets(shape: Sequence[int], crop: int) -> tuple[int, int]:
    """Top and left of the centre crop of an image of `shape` (height, width), rounded as by torchvision's `CenterCrop`."""
    height, width = shape
    return round((height - crop) / 2.0), round((width - crop) / 2.0)


def grid_offsets(side: int, crop: int, count: int) -> list[int]:
    """The positions of `count` crops along a side of `side` pixels, evenly spaced from the first possible one to the last.
    Section 3.2 says "a regular grid"; the even, rounded spacing is an interpretation."""
    return [round(index * (side - crop) / (count - 1)) for index in range(count)]
