"""Test views equal torchvision's, bit by bit."""

from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image

from vggcli.data.decode import ImageError, read_image
from vggcli.data.test_views import ViewPlan, rescaled_size, rescaled_views
from vggcli.data.training_views import Pixels


def views(path: Path, plan: ViewPlan) -> list[Pixels]:
    return rescaled_views(path, read_image(path), plan)


def photo(path: Path, width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return Image.open(path).convert("RGB")


@pytest.mark.parametrize("size", [(75, 100), (100, 75), (64, 64), (37, 111), (50, 51)])
@pytest.mark.parametrize("shorter", [32, 64, 97])
def test_views_are_torchvisions_resize_and_centre_crop(tmp_path: Path, size: tuple[int, int], shorter: int) -> None:
    transforms = torchvision.transforms
    image = photo(tmp_path / "a.png", *size)
    resized = transforms.Resize(shorter)(image)
    whole, crop = (views(tmp_path / "a.png", ViewPlan((shorter,), side))[0] for side in (None, 31))
    assert np.array_equal(whole, np.asarray(resized))
    assert np.array_equal(crop, np.asarray(transforms.CenterCrop(31)(resized)))


def test_a_view_for_each_scale_in_order(tmp_path: Path) -> None:
    photo(tmp_path / "a.png", 60, 40)
    shapes = [view.shape for view in views(tmp_path / "a.png", ViewPlan((80, 20, 40)))]
    assert shapes == [(80, 120, 3), (20, 30, 3), (40, 60, 3)]


def test_an_image_too_large_once_rescaled_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (20_000, 1)).save(tmp_path / "row.png")
    with pytest.raises(ImageError, match="megapixels"):
        views(tmp_path / "row.png", ViewPlan((224,)))


def test_the_shorter_side_becomes_the_scale() -> None:
    assert rescaled_size((400, 533), 256) == (256, 341)
    assert rescaled_size((533, 400), 256) == (341, 256)


def test_a_whole_view_larger_than_the_network_takes_is_refused_before_work(tmp_path: Path) -> None:
    Image.new("RGB", (300, 3)).save(tmp_path / "strip.png")
    plan = ViewPlan((10, 20), most_pixels=10_001)
    with pytest.raises(
        ImageError, match="strip.png cannot be used: at Q = 20 it is 2000x20, more than the 0.0 megapixels"
    ):
        views(tmp_path / "strip.png", plan)
    assert views(tmp_path / "strip.png", ViewPlan((10,), most_pixels=10_001))[0].shape == (10, 1000, 3)
    assert views(tmp_path / "strip.png", ViewPlan((10, 20), 8, most_pixels=10_001))[1].shape == (8, 8, 3)
