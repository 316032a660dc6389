"""The zoo's numbers against the paper's, and the argument for small filters."""

import pytest
import torch
import torchvision

from vggcli import paper
from vggcli.errors import UsageError
from vggcli.zoo.layers import NetworkConfig, arch_of, layer_costs, network_layers, stacks_of_3x3

PARAMETERS = {
    "A": 132_863_336,
    "A-LRN": 132_863_336,
    "B": 133_047_848,
    "C": 133_638_952,
    "D": 138_357_544,
    "E": 143_667_240,
    "B-5x5": 134_503_528,
    "A-BN": 132_868_840,
    "B-BN": 133_053_736,
    "D-BN": 138_365_992,
    "E-BN": 143_678_248,
}
GMACS = {"A": 7.609, "B": 11.308, "C": 11.771, "D": 15.470, "E": 19.632, "B-5x5": 9.356}
WEIGHT_LAYERS = {"A": 11, "A-LRN": 11, "B": 13, "C": 16, "D": 16, "E": 19}


@pytest.mark.parametrize("arch", paper.NETWORKS)
def test_parameters_are_the_papers_to_the_last_one(arch: str) -> None:
    assert sum(layer.parameters for layer in network_layers(NetworkConfig(arch))) == PARAMETERS[arch]


@pytest.mark.parametrize("arch", GMACS)
def test_multiply_accumulates_at_224(arch: str) -> None:
    assert round(sum(cost.macs for cost in layer_costs(NetworkConfig(arch))) / 1e9, 3) == GMACS[arch]


@pytest.mark.parametrize("arch", WEIGHT_LAYERS)
def test_weight_layers_as_table_1_counts_them(arch: str) -> None:
    assert paper.NETWORKS[arch].weight_layers == WEIGHT_LAYERS[arch]


@pytest.mark.parametrize(("arch", "pool5", "fc6"), [("A", 150, 342), ("B", 156, 348), ("D", 212, 404), ("E", 268, 460)])
def test_receptive_fields(arch: str, pool5: int, fc6: int) -> None:
    fields = {cost.name: cost.receptive_field for cost in layer_costs(NetworkConfig(arch))}
    assert (fields["pool5"], fields["fc6"]) == (pool5, fc6)


@pytest.mark.parametrize(("arch", "alias"), [("A", "vgg11"), ("D-BN", "vgg16_bn"), ("E", "vgg19")])
def test_outputs_and_their_memory_are_those_of_torchvisions_layers(arch: str, alias: str) -> None:
    with torch.device("meta"):  # shapes alone
        theirs = getattr(torchvision.models, alias)(init_weights=False)
        maps, shapes = torch.empty(1, 3, 224, 224), []
        for layer in (*theirs.features, torch.nn.Flatten(), *theirs.classifier):
            maps = layer(maps)
            if not isinstance(layer, torch.nn.ReLU | torch.nn.Dropout | torch.nn.Flatten):
                shapes.append(maps.shape[1:])
    costs = layer_costs(NetworkConfig(arch))
    assert [cost.output for cost in costs] == [(*shape, 1, 1)[:3] for shape in shapes]
    assert [cost.memory for cost in costs] == [4 * shape.numel() for shape in shapes]  # float32


@pytest.mark.parametrize(("width", "channels"), [(0.7, 45), (0.3, 19), (0.001, 1), (1.0, 64), (2.0, 128)])
def test_widths_are_rounded_to_whole_channels(width: float, channels: int) -> None:
    assert next(network_layers(NetworkConfig("D", width=width))).channels == channels


def test_three_3x3_layers_against_one_7x7() -> None:
    stack = stacks_of_3x3(NetworkConfig("D"))[-1]
    assert stack.receptive_field == 7
    assert stack.stack_weights == 27 * 512**2
    assert stack.single_weights == 49 * 512**2
    assert round(100 * (stack.single_weights / stack.stack_weights - 1)) == 81  # "81% more", section 2.3


def test_the_gap_head_has_9_parameters_in_10_fewer() -> None:
    whole = sum(layer.parameters for layer in network_layers(NetworkConfig("D")))
    gap = sum(layer.parameters for layer in network_layers(NetworkConfig("D", head="gap")))
    assert gap == 14_714_688 + 513 * 1000
    assert gap < whole / 9


@pytest.mark.parametrize(
    ("name", "arch"), [("d", "D"), ("VGG16", "D"), ("vgg19_bn", "E-BN"), ("a-lrn", "A-LRN"), ("b-5X5", "B-5x5")]
)
def test_networks_go_by_several_names(name: str, arch: str) -> None:
    assert arch_of(name) == arch


@pytest.mark.parametrize("fields", [{"arch": "F"}, {"crop": 31}, {"width": 0.0}, {"width": 17.0}, {"classes": 0}])
def test_impossible_networks_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        NetworkConfig(**fields)  # type: ignore[arg-type]


def test_an_unknown_name_lists_the_networks() -> None:
    with pytest.raises(UsageError, match="A-LRN, B, C, D, E"):
        arch_of("resnet50")
