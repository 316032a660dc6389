"""The loader gives every image once, the same whatever the workers, in batches of one shape, and names what is broken."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import MakeFolder
from vggcli.data.decode import ImageError, read_image
from vggcli.data.sources import ImageSet, load_split
from vggcli.data.test_batches import ViewBatch, test_batches
from vggcli.data.test_views import ViewPlan, rescaled_views
from vggcli.data.training_batches import (
    Position,
    Schedule,
    TrainingBatch,
    colour_statistics,
    epoch_order,
    training_batches,
)

CPU = torch.device("cpu")


def loaded(
    images: ImageSet, workers: int, micro_batch: int = 4, start: tuple[int, int] = (0, 0)
) -> list[TrainingBatch]:
    colour = colour_statistics(images, 40, workers)
    schedule = Schedule(len(images), 8, micro_batch, 2, start)
    return list(training_batches(images, colour, (40, 48), 32, 5, schedule, workers, CPU))


def joined(batches: list[TrainingBatch]) -> list[torch.Tensor]:
    fields = ("images_NHWC", "labels_N", "flips_N", "shifts_NC")
    return [torch.cat([getattr(batch, field) for batch in batches]) for field in fields]


def test_views_depend_neither_on_workers_nor_on_micro_batches_nor_on_where_one_starts(make_folder: MakeFolder) -> None:
    images = load_split(make_folder(train=7), "train")
    whole = joined(loaded(images, workers=0))
    assert len(whole[1]) == 2 * 21
    for other in (loaded(images, workers=3), loaded(images, workers=0, micro_batch=3)):
        assert all(torch.equal(a, b) for a, b in zip(whole, joined(other), strict=True))
    later = joined(loaded(images, workers=2, start=(1, 1)))
    assert all(torch.equal(a[21 + 8 :], b) for a, b in zip(whole, later, strict=True))


def test_an_epoch_uses_every_image_once_in_an_order_of_its_own() -> None:
    orders = [epoch_order(50, seed, epoch).tolist() for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert epoch_order(50, 0, 1).tolist() == orders[1]


def test_a_schedule_splits_steps_and_ends_with_a_short_one() -> None:
    places = list(Schedule(images=10, batch_size=6, micro_batch=4, epochs=1))
    assert places == [Position(0, 0, 0, 4, 6, 4), Position(0, 0, 4, 6, 6, 6), Position(0, 1, 0, 4, 4, 4)]
    assert [place.ends_step for place in places] == [False, True, True]


@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("workers", [0, 2])
def test_every_view_comes_once_in_batches_of_one_shape(make_folder: MakeFolder, rows: int, workers: int) -> None:
    images = load_split(make_folder(), "train")
    plan = ViewPlan((40, 52))
    seen = {}
    for batch in test_batches(images, plan, lambda height, width: rows, workers, CPU):
        assert isinstance(batch, ViewBatch)
        assert len(batch.indices) == len(batch.images_NHWC) <= rows
        for index, view in zip(batch.indices, batch.images_NHWC, strict=True):
            assert (index, batch.scale_index) not in seen
            seen[index, batch.scale_index] = view
    assert len(seen) == 2 * len(images)
    for (index, scale_index), view in seen.items():
        assert np.array_equal(
            view.numpy(), rescaled_views(images.path(index), read_image(images.path(index)), plan)[scale_index]
        )


def test_waiting_views_stay_bounded(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    images = load_split(make_folder(), "train")
    monkeypatch.setattr("vggcli.data.test_batches.PENDING_BYTES", 0)
    batches = list(test_batches(images, ViewPlan((40,)), lambda height, width: 1000, 0, CPU))
    assert sum(len(batch.indices) for batch in batches if isinstance(batch, ViewBatch)) == len(images)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_image_is_named(make_folder: MakeFolder, workers: int) -> None:
    root = make_folder()
    broken = root / "train" / "class1" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:200])
    images = load_split(root, "train")
    with pytest.raises(ImageError, match="class1/3.jpg"):
        loaded(images, workers)
    batches = list(test_batches(images, ViewPlan((40,), 32), lambda height, width: 5, workers, CPU))
    errors = [batch.path for batch in batches if isinstance(batch, ImageError)]
    assert errors == [str(broken)]
    assert sum(len(batch.indices) for batch in batches if isinstance(batch, ViewBatch)) == len(images) - 1


def test_statistics_do_not_depend_on_workers(make_folder: MakeFolder) -> None:
    images = load_split(make_folder(train=20), "train")
    assert colour_statistics(images, 32, 0) == colour_statistics(images, 32, 2)


def flat_pictures(folder: Path, count: int) -> np.ndarray[Any, Any]:
    """Pictures of one class in two colours each, every one brighter than the last; their pixels [count, 1024, 3]."""
    (folder / "train" / "a").mkdir(parents=True)
    pixels = np.zeros((count, 32, 32, 3), np.uint8)
    for index in range(count):
        pixels[index, :, :20] = (index, 3 * index, 255 - 2 * index)
        pixels[index, :, 20:] = (2 * index, 10, index)
        Image.fromarray(pixels[index]).save(folder / "train" / "a" / f"{index:03}.png")
    return pixels.reshape(count, -1, 3).astype(np.float64)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("count", [5, 16, 17, 50])
def test_statistics_are_numpys_of_every_image(tmp_path: Path, count: int, workers: int) -> None:
    pixels = flat_pictures(tmp_path, count).reshape(-1, 3)
    found = colour_statistics(load_split(tmp_path, "train"), 32, workers)
    np.testing.assert_allclose(found.mean, pixels.mean(0), rtol=1e-9)
    assert found.divisor == pytest.approx(np.sqrt(pixels.var(0).mean()))
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(np.cov(pixels.T / 255, bias=True)), atol=1e-12)


def test_statistics_of_a_large_set_rest_on_images_spread_evenly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = flat_pictures(tmp_path, 60)
    monkeypatch.setattr("vggcli.data.training_batches.STATISTICS_IMAGES", 20)
    found = colour_statistics(load_split(tmp_path, "train"), 32, 0)
    np.testing.assert_allclose(found.mean, pixels[::3].reshape(-1, 3).mean(0), rtol=1e-9)


@pytest.mark.parametrize(("asked", "side"), [(100, 100), (128, 128), (256, 128)])
def test_statistics_are_taken_at_the_training_scale_up_to_128_pixels(tmp_path: Path, asked: int, side: int) -> None:
    (tmp_path / "train" / "a").mkdir(parents=True)
    image = Image.effect_noise((150, 300), 90).convert("RGB")
    image.save(tmp_path / "train" / "a" / "0.png")
    pixels = np.asarray(image.resize((side, 2 * side), Image.Resampling.BILINEAR), np.float64).reshape(-1, 3)
    found = colour_statistics(load_split(tmp_path, "train"), asked, 0)
    np.testing.assert_allclose(found.mean, pixels.mean(0), rtol=1e-9)
    assert found.divisor == pytest.approx(np.sqrt(pixels.var(0).mean()), rel=1e-9)


@pytest.mark.parametrize("images", [9_999, 10_000, 10_001, 19_999, 20_000, 25_000])
def test_statistics_rest_on_ten_thousand_images(monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    class Numbered:
        def __len__(self) -> int:
            return images

        def path(self, index: int) -> int:
            return index

    read: list[int] = []

    def read_image(place: int, at_least: int) -> Image.Image:
        read.append(place)
        return Image.new("RGB", (1, 1), (place % 256, 0, 0))

    monkeypatch.setattr("vggcli.data.training_batches.read_image", read_image)
    colour_statistics(Numbered(), 1, 0)  # type: ignore[arg-type]
    assert len(set(read)) == len(read) == min(images, 10_000)
    gaps = {later - earlier for earlier, later in pairwise([*read, images])}
    assert gaps <= {images // len(read), -(-images // len(read))}  # as even as whole numbers can be


def test_one_flat_colour_has_a_divisor(tmp_path: Path) -> None:
    (tmp_path / "train" / "a").mkdir(parents=True)
    Image.new("RGB", (40, 40), (10, 10, 10)).save(tmp_path / "train" / "a" / "0.png")
    assert colour_statistics(load_split(tmp_path, "train"), 40, 0).divisor == 1.0
