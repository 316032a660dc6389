"""Caffe's .caffemodel, read: layers named conv1_1 … fc8 as Oxford published them, in the present form or that of 2014.

Kernels and fully connected layers are stored in torch's order. Caffe's images are BGR, 0 to 255, minus the mean pixel; here
the input channels of conv1_1 and the mean are reversed together, so nothing is computed and nothing is approximated.
"""

import math
from dataclasses import replace
from pathlib import Path

import torch

from vggcli import paper
from vggcli.errors import WeightsError
from vggcli.weights.caffe_config import (
    PARAMETERS,
    PARAMETERS_2014,
    TYPES_2014,
    CaffeLayer,
    check_kernels,
    check_layers,
    check_sequence,
    data_layer_pixels,
    read_settings,
)
from vggcli.weights.preprocessing import PIXELS
from vggcli.weights.protobuf import BYTES, Field, WireReader
from vggcli.weights.recognise import Foreign, plain_rows, recognised
from vggcli.weights.unread import Entry, in_file
from vggcli.zoo.layers import NetworkConfig, network_layers

# caffe.proto: NetParameter
NET_NAME, NET_LAYERS_2014, NET_LAYERS = 1, 2, 100
NET_NOTE = "vgg:"  # how the net's name, free text to Caffe, begins in files that this program wrote
# caffe.proto: LayerParameter, and V1LayerParameter of 2014
NAME, TYPE, BOTTOM, TOP, BLOBS = 1, 2, 3, 4, 7
BOTTOM_2014, TOP_2014, NAME_2014, TYPE_2014, BLOBS_2014, OLDER_LAYER = 2, 3, 4, 5, 6, 1
# caffe.proto: BlobProto; before BlobShape, four numbers
BLOB_SIZES, BLOB_DATA, BLOB_SHAPE, BLOB_DOUBLES = (1, 2, 3, 4), 5, 7, 8
SHAPE_SIZES = 1


def read_caffe(path: Path) -> Foreign:
    """The weights of a .caffemodel. Raises WeightsError where it is damaged, or its weights or operations are not those of
    a plain network of the paper."""
    with path.open("rb") as file:
        layers, note = _net(WireReader(file, path))
    check_layers(layers, path)
    blobs = {layer.name: layer.blobs for layer in layers if layer.blobs}
    convolutions = [layer.name for layer in layers if layer.blobs and layer.kind == "Convolution"]
    dense = [layer.name for layer in layers if layer.blobs and layer.kind == "InnerProduct"]
    config = _config(blobs, convolutions, dense, path)
    check_kernels({name: blobs[name][0].shape[2] for name in convolutions}, layers, path)
    said = check_sequence(layers, config, path)
    ours = [layer.name for layer in network_layers(config) if layer.kind in ("conv", "fc")]
    stored = {}
    for name, theirs in zip(ours, (*convolutions, *dense), strict=True):
        weight, bias = blobs[theirs]
        side = weight.shape[2] if theirs in convolutions else config.crop // paper.STRIDE if name == "fc6" else 1
        outputs = math.prod(bias.shape)
        inputs = math.prod(weight.shape) // max(1, outputs * side**2)
        if outputs * inputs * side**2 != math.prod(weight.shape):
            raise WeightsError(f"{path}: weights of shape {list(weight.shape)} do not match their biases")
        stored[f"{name}.weight"] = in_file(path, replace(weight, shape=(outputs, inputs, side, side)))
        stored[f"{name}.bias"] = in_file(path, replace(bias, shape=(outputs,)))
    pixels = data_layer_pixels(layers, path)
    return Foreign(stored, config, "caffe", pixels or PIXELS["caffe"], note, pixels is not None, assumed=not said)


def _config(blobs: dict[str, list[Entry]], convolutions: list[str], dense: list[str], path: Path) -> NetworkConfig:
    """The network whose layers have these shapes."""
    found = ", ".join(list(blobs)[:5]) or "none"
    if not convolutions or len(dense) not in (0, 3):
        wanted = ("conv1_1", "fc6", "fc7", "fc8")
        missing = next((name for name in wanted if name not in blobs), None)
        what = f"no layer {missing}" if missing else f"{len(dense)} fully connected layers and not three"
        raise WeightsError(f"{path} has {what} with weights and biases; its layers with weights are {found}")
    kernels, fully_connected = [], []
    for name, arrays in blobs.items():
        if len(arrays) != 2:
            raise WeightsError(f"{path}: the layer {name} has {len(arrays)} arrays; weights and biases are expected")
        if name not in (*convolutions, *dense):
            raise WeightsError(f"{path}: the layer {name} has weights but is neither a convolution nor fully connected")
        shape = arrays[0].shape
        if name in dense:  # [outputs, inputs], before 2014 [1, 1, outputs, inputs]
            outputs, inputs = shape[-2:] if len(shape) > 1 and math.prod(shape[:-2]) == 1 else (0, 0)
            fully_connected.append((inputs, outputs))
            continue
        if len(shape) != 4 or shape[2] != shape[3]:
            raise WeightsError(f"{path}: the layer {name} is no convolution with square kernels")
        kernels.append((shape[2], shape[1], shape[0]))
    return recognised(kernels, fully_connected, path, plain_rows())


def _net(reader: WireReader) -> tuple[list[CaffeLayer], str | None]:
    layers, note = [], None
    for part in reader.fields(0, reader.size):
        if part.number == NET_NAME:
            name = reader.text(part)
            note = name.removeprefix(NET_NOTE) if name.startswith(NET_NOTE) else None
        elif part.number in (NET_LAYERS, NET_LAYERS_2014) and part.wire == BYTES:
            layers.append(_layer(reader, part, part.number == NET_LAYERS_2014))
    if not layers:
        raise reader.damaged("it holds no layer")
    names = [layer.name for layer in layers if layer.blobs]
    if len(set(names)) < len(names):
        raise WeightsError(f"{reader.path} names {next(name for name in names if names.count(name) > 1)!r} twice")
    return layers, note


def _layer(reader: WireReader, part: Field, of_2014: bool) -> CaffeLayer:
    layer = CaffeLayer(kind="None")
    messages = PARAMETERS_2014 if of_2014 else PARAMETERS
    for inner in reader.fields(part.start, part.end):
        number = inner.number
        if number == (NAME_2014 if of_2014 else NAME):
            layer.name = reader.text(inner)
        elif number == (BOTTOM_2014 if of_2014 else BOTTOM):
            layer.bottoms.append(reader.text(inner))
        elif number == (TOP_2014 if of_2014 else TOP):
            layer.tops.append(reader.text(inner))
        elif of_2014 and number == OLDER_LAYER:
            raise WeightsError(f"{reader.path} is from before 2014; upgrade it with Caffe's upgrade_net_proto_binary")
        elif of_2014 and number == TYPE_2014:
            layer.kind = dict(enumerate(TYPES_2014)).get(inner.value, str(inner.value))
        elif not of_2014 and number == TYPE:
            layer.kind = reader.text(inner)
        elif number == (BLOBS_2014 if of_2014 else BLOBS):
            layer.blobs.append(_blob(reader, inner))
        elif number in messages and inner.wire == BYTES:
            layer.settings[messages[number]] = read_settings(reader, inner, messages[number])
    return layer


def _blob(reader: WireReader, part: Field) -> Entry:
    sizes, shape, data = dict.fromkeys(BLOB_SIZES, 0), None, None
    for inner in reader.fields(part.start, part.end):
        if inner.number in BLOB_SIZES:
            sizes[inner.number] = inner.value
        elif inner.number == BLOB_SHAPE:
            shape = tuple(size for one in reader.fields(inner.start, inner.end) for size in reader.numbers(one))
        elif inner.number in (BLOB_DATA, BLOB_DOUBLES):
            if inner.wire != BYTES or data is not None:
                raise reader.damaged("its numbers are not in one piece")
            data = (torch.float32 if inner.number == BLOB_DATA else torch.float64, inner)
    shape = tuple(sizes.values()) if shape is None else shape
    if data is None or math.prod(shape) * data[0].itemsize != data[1].value:
        raise reader.damaged(f"the shape {list(shape)[:8]} does not match the amount of data")
    return Entry(shape, data[0], data[1].start)
