"""Whether maps fit in one table is known from the headers of the images, and agrees with the maps themselves."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
import torch
from PIL import Image

from tests.features.stores import COLOUR
from vggcli.data.decode import ORIENTATION
from vggcli.data.paths import ImageList
from vggcli.errors import DataError
from vggcli.features.extract import FeatureOptions, described
from vggcli.features.layer_maps import named_layers
from vggcli.features.map_sizes import check_map_sizes
from vggcli.zoo.initialise import initialise
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG

OPTIONS = FeatureOptions(("pool3",), "none", (40,), "mean", "none", False, torch.device("cpu"), "fp32")


def oriented(path: Path, size: tuple[int, int], orientation: int = 1) -> None:
    image = Image.new("RGB", size)
    exif = image.getexif()
    exif[ORIENTATION] = orientation
    image.save(path, exif=exif)


def test_maps_of_several_sizes_are_refused_by_the_headers_alone(tmp_path: Path) -> None:
    network = VGG(NetworkConfig("A", 3, 32, 0.0625)).eval()
    names = ("a.jpg", "b.png", "c.tif", "d.jpg", "bad.jpg", "cut.jpg")
    sizes = ((80, 60, 1), (120, 90, 1), (60, 80, 6), (60, 80, 6), (9, 9, 1), (40, 90, 1))
    for name, (width, height, orientation) in zip(names, sizes, strict=True):
        oriented(tmp_path / name, (width, height), orientation)
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:-9])  # of another size, but not usable
    looked: list[int] = []
    check_map_sizes(network, ImageList(tmp_path, names), OPTIONS, looked.append)
    assert len(looked) == len(names)
    oriented(tmp_path / "e.jpg", (60, 80))
    with pytest.raises(DataError, match=r"e.jpg gives 16x6x5 and .*a.jpg 16x5x6; pool over space"):
        check_map_sizes(network, ImageList(tmp_path, (*names, "e.jpg")), OPTIONS, looked.append)
    oriented(tmp_path / "f.jpg", (82, 60))  # another size, and maps of the same
    check_map_sizes(network, ImageList(tmp_path, ("a.jpg", "f.jpg")), OPTIONS, looked.append)


@pytest.mark.parametrize("name", ["A", "E-BN", "A-LRN", "B-5x5"])
@pytest.mark.parametrize("head", ["fc", "gap"])
def test_the_sizes_of_maps_are_known_without_computing_them(
    tmp_path: Path, name: str, head: Literal["fc", "gap"]
) -> None:
    oriented(tmp_path / "a.png", (60, 44))
    oriented(tmp_path / "b.png", (44, 60))
    network = VGG(NetworkConfig(name, 3, 32, 0.0625, head)).eval()
    initialise(network, "he", 0)
    for layer in named_layers(network):
        options = replace(OPTIONS, layers=(layer,), scales=(44,))
        images, errors = ImageList(tmp_path, ("a.png", "b.png")), []
        ahead = partial(check_map_sizes, network, images, options, lambda one: None)
        for work in (ahead, partial(described, network, images, COLOUR, options)):
            try:
                work()
                errors.append("")
            except DataError as error:
                errors.append(" ".join(sorted(re.findall(r"\d+x\d+x\d+", str(error)))))
        assert errors[0] == errors[1], layer
