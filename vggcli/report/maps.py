"""Pictures of descriptors: a layer's strongest channels over an image, and the stored images nearest to one."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from vggcli.data.decode import read_image
from vggcli.features.pooling import strongest_channels
from vggcli.features.search import Neighbours, place_of
from vggcli.report.sheets import Caption, fitted, save_sheet
from vggcli.report.text import last_parts

DRAWN_CHANNELS = 15  # with the image itself, two rows
SIDE = 224  # pixels of the longer side of each picture
GREY = 0.5  # brightness of the image where a channel is 0


def save_maps(image: Image.Image, maps_CHW: NDArray[np.float32], layer: str, path: Path, name: str) -> None:
    """A PNG with the image, called `name`, then the image under each of the channels with the largest mean, the largest
    first. A channel's map is stretched over the image; its colours go from 0 to its own maximum."""
    small = ImageOps.contain(image, (SIDE, SIDE), Image.Resampling.BICUBIC)
    pictures, captions = [np.asarray(small)], [Caption(("the image",))]
    for channel, mean in strongest_channels(maps_CHW, DRAWN_CHANNELS):
        pictures.append(overlaid(small, maps_CHW[channel]))
        captions.append(Caption((f"channel {channel}", f"mean {mean:.3g}", f"max {maps_CHW[channel].max():.3g}")))
    channels, height, width = maps_CHW.shape
    what = f"{len(pictures) - 1} of its {channels} channels, by their means; maps of {height}x{width}"
    save_sheet(
        pictures,
        captions,
        path,
        (f"Layer {layer} over {last_parts(name)}", f"{what}; colours from 0 to each one's maximum"),
    )


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
    """A PNG with thumbnails of the query and the images that were found, each with its class, where that is known, its
    cosine and its name. Raises ImageError or DataError for an image that is no longer there."""
    places = [result.query, *(place_of(result.root, one.name) for one in result.found)]
    labels = [result.label, *(one.label for one in result.found)]
    said = ["the query", *(f"cosine {one.cosine:.4f}" for one in result.found)]
    files = [result.query.name, *(Path(one.name).name for one in result.found)]
    captions = [
        Caption((text,) if label is None else (label, text), file)
        for label, text, file in zip(labels, said, files, strict=True)
    ]
    title = f"Nearest to {result.query.name}", result.sentence()
    save_sheet([fitted(read_image(place), SIDE) for place in places], captions, path, title)
