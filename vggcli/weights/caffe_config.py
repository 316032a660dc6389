"""What a .caffemodel says about its own operations: weights with VGG's shapes may belong to another network.

Caffe saves each layer with its parameters; one that is left out of a message has Caffe's default (stride 1, pad 0). A file
may also hold only the layers with weights, or layers without parameters: it then says nothing, and VGG's are assumed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vggcli.errors import WeightsError
from vggcli.weights.operations import Does, Operation, check_order, no_vgg
from vggcli.weights.preprocessing import ExpectedPixels
from vggcli.weights.protobuf import BYTES, FIXED32, Field, WireReader
from vggcli.weights.unread import Entry
from vggcli.zoo.layers import NetworkConfig

_Settings = dict[int, list[float]]  # of a message: field numbers to all the values that were given
# caffe.proto: the messages of LayerParameter, and of V1LayerParameter of 2014, by their numbers there
PARAMETERS = {100: "transform", 106: "Convolution", 117: "InnerProduct", 121: "Pooling", 123: "ReLU", 125: "Softmax"}
PARAMETERS_2014 = {10: "Convolution", 17: "InnerProduct", 19: "Pooling", 30: "ReLU", 36: "transform", 39: "Softmax"}
FLOATS = {"ReLU": (1,), "transform": (1, 5)}  # the fields that hold floats; the others hold whole numbers
# what VGG has: a setting, its field for both axes and those for height and width, Caffe's default, and VGG's value
_SETTINGS = {
    "Convolution": (("stride", (6, 13, 14), 1, 1), ("dilation", (18,), 1, 1), ("group", (5,), 1, 1), ("axis", (16,), 1, 1)),
    "Pooling": (
        ("global_pooling", (12,), 0, 0), ("kernel_size", (2, 5, 6), 0, 2), ("stride", (3, 7, 8), 1, 2),
        ("pad", (4, 9, 10), 0, 0),
    ),
    "ReLU": (("negative_slope", (1,), 0, 0),),
    "InnerProduct": (("transpose", (6,), 0, 0), ("axis", (5,), 1, 1)),
    "Softmax": (("axis", (2,), 1, 1),),
}  # fmt: skip
# V1LayerParameter.LayerType
TYPES_2014 = (
    "None Accuracy BNLL Concat Convolution Data Dropout EuclideanLoss Flatten HDF5Data HDF5Output Im2col ImageData "
    "InfogainLoss InnerProduct LRN MultinomialLogisticLoss Pooling ReLU Sigmoid Softmax SoftmaxWithLoss Split TanH "
    "WindowData Eltwise Power SigmoidCrossEntropyLoss HingeLoss MemoryData ArgMax Threshold DummyData Slice MVN AbsVal "
    "Silence ContrastiveLoss Exp Deconvolution"
).split()
OPERATIONS: dict[str, Does] = {
    "Convolution": "convolution", "ReLU": "ReLU", "Pooling": "pooling", "InnerProduct": "fully connected layer",
    "Softmax": "softmax", "SoftmaxWithLoss": "softmax",
}  # fmt: skip
_SCALE, MEAN_FILE, MEAN_VALUE = 1, 4, 5  # of TransformationParameter
DATA = frozenset("Data ImageData MemoryData DummyData HDF5Data WindowData Input".split())
_SILENT = DATA | frozenset(
    "Dropout Split Silence Flatten Accuracy ArgMax HDF5Output MultinomialLogisticLoss InfogainLoss".split()
)
ALIASES = ("Dropout", "Split", "Flatten")  # their output has the values of their input


@dataclass
class CaffeLayer:
    """A layer as the file lists it: the names of its input and output blobs, its parameters by message, and its weights."""

    name: str = ""
    kind: str = ""
    bottoms: list[str] = field(default_factory=list)
    tops: list[str] = field(default_factory=list)
    settings: dict[str, _Settings] = field(default_factory=dict)
    blobs: list[Entry] = field(default_factory=list)


def read_settings(reader: WireReader, part: Field, name: str) -> _Settings:
    """The numbers in the message `name` (a value of PARAMETERS), which is `part`; nested messages and texts are skipped."""
    found: _Settings = {}
    for one in reader.fields(part.start, part.end):
        values = found.setdefault(one.number, [])
        if one.number in FLOATS.get(name, ()):
            values += reader.floats(one) if one.wire in (FIXED32, BYTES) else []
        elif one.wire != BYTES:
            values += [one.value]
        elif name == "Convolution" and one.number in (3, 4, 6, 18):
            values += reader.numbers(one)  # packed
    return found


def check_layers(layers: Sequence[CaffeLayer], path: Path) -> None:
    """Raises WeightsError, naming the layer, for a type of layer or a setting that VGG does not have."""
    for layer in layers:
        if layer.kind not in OPERATIONS and layer.kind not in _SILENT:
            raise no_vgg(path, f"it has the layer {layer.name!r} of type {layer.kind}")
        kind = layer.kind.removesuffix("WithLoss")
        message = layer.settings.get(kind)
        if message is None:
            continue
        if kind == "Pooling" and (method := message.get(1, [0])[-1]) != 0:
            by = "average" if method == 1 else "stochastic"
            raise no_vgg(path, f"its layer {layer.name!r} ({kind}) has {by} pooling where max pooling is expected")
        for name, fields, default, wanted in _SETTINGS.get(kind, ()):
            _check_setting(layer, name, fields, default, wanted, path)


def check_kernels(sides: dict[str, int], layers: Sequence[CaffeLayer], path: Path) -> None:
    """Raises WeightsError where a convolution is not padded to keep the size of its map; `sides` are those of the kernels,
    by layer."""
    for layer in layers:
        if layer.kind == "Convolution" and layer.kind in layer.settings and layer.name in sides:
            _check_setting(layer, "pad", (3, 9, 10), 0, (sides[layer.name] - 1) // 2, path)


def check_sequence(layers: Sequence[CaffeLayer], config: NetworkConfig, path: Path) -> bool:
    """Whether the file describes all of its operations; they are then checked against `config`'s, in order.

    Raises WeightsError at the first that differs.
    """
    working = [layer for layer in layers if layer.kind in OPERATIONS]
    if not any(layer.kind in ("ReLU", "Pooling") for layer in working):
        return False  # only the layers with weights
    _check_wiring(layers, path)
    found = [Operation(OPERATIONS[layer.kind], layer.name) for layer in working]
    while len(found) > 1 and found[-1].does == found[-2].does == "softmax":
        found.pop()  # a loss and the posteriors
    check_order(found, config, path)
    return all(layer.kind in layer.settings for layer in working if layer.kind in ("Convolution", "Pooling"))


def data_layer_pixels(layers: Sequence[CaffeLayer], path: Path) -> ExpectedPixels | None:
    """The preprocessing that the file's data layers give, or None where they give none.

    Raises WeightsError where they cannot be used, or contradict each other.
    """
    found = []
    for layer in layers:
        transform = layer.settings.get("transform", {})
        if layer.kind not in DATA or MEAN_FILE in transform or not {MEAN_VALUE, _SCALE} & set(transform):
            continue
        mean = transform.get(MEAN_VALUE) or [0.0]
        blue, green, red = mean if len(mean) == 3 else (mean[0],) * 3
        scale = transform.get(_SCALE, [1.0])[-1]
        if len(mean) not in (1, 3) or not math.isfinite(red + green + blue + scale) or scale <= 0:
            raise WeightsError(
                f"{path}: the mean {mean} and the scale {scale:g} of its layer {layer.name!r} ({layer.kind}) cannot be "
                "used; save the network without that layer"
            )
        found.append(ExpectedPixels("BGR", (red, green, blue), 1 / scale))
    if len(set(found)) > 1:
        raise WeightsError(f"{path} has data layers with different preprocessing; save it with a single one")
    return found[0] if found else None


def _check_setting(layer: CaffeLayer, name: str, fields: Sequence[int], default: int, wanted: int, path: Path) -> None:
    """Raises WeightsError unless the setting is `wanted`: in the first of `fields`, or by axis in the others."""
    message = layer.settings[layer.kind.removesuffix("WithLoss")]
    values = message.get(fields[0]) or [default]
    if any(number in message for number in fields[1:]):
        values = [message.get(number, [default])[-1] for number in fields[1:]]
    odd = next((value for value in values if value != wanted), None)
    if odd is not None:
        raise no_vgg(path, f"its layer {layer.name!r} ({layer.kind}) has {name} {odd:g} where {wanted} is expected")


def _check_wiring(layers: Sequence[CaffeLayer], path: Path) -> None:
    """Raises WeightsError for a layer whose input is not the output of the layer before it, where all name their inputs."""
    working = [layer for layer in layers if layer.kind in OPERATIONS or layer.kind in ALIASES]
    if not all(layer.bottoms and layer.tops for layer in working):
        return
    first = next(index for index, layer in enumerate(working) if layer.kind in OPERATIONS)
    current = {working[first].bottoms[0]}
    for layer in working[first:]:
        if layer.bottoms[0] not in current:
            if layer.kind in ALIASES:
                continue  # it works on the labels
            what = f"takes {layer.bottoms[0]!r}, which is not the output of the layer before it"
            raise no_vgg(path, f"its layer {layer.name!r} ({layer.kind}) {what}")
        if layer.kind in ALIASES:
            current |= set(layer.tops)
        elif OPERATIONS[layer.kind] != "softmax":
            current = set(layer.tops)
