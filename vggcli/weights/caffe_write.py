"""Caffe's .caffemodel, written a few megabytes at a time, and the deploy .prototxt that it is used with.

The prototxt says in comments which preprocessing the network expects; the net's name inside the .caffemodel, free text to
Caffe, carries the whole note, so that reading it back gives the same checkpoint.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from vggcli import paper
from vggcli.errors import WeightsError
from vggcli.files import replacing, write_text
from vggcli.weights import caffe_read as caffe
from vggcli.weights.caffe_config import PARAMETERS
from vggcli.weights.checkpoint import Checkpoint
from vggcli.weights.protobuf import number, opening, text, varint
from vggcli.weights.recognise import check_plain
from vggcli.weights.unread import PIECE
from vggcli.zoo.layers import Layer, NetworkConfig, network_layers
from vggcli.zoo.network import VGG


def check_caffe(config: NetworkConfig) -> None:
    """Raises WeightsError for a network that cannot be written for Caffe."""
    check_plain(config, "Caffe")
    if config.crop % paper.STRIDE:
        raise WeightsError(
            f"a crop of {config.crop} cannot be kept in Caffe, whose pooling rounds up: it must be a multiple of"
            f" {paper.STRIDE}"
        )


def save_caffe(path: Path, network: VGG, checkpoint: Checkpoint) -> Path:
    """Write the .caffemodel at `path` and its .prototxt beside it, both whole or neither; returns the latter's path.

    Raises WeightsError for a network that has no such form, MachineError where the disk refuses.
    """
    check_caffe(checkpoint.config)
    prototxt = path.with_suffix(".prototxt")
    state = network.state_dict()
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(text(caffe.NET_NAME, caffe.NET_NOTE + checkpoint.to_json()))
        below = "data"
        for layer in network_layers(checkpoint.config):
            file.writelines(_layer(layer, below, state))
            below = layer.name
    try:
        write_text(prototxt, deploy_prototxt(checkpoint))
    except BaseException:
        path.unlink()  # alone it is of no use
        raise
    return prototxt


def _layer(layer: Layer, below: str, state: Mapping[str, Tensor]) -> Iterator[bytes]:
    """A layer's LayerParameter in pieces, its length known before its numbers are touched, and that of its ReLU."""
    name, side = layer.name, layer.kernel
    if layer.kind == "pool":
        yield _message(_head(name, "Pooling", below, name, "pooling", number(2, side) + number(3, 2)))
    elif layer.kind == "conv":
        sizes = number(1, layer.channels) + number(3, side // 2) + number(4, side)
        yield from _weighted(layer, _head(name, "Convolution", below, name, "convolution", sizes), state)
        yield _message(_head(f"relu{name.removeprefix('conv')}", "ReLU", name, name))
    else:
        sizes = number(1, layer.channels)
        yield from _weighted(layer, _head(name, "InnerProduct", below, name, "inner product", sizes), state)
        if name != "fc8":
            yield _message(_head(f"relu{name.removeprefix('fc')}", "ReLU", name, name))


def _head(name: str, kind: str, below: str, top: str, message: str | None = None, settings: bytes = b"") -> bytes:
    """What a LayerParameter has but its numbers; `message` as in PARAMETERS."""
    named = text(caffe.NAME, name) + text(caffe.TYPE, kind) + text(caffe.BOTTOM, below) + text(caffe.TOP, top)
    return named + b"".join(text(field, settings) for field, known in PARAMETERS.items() if known == message)


def _message(content: bytes) -> bytes:
    return text(caffe.NET_LAYERS, content)


def _weighted(layer: Layer, head: bytes, state: Mapping[str, Tensor]) -> Iterator[bytes]:
    weight, bias = state[f"{layer.name}.weight"], state[f"{layer.name}.bias"]
    shape = (weight.shape[0], weight[0].numel()) if layer.kind == "fc" else tuple(weight.shape)
    heads = [_blob_head(shape), _blob_head(tuple(bias.shape))]
    sizes = [len(blob) + 4 * tensor.numel() for blob, tensor in zip(heads, (weight, bias), strict=True)]
    openings = [opening(caffe.BLOBS, size) for size in sizes]
    yield opening(caffe.NET_LAYERS, len(head) + sum(map(len, openings)) + sum(sizes))
    yield head
    for opened, blob, tensor in zip(openings, heads, (weight, bias), strict=True):
        yield opened
        yield blob
        yield from little_endian(tensor.flip(1) if layer.name == "conv1_1" and tensor is weight else tensor)


def _blob_head(shape: tuple[int, ...]) -> bytes:
    sizes = b"".join(map(varint, shape))
    return text(caffe.BLOB_SHAPE, text(caffe.SHAPE_SIZES, sizes)) + opening(caffe.BLOB_DATA, 4 * math.prod(shape))


def little_endian(tensor: Tensor) -> Iterator[bytes]:
    """The values of a tensor as float32, its last axis fastest, a few megabytes at a time."""
    rows = max(1, PIECE // (4 * max(1, tensor[0].numel())))
    for first in range(0, len(tensor), rows):
        piece = tensor[first : first + rows].to("cpu", torch.float32).contiguous()
        yield piece.numpy().astype("<f4", copy=False).tobytes()


def deploy_prototxt(checkpoint: Checkpoint) -> str:
    """The network as Caffe's text: one BGR image of the training crop to posteriors."""
    config, colour = checkpoint.config, checkpoint.preprocessing
    mean, divisor = list(colour["mean"]), colour["divisor"]
    divisors = list(divisor) if isinstance(divisor, list | tuple) else [divisor] * 3
    lines = [
        f"# Network {config.arch} of Simonyan and Zisserman (ICLR 2015), for the .caffemodel of the same name.",
        "# Input: pixels from 0 to 255 in the order BGR, less the mean, over the divisor:",
        f"#   mean (BGR) {', '.join(map(repr, mean[::-1]))}",
        f"#   divisor (BGR) {', '.join(map(repr, divisors[::-1]))}",
        f"# Trained at a shorter side of {checkpoint.scale[0]} to {checkpoint.scale[1]} pixels.",
        f'name: "VGG-{config.arch}"',
        'input: "data"',
        f"input_shape {{ dim: 1 dim: 3 dim: {config.crop} dim: {config.crop} }}",
    ]
    below = "data"
    for layer in network_layers(config):
        lines += _prototxt_layer(layer, below)
        below = layer.name
    lines.append('layer { name: "prob" type: "Softmax" bottom: "fc8" top: "prob" }')
    return "\n".join(lines) + "\n"


def _prototxt_layer(layer: Layer, below: str) -> list[str]:
    name, side = layer.name, layer.kernel
    ends = f'bottom: "{below}" top: "{name}"'
    if layer.kind == "pool":
        window = f"pooling_param {{ pool: MAX kernel_size: {side} stride: 2 }}"
        return [f'layer {{ name: "{name}" type: "Pooling" {ends} {window} }}']
    if layer.kind == "conv":
        sizes = f"num_output: {layer.channels} pad: {side // 2} kernel_size: {side}"
        first = f'layer {{ name: "{name}" type: "Convolution" {ends} convolution_param {{ {sizes} }} }}'
        return [first, _in_place(f"relu{name.removeprefix('conv')}", "ReLU", name)]
    first = (
        f'layer {{ name: "{name}" type: "InnerProduct" {ends} inner_product_param {{ num_output: {layer.channels} }} }}'
    )
    if name == "fc8":
        return [first]
    dropout = f"dropout_param {{ dropout_ratio: {paper.DROPOUT} }}"
    index = name.removeprefix("fc")
    return [first, _in_place(f"relu{index}", "ReLU", name), _in_place(f"drop{index}", "Dropout", name, dropout)]


def _in_place(name: str, kind: str, blob: str, more: str = "") -> str:
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{blob}" top: "{blob}" {more}}}'
