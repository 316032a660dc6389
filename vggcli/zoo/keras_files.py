"""Keras' weights, read with h5py alone: `.h5` by layer names as keras.applications publishes them, Keras 3's
`.weights.h5`, and the same inside a `.keras` archive. Nothing in a file is executed.

Kernels are HWIO and the rows of fc1 run over height, width, channels. keras.applications feeds BGR, 0 to 255, less the mean
("caffe" mode); here that is folded into conv1_1 by reversing its input channels and the mean together.
"""

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vggcli import paper
from vggcli.errors import WeightsError
from vggcli.zoo.archives import member_start, stored_members
from vggcli.zoo.hdf5_index import Array, Index, need_h5py, read_index
from vggcli.zoo.keras_config import check_operations
from vggcli.zoo.layers import NetworkConfig, network_layers
from vggcli.zoo.recognise import OXFORD_MEAN, Foreign, Shapes, oxford_scale, recognised
from vggcli.zoo.stored import PIECE, Stored

WEIGHTS = "model.weights.h5"  # inside a .keras archive
FC_NAMES = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
LONGEST_CONFIG = 4 << 20  # bytes
BY_COUNT = re.compile(r"(conv2d|dense)(?:_(\d{1,3}))?")  # how Keras 3 names a layer inside its files
DTYPES = {"f2": torch.float16, "f4": torch.float32, "f8": torch.float64}


def layer_names(config: NetworkConfig) -> dict[str, str]:
    """Our names of the layers with weights to those of keras.applications."""
    kinds = [layer.name for layer in network_layers(config) if layer.kind in ("conv", "fc")]
    return {name: FC_NAMES.get(name) or f"block{name[4]}_conv{name[6:]}" for name in kinds}


def read_keras(path: Path, kind: str) -> Foreign:
    """The weights of a Keras file, `kind` "hdf5" or "keras". Raises WeightsError where it is damaged, holds no network of
    the zoo or no classifier; MachineError without h5py."""
    need_h5py()
    start, size = 0, path.stat().st_size
    if kind == "keras":
        _check_config(_archived_config(path), path)
        members = stored_members(path)
        if WEIGHTS not in members:
            raise WeightsError(f"{path} is a zip archive without {WEIGHTS}, so Keras has not written it")
        start, size = member_start(path, members[WEIGHTS]), members[WEIGHTS].file_size
    index = read_index(path, start, size)
    _check_config(index.config or "", path)
    return _network(index, path)


def _archived_config(path: Path) -> str:
    """The description of the network in a .keras archive, where there is one of a sensible length."""
    config = stored_members(path).get("config.json")
    if config is None or config.file_size > LONGEST_CONFIG:
        return ""
    with path.open("rb") as file:
        file.seek(member_start(path, config))
        return file.read(config.file_size).decode("utf-8", errors="replace")


def _check_config(config: str, path: Path) -> None:
    if "channels_first" in config:
        raise WeightsError(
            f"{path} is of a network with channels first; save it with Keras' usual order, channels last"
        )
    check_operations(config, path)


def _network(index: Index, path: Path) -> Foreign:
    layers = dict(sorted(index.layers.items(), key=lambda item: _by_number(item[0])))
    for name, arrays in layers.items():
        if len(arrays) != 2 or len(arrays[0].shape) not in (2, 4) or len(arrays[1].shape) != 1:
            raise WeightsError(f"{path}: the layer {name} is no convolution and no dense layer with a bias")
    convolutions = {name: weight.shape for name, (weight, _) in layers.items() if len(weight.shape) == 4}
    dense = {name: weight.shape for name, (weight, _) in layers.items() if len(weight.shape) == 2}
    if len(convolutions) >= 8 and not dense:
        raise WeightsError(f"{path} holds no classifier (include_top=False in Keras); give weights with their top")
    if len(dense) != 3 or not convolutions or any(shape[0] != shape[1] for shape in convolutions.values()):
        found = ", ".join(layers)[:200] or "none"
        raise WeightsError(f"{path} holds no VGG network as Keras has it; its layers are {found}")
    rows = [row for row in paper.NETWORKS.values() if not row.batch_norm and not row.lrn]
    kernels = [(shape[0], shape[2], shape[3]) for shape in convolutions.values()]
    config = recognised(Shapes(kernels, [(shape[0], shape[1]) for shape in dense.values()]), path, rows)
    stored: dict[str, Stored] = {}
    for (ours, wanted), name in zip(layer_names(config).items(), (*convolutions, *dense), strict=True):
        if name != wanted and not BY_COUNT.fullmatch(name):
            raise WeightsError(f"{path} has the layer {name}, which network {config.arch} does not have")
        weight, bias = layers[name]
        window = config.crop // paper.STRIDE if ours == "fc6" else 1
        stored[f"{ours}.weight"] = _kernel(weight, path, window, reverse=ours == "conv1_1")
        stored[f"{ours}.bias"] = _bias(bias, path)
    return Foreign(stored, config, "keras", OXFORD_MEAN, 1.0, oxford_scale(config), index.note)


def _by_number(name: str) -> tuple[int, ...]:
    """Sorts block1_conv1, … block5_conv4, fc1, fc2, predictions, and conv2d, … conv2d_10, dense, dense_1, dense_2."""
    numbers = map(int, re.findall(r"\d{1,4}", name.replace("2d", "").replace("predictions", "3")))
    return (name.startswith(("dense", "fc", "predictions")), *numbers)


def _reader(array: Array, path: Path) -> Callable[[int, int], Tensor]:
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


def _bias(array: Array, path: Path) -> Stored:
    def parts(target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        yield target, _reader(array, path)(0, len(target))

    return Stored(array.shape, DTYPES[array.dtype[1:]], parts)


def _kernel(array: Array, path: Path, window: int, reverse: bool) -> Stored:
    """A kernel HWIO as [out, in, H, W], or a dense layer's [rows, out] as a convolution over `window` positions a side."""
    read, shape, dtype = _reader(array, path), array.shape, DTYPES[array.dtype[1:]]

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
