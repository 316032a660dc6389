"""A layer's strongest channels over the image that they answer to."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vggcli.report.plots import save_sheet

CHANNELS = 15  # drawn: with the image itself, two rows
SIDE = 224  # pixels of the longer side of each picture
GREY = 0.5  # how much of the image shows where a channel is silent


def save_maps(image: Image.Image, maps_CHW: NDArray[np.float32], layer: str, path: Path) -> None:
    """The image, then it again under each of the channels with the largest mean, the largest first, as a PNG. A channel's
    map is stretched over the image, from 0 to its own maximum."""
    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    means_C = maps_CHW.mean((1, 2))
    order = np.argsort(-means_C, kind="stable")[:CHANNELS]
    pictures = [np.asarray(small)] + [overlaid(small, maps_CHW[channel]) for channel in order]
    captions = [f"{layer}\nmaps of {maps_CHW.shape[1]}x{maps_CHW.shape[2]}"]
    captions += [
        f"channel {channel}\nmean {means_C[channel]:.3g}, max {maps_CHW[channel].max():.3g}" for channel in order
    ]
    save_sheet(pictures, captions, path)


def overlaid(image: Image.Image, map_HW: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The image in grey, and in matplotlib's "inferno" where the map is strong: uint8 [H, W, 3] of the image's size."""
    import matplotlib

    largest = float(map_HW.max())
    shares = np.clip(map_HW / largest, 0, 1) if largest > 0 else np.zeros_like(map_HW)
    heat = Image.fromarray((255 * shares).astype(np.uint8)).resize(image.size, Image.Resampling.BICUBIC)
    strength: NDArray[Any] = np.asarray(heat, np.float32)[..., None] / 255
    colour = matplotlib.colormaps["inferno"](strength[..., 0])[..., :3] * 255
    grey = np.asarray(image.convert("L"), np.float32)[..., None].repeat(3, 2)
    mixed = grey * GREY * (1 - strength) + (0.35 * grey + 0.65 * colour) * strength
    return np.asarray(mixed.round().clip(0, 255), np.uint8)
