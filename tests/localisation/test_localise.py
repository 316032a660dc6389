"""Protocol 2 against a slow version: window by window, every pair anew, plain averages."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.localisation.boxed import CLASSES, boxed_images, saved
from tests.localisation.test_merging import naive
from vggcli.colour import normalise
from vggcli.data.decode import ImageError, read_image
from vggcli.data.image_set import ImageSet
from vggcli.data.test_views import rescaled_size
from vggcli.errors import UsageError, WeightsError
from vggcli.evaluation.options import MeasureOptions
from vggcli.evaluation.protocol import Scores, image_posteriors
from vggcli.evaluation.scores_file import save_scores
from vggcli.localisation import localise
from vggcli.localisation.localise import Found, Guess
from vggcli.localisation.networks import box_network, open_localiser
from vggcli.places import Places
from vggcli.weights.checkpoint import load_checkpoint
from vggcli.zoo.network import VGG

SCALES, SIDE = (70, 100), 64  # Q and the crop
TURNED = ("class2", "class0", "class1")  # the classes in another order


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "runs", tmp_path / "cache")


def options(**asked: Any) -> MeasureOptions:
    return MeasureOptions(**{"dense": True, "device": "cpu", "precision": "fp32", "scales": SCALES, **asked})


def found_in(images: ImageSet, boxes: list[Path], classifiers: list[Path], places: Places, **asked: Any) -> list[Found]:
    networks = [box_network(path) for path in boxes]
    localiser = open_localiser(networks, classifiers, options(**asked), images, places=places)
    found = list(localiser.found(images))
    assert all(isinstance(one, Found) for one in found)
    return sorted((one for one in found if isinstance(one, Found)), key=lambda one: one.row)


def windows(network: VGG, pool5_CHW: Tensor) -> dict[tuple[int, int], Tensor]:
    """The outputs [F] of the FC layers on each window of a pool5 map, by its place in pixels (left, top)."""
    side, (_, height, width) = SIDE // 32, pool5_CHW.shape
    return {
        (32 * j, 32 * i): network.classify(network.descriptor(pool5_CHW[None, :, i : i + side, j : j + side]))[0]
        for i in range(height - side + 1)
        for j in range(width - side + 1)
    }


@torch.no_grad()
def slow_guesses(
    path: Path,
    boxes: list[Path],
    classifiers: list[Path],
    scales: dict[Path, tuple[int, ...]],
    threshold: float,
    flip: bool,
) -> tuple[Guess, ...]:
    image = read_image(path)
    candidates: dict[str, list[list[float]]] = {label: [] for label in CLASSES}
    wholes: list[dict[str, float]] = []
    for scale in sorted({scale for some in scales.values() for scale in some}):
        size = rescaled_size(image.size, scale)
        pixels = torch.from_numpy(np.array(image.resize(size, Image.Resampling.BILINEAR)))[None]
        for mirrored in (False, True):
            view = pixels.flip(2) if mirrored else pixels
            posteriors = []
            for file in classifiers:
                network, about = load_checkpoint(file)
                maps = network.convolve(normalise(view, about.preprocessing))
                of_windows = {at: out.softmax(0) for at, out in windows(network, maps[0]).items()}
                posteriors.append(
                    {at: dict(zip(about.classes, row.tolist(), strict=True)) for at, row in of_windows.items()}
                )
                whole = network(normalise(view, about.preprocessing))[0].softmax(0)
                wholes.append(dict(zip(about.classes, whole.tolist(), strict=True)))
            for file in boxes if flip or not mirrored else []:
                if scale not in scales[file]:
                    continue
                network, about = load_checkpoint(file)
                maps = network.convolve(normalise(view, about.preprocessing))
                for (left, top), out in windows(network, maps[0]).items():
                    for label in CLASSES:
                        first = 4 * about.classes.index(label) if about.config.boxes == "pcr" else 0
                        x, y, width, height = (SIDE * value for value in out[first : first + 4].tolist())
                        x0, x1 = left + x - max(width, 1) / 2, left + x + max(width, 1) / 2
                        y0, y1 = top + y - max(height, 1) / 2, top + y + max(height, 1) / 2
                        x0, x1 = (size[0] - x1, size[0] - x0) if mirrored else (x0, x1)
                        across, down = image.width / size[0], image.height / size[1]
                        score = sum(one[left, top][label] for one in posteriors) / len(posteriors)
                        candidates[label].append([x0 * across, y0 * down, x1 * across, y1 * down, score])
    guesses = []
    for label, rows in candidates.items():
        table = torch.tensor(rows, dtype=torch.float64)
        best = naive(table[:, :4], table[:, 4], threshold)
        box = tuple(best.boxes_M4[0].tolist())
        score = sum(one[label] for one in wholes) / len(wholes)
        guesses.append(Guess(label, score, box, float(best.scores_M[0]), int(best.counts_M[0])))
    return tuple(sorted(guesses, key=lambda one: -one.score))


def assert_same(mine: tuple[Guess, ...], slow: tuple[Guess, ...]) -> None:
    assert [(one.label, one.candidates) for one in mine] == [(one.label, one.candidates) for one in slow]
    for one, other in zip(mine, slow, strict=True):
        assert (one.score, one.support) == pytest.approx((other.score, other.support), abs=1e-5)
        assert one.box == pytest.approx(other.box, abs=1e-2)


@pytest.mark.parametrize("flip", [None, True])
@pytest.mark.parametrize("own_scales", [False, True])
def test_guesses_equal_the_slow_version(tmp_path: Path, places: Places, flip: bool | None, own_scales: bool) -> None:
    images = boxed_images(tmp_path / "photos")
    pcr, scr, one, other = (tmp_path / f"{name}.safetensors" for name in ("pcr", "scr", "one", "other"))
    saved(pcr, 1, boxes="pcr", classes=TURNED, scale=(70, 70))
    saved(scr, 2, boxes="scr", scale=(100, 100))
    saved(one, 3)
    saved(other, 4, classes=TURNED)
    scales: dict[Path, tuple[int, ...]] = {pcr: (70,), scr: (100,)} if own_scales else {pcr: SCALES, scr: SCALES}
    found = found_in(images, [pcr, scr], [one, other], places, flip=flip, scales=None if own_scales else SCALES)
    assert [one.row for one in found] == list(range(len(images)))
    for row in (0, 1, 3, 7):
        slow = slow_guesses(images.root / images.names[row], [pcr, scr], [one, other], scales, 0.6, flip is True)
        assert_same(found[row].guesses(0.6), slow)
        alone = slow_guesses(images.root / images.names[row], [scr], [one, other], scales, 0.6, flip is True)
        assert_same(found[row].guesses(0.6, [1]), tuple(sorted(alone, key=lambda one: slow_order(slow, one))))


def slow_order(guesses: tuple[Guess, ...], one: Guess) -> int:
    return [other.label for other in guesses].index(one.label)


def test_the_labels_are_those_of_dense_evaluation(tmp_path: Path, places: Places) -> None:
    images = boxed_images(tmp_path / "photos")
    boxes, classes = tmp_path / "boxes.safetensors", tmp_path / "classes.safetensors"
    saved(boxes, 1, boxes="pcr")
    for head in ("fc", "gap"):
        network = saved(classes, 3, head=head)
        about = load_checkpoint(classes)[1]
        found = found_in(images, [boxes], [classes], places)
        scores = image_posteriors(network, images, about.preprocessing, options().for_network(about))
        assert torch.stack([one.posteriors_K for one in found]).allclose(scores.posteriors_NK, atol=1e-6)
        assert [one.labels[0] for one in found] == [CLASSES[row] for row in scores.posteriors_NK.argmax(1)]


def test_saved_scores_stand_for_every_window_and_average_with_networks(tmp_path: Path, places: Places) -> None:
    images = boxed_images(tmp_path / "photos")
    boxes, classes, file = (tmp_path / f"{name}.safetensors" for name in ("boxes", "classes", "scores"))
    saved(boxes, 1, boxes="scr", classes=("a", "b"))  # whose classes are of no importance
    saved(classes, 3)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).tolist()
    posteriors_NK = torch.rand(len(images), 3, generator=torch.Generator().manual_seed(1)).softmax(1)
    names = tuple(images.names[row] for row in order)
    scores = Scores(posteriors_NK[order], torch.tensor([images.labels[row] for row in order]), names, CLASSES)
    save_scores(file, scores, {"arch": "D", "protocol": "dense", "scales": [70], "weights_sha256": "0"})
    alone = found_in(images, [boxes], [file], places)
    assert torch.stack([one.posteriors_K for one in alone]).allclose(posteriors_NK)
    by_network, both = found_in(images, [boxes], [classes], places), found_in(images, [boxes], [classes, file], places)
    for one, network, two in zip(alone, by_network, both, strict=True):
        scores_of = dict(zip(one.labels, one.candidates[0].scores_CN, strict=True))
        assert all(
            scores_CN.unique().tolist() == [one.scores[index]]
            for index, scores_CN in enumerate(one.candidates[0].scores_CN)
        )
        by_label = dict(zip(network.labels, network.candidates[0].scores_CN, strict=True))
        for label, scores_N in zip(two.labels, two.candidates[0].scores_CN, strict=True):
            assert scores_N.allclose((scores_of[label] + by_label[label]) / 2)
    with pytest.raises(WeightsError, match="has no scores of"):
        found_in(boxed_images(tmp_path / "more", "train"), [boxes], [file], places)


def test_blocks_change_nothing_and_a_damaged_image_stops_no_other(
    tmp_path: Path, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = boxed_images(tmp_path / "photos")
    boxes, classes = tmp_path / "boxes.safetensors", tmp_path / "classes.safetensors"
    saved(boxes, 1, boxes="pcr")
    saved(classes, 3)
    whole = found_in(images, [boxes], [classes], places)
    monkeypatch.setattr(localise, "HELD_BYTES", 1)
    (images.root / images.names[5]).write_bytes(b"\xff\xd8 no image")
    localiser = open_localiser([box_network(boxes)], [classes], options(), images, places=places)
    done: list[int] = []
    found = list(localiser.found(images, done.append))
    assert sum(done) == len(images) * len(SCALES)
    assert [one.index if isinstance(one, ImageError) else one.row for one in found] == list(range(len(images)))
    for one in found:
        if isinstance(one, Found):
            assert_same(one.guesses(0.6), whole[one.row].guesses(0.6))


def test_what_does_not_go_together_is_refused(tmp_path: Path, places: Places) -> None:
    images = boxed_images(tmp_path / "photos")
    boxes, classes, other = (tmp_path / f"{name}.safetensors" for name in ("boxes", "classes", "other"))
    saved(boxes, 1, boxes="pcr")
    saved(classes, 3, crop=96)
    with pytest.raises(WeightsError, match="has a crop of 96 and .*boxes.safetensors one of 64"):
        found_in(images, [boxes], [classes], places)
    saved(other, 3, classes=("class0", "class1", "else"))
    with pytest.raises(WeightsError, match="only the first has 'class2', only the other has 'else'"):
        found_in(images, [boxes], [other], places)
    saved(boxes, 1, boxes="scr")
    with pytest.raises(WeightsError, match="the weights lack 1 of the data's classes"):
        found_in(images, [boxes], [other], places)
    with pytest.raises(WeightsError, match="gives boxes in place of classes"):
        found_in(images, [boxes], [boxes], places)
    with pytest.raises(WeightsError, match="gives classes, not boxes"):
        box_network(other)
    with pytest.raises(UsageError, match="name one"):
        found_in(images, [boxes], [], places)
