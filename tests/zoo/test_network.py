"""Networks against torchvision's on equal weights, and dense scores against a slow obvious loop over windows."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from tests.rounding import assert_same_sums
from vggcli import paper
from vggcli.zoo.initialise import initialise
from vggcli.zoo.layers import NetworkConfig, network_layers
from vggcli.zoo.network import VGG

TORCHVISION = {row.alias: arch for arch, row in paper.NETWORKS.items() if row.alias}


def small(arch: str = "D", **fields: object) -> VGG:
    config = NetworkConfig(**{"arch": arch, "classes": 7, "crop": 64, "width": 0.125, **fields})  # type: ignore[arg-type]
    network = VGG(config)
    initialise(network, "he", seed=1)
    return network.eval()


def copy_into(theirs: nn.Module, ours: VGG) -> None:
    """Our weights into torchvision's network, by position."""
    kinds = (nn.Conv2d, nn.BatchNorm2d)
    source = [layer for _, layer in ours.convolutional_layers() if isinstance(layer, kinds)]
    target = [layer for layer in theirs.features if isinstance(layer, kinds)]  # type: ignore[union-attr]
    for mine, its in zip(source, target, strict=True):
        its.load_state_dict(mine.state_dict())
    linear = [layer for layer in theirs.classifier if isinstance(layer, nn.Linear)]  # type: ignore[union-attr]
    for name, layer in zip(("fc6", "fc7", "fc8"), linear, strict=True):
        state = ours.get_submodule(name).state_dict()
        layer.load_state_dict({"weight": state["weight"].flatten(1), "bias": state["bias"]})


@pytest.mark.parametrize(
    "alias",
    [
        *("vgg11", "vgg13_bn", "vgg16", "vgg19_bn"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("vgg11_bn", "vgg13", "vgg16_bn", "vgg19")),
    ],
)
@torch.inference_mode()
def test_logits_equal_torchvisions_at_224(alias: str) -> None:
    ours = VGG(NetworkConfig(TORCHVISION[alias], classes=10))
    initialise(ours, "he", seed=0)
    for module in ours.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    theirs = getattr(torchvision.models, alias)(weights=None, num_classes=10, init_weights=False)
    copy_into(theirs, ours)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    expected, found = theirs.eval()(images), ours.eval()(images)
    assert_same_sums(found, expected, ours)


@pytest.mark.parametrize("name", ["conv1_1", "relu2_2", "pool3"])
@torch.inference_mode()
def test_a_hook_sees_what_its_layer_gives(name: str) -> None:
    network, images, seen = small(), torch.randn(2, 3, 64, 64), []
    expected = next(maps.clone() for layer, maps in network.layer_maps(images) if layer == name)
    plain = network(images)
    network.get_submodule(name).register_forward_hook(lambda layer, given, maps: seen.append(maps.clone()))
    assert_same_sums(network(images), plain, network)
    assert torch.equal(seen[0], expected)


@pytest.mark.parametrize("wanted", [(), ("pool5",), ("conv1_1",), ("relu2_2", "pool3"), ("conv3_1", "relu3_1", "fc7")])
@torch.inference_mode()
def test_layers_that_are_not_wanted_change_nothing_in_the_others(wanted: tuple[str, ...]) -> None:
    network, images = small(), torch.randn(2, 3, 64, 64)
    every = {name: maps.clone() for name, maps in network.layer_maps(images)}
    found = {name: maps.clone() for name, maps in network.layer_maps(images, wanted)}
    assert len(found) < len(every) and {*wanted, "fc6", "fc8"} <= set(found)
    for name, maps in found.items():
        assert_same_sums(maps, every[name], network)


@torch.inference_mode()
def test_dense_scores_equal_the_fc_layers_looped_over_windows() -> None:
    network = small("B")
    images = torch.randn(2, 3, 131, 163, generator=torch.Generator().manual_seed(0))
    maps = network.convolve(images)
    assert maps.shape[2:] == (4, 5)
    weights = [network.get_submodule(name).state_dict() for name in ("fc6", "fc7", "fc8")]
    scores = []
    for top in range(3):
        for left in range(4):
            hidden = maps[:, :, top : top + 2, left : left + 2].flatten(1)
            for index, state in enumerate(weights):
                hidden = F.linear(hidden, state["weight"].flatten(1), state["bias"])
                hidden = F.relu(hidden) if index < 2 else hidden
            scores.append(hidden)
    assert_same_sums(network(images), torch.stack(scores).mean(0), network)


@pytest.mark.parametrize("size", [(96, 64), (64, 96), (64, 64), (160, 64)])
@torch.inference_mode()
def test_many_views_no_wider_than_the_crop_score_as_one_by_one(size: tuple[int, int]) -> None:
    network = small("B")
    images = torch.randn(40, 3, *size, generator=torch.Generator().manual_seed(0))
    alone = torch.cat([network(image[None]) for image in images])
    assert_same_sums(network(images), alone, network)


@torch.inference_mode()
def test_the_gap_head_averages_the_last_map() -> None:
    network = small("A", head="gap")
    images = torch.randn(1, 3, 96, 64)
    fc8 = network.get_submodule("fc8").state_dict()
    expected = F.linear(network.convolve(images).mean((2, 3)), fc8["weight"].flatten(1), fc8["bias"])
    assert_same_sums(network(images), expected, network)


def test_lrn_divides_by_the_papers_sum() -> None:
    network = small("A-LRN")
    lrn = dict(network.convolutional_layers())["lrn1"]
    maps = 30 * torch.rand(1, 8, 2, 2)
    expected = torch.empty_like(maps)
    for channel in range(8):  # AlexNet, section 3.3: alpha times the plain sum of squares over 5 maps
        total = maps[:, max(0, channel - 2) : channel + 3].pow(2).sum(1)
        expected[:, channel] = maps[:, channel] / (2 + 1e-4 * total) ** 0.75
    torch.testing.assert_close(lrn(maps), expected)


PLAIN = {  # of networks that torchvision lacks: the kernels of each block, as Table 1 and section 4.1 print them
    "A-LRN": ["3", "3", "33", "33", "33"],
    "C": ["33", "33", "331", "331", "331"],
    "B-5x5": ["5", "5", "5", "5", "5"],
}


@pytest.mark.parametrize("arch", PLAIN)
@torch.inference_mode()
def test_networks_that_torchvision_lacks_equal_plain_convolutions(arch: str) -> None:
    network = small(arch)
    for name, value in network.state_dict().items():
        if name.endswith("bias"):
            value.normal_(0, 0.1, generator=torch.Generator().manual_seed(len(value)))
    weights = list(network.state_dict().values())
    maps = images = 3 * torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for block in PLAIN[arch]:
        for kernel in map(int, block):
            maps = F.conv2d(maps, weights.pop(0), weights.pop(0), padding=(kernel - 1) // 2).relu()
            if arch == "A-LRN" and maps.shape[2] == 64:  # torch divides alpha by the 5 maps, the paper does not
                maps = F.local_response_norm(maps, 5, alpha=5e-4, beta=0.75, k=2.0)
        maps = F.max_pool2d(maps, 2, 2)
    hidden = maps.flatten(1)
    for _ in range(2):
        hidden = F.linear(hidden, weights.pop(0).flatten(1), weights.pop(0)).relu()
    expected = F.linear(hidden, weights.pop(0).flatten(1), weights.pop(0))
    assert not weights
    torch.testing.assert_close(network(images), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_a_network_in_training_drops_its_share_of_hidden_units() -> None:
    """Units that all say 1 show the mask itself: 0, or 1 over the share kept."""
    network = VGG(NetworkConfig("A", classes=7, crop=32, width=0.25), dropout=0.2).train()
    initialise(network, "he", seed=1)
    with torch.no_grad():
        for name, fill in (("weight", 0.0), ("bias", 1.0)):
            network.get_parameter(f"fc7.{name}").fill_(fill)
    descriptors = network.descriptor(torch.randn(20, 128, 1, 1))
    torch.testing.assert_close(descriptors.unique(), torch.tensor([0, 1.25]))
    assert float((descriptors == 0).float().mean()) == pytest.approx(0.2, abs=0.02)
    assert (network.eval().descriptor(torch.randn(2, 128, 1, 1)) == 1).all()


def test_lrn_follows_the_first_relu_and_precedes_pooling() -> None:
    names = [name for name, _ in small("A-LRN").convolutional_layers()]
    assert names[:4] == ["conv1_1", "relu1_1", "lrn1", "pool1"]


@pytest.mark.parametrize("arch", paper.NETWORKS)
def test_the_built_network_has_the_parameters_its_table_shows(arch: str) -> None:
    network = small(arch)
    built = sum(parameter.numel() for parameter in network.parameters())
    assert built == sum(layer.parameters for layer in network_layers(network.config))


def test_batch_norm_comes_between_convolution_and_relu() -> None:
    names = [name for name, _ in small("D-BN").convolutional_layers()]
    assert names[:7] == ["conv1_1", "bn1_1", "relu1_1", "conv1_2", "bn1_2", "relu1_2", "pool1"]


def test_given_dropout_masks_are_used_in_training() -> None:
    network = small("A").train()
    images = torch.randn(2, 3, 64, 64)
    zero = [torch.zeros(2, size) for size in network.hidden_sizes()]
    bias = network.get_submodule("fc8").state_dict()["bias"]
    torch.testing.assert_close(network(images, zero), bias.expand(2, -1))
