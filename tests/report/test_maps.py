"""A layer's channels over an image: the strongest first, coloured where they are strong and grey where they are silent."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vggcli.report import maps
from vggcli.report.maps import overlaid, save_maps
from vggcli.report.sheets import Caption


def test_a_channel_colours_where_it_is_strong_and_leaves_grey_where_it_is_silent() -> None:
    image = Image.new("RGB", (60, 40), (200, 100, 50))
    grey = round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)
    channel = np.zeros((4, 6), np.float32)
    channel[:, 4:] = 3.0  # its right third
    channel[:, :2] = -5.0  # below zero is silent too
    picture = overlaid(image, channel)
    assert picture.shape == (40, 60, 3)
    assert np.abs(picture[:, :25].astype(int) - grey / 2).max() <= 1
    strong = 0.35 * grey + 0.65 * np.array([252, 255, 164])  # the top of matplotlib's inferno
    assert np.abs(picture[:, 55:] - strong).max() <= 2
    np.testing.assert_array_equal(overlaid(image, channel * 7), picture)  # each to its own maximum


@pytest.mark.parametrize("value", [0.0, -2.0])
def test_a_silent_channel_leaves_the_image_in_half_its_grey(value: float) -> None:
    picture = overlaid(Image.new("RGB", (9, 9), (80, 80, 80)), np.full((3, 3), value, np.float32))
    assert (picture == 40).all()


def test_the_channels_with_the_largest_means_come_first_and_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheets: list[Any] = []
    monkeypatch.setattr(maps, "save_sheet", lambda *given: sheets.append(given))
    channels = np.zeros((20, 2, 3), np.float32)
    for index, mean in enumerate(np.random.default_rng(0).permutation(20)):
        channels[index] = mean
        channels[index, 0, 0] += 6  # which adds one to the mean
    image = Image.effect_noise((448, 336), 60).convert("RGB")
    save_maps(image, channels, "conv3_3", tmp_path / "m.png", "my/photos/a.jpg")
    pictures, captions, path, title = sheets[0]
    order = sorted(range(20), key=lambda index: -channels[index].mean())[:15]
    assert title[0] == "Layer conv3_3 over photos/a.jpg"
    assert title[1].startswith("15 of its 20 channels, by their means; maps of 2x3; ")
    assert captions[0] == Caption(("the image",))
    assert captions[1:] == [
        Caption((f"channel {index}", f"mean {channels[index].mean():.3g}", f"max {channels[index].max():.3g}"))
        for index in order
    ]
    assert path == tmp_path / "m.png"
    small = image.resize((224, 168), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(pictures[0], np.asarray(small))
    for picture, index in zip(pictures[1:], order, strict=True):
        np.testing.assert_array_equal(picture, overlaid(small, channels[index]))
