"""Keras' weights, read with h5py alone: `.h5` by layer names as keras.applications publishes them, Keras 3's
`.weights.h5`, and the same inside a `.keras` archive. Nothing in a file is executed.

Kernels are HWIO and the rows of fc1 run over height, width, channels. keras.applications feeds BGR, 0 to 255, less the mean
("caffe" mode); here that is folded into conv1_1 by reversing its input channels and the mean together.
"""

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vggcli import paper
from vggcli.errors import WeightsError
from vggcli.weights.keras_config import KerasLayer, described_layers, input_side
from vggcli.weights.keras_index import Index, KerasArray, need_h5py, read_index
from vggcli.weights.keras_operations import front_layer_pixels, operations
from vggcli.weights.operations import Operation, check_order
from vggcli.weights.preprocessing import PIXELS
from vggcli.weights.recognise import Foreign, Shapes, oxford_scale, plain_rows, recognised
from vggcli.weights.unread import PIECE, Stored
from vggcli.weights.zip_members import check_sums, member_start, stored_members
from vggcli.zoo.layers import NetworkConfig, network_layers

WEIGHTS = "model.weights.h5"  # inside a .keras archive
_FC_NAMES = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
LONGEST_CONFIG = 4 << 20  # bytes
WEIGHTED = ("Conv2D", "Dense")
_Weights = dict[str, tuple[KerasArray, ...]]  # kernel and bias by layer
_DTYPES = {"f2": torch.float16, "f4": torch.float32, "f8": torch.float64}


class _Found(NamedTuple):
    config: NetworkConfig
    names: tuple[str, ...]


def keras_names(config: NetworkConfig) -> dict[str, str]:
    """Our names of the layers with weights to those of keras.applications."""
    kinds = [layer.name for layer in network_layers(config) if layer.kind in ("conv", "fc")]
    return {name: _FC_NAMES.get(name) or f"block{name[4]}_conv{name[6:]}" for name in kinds}


def read_keras(path: Path, kind: str) -> Foreign:
    """The weights of a Keras file, `kind` "hdf5" or "keras", with or without a classifier. Raises WeightsError where it is
    damaged or holds no network of the zoo, by its weights or by its own description; MachineError without h5py."""
    need_h5py()
    start, size, text = 0, path.stat().st_size, ""
    if kind == "keras":
        text = _archived_config(path)
        _check_channels(text, path)
        members = stored_members(path)
        if WEIGHTS not in members:
            raise WeightsError(f"{path} is a zip archive without {WEIGHTS}, so Keras has not written it")
        start, size = member_start(path, members[WEIGHTS]), members[WEIGHTS].file_size
        check_sums(path)
    index = read_index(path, start, size)
    text = text or index.config or ""
    _check_channels(text, path)
    layers = described_layers(text, path) if text else []
    acts = _operations(layers, path)
    weights = _described_weights(index, layers, path) if layers else _undescribed_weights(index, path)
    averaged = any(one.does == "average" for one in acts)
    config, names = _network(weights, path, input_side(layers), averaged, bool(layers))
    if layers:
        check_order(acts, config, path)
    pixels = front_layer_pixels(layers, _vectors(index, path), path)
    expected = pixels or PIXELS["keras"]
    stored: dict[str, Stored] = {}
    for ours, name in zip(keras_names(config), names, strict=True):
        weight, bias = weights[name]
        window = config.crop // paper.STRIDE if ours == "fc6" else 1
        stored[f"{ours}.weight"] = _kernel(
            weight, path, window, reverse=ours == "conv1_1" and expected.channels == "BGR"
        )
        stored[f"{ours}.bias"] = _bias(bias, path)
    mean, divisor, said = expected.mean, expected.divisor, pixels.channels if pixels else None
    return Foreign(stored, config, "keras", mean, divisor, oxford_scale(config), index.note, said, assumed=not layers)


def _archived_config(path: Path) -> str:
    """The description of the network in a .keras archive, where there is one of a sensible length."""
    config = stored_members(path).get("config.json")
    if config is None or config.file_size > LONGEST_CONFIG:
        return ""
    with path.open("rb") as file:
        file.seek(member_start(path, config))
        return file.read(config.file_size).decode("utf-8", errors="replace")


def _check_channels(config: str, path: Path) -> None:
    if "channels_first" in config:
        raise WeightsError(
            f"{path} is of a network with channels first; save it with Keras' usual order, channels last"
        )


def _operations(layers: list[KerasLayer], path: Path) -> list[Operation]:
    try:
        return operations(layers, path)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise WeightsError(f"{path} is damaged: its description of the network cannot be read") from error


def _described_weights(index: Index, layers: list[KerasLayer], path: Path) -> _Weights:
    """The arrays of the layers in the order of the description, which has to know them all."""
    names = [(layer, layer.by_count if index.by_count else layer.by_name) for layer in layers]
    lacking = next((layer for layer, name in names if layer.kind in WEIGHTED and name not in index.layers), None)
    if lacking:
        raise WeightsError(f"{path} has no weights for its layer {lacking.name}, which its description names")
    known = {name: layer for layer, name in names}
    extra = next((name for name in index.layers if name not in known), None)
    if extra:
        raise WeightsError(f"{path} has weights of the layer {extra}, which its description does not use")
    return {name: index.layers[name] for layer, name in names if layer.kind in WEIGHTED}


def _undescribed_weights(index: Index, path: Path) -> _Weights:
    """The arrays of all layers in the order of the file, or, where it has none, of their numbers."""
    models = list(dict.fromkeys(name.partition("/")[0] for name in index.layers))

    def place(name: str) -> tuple[int, ...]:
        model, _, inner = name.rpartition("/")
        if index.by_count or model:
            return (0 if index.by_count else models.index(name.partition("/")[0]), *_by_number(inner))
        return (models.index(name),)

    for kind, axes in (("convolutions", 4), ("dense layers", 2)):
        parts = {name.rpartition("/")[0] for name, arrays in index.layers.items() if len(arrays[0].shape) == axes}
        if len(parts) > 1:
            raise WeightsError(
                f"{path} has {kind} in {len(parts)} models, one inside the other, and does not say their order; save the "
                "whole model with Keras' model.save('net.keras')"
            )
    return {name: index.layers[name] for name in sorted(index.layers, key=place)}


def _network(weights: _Weights, path: Path, side: int, averaged: bool, described: bool) -> _Found:
    """The network that the layers are by their shapes, and the names of its convolutions and dense layers; `side` is that
    of the input, for a network whose layers do not tell, `averaged` whether its last map is."""
    for name, arrays in weights.items():
        if len(arrays) != 2 or len(arrays[0].shape) not in (2, 4) or len(arrays[1].shape) != 1:
            raise WeightsError(f"{path}: the layer {name} is no convolution and no dense layer with a bias")
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
        raise WeightsError(f"{path} holds no VGG network as Keras has it; its layers are {found}")
    kernels = [(shape[0], shape[2], shape[3]) for shape in shapes]
    if odd := _odd_classifier(dense, averaged, described):
        recognised(
            Shapes(kernels, []), path, plain_rows(), side
        )  # the convolutions of another network are the greater oddity
        raise WeightsError(f"{path} {odd}")
    fully_connected = [(weights[name][0].shape[0], weights[name][0].shape[1]) for name in dense]
    return _Found(recognised(Shapes(kernels, fully_connected), path, plain_rows(), side), (*convolutions, *dense))


def _odd_classifier(dense: list[str], averaged: bool, described: bool) -> str | None:
    """What is wrong with a classifier that is not three dense layers, one behind the mean of each map, or none."""
    shown = ", ".join(dense)[:200]
    if len(dense) == 1 and not described:
        return (
            f"has one dense layer, {shown}, and does not say whether the mean or the maximum of maps is in front of it; "
            "save the whole model with Keras' model.save('net.keras')"
        )
    if len(dense) in (0, 1 if averaged else 3):
        return None
    what = (
        f"{len(dense)} dense layer{'s' if len(dense) > 1 else ''}{' behind the mean of each map' if averaged else ''}"
    )
    return (
        f"has a classifier of {what} ({shown}), which VGG does not have; save its convolutions alone, and train a "
        "classifier on them with `vgg finetune`"
    )


def _by_number(name: str) -> tuple[int, ...]:
    """Sorts block1_conv1, … block5_conv4, fc1, fc2, predictions, and conv2d, … conv2d_10, dense, dense_1, dense_2."""
    return tuple(map(int, re.findall(r"\d{1,4}", name.replace("2d", "").replace("predictions", "3"))))


def _vectors(index: Index, path: Path) -> Callable[[KerasLayer], list[list[float]]]:
    """Reads the arrays of Normalization: mean and variance, three numbers each or one."""

    def read(layer: KerasLayer) -> list[list[float]]:
        arrays = index.layers.get(layer.by_count if index.by_count else layer.by_name, ())[:2]
        if len(arrays) != 2 or any(math.prod(one.shape) not in (1, 3) or one.dtype[1] != "f" for one in arrays):
            raise ValueError("no mean and variance")
        return [_reader(one, path)(0, (*one.shape, 1)[0]).flatten().tolist() for one in arrays]

    return read


def _reader(array: KerasArray, path: Path) -> Callable[[int, int], Tensor]:
    """Reads rows of an array, [last - first, ...]."""
    dtype, row = np.dtype(array.dtype), array.shape[1:]

    def read(first: int, last: int) -> Tensor:
        count = math.prod(row)
        start = array.start + first * count * dtype.itemsize
        values = np.fromfile(path, dtype, (last - first) * count, offset=start)
        if len(values) != (last - first) * count:
            raise WeightsError(f"{path} is cut short")
        return torch.from_numpy(values.astype(dtype.newbyteorder("="), copy=False)).view(last - first, *row)

    return read


def _bias(array: KerasArray, path: Path) -> Stored:
    def parts(target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        yield target, _reader(array, path)(0, len(target))

    return Stored(array.shape, _DTYPES[array.dtype[1:]], parts)


def _kernel(array: KerasArray, path: Path, window: int, reverse: bool) -> Stored:
    """A kernel HWIO as [out, in, H, W], or a dense layer's [rows, out] as a convolution over `window` positions a side."""
    read, shape, dtype = _reader(array, path), array.shape, _DTYPES[array.dtype[1:]]

    def convolution(target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        values = read(0, shape[0]).permute(3, 2, 0, 1)
        yield target, values.flip(1) if reverse else values

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
