"""Finds out before any work whether unpooled maps can be in one table: whether all images give maps of one size."""

from collections.abc import Callable
from functools import cache

import torch

from vggcli.data.decode import ImageError, Size, decode_image, stated_size
from vggcli.data.paths import ImageList
from vggcli.data.tars import Place
from vggcli.data.test_views import rescaled_size
from vggcli.features.extract import FeatureOptions, check_alike
from vggcli.features.layer_maps import layer_outputs, layer_results
from vggcli.zoo.network import VGG


def check_map_sizes(network: VGG, images: ImageList, options: FeatureOptions, progress: Callable[[int], None]) -> None:
    """Raises DataError, as `check_alike`, where the maps of two images differ in size. Only the headers of the images are
    read, and images where they tell nothing are passed over. `progress` is called with the number of images looked at."""
    outputs = layer_outputs(network, options.layers)
    with torch.device("meta"):  # sizes without numbers
        shadow = VGG(network.config).eval()

    @cache
    def shapes(size: Size) -> list[tuple[int, ...]]:
        width, height = rescaled_size(size, options.scales[0])
        view_NCHW = torch.empty(1, 3, height, width, device="meta")
        with torch.inference_mode():
            return [tuple(maps.shape[1:]) for maps in layer_results(shadow, view_NCHW, outputs, lambda maps: maps)]

    first: tuple[Place, list[tuple[int, ...]]] | None = None
    for index in range(len(images)):
        place, size = images.path(index), stated_size(images.path(index))
        progress(1)
        if size is None or min(rescaled_size(size, options.scales[0])) < 1:
            continue
        first = first or (place, shapes(size))
        if shapes(size) == first[1]:
            continue
        try:  # what a header states is not always what is decoded
            found = [shapes(decode_image(one)[0].size) for one in (place, first[0])]
        except ImageError:
            continue
        for mine, other in zip(*found, strict=True):
            check_alike(str(place), mine, str(first[0]), other)
