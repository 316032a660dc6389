"""Protocols against a slow obvious loop through torchvision's network and functions, one view at a time."""

import copy
from dataclasses import replace

import pytest
import torch
import torchvision
from PIL import Image

from tests.conftest import MakeFolder
from tests.oracle import dense_scores, torchvision_network
from tests.rounding import assert_same_sums
from vggcli.colour import ColourStatistics
from vggcli.data.decode import ImageError
from vggcli.data.image_set import match_classes
from vggcli.data.sources import ImageSet, load_split
from vggcli.errors import DataError, WeightsError
from vggcli.evaluation.protocol import EvaluateOptions, crops_an_image, image_posteriors
from vggcli.zoo.initialise import initialise
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG

COLOUR = ColourStatistics((120.0, 110.0, 100.0), 60.0, (0.1, 0.1, 0.1), ((1, 0, 0), (0, 1, 0), (0, 0, 1)))
OPTIONS = EvaluateOptions("centre-crop", (40,), False, torch.device("cpu"), "fp32")


@pytest.fixture(scope="module")
def network() -> VGG:
    net = VGG(NetworkConfig("A", classes=3, crop=32, width=0.125))
    initialise(net, "he", seed=4)
    return net.eval()


def slow_posteriors(network: VGG, images: ImageSet, options: EvaluateOptions) -> torch.Tensor:
    transforms = torchvision.transforms
    crop, functional = 32, transforms.functional
    theirs = torchvision_network("A", network.state_dict())

    def posterior(view: Image.Image) -> torch.Tensor:
        mirrored = [view, functional.hflip(view)] if options.flip else [view]
        pixels = torch.stack([255 * transforms.ToTensor()(one) for one in mirrored])
        with torch.no_grad():
            scores = dense_scores(theirs, (pixels - torch.tensor([120.0, 110.0, 100.0])[:, None, None]) / 60)
        return scores.softmax(1).mean(0)

    def scale_posterior(image: Image.Image, scale: int) -> torch.Tensor:
        view = transforms.Resize(scale)(image)
        if options.protocol == "centre-crop":
            return posterior(transforms.CenterCrop(crop)(view))
        parts = [posterior(view)] if "dense" in options.protocol else []
        if "multi-crop" in options.protocol:
            tops, lefts = (torch.linspace(0, side - crop, options.grid) for side in (view.height, view.width))
            corners = [(round(float(top)), round(float(left))) for top in tops for left in lefts]
            crops = [posterior(functional.crop(view, top, left, crop, crop)) for top, left in corners]
            parts.append(torch.stack(crops).mean(0))
        return torch.stack(parts).mean(0)

    rows = []
    for index in range(len(images)):
        image = Image.open(images.root / images.names[index]).convert("RGB")
        rows.append(torch.stack([scale_posterior(image, scale) for scale in options.scales]).mean(0))
    return torch.stack(rows)


@pytest.mark.parametrize("protocol", ["centre-crop", "dense", "multi-crop", "dense+multi-crop"])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scales", [(40,), (32, 48, 70)])
def test_posteriors_equal_a_slow_loop(
    network: VGG, make_folder: MakeFolder, protocol: str, flip: bool, scales: tuple[int, ...]
) -> None:
    images = load_split(make_folder(), "val")
    options = replace(OPTIONS, protocol=protocol, flip=flip, scales=scales)  # type: ignore[arg-type]
    scores = image_posteriors(network, images, COLOUR, options)
    assert scores.images == images.names
    assert scores.labels_N.tolist() == list(images.labels)
    assert_same_sums(scores.posteriors_NK, slow_posteriors(network, images, options), network)


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_every_image_counts_once_whatever_the_batch_size(
    network: VGG, make_folder: MakeFolder, batch_size: int
) -> None:
    images = load_split(make_folder(val=7), "val")
    options = replace(OPTIONS, protocol="dense", scales=(40, 50), batch_size=batch_size, workers=2)
    views: list[int] = []
    scores = image_posteriors(network, images, COLOUR, options, views.append)
    assert sum(views) == 2 * 21
    torch.testing.assert_close(scores.posteriors_NK.sum(1), torch.ones(21))
    alone = image_posteriors(network, images, COLOUR, replace(options, batch_size=3, workers=0))
    assert_same_sums(scores.posteriors_NK, alone.posteriors_NK, network)


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda:0",
            marks=(pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")),
        ),
    ],
)
def test_decoding_on_the_device_changes_posteriors_little(network: VGG, make_folder: MakeFolder, device: str) -> None:
    root = make_folder()
    (root / "val" / "class2" / "1.jpg").write_bytes(b"no image")
    images, where = load_split(root, "val"), torch.device(device)
    options = replace(OPTIONS, protocol="dense", scales=(40, 50), skip_bad=True, workers=1)
    wanted = image_posteriors(network, images, COLOUR, options)
    there = copy.deepcopy(network).to(where)
    scores = image_posteriors(there, images, COLOUR, replace(options, device=where, decode="gpu"))
    assert (scores.images, [one.reason for one in scores.skipped]) == (
        wanted.images,
        [one.reason for one in wanted.skipped],
    )
    torch.testing.assert_close(
        scores.posteriors_NK, wanted.posteriors_NK, atol=0.01 if device == "cpu" else 0.1, rtol=0
    )


def test_a_broken_image_is_an_error_or_is_left_out_and_counted(network: VGG, make_folder: MakeFolder) -> None:
    root = make_folder()
    (root / "val" / "class1" / "2.jpg").write_bytes(b"no image")
    images = load_split(root, "val")
    with pytest.raises(ImageError, match="class1/2.jpg"):
        image_posteriors(network, images, COLOUR, OPTIONS)
    scores = image_posteriors(network, images, COLOUR, replace(OPTIONS, skip_bad=True))
    assert len(scores.images) == 11
    assert "val/class1/2.jpg" not in scores.images
    assert [error.path for error in scores.skipped] == [str(root / "val" / "class1" / "2.jpg")]
    for path in root.rglob("val/*/*.jpg"):
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="none of the 12 images"):
        image_posteriors(network, images, COLOUR, replace(OPTIONS, skip_bad=True))


@pytest.mark.parametrize(("grid", "batch_size"), [(2, 1), (3, 7), (5, 1000)])
def test_any_grid_in_any_batch_equals_the_slow_loop(
    network: VGG, make_folder: MakeFolder, grid: int, batch_size: int
) -> None:
    images = load_split(make_folder(val=2), "val")
    options = replace(OPTIONS, protocol="multi-crop", scales=(45,), grid=grid, flip=True, batch_size=batch_size)
    found = image_posteriors(network, images, COLOUR, options).posteriors_NK
    assert_same_sums(found, slow_posteriors(network, images, options), network)


def test_the_papers_count_of_crops() -> None:
    assert crops_an_image(replace(OPTIONS, protocol="multi-crop", scales=(256, 384, 512), flip=True)) == 150


def test_labels_follow_names_not_positions(make_folder: MakeFolder) -> None:
    images = load_split(make_folder(), "val")
    matched = match_classes(images, ("class2", "other", "class1", "class0"))
    assert [matched.classes[label] for label in matched.labels] == [images.classes[label] for label in images.labels]
    with pytest.raises(WeightsError, match="'class1'"):
        match_classes(images, ("class0", "class2"))


def test_weights_whose_posteriors_are_not_finite_are_refused(network: VGG, make_folder: MakeFolder) -> None:
    broken = VGG(network.config)
    broken.load_state_dict({name: value * 1e30 for name, value in network.state_dict().items()})
    with pytest.raises(WeightsError, match="not finite"):
        image_posteriors(broken.eval(), load_split(make_folder(), "val"), COLOUR, OPTIONS)


def test_dense_and_multi_crop_kept_apart_are_what_each_gives_alone_from_the_same_passes(
    network: VGG, make_folder: MakeFolder
) -> None:
    images = load_split(make_folder(), "val")
    options = replace(OPTIONS, protocol="dense+multi-crop", scales=(36, 48), flip=True, grid=2)
    passes: list[int] = []
    with network.register_forward_hook(lambda net, views, scores: passes.append(len(views[0]))):
        mixed = image_posteriors(network, images, COLOUR, options)
        before = list(passes)
        apart = image_posteriors(network, images, COLOUR, replace(options, apart=True))
    assert passes == before * 2
    assert not mixed.parts
    assert_same_sums(apart.posteriors_NK, mixed.posteriors_NK, network)
    assert set(apart.parts) == {"dense", "multi-crop"}
    for protocol in apart.parts:
        alone = image_posteriors(network, images, COLOUR, replace(options, protocol=protocol, apart=True))
        assert not alone.parts
        part = apart.part(protocol)
        assert_same_sums(part.posteriors_NK, alone.posteriors_NK, network)
        assert (part.images, part.labels_N.tolist()) == (alone.images, alone.labels_N.tolist())
        assert not part.parts
