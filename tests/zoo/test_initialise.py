"""Random weights have the spread they claim; net A's layers go where the paper puts them."""

import math

import pytest
import torch

from vggcli.choices import Init
from vggcli.errors import UsageError, WeightsError
from vggcli.zoo.initialise import initialise, initialise_from_network_a
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG


def network(arch: str = "D", **fields: object) -> VGG:
    return VGG(NetworkConfig(**{"arch": arch, "classes": 5, "crop": 64, "width": 0.25, **fields}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("init", "std", "expected"),
    [
        ("glorot", None, math.sqrt(2 / (9 * 128 + 9 * 128))),
        ("he", None, math.sqrt(2 / (9 * 128))),
        ("gaussian", None, 0.01),
        ("gaussian", 0.1, 0.1),
    ],
)
def test_spread_of_a_3x3_layer(init: Init, std: float | None, expected: float) -> None:
    net = network()
    initialise(net, init, seed=3, std=std)
    state = net.get_submodule("conv5_2").state_dict()
    assert float(state["weight"].std()) == pytest.approx(expected, rel=0.02)
    assert float(state["weight"].mean()) == pytest.approx(0, abs=expected / 50)
    assert not state["bias"].any()


@pytest.mark.parametrize(("layer", "inputs", "outputs"), [("conv4_1", 9 * 64, 9 * 128), ("fc6", 4 * 128, 4 * 1024)])
def test_spread_where_inputs_and_outputs_differ(layer: str, inputs: int, outputs: int) -> None:
    """He et al. (2015) count what a unit reads, Glorot and Bengio (2010) also what reads it."""
    for init, variance in (("he", 2 / inputs), ("glorot", 2 / (inputs + outputs))):
        net = network()
        initialise(net, init, seed=5)  # type: ignore[arg-type]
        weight = net.get_submodule(layer).state_dict()["weight"]
        assert float(weight.var()) == pytest.approx(variance, rel=0.03)
        if init == "glorot":  # uniform: as far as the square root of three standard deviations, and no further
            assert float(weight.abs().max()) == pytest.approx(math.sqrt(3 * variance), rel=0.001)
        else:
            assert float((weight.abs() > math.sqrt(variance)).float().mean()) == pytest.approx(0.317, abs=0.01)


def test_a_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, again, other = network("A"), network("A"), network("A")
    for net, seed in ((first, 7), (again, 7), (other, 8)):
        initialise(net, "glorot", seed)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(next(iter(first.parameters())), next(iter(other.parameters())))


def test_a_std_beside_another_init_is_refused() -> None:
    with pytest.raises(UsageError, match="is only for the initialisation gaussian") as caught:
        initialise(network("A"), "he", seed=0, std=0.1)
    assert caught.value.options == ("init_std", "init")


def test_seven_layers_come_from_net_a_and_the_others_stay_random() -> None:
    source, target, before = network("A"), network("D"), network("D")
    initialise(source, "he", seed=1)
    initialise(target, "he", seed=2)
    initialise(before, "he", seed=2)
    copied = initialise_from_network_a(target, source, range(5))
    assert copied == ["conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8"]
    for name, _ in target.named_children():
        state = target.get_submodule(name).state_dict()
        reference = (source if name in copied else before).get_submodule(name).state_dict()
        assert all(torch.equal(state[key], reference[key]) for key in state), name


def test_batch_normalisation_goes_along() -> None:
    source, target = network("A-BN"), network("D-BN")
    source.get_submodule("bn1_1").load_state_dict(
        {**source.get_submodule("bn1_1").state_dict(), "weight": torch.full((16,), 3.0)}
    )
    assert "bn1_1" in initialise_from_network_a(target, source, range(5))
    assert float(target.get_submodule("bn1_1").state_dict()["weight"][0]) == 3.0


@pytest.mark.parametrize(
    ("fields", "layer"),
    [({"width": 0.5}, "conv1_1"), ({"crop": 96}, "fc6"), ({"head": "gap"}, "fc6")],
)
def test_a_source_that_does_not_fit_is_named_by_its_first_layer(fields: dict[str, object], layer: str) -> None:
    with pytest.raises(WeightsError, match=layer):
        initialise_from_network_a(network("D"), network("A", **fields), range(5))


def test_class_scores_come_along_by_the_place_of_each_class_or_not_at_all() -> None:
    source, target, before = network("A"), network("D"), network("D", classes=4)
    initialise(source, "he", seed=1)
    initialise(before, "he", seed=2)
    initialise_from_network_a(target, source, [4, 2, 0, 1, 3])
    theirs, ours = source.get_submodule("fc8").state_dict(), target.get_submodule("fc8").state_dict()
    for place, donor in enumerate([4, 2, 0, 1, 3]):
        assert torch.equal(ours["weight"][place], theirs["weight"][donor])
    fresh = before.get_submodule("fc8").state_dict()["weight"].clone()
    assert "fc8" not in initialise_from_network_a(before, source, None)
    assert torch.equal(before.get_submodule("fc8").state_dict()["weight"], fresh)
    assert torch.equal(
        before.get_submodule("fc6").state_dict()["weight"], source.get_submodule("fc6").state_dict()["weight"]
    )


@pytest.mark.parametrize(
    ("target", "donor", "words"),
    [("D", "E", "network E;"), ("D", "B", "network B;"), ("A", "A", "not for A"), ("A-LRN", "A", "not for A-LRN")],
)
def test_only_net_a_gives_and_only_deeper_networks_take(target: str, donor: str, words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        initialise_from_network_a(network(target), network(donor), None)
