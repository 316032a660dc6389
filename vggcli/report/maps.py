"""Pictures of descriptors: a layer's strongest channels over an image, and the stored images nearest to one."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vggcli.data.decode import read_image
from vggcli.features.pooling import strongest_channels
from vggcli.features.search import Neighbours, place_of
from vggcli.report.plots import fitted, save_sheet
from vggcli.report.text import printable

DRAWN_CHANNELS = 15  # with the image itself, two rows
SIDE = 224  # pixels of the longer side of each picture
FOUND = 160  # pixels, of each image that was found
GREY = 0.5  # brightness of the image where a channel is 0


def save_maps(image: Image.Image, maps_CHW: NDArray[np.float32], layer: str, path: Path) -> None:
    """A PNG with the image, then the image under each of the channels with the largest mean, the largest first. A channel's
    map is stretched over the image; its colours go from 0 to its own maximum."""
    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    pictures, captions = [np.asarray(small)], [f"{layer}\nmaps of {maps_CHW.shape[1]}x{maps_CHW.shape[2]}"]
    for channel, mean in strongest_channels(maps_CHW, DRAWN_CHANNELS):
        pictures.append(overlaid(small, maps_CHW[channel]))
        captions.append(f"channel {channel}\nmean {mean:.3g}, max {maps_CHW[channel].max():.3g}")
    save_sheet(pictures, captions, path)


def overlaid(image: Image.Image, map_HW: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The image in grey, and in matplotlib's "inferno" where the map is large: uint8 [H, W, 3] of the image's size."""
    import matplotlib

    largest = float(map_HW.max())
    shares = np.clip(map_HW / largest, 0, 1) if largest > 0 else np.zeros_like(map_HW)
    heat = Image.fromarray((255 * shares).astype(np.uint8)).resize(image.size, Image.Resampling.BICUBIC)
    strength: NDArray[Any] = np.asarray(heat, np.float32)[..., None] / 255
    colour = matplotlib.colormaps["inferno"](strength[..., 0])[..., :3] * 255
    grey = np.asarray(image.convert("L"), np.float32)[..., None].repeat(3, 2)
    mixed = grey * GREY * (1 - strength) + (0.35 * grey + 0.65 * colour) * strength
    return np.asarray(mixed.round().clip(0, 255), np.uint8)


def save_neighbours(result: Neighbours, path: Path) -> None:
    """A PNG with thumbnails of the query and the images that were found, each with its cosine and name. Raises ImageError
    or DataError for an image that is no longer there."""
    places = [result.query, *(place_of(result.root, one.name) for one in result.found)]
    captions = [f"query\n{printable(result.query.name)}"]
    captions += [f"{one.cosine:.4f}\n{printable(Path(one.name).name)}" for one in result.found]
    save_sheet([fitted(read_image(place), FOUND) for place in places], captions, path)
