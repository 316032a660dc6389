"""Weights in the layouts of torchvision and timm: one name table each, used in both directions.

The shapes and numbers of the layers tell which network a file holds. Tensors are renamed and reshaped, never computed with:
a round trip gives the same bits.
"""

from collections.abc import Mapping
from math import prod
from typing import Literal, TypeVar

from torch import Tensor

from vggcli import paper
from vggcli.errors import WeightsError
from vggcli.weights.recognise import recognised
from vggcli.weights.unread import Stored
from vggcli.zoo.layers import NetworkConfig, with_relus

AnyTensor = TypeVar("AnyTensor", Tensor, Stored)

Framework = Literal["torchvision", "timm"]
_FC_NAMES: dict[Framework, dict[str, str]] = {
    "torchvision": {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"},
    "timm": {"fc6": "pre_logits.fc1", "fc7": "pre_logits.fc2", "fc8": "head.fc"},
}
_FIRST = "features.0.weight"  # of every VGG network in either's names
# modules that are left out of names, wherever they come
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_FLAT: dict[Framework, tuple[str, ...]] = {"torchvision": ("fc6", "fc7", "fc8"), "timm": ("fc8",)}  # Linear, [out, in]


def framework_names(config: NetworkConfig, framework: Framework) -> dict[str, str]:
    """Our layer names to theirs. Raises WeightsError for a network that the framework does not have."""
    row = paper.NETWORKS[config.arch]
    if row.alias is None or config.head == "gap":
        what = f"network {config.arch}" if row.alias is None else "network with the head gap"
        known = [one.alias for one in paper.NETWORKS.values() if one.alias]
        raise WeightsError(f"{framework} has no {what}; it has {', '.join(known)}")
    numbered = enumerate(with_relus(config))
    features = {layer.name: f"features.{index}" for index, layer in numbered if layer.kind in ("conv", "bn")}
    return {**features, **_FC_NAMES[framework]}


def to_framework(state: Mapping[str, Tensor], config: NetworkConfig, framework: Framework) -> dict[str, Tensor]:
    """Our state dict in the framework's names and shapes."""
    names = framework_names(config, framework)
    theirs = {}
    for key, tensor in state.items():
        layer, _, part = key.rpartition(".")
        flat = layer in _FLAT[framework] and part == "weight"
        theirs[f"{names[layer]}.{part}"] = tensor.flatten(1) if flat else tensor
    return theirs


def from_framework(
    tensors: Mapping[str, AnyTensor], where: str
) -> tuple[dict[str, AnyTensor], NetworkConfig, Framework]:
    """The state dict in our names, the network and the framework of `tensors`; `where` is the file, for errors.

    Raises WeightsError where they are not one of torchvision's or timm's VGG networks, naming what does not fit.
    """
    tensors = _usual_classifier(_without_prefixes(tensors, where), where)
    framework = _framework(tensors, where)
    config = _config(tensors, framework, where)
    names = {theirs: layer for layer, theirs in framework_names(config, framework).items()}
    ours = {}
    for key, tensor in tensors.items():
        theirs, _, part = key.rpartition(".")
        if theirs not in names:
            raise WeightsError(f"{where} holds {key}, which network {config.arch} does not have")
        layer = names[theirs]
        if layer.startswith("fc") and part == "weight":
            side = config.crop // paper.STRIDE if layer == "fc6" else 1
            ours[f"{layer}.{part}"] = tensor.reshape(tensor.shape[0], -1, side, side)
        else:
            ours[f"{layer}.{part}"] = tensor
    return ours, config, framework


def _without_prefixes(tensors: Mapping[str, AnyTensor], where: str) -> dict[str, AnyTensor]:
    """`tensors` under the names that the network itself gives them, without what training has put around them (data
    parallel, compiled and Lightning's modules, in any order and depth); losses beside the network are left out.

    Raises WeightsError where `where` (a file, for errors) holds several networks, or other weights beside the network.
    """
    bare: dict[str, AnyTensor] = {}
    for name, value in tensors.items():
        kept = ".".join(part for part in name.split(".") if part not in _WRAPPERS)
        if kept in bare:
            raise WeightsError(f"{where} holds {kept} twice, once as {name}; save one network's state dict")
        bare[kept] = value
    prefixes = sorted(name.removesuffix(_FIRST) for name in bare if name == _FIRST or name.endswith(f".{_FIRST}"))
    if len(prefixes) > 1:
        shown = ", ".join(f"{prefix}{_FIRST}" for prefix in prefixes[:3])
        raise WeightsError(f"{where} holds {len(prefixes)} networks ({shown}); save the state dict of one")
    prefix = prefixes[0] if prefixes else ""
    inside = {name.removeprefix(prefix): value for name, value in bare.items() if name.startswith(prefix)}
    other = next((name for name in bare if not name.startswith(prefix) and not _beside(name)), None)
    if other is not None:
        network = prefix.rstrip(".")
        raise WeightsError(f"{where} holds {other} beside the network {network}; save the network's state dict alone")
    return {name: value for name, value in inside.items() if not _beside(name)}


def _beside(name: str) -> bool:
    return any(word in name.partition(".")[0] for word in ("criterion", "loss", "n_averaged"))


def numbered_as_oxford(tensors: Mapping[str, AnyTensor]) -> bool:
    """Whether the linear layers are classifier.1, 4 and 6, as in copies of Oxford's networks with torchvision's names of
    early 2017, which expect Caffe's preprocessing."""
    names = {key.rpartition("classifier.")[2] for key in tensors if "classifier." in key}
    return {"1.weight", "4.weight", "6.weight"} <= names and "0.weight" not in names


def _usual_classifier(tensors: Mapping[str, AnyTensor], where: str) -> dict[str, AnyTensor]:
    """`tensors` with torchvision's numbers for three linear layers, whose last may be inside a Sequential, as replaced
    for new classes (classifier.6.0, classifier.6.1), and which may follow a first dropout (classifier.1, 4, 6).

    Raises WeightsError, naming the layers, for any other classifier.
    """
    layers = [
        key.removesuffix(".weight") for key in tensors if key.startswith("classifier.") and key.endswith(".weight")
    ]
    layers = sorted(layers, key=lambda name: [int(part) if part.isdecimal() else -1 for part in name.split(".")])
    usual = list(_FC_NAMES["torchvision"].values())
    if "classifier.weight" in tensors or (layers and not _three_linear(layers, tensors)):
        weights = [key for key in tensors if key.startswith("classifier.") and key.endswith("weight")]
        shown = ", ".join(f"{key} {list(tensors[key].shape)}" for key in weights)
        raise WeightsError(
            f"{where} has a classifier that is not VGG's three linear layers: {shown[:300]}; give weights with "
            f"{', '.join(usual)}, or train that classifier here on VGG's convolutions with `vgg finetune`"
        )
    new_name = dict(zip(layers, usual, strict=True)) if layers else {}
    renamed = {}
    for key, tensor in tensors.items():
        layer, _, part = key.rpartition(".")
        renamed[f"{new_name[layer]}.{part}" if layer in new_name else key] = tensor
    return renamed


def _three_linear(layers: list[str], tensors: Mapping[str, AnyTensor]) -> bool:
    """Whether these are three consecutive linear layers, of which only the last may be inside another module."""
    shapes = [tuple(tensors[f"{layer}.weight"].shape) for layer in layers]
    if len(layers) != 3 or any(len(shape) != 2 for shape in shapes):
        return False
    (hidden, _), (second, inputs), (_, last_inputs) = shapes
    plain = [layer.count(".") for layer in layers[:2]] == [1, 1] and layers[2].count(".") in (1, 2)
    return plain and (hidden, second) == (inputs, last_inputs)


def _framework(tensors: Mapping[str, AnyTensor], where: str) -> Framework:
    for framework, names in _FC_NAMES.items():
        if all(f"{name}.weight" in tensors and len(tensors[f"{name}.weight"].shape) > 1 for name in names.values()):
            return framework
    first = ", ".join(sorted(tensors)[:3]) or "nothing"
    raise WeightsError(
        f"{where} holds no VGG network of torchvision or timm with its classifier; its first entries are {first}"
    )


def _config(tensors: Mapping[str, AnyTensor], framework: Framework, where: str) -> NetworkConfig:
    convolutions = {}
    for key, tensor in tensors.items():
        number = key.removeprefix("features.").removesuffix(".weight")
        named = key == f"features.{number}.weight" and number.isdecimal()
        if named and len(tensor.shape) == 4 and tensor.shape[2] == tensor.shape[3]:
            convolutions[int(number)] = (tensor.shape[2], tensor.shape[1], tensor.shape[0])
    if 0 not in convolutions:
        raise WeightsError(f"{where} has no first convolution features.0.weight")
    batch_norm = "features.1.running_mean" in tensors
    rows = [row for row in paper.NETWORKS.values() if row.alias and row.batch_norm == batch_norm]
    shapes = [tensors[f"{name}.weight"].shape for name in _FC_NAMES[framework].values()]
    fully_connected = [(prod(shape[1:]), shape[0]) for shape in shapes]
    return recognised([convolutions[index] for index in sorted(convolutions)], fully_connected, where, rows)
