"""Training views: the paper's distribution, the same from (seed, epoch, image) alone, and one batched pass on the device
that equals an image-by-image loop."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vggcli.colour import ColourStatistics, normalise, pixel_moments
from vggcli.data.test_views import rescaled_size
from vggcli.data.training_views import Pixels, augment, crop_span, draw_view, training_pixels, view_generator
from vggcli.records import read_record

RNG = np.random.default_rng(0)


def statistics() -> tuple[ColourStatistics, list[Pixels]]:
    images = [RNG.integers(0, 256, (6 + k, 5, 3)).astype(np.uint8) // np.array([1, 2, 4], np.uint8) for k in range(9)]
    return ColourStatistics.from_moments(np.sum([pixel_moments(image) for image in images], axis=0)), images


def test_statistics_equal_numpys_over_all_pixels() -> None:
    colour, images = statistics()
    pixels = np.concatenate([image.reshape(-1, 3) for image in images]).astype(float)
    np.testing.assert_allclose(colour.mean, pixels.mean(0))
    assert colour.divisor == pytest.approx(np.sqrt(pixels.var(0).mean()))
    vectors, values = np.array(colour.eigenvectors), np.array(colour.eigenvalues)
    covariance = np.cov(pixels.T / 255, bias=True)
    np.testing.assert_allclose(covariance @ vectors, vectors * values, atol=1e-12)


def test_statistics_survive_json() -> None:
    colour, _ = statistics()
    assert read_record(ColourStatistics, asdict(colour)) == colour


def test_views_are_uniform_over_scales_offsets_and_flips() -> None:
    views = [draw_view(view_generator(0, 0, index), (400, 300), (64, 70), 64) for index in range(7000)]
    scales = np.bincount([view.scale for view in views])[64:]
    assert len(scales) == 7
    assert scales.min() > 850
    assert np.mean([view.flip for view in views]) == pytest.approx(0.5, abs=0.02)
    tops = [round(view.region[1] * rescaled_size((400, 300), view.scale)[1]) for view in views if view.scale == 66]
    assert sorted(set(tops)) == [0, 1, 2]
    alphas = np.array([view.alphas for view in views])
    assert alphas.std() == pytest.approx(0.1, rel=0.03)
    assert alphas.mean() == pytest.approx(0, abs=0.003)


def test_a_view_depends_on_seed_epoch_and_image_alone() -> None:
    def draws(seed: int, epoch: int, index: int) -> float:
        return view_generator(seed, epoch, index).random()

    assert draws(1, 2, 3) == draws(1, 2, 3)
    assert len({draws(1, 2, 3), draws(2, 1, 3), draws(1, 3, 2), draws(1, 2, 4)}) == 4


def shown(side: int, low: float, high: float) -> tuple[float, float]:
    """The source pixels that a crop of 48 shows, which was drawn as `low` to `high`."""
    one = crop_span(side, low, high, 48)
    scale = one.pixels / (one.last - one.first)
    return one.first + one.skip / scale, one.first + (one.skip + 48) / scale


@pytest.mark.parametrize("scale", [(96, 96), (64, 120), (48, 48), (300, 300)])
def test_pixels_equal_pillows_resampling_of_what_is_shown(tmp_path: Path, scale: tuple[int, int]) -> None:
    noise = Image.fromarray(RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    smooth = noise.resize((160, 120), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "a.png")
    for index in range(8):
        pixels, view = training_pixels(tmp_path / "a.png", view_generator(0, 0, index), scale, 48)
        x0, x1 = shown(160, 160 * view.region[0], 160 * view.region[2])
        y0, y1 = shown(120, 120 * view.region[1], 120 * view.region[3])
        theirs = smooth.resize((48, 48), Image.Resampling.BILINEAR, box=(x0, y0, min(x1, 160), min(y1, 120)))
        assert pixels.shape == (48, 48, 3)
        difference = np.abs(pixels.astype(int) - np.asarray(theirs).astype(int))
        assert difference[1:-1, 1:-1].max() <= 3
        assert difference.max() <= 12  # at its edges a crop has neighbours, which Pillow does not look at


@pytest.mark.parametrize("scale", [(48, 96), (48, 200), (97, 97), (120, 200)])
def test_what_is_shown_is_what_was_drawn_to_half_a_pixel_and_on_average(scale: tuple[int, int]) -> None:
    lows, highs = [], []
    for index in range(3000):
        view = draw_view(view_generator(0, 0, index), (131, 97), scale, 48)
        for side, low, high in ((131, view.region[0], view.region[2]), (97, view.region[1], view.region[3])):
            found_low, found_high = shown(side, low * side, high * side)
            assert -1e-6 <= found_low < found_high <= side + 1e-6
            pixel = (high - low) * side / 48
            lows.append((found_low - low * side) / pixel)
            highs.append((found_high - high * side) / pixel)
    middles = (np.array(lows) + np.array(highs)) / 2
    assert np.abs(middles).max() <= 0.51
    assert max(np.abs(lows).max(), np.abs(highs).max()) <= 0.76  # half a pixel more in size, half of it at each end
    assert max(abs(np.mean(lows)), abs(np.mean(highs)), abs(middles.mean())) < 0.03


def test_a_batch_equals_a_loop_over_its_images() -> None:
    colour, _ = statistics()
    images = torch.from_numpy(RNG.integers(0, 256, (4, 6, 6, 3), dtype=np.uint8))
    flips = torch.tensor([True, False, True, False])
    shifts = torch.from_numpy(colour.shifts([(0.1 * k, -0.05, 0.2) for k in range(4)])).float()
    batch = augment(images, flips, shifts, colour)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    for index in range(4):
        image = images[index].numpy().astype(np.float64)
        image = image[:, ::-1] if flips[index] else image
        slow = (image + shifts[index].numpy() - np.array(colour.mean)) / colour.divisor
        np.testing.assert_allclose(batch[index].permute(1, 2, 0).numpy(), slow, rtol=1e-5, atol=1e-5)


def test_the_colour_shift_is_alexnets() -> None:
    colour, _ = statistics()
    alphas = (0.3, -0.2, 0.1)
    slow = sum(alphas[k] * colour.eigenvalues[k] * np.array([row[k] for row in colour.eigenvectors]) for k in range(3))
    np.testing.assert_allclose(colour.shifts([alphas])[0], 255 * np.asarray(slow))


def test_normalising_subtracts_the_mean_and_gives_unit_variance() -> None:
    colour, images = statistics()
    pixels = torch.from_numpy(np.concatenate([image.reshape(-1, 3) for image in images]))[None, None]
    flat = normalise(pixels, colour)
    torch.testing.assert_close(flat.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    assert float(flat.pow(2).mean()) == pytest.approx(1, rel=1e-4)


def test_a_divisor_a_channel_divides_each_channel() -> None:
    images = torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8)
    colour = ColourStatistics((1.0, 2.0, 3.0), (10.0, 20.0, 40.0), (), ())
    expected = (images.float() - torch.tensor(colour.mean)) / torch.tensor(colour.divisor)
    torch.testing.assert_close(normalise(images, colour), expected.permute(0, 3, 1, 2))
    assert read_record(ColourStatistics, json.dumps(asdict(colour))) == colour
