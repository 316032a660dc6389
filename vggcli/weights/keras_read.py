"""Keras' weights, read with h5py alone: `.h5` by layer names as keras.applications publishes them, Keras 3's
`.weights.h5`, and the same inside a `.keras` archive. Nothing in a file is executed.

Kernels are HWIO, and the rows of fc1 are in the order height, width, channels. keras.applications expects BGR, 0 to 255,
minus the mean ("caffe" mode); here the input channels of conv1_1 and the mean are reversed together.
"""

import math
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vggcli import paper
from vggcli.errors import WeightsError
from vggcli.weights.keras_config import KerasLayer, described_layers, input_side
from vggcli.weights.keras_index import Index, KerasArray, need_h5py, read_index
from vggcli.weights.keras_operations import front_layer_pixels, operations
from vggcli.weights.operations import check_order
from vggcli.weights.preprocessing import PIXELS
from vggcli.weights.recognise import Foreign, plain_rows, recognised
from vggcli.weights.unread import PIECE, RowReader, Stored, by_rows, file_rows
from vggcli.weights.zip_members import check_sums, member_start, stored_members
from vggcli.zoo.layers import NetworkConfig, network_layers

WEIGHTS = "model.weights.h5"  # inside a .keras archive
_FC_NAMES = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
_DTYPES = {"f2": torch.float16, "f4": torch.float32, "f8": torch.float64}
LONGEST_CONFIG = 4 << 20  # bytes
_Weights = dict[str, tuple[KerasArray, ...]]  # kernel and bias by layer


def keras_names(config: NetworkConfig) -> dict[str, str]:
    """Our names of the layers with weights to those of keras.applications."""
    kinds = [layer.name for layer in network_layers(config) if layer.kind in ("conv", "fc")]
    return {name: _FC_NAMES.get(name) or f"block{name[4]}_conv{name[6:]}" for name in kinds}


def read_keras(path: Path, kind: str) -> Foreign:
    """The weights of a Keras file, `kind` "hdf5" or "keras", with or without a classifier. Raises WeightsError where it is
    damaged, or its weights or its own description are not of a network of the paper; MachineError without h5py."""
    need_h5py()
    start, size, text = 0, path.stat().st_size, ""
    if kind == "keras":
        members = stored_members(path)
        if WEIGHTS not in members:
            raise WeightsError(f"{path} is a zip archive without {WEIGHTS}, so Keras has not written it")
        start, size = member_start(path, members[WEIGHTS]), members[WEIGHTS].file_size
        check_sums(path)
        config_member = members.get("config.json")
        if config_member is not None and config_member.file_size <= LONGEST_CONFIG:
            with path.open("rb") as file:
                file.seek(member_start(path, config_member))
                text = file.read(config_member.file_size).decode("utf-8", errors="replace")
    _check_channels(text, path)
    index = read_index(path, start, size)
    text = text or index.config or ""
    _check_channels(text, path)
    layers = described_layers(text, path, index.by_count) if text else []
    try:
        does = operations(layers, path)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise WeightsError(f"{path} is damaged: its description of the network cannot be read") from error
    weights = _described_weights(index, layers, path) if layers else _undescribed_weights(index, path)
    averaged = any(one.does == "average" for one in does)
    config, names = _network(weights, path, input_side(layers), averaged, bool(layers))
    if layers:
        check_order(does, config, path)
    pixels = front_layer_pixels(layers, partial(_vectors, index, path), path)
    stored: dict[str, Stored] = {}
    for ours, name in zip(keras_names(config), names, strict=True):
        weight, bias = weights[name]
        stored[f"{ours}.weight"] = _kernel(weight, path, config.crop // paper.STRIDE if ours == "fc6" else 1)
        stored[f"{ours}.bias"] = by_rows(bias.shape, _DTYPES[bias.dtype[1:]], _rows(bias, path))
    return Foreign(stored, config, "keras", pixels or PIXELS["keras"], index.note, pixels is not None, not layers)


def _check_channels(text: str, path: Path) -> None:
    if "channels_first" in text:
        raise WeightsError(f"{path} is a network with channels first; save it in Keras' usual order, channels last")


def _described_weights(index: Index, layers: list[KerasLayer], path: Path) -> _Weights:
    """The arrays of the layers in the order of the description, which must name them all."""
    weighted = [layer for layer in layers if layer.kind in ("Conv2D", "Dense")]
    for layer in weighted:
        if layer.key not in index.layers:
            raise WeightsError(f"{path} has no weights for its layer {layer.name}, which its description names")
    extra = next((name for name in index.layers if name not in {layer.key for layer in layers}), None)
    if extra:
        raise WeightsError(f"{path} has weights of the layer {extra}, which its description does not use")
    return {layer.key: index.layers[layer.key] for layer in weighted}


def _undescribed_weights(index: Index, path: Path) -> _Weights:
    """The arrays of all layers in the order of the file, or, where it has none, by the numbers in their names."""
    models = list(dict.fromkeys(name.partition("/")[0] for name in index.layers))

    def place(name: str) -> tuple[int, ...]:
        model, inner = 0 if index.by_count else models.index(name.partition("/")[0]), name.rpartition("/")[2]
        if not index.by_count and "/" not in name:
            return (model,)
        # block1_conv1, … block5_conv4, fc1, fc2, predictions, or conv2d, … conv2d_10, dense, dense_1, dense_2
        return (model, *map(int, re.findall(r"\d{1,4}", inner.replace("2d", "").replace("predictions", "3"))))

    for kind, axes in (("convolutions", 4), ("dense layers", 2)):
        parts = {name.rpartition("/")[0] for name, arrays in index.layers.items() if len(arrays[0].shape) == axes}
        if len(parts) > 1:
            raise WeightsError(
                f"{path} has {kind} in {len(parts)} nested models and does not say their order; save the whole "
                "model with Keras' model.save('net.keras')"
            )
    return {name: index.layers[name] for name in sorted(index.layers, key=place)}


def _network(
    weights: _Weights, path: Path, side: int, averaged: bool, described: bool
) -> tuple[NetworkConfig, list[str]]:
    """The network whose layers have these shapes, and the names of its convolutions and dense layers. `side` is that of the
    input, where the layers do not tell it; `averaged` says that the last map is averaged."""
    for name, arrays in weights.items():
        if len(arrays) != 2 or len(arrays[0].shape) not in (2, 4) or len(arrays[1].shape) != 1:
            raise WeightsError(f"{path}: the layer {name} is neither a convolution nor a dense layer with a bias")
    convolutions = [name for name, (weight, _) in weights.items() if len(weight.shape) == 4]
    dense = [name for name, (weight, _) in weights.items() if len(weight.shape) == 2]
    shapes = [weights[name][0].shape for name in convolutions]
    if shapes and shapes[0][0] != shapes[0][1] and shapes[0][2] == shapes[0][3]:
        raise WeightsError(
            f"{path} keeps its kernels in the order of Theano (th_kernels); take the file with tf_kernels in its name, or "
            "save the weights again with Keras on another backend"
        )
    if not convolutions or any(shape[0] != shape[1] for shape in shapes):
        found = ", ".join(weights)[:200] or "none"
        raise WeightsError(f"{path} holds no VGG network of Keras; its layers are {found}")
    kernels = [(shape[0], shape[2], shape[3]) for shape in shapes]
    if odd := _odd_classifier(dense, averaged, described):
        recognised(kernels, [], path, plain_rows(), side)  # convolutions of another network are reported first
        raise WeightsError(f"{path} {odd}")
    fully_connected = [(weights[name][0].shape[0], weights[name][0].shape[1]) for name in dense]
    return recognised(kernels, fully_connected, path, plain_rows(), side), convolutions + dense


def _odd_classifier(dense: list[str], averaged: bool, described: bool) -> str | None:
    """What is wrong with a classifier, which must be three dense layers, one after global average pooling, or none."""
    shown = ", ".join(dense)[:200]
    if len(dense) == 1 and not described:
        return (
            f"has one dense layer, {shown}, and does not say whether average or max pooling comes before it; save the "
            "whole model with Keras' model.save('net.keras')"
        )
    if len(dense) in (0, 1 if averaged else 3):
        return None
    what = f"{len(dense)} dense layer{'s' * (len(dense) > 1)}{' after global average pooling' * averaged}"

    return (
        f"has a classifier of {what} ({shown}), which VGG does not have; save its convolutions alone, and train a "
        "classifier on them with `vgg finetune`"
    )


def _rows(array: KerasArray, path: Path) -> RowReader:
    return file_rows(path, array.start, array.shape, _DTYPES[array.dtype[1:]], big_endian=array.dtype[0] == ">")


def _vectors(index: Index, path: Path, layer: KerasLayer) -> list[list[float]]:
    """The arrays of a Normalization layer: mean and variance, three numbers each or one."""
    arrays = index.layers.get(layer.key, ())[:2]
    if len(arrays) != 2 or any(math.prod(one.shape) not in (1, 3) or one.dtype[1] != "f" for one in arrays):
        raise ValueError("no mean and variance")
    return [_rows(one, path)(0, (*one.shape, 1)[0]).flatten().tolist() for one in arrays]


def _kernel(array: KerasArray, path: Path, window: int) -> Stored:
    """A kernel HWIO as [out, in, H, W], or a dense layer's [rows, out] as a convolution over `window` positions a side."""
    read, shape, dtype = _rows(array, path), array.shape, _DTYPES[array.dtype[1:]]

    def convolution(target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        yield target, read(0, shape[0]).permute(3, 2, 0, 1)

    def dense(target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for rows, part in dense_pieces(target):
            yield part, read(rows.start, rows.stop).T

    if len(shape) == 4:
        return Stored((shape[3], shape[2], shape[0], shape[1]), dtype, convolution)
    return Stored((shape[1], shape[0] // window**2, window, window), dtype, dense)


def dense_pieces(weight: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows of Keras' kernel, in the order height, width, channels, and the part [out, rows] of our `weight` [out, C, k, k]
    that they are, a few megabytes at a time."""
    out, channels, height, width = weight.shape
    together = max(1, PIECE // (4 * out))
    for y in range(height):
        for x in range(width):
            for first in range(0, channels, together):
                part = weight[:, first : first + together, y, x]
                start = (y * width + x) * channels + first
                yield slice(start, start + part.shape[1]), part
