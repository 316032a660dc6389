"""Weights of torchvision against torchvision's own logits; timm's layout against its rules."""

import pytest
import torch
from torch import Tensor

from tests.peer import import_torchvision
from vggcli import paper
from vggcli.errors import WeightsError
from vggcli.zoo.foreign import Framework, from_framework, to_framework
from vggcli.zoo.initialise import initialise
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG

ALIASES = {row.alias: arch for arch, row in paper.NETWORKS.items() if row.alias}


def small(arch: str = "A", **fields: object) -> VGG:
    network = VGG(NetworkConfig(**{"arch": arch, "classes": 5, "crop": 64, "width": 0.125, **fields}))  # type: ignore[arg-type]
    initialise(network, "he", 3)
    return network.eval()


@pytest.mark.parametrize("alias", ["vgg11", "vgg13_bn", "vgg19"])
@torch.inference_mode()
def test_torchvisions_own_state_dict_gives_its_logits(alias: str) -> None:
    theirs = getattr(import_torchvision().models, alias)(weights=None, num_classes=12).eval()
    state, config, framework = from_framework(theirs.state_dict(), "w.pth")
    assert (framework, config) == ("torchvision", NetworkConfig(ALIASES[alias], classes=12))
    ours = VGG(config)
    ours.load_state_dict(state)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    expected = theirs(images)
    assert (ours.eval()(images) - expected).abs().max() <= 1e-5 * expected.abs().max()


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
    theirs = import_torchvision().models.vgg16(weights=None, init_weights=False).state_dict()
    assert to_framework(network.state_dict(), network.config, "torchvision").keys() == theirs.keys()


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
        ({**without("none"), "classifier.0.weight": torch.ones(512, 97)}, "97 inputs, no square window of 64 maps"),
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
