"""The order of operations that another framework's file lists, compared with that of the network of its weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Literal

from vggcli.errors import WeightsError
from vggcli.zoo.layers import NetworkConfig, with_relus

Does = Literal["convolution", "ReLU", "pooling", "average", "fully connected layer", "softmax"]
_DOES: dict[str, Does] = {"conv": "convolution", "relu": "ReLU", "pool": "pooling", "fc": "fully connected layer"}


@dataclass(frozen=True)
class Operation:
    """What a layer of a file does; `layer` is its name there. A layer with its own activation counts as two operations."""

    does: Does
    layer: str


def no_vgg(path: Path, what: str) -> WeightsError:
    """The error for a file whose operations are not those of a network of the paper."""
    return WeightsError(f"{path} is no VGG network: {what}; give weights of a plain VGG")


def check_order(found: Sequence[Operation], config: NetworkConfig, path: Path) -> None:
    """Raises WeightsError, naming the layer, at the first operation of the file `path` that differs from `config`'s. A
    final softmax is allowed, or, without a classifier, a final average of the last map."""
    if found and found[-1].does == ("average" if config.head == "none" else "softmax"):
        found = found[:-1]
    before, expected = "its input", list[Operation]()
    for layer in with_relus(config):
        expected += [Operation("average", "the last map")] if layer.kind == "fc" and config.head == "gap" else []
        expected.append(Operation(_DOES[layer.kind], layer.name))
    for one, wanted in zip_longest(found, expected):
        if one is not None and wanted is not None and one.does == wanted.does:
            before = f"the layer {one.layer}"
            continue
        has = f"network {config.arch} has {f'the {wanted.does} of {wanted.layer}' if wanted else 'its end'}"
        then = f"{before} is followed by {f'the {one.does} of {one.layer}' if one else 'nothing'}"
        raise no_vgg(path, f"{then} where {has}")
