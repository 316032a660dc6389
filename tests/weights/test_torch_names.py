"""Weights of torchvision and timm against their own logits."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.peer import import_timm
from tests.rounding import assert_same_sums, depth, relative, rounding
from tests.zoo.nets import about, images
from tests.zoo.nets import small as random_network
from vggcli import paper
from vggcli.colour import normalise
from vggcli.errors import WeightsError
from vggcli.weights.checkpoint import load_checkpoint
from vggcli.weights.torch_names import Framework, from_framework, to_framework
from vggcli.weights.torch_write import save_foreign
from vggcli.zoo.initialise import initialise
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG

ALIASES = {row.alias: arch for arch, row in paper.NETWORKS.items() if row.alias}


def small(arch: str = "A", **fields: object) -> VGG:
    network = VGG(NetworkConfig(**{"arch": arch, "classes": 5, "crop": 64, "width": 0.125, **fields}))  # type: ignore[arg-type]
    initialise(network, "he", 3)
    return network.eval()


@pytest.mark.parametrize("alias", [pytest.param("vgg11", marks=pytest.mark.slow), "vgg13_bn", "vgg19"])
@torch.inference_mode()
def test_torchvisions_own_state_dict_gives_its_logits(alias: str) -> None:
    theirs = getattr(torchvision.models, alias)(weights=None, num_classes=12).eval()
    state, config, framework = from_framework(theirs.state_dict(), "w.pth")
    assert (framework, config) == ("torchvision", NetworkConfig(ALIASES[alias], classes=12))
    ours = VGG(config)
    ours.load_state_dict(state)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    expected = theirs(images)
    assert_same_sums(ours.eval()(images), expected, ours)


@pytest.mark.parametrize("published", ["IMAGENET1K_V1", "IMAGENET1K_FEATURES"])
def test_pixels_become_what_torchvisions_own_preset_makes_of_them(tmp_path: Path, published: str) -> None:
    """Channel by channel, for its networks and for Oxford's convolutions, which it publishes with a classifier of NaN."""
    theirs = to_framework(small("D").state_dict(), small("D").config, "torchvision")
    for name in theirs:
        if name.startswith("classifier") and published == "IMAGENET1K_FEATURES":
            theirs[name] = torch.full_like(theirs[name], float("nan"))
    torch.save(theirs, tmp_path / "w.pth")
    _, about = load_checkpoint(tmp_path / "w.pth")
    preset = torchvision.models.VGG16_Weights[published].transforms(crop_size=8, resize_size=8)
    pixels = torch.randint(0, 256, (1, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = normalise(pixels, about.preprocessing)
    torch.testing.assert_close(found, preset(pixels.permute(0, 3, 1, 2)), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("framework", ["torchvision", "timm"])
@pytest.mark.parametrize("arch", ALIASES.values())
def test_a_round_trip_gives_the_same_bits(framework: Framework, arch: str) -> None:
    network = small(arch)
    there = to_framework(network.state_dict(), network.config, framework)
    back, config, found = from_framework(there, "w")
    assert (config, found) == (network.config, framework)
    assert back.keys() == network.state_dict().keys()
    for name, value in network.state_dict().items():
        assert torch.equal(back[name], value), name


def test_the_names_are_torchvisions_in_its_shapes() -> None:
    network = small("D", crop=224, width=1 / 64)
    theirs = torchvision.models.vgg16(weights=None, init_weights=False).state_dict()
    assert to_framework(network.state_dict(), network.config, "torchvision").keys() == theirs.keys()


def timm_network(arch: str) -> Any:
    """timm's network, an eighth as wide and for crops of 64, with random weights, biases and means."""
    timm = import_timm()
    vgg, row = timm.models.vgg, paper.NETWORKS[arch]
    channels = [[base // 8] * len(kernels) for kernels, base in zip(row.blocks, paper.BLOCK_CHANNELS, strict=True)]
    norm = {"norm_layer": torch.nn.BatchNorm2d} if row.batch_norm else {}
    torch.manual_seed(0)
    network = vgg.VGG([entry for block in channels for entry in (*block, "M")], num_classes=5, **norm)
    network.pre_logits = vgg.ConvMlp(512 // 8, 4096 // 8, 2)
    network.head = timm.layers.ClassifierHead(4096 // 8, 5)
    for name, value in network.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            value.normal_(0, 0.1)
    return network.eval()


@pytest.mark.parametrize("arch", ["A", "D", "E", "B-BN"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@torch.inference_mode()
def test_timms_own_network_gives_its_logits_on_any_image(arch: str, suffix: str, tmp_path: Path) -> None:
    theirs = timm_network(arch)
    path = tmp_path / f"w{suffix}"
    save_file(theirs.state_dict(), path) if suffix == ".safetensors" else torch.save(theirs.state_dict(), path)
    ours, checkpoint = load_checkpoint(path)
    assert checkpoint.config == NetworkConfig(arch, 5, 64, 0.125)
    assert checkpoint.preprocessing.divisor == tuple(255 * value for value in (0.229, 0.224, 0.225))
    for batch in (images(), images(97, 130)):  # timm averages the last hidden map, as dense evaluation does
        expected = theirs(batch)
        assert relative(ours(batch), expected) < rounding(depth(ours))
        assert relative(ours(batch.flip(1)), expected) > 0.001


@pytest.mark.parametrize("arch", ["A", "E-BN"])
@torch.inference_mode()
def test_timm_loads_what_was_written(arch: str, tmp_path: Path) -> None:
    network, theirs = random_network(arch), timm_network(arch)
    save_foreign(tmp_path / "w.safetensors", network, about(network), "timm")
    theirs.load_state_dict(load_file(tmp_path / "w.safetensors"))
    assert relative(theirs(images(64, 96)), network(images(64, 96))) < rounding(depth(network))


def test_timm_keeps_its_first_two_linear_layers_as_convolutions() -> None:
    network = small("A")
    theirs = to_framework(network.state_dict(), network.config, "timm")
    assert theirs["pre_logits.fc1.weight"].shape == (512, 64, 2, 2)
    assert theirs["pre_logits.fc2.weight"].shape == (512, 512, 1, 1)
    assert theirs["head.fc.weight"].shape == (5, 512)


def without(name: str) -> dict[str, Tensor]:
    network = small("A")
    state = to_framework(network.state_dict(), network.config, "torchvision")
    return {key: value for key, value in state.items() if not key.startswith(name)}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "its first entries are nothing"),
        ({"layer1.weight": torch.ones(1)}, "layer1.weight"),
        (without("features.0"), "no first convolution"),
        (without("features.8"), "has the convolutions 3x3-8, 3x3-16, 3x3-32, 3x3-64"),
        (without("classifier"), "with its classifier"),
        (
            {**without("none"), "classifier.0.weight": torch.ones(512, 97)},
            "97 inputs, which is no square window of 64 maps",
        ),
        ({**without("none"), "extra.weight": torch.ones(1)}, "holds extra.weight"),
    ],
)
def test_what_is_no_vgg_network_is_refused(tensors: dict[str, Tensor], message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        from_framework(tensors, "w.pth")


@pytest.mark.parametrize("network", [small("A-LRN"), small("C"), small("A", head="gap")])
def test_networks_that_they_do_not_have_are_refused(network: VGG) -> None:
    with pytest.raises(WeightsError, match="torchvision has no"):
        to_framework(network.state_dict(), network.config, "torchvision")
