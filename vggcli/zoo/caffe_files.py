"""Caffe's .caffemodel, read: layers named conv1_1 … fc8 as Oxford published them, in the present form or that of 2014.

Kernels and fully connected rows lie as torch has them. Images are BGR, 0 to 255, less the mean pixel; here that is folded
into conv1_1 by reversing its input channels and the mean together, so nothing is computed and nothing is approximated.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from vggcli import paper
from vggcli.errors import WeightsError
from vggcli.zoo.recognise import OXFORD_MEAN, Foreign, Shapes, oxford_scale, recognised
from vggcli.zoo.safetensors_file import file_rows
from vggcli.zoo.stored import Shape, Stored, by_rows
from vggcli.zoo.wire import BYTES, Field, WireReader

# caffe.proto: NetParameter
NET_NAME, NET_LAYERS_2014, NET_LAYERS = 1, 2, 100
NOTE = "vgg:"  # the net's name, free text to Caffe, begins so where this program wrote the file
# caffe.proto: LayerParameter, and V1LayerParameter of 2014
NAME, TYPE, BLOBS = 1, 2, 7
NAME_2014, TYPE_2014, BLOBS_2014, OLDER_LAYER = 4, 5, 6, 1
# caffe.proto: BlobProto; before BlobShape, four numbers
BLOB_SIZES, BLOB_DATA, BLOB_SHAPE, BLOB_DOUBLES = (1, 2, 3, 4), 5, 7, 8
SHAPE_SIZES = 1
TYPES = frozenset(
    "Convolution InnerProduct ReLU Pooling Dropout Softmax SoftmaxWithLoss Accuracy Data ImageData MemoryData DummyData "
    "HDF5Data Input Split Silence Flatten".split()
)
TYPES_2014 = {
    1: "Accuracy", 4: "Convolution", 5: "Data", 6: "Dropout", 8: "Flatten", 9: "HDF5Data", 12: "ImageData",
    14: "InnerProduct", 17: "Pooling", 18: "ReLU", 20: "Softmax", 21: "SoftmaxWithLoss", 22: "Split", 29: "MemoryData",
    32: "DummyData", 36: "Silence",
}  # fmt: skip
FC_NAMES = ("fc6", "fc7", "fc8")


@dataclass(frozen=True)
class _Blob:
    shape: Shape
    dtype: torch.dtype
    start: int


@dataclass
class _Layer:
    name: str = ""
    kind: str = ""
    blobs: list[_Blob] = field(default_factory=list)


def read_caffe(path: Path) -> Foreign:
    """The weights of a .caffemodel. Raises WeightsError where it is damaged or not one of the zoo's plain networks."""
    with path.open("rb") as file:
        reader = WireReader(file, path)
        layers, note = _net(reader)
    weighted = {layer.name: layer.blobs for layer in layers if layer.blobs}
    missing = next((name for name in ("conv1_1", *FC_NAMES) if len(weighted.get(name, ())) != 2), None)
    if missing:
        found = ", ".join(list(weighted)[:5]) or "none"
        raise WeightsError(
            f"{path} has no layer {missing} with weights and biases; its layers with weights are {found}"
        )
    odd = next((name for name, blobs in weighted.items() if len(blobs) != 2), None)
    if odd:
        raise WeightsError(f"{path}: the layer {odd} has {len(weighted[odd])} arrays; weights and biases are expected")
    convolutions = [(name, weighted[name][0].shape) for name in weighted if name not in FC_NAMES]
    odd = next((name for name, shape in convolutions if len(shape) != 4 or shape[2] != shape[3]), None)
    if odd:
        raise WeightsError(f"{path}: the layer {odd} is no convolution with square kernels, and no fully connected one")
    kernels = [(shape[2], shape[1], shape[0]) for _, shape in convolutions]
    fully_connected = [_inputs_outputs(weighted[name][0].shape) for name in FC_NAMES]
    rows = [row for row in paper.NETWORKS.values() if not row.batch_norm and not row.lrn]
    config = recognised(Shapes(kernels, fully_connected), path, rows)
    side = config.crop // paper.STRIDE
    stored = {}
    for name, (weight, bias) in weighted.items():
        window = (side if name == "fc6" else 1,) * 2 if name in FC_NAMES else weight.shape[2:]
        outputs = math.prod(bias.shape)
        inputs = math.prod(weight.shape) // max(1, outputs * math.prod(window))
        stored[f"{name}.weight"] = _stored(path, weight, (outputs, inputs, *window), reverse=name == "conv1_1")
        stored[f"{name}.bias"] = _stored(path, bias, (outputs,))
    return Foreign(stored, config, "caffe", OXFORD_MEAN, 1.0, oxford_scale(config), note)


def _stored(path: Path, blob: _Blob, shape: Shape, reverse: bool = False) -> Stored:
    if math.prod(shape) != math.prod(blob.shape):
        raise WeightsError(f"{path}: weights of the shape {list(blob.shape)} do not go with their biases")
    return by_rows(shape, blob.dtype, file_rows(path, blob.start, shape, blob.dtype), reverse)


def _inputs_outputs(shape: Shape) -> tuple[int, int]:
    """Of a fully connected layer's weights [outputs, inputs], before 2014 [1, 1, outputs, inputs]."""
    sizes = shape[-2:] if len(shape) > 1 and math.prod(shape[:-2]) == 1 else (0, 0)
    return sizes[1], sizes[0]


def _net(reader: WireReader) -> tuple[list[_Layer], str | None]:
    layers, note = [], None
    for part in reader.fields(0, reader.size):
        if part.number == NET_NAME:
            name = reader.text(part)
            note = name.removeprefix(NOTE) if name.startswith(NOTE) else None
        elif part.number in (NET_LAYERS, NET_LAYERS_2014) and part.wire == BYTES:
            layers.append(_layer(reader, part, part.number == NET_LAYERS_2014))
    if not layers:
        raise reader.damaged("it holds no layer")
    names = [layer.name for layer in layers if layer.blobs]
    if len(set(names)) < len(names):
        raise WeightsError(f"{reader.path} names {next(name for name in names if names.count(name) > 1)!r} twice")
    odd = next((layer for layer in layers if layer.kind not in TYPES), None)
    if odd:
        raise WeightsError(
            f"{reader.path} has the layer {odd.name!r} of type {odd.kind}, which is in no network read here"
        )
    return layers, note


def _layer(reader: WireReader, part: Field, of_2014: bool) -> _Layer:
    layer = _Layer()
    for inner in reader.fields(part.start, part.end):
        if inner.number == (NAME_2014 if of_2014 else NAME):
            layer.name = reader.text(inner)
        elif of_2014 and inner.number == OLDER_LAYER:
            raise WeightsError(f"{reader.path} is of before 2014; bring it up to date with upgrade_net_proto_binary")
        elif of_2014 and inner.number == TYPE_2014:
            layer.kind = TYPES_2014.get(inner.value, str(inner.value))
        elif not of_2014 and inner.number == TYPE:
            layer.kind = reader.text(inner)
        elif inner.number == (BLOBS_2014 if of_2014 else BLOBS):
            layer.blobs.append(_blob(reader, inner))
    return layer


def _blob(reader: WireReader, part: Field) -> _Blob:
    sizes, shape, data = dict.fromkeys(BLOB_SIZES, 0), None, None
    read_shape: Callable[[Field], list[int]] = lambda message: [  # noqa: E731
        size for inner in reader.fields(message.start, message.end) for size in reader.numbers(inner)
    ]
    for inner in reader.fields(part.start, part.end):
        if inner.number in BLOB_SIZES:
            sizes[inner.number] = inner.value
        elif inner.number == BLOB_SHAPE:
            shape = tuple(read_shape(inner))
        elif inner.number in (BLOB_DATA, BLOB_DOUBLES):
            if inner.wire != BYTES or data is not None:
                raise reader.damaged("its numbers do not lie in one piece")
            data = (torch.float32 if inner.number == BLOB_DATA else torch.float64, inner)
    shape = tuple(sizes.values()) if shape is None else shape
    if data is None or math.prod(shape) * data[0].itemsize != data[1].value:
        raise reader.damaged(f"the shape {list(shape)[:8]} and its numbers do not agree")
    return _Blob(shape, data[0], data[1].start)
