"""Keras' weights, read with h5py alone: `.h5` by layer names as keras.applications publishes them, Keras 3's
`.weights.h5`, and the same inside a `.keras` archive. Nothing in a file is executed.

Kernels are HWIO and the rows of fc1 run over height, width, channels. keras.applications feeds BGR, 0 to 255, less the mean
("caffe" mode); here that is folded into conv1_1 by reversing its input channels and the mean together.
"""

import contextlib
import io
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vggcli import paper
from vggcli.errors import MachineError, WeightsError
from vggcli.zoo.archives import member_start, stored_members
from vggcli.zoo.layers import NetworkConfig, network_layers
from vggcli.zoo.recognise import OXFORD_MEAN, Foreign, Shapes, oxford_scale, recognised
from vggcli.zoo.stored import PIECE, Shape, Stored

if TYPE_CHECKING:
    import h5py

NOTE = "vgg"  # the attribute of the file that holds what this program wrote about the network
WEIGHTS = "model.weights.h5"  # inside a .keras archive
FC_NAMES = {"fc6": "fc1", "fc7": "fc2", "fc8": "predictions"}
LONGEST_CONFIG = 4 << 20  # bytes
MOST_LAYERS = 1000
BY_COUNT = re.compile(r"(conv2d|dense)(?:_(\d{1,3}))?")  # how Keras 3 names a layer inside its files


def need_h5py() -> Any:
    """The h5py module. Raises MachineError where it is not installed."""
    try:
        import h5py
    except ImportError as error:
        raise MachineError("Keras' files need the package h5py: pip install 'vggcli[keras]'") from error
    return h5py


def layer_names(config: NetworkConfig) -> dict[str, str]:
    """Our names of the layers with weights to those of keras.applications."""
    kinds = [layer.name for layer in network_layers(config) if layer.kind in ("conv", "fc")]
    return {name: FC_NAMES.get(name) or f"block{name[4]}_conv{name[6:]}" for name in kinds}


def read_keras(path: Path, kind: str) -> Foreign:
    """The weights of a Keras file, `kind` "hdf5" or "keras". Raises WeightsError where it is damaged, holds no network of
    the zoo or no classifier; MachineError without h5py."""
    h5py = need_h5py()
    if kind == "keras":
        _check_config(_archived_config(path), path)
    try:
        with open_keras(path, kind) as file, h5py.File(file, "r") as root:
            return _network(root, path, kind)
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, IndexError) as error:
        raise WeightsError(f"{path} is damaged, cut short, or no weights of Keras: {error}") from error


@contextlib.contextmanager
def open_keras(path: Path, kind: str) -> Iterator[Any]:
    """The HDF5 part of a Keras file, to be read by h5py: the file itself, or a stretch of the archive."""
    if kind == "hdf5":
        yield path
        return
    members = stored_members(path)
    if WEIGHTS not in members:
        raise WeightsError(f"{path} is a zip archive without {WEIGHTS}, so Keras has not written it")
    start, size = member_start(path, members[WEIGHTS]), members[WEIGHTS].file_size
    with path.open("rb") as file, io.BufferedReader(_Stretch(file, start, size)) as stretch:
        yield stretch


class _Stretch(io.RawIOBase):
    """Some bytes of a file, as a file."""

    def __init__(self, file: Any, start: int, size: int) -> None:
        self._file, self._start, self._size, self._place = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._place)
        count = self._file.readinto(memoryview(buffer)[: max(0, self._size - self._place)])
        self._place += count
        return int(count)


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


def _network(root: "h5py.File", path: Path, kind: str) -> Foreign:
    layers = {name: weights for name, weights in _layers(root, path).items() if weights}
    for name, weights in layers.items():
        datasets = all(isinstance(one, need_h5py().Dataset) and one.shape is not None for one in weights)
        if not datasets or len(weights) != 2 or len(weights[0].shape) not in (2, 4) or len(weights[1].shape) != 1:
            raise WeightsError(f"{path}: the layer {name} is no convolution and no dense layer with a bias")
    convolutions = [(name, weights[0].shape) for name, weights in layers.items() if len(weights[0].shape) == 4]
    dense = [(name, weights[0].shape) for name, weights in layers.items() if len(weights[0].shape) == 2]
    if len(convolutions) >= 8 and not dense:
        raise WeightsError(f"{path} holds no classifier (include_top=False in Keras); give weights with their top")
    if len(dense) != 3 or not convolutions or any(shape[0] != shape[1] for _, shape in convolutions):
        raise WeightsError(
            f"{path} holds no VGG network as Keras has it; its layers are {', '.join(layers)[:200] or 'none'}"
        )
    rows = [row for row in paper.NETWORKS.values() if not row.batch_norm and not row.lrn]
    shapes = [(shape[0], shape[2], shape[3]) for _, shape in convolutions]
    config = recognised(Shapes(shapes, [shape for _, shape in dense]), path, rows)
    names = layer_names(config)
    theirs = [name for name, _ in (*convolutions, *dense)]
    wrong = [name for name, wanted in zip(theirs, names.values(), strict=True) if not _may_be(name, wanted)]
    if wrong:
        raise WeightsError(f"{path} has the layer {wrong[0]}, which network {config.arch} does not have")
    stored: dict[str, Stored] = {}
    for ours, name in zip(names, theirs, strict=True):
        weight, bias = (_dataset_place(dataset, path) for dataset in layers[name])
        window = config.crop // paper.STRIDE if ours == "fc6" else 1
        stored[f"{ours}.weight"] = _kernel(weight, path, kind, window, reverse=ours == "conv1_1")
        stored[f"{ours}.bias"] = _bias(bias, path, kind)
    note = root.attrs.get(NOTE)
    return Foreign(
        stored, config, "keras", OXFORD_MEAN, 1.0, oxford_scale(config), note if isinstance(note, str) else None
    )


def _may_be(name: str, wanted: str) -> bool:
    return name == wanted or BY_COUNT.fullmatch(name) is not None


def _layers(root: "h5py.File", path: Path) -> dict[str, list["h5py.Dataset"]]:
    """The arrays of every layer, kernel first, in the order of the network."""
    group = _inside(root, "model_weights") if "model_weights" in root else root
    if isinstance(config := root.attrs.get("model_config"), str):
        _check_config(config, path)
    if "layer_names" in group.attrs:
        names = [_text(name) for name in group.attrs["layer_names"][:MOST_LAYERS]]
        found = {name: _inside(group, name) for name in names}
        listed = {name: [_text(one) for one in layer.attrs["weight_names"]] for name, layer in found.items()}
        return {name: [_inside(found[name], one) for one in weights] for name, weights in listed.items()}
    if "layers" not in group:
        raise WeightsError(
            f"{path} is an HDF5 file without Keras' layers; it holds {', '.join(list(root)[:5]) or 'nothing'}"
        )
    layers = _inside(group, "layers")
    names = sorted(list(layers)[:MOST_LAYERS], key=_by_number)
    holders = {name: _inside(layers, name) for name in names}
    variables = {name: _inside(layer, "vars") for name, layer in holders.items() if "vars" in layer}
    return {name: [_inside(found, one) for one in sorted(found)] for name, found in variables.items()}


def _by_number(name: str) -> tuple[int, ...]:
    """Sorts conv2d, conv2d_1, … conv2d_10, and block1_conv1, … block5_conv4, as they follow each other."""
    return (name.startswith(("dense", "fc", "predictions")), *map(int, re.findall(r"\d{1,4}", name.replace("2d", ""))))


def _text(name: object) -> str:
    return name.decode("utf-8") if isinstance(name, bytes) else str(name)


def _inside(group: Any, name: str) -> Any:
    """What lies in this very file below `group`. Raises WeightsError for a link that leads elsewhere."""
    h5py = need_h5py()
    for part in filter(None, name.split("/")):
        link = group.get(part, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise WeightsError(f"{group.file.filename} has no {name}, or it is only a link to elsewhere")
        group = group[part]
    return group


def _dataset_place(dataset: Any, path: Path) -> tuple[str, Shape, torch.dtype]:
    """Name, shape and type of an array whose numbers lie in this file as they are. Raises WeightsError for others: a few
    bytes could claim any size."""
    size = math.prod(dataset.shape) * dataset.dtype.itemsize
    plain = dataset.chunks is None and not dataset.is_virtual and not dataset.external
    if not plain or dataset.id.get_storage_size() < size:
        raise WeightsError(f"{path}: the numbers of {dataset.name} are compressed, missing or elsewhere")
    kinds = {"f2": torch.float16, "f4": torch.float32, "f8": torch.float64}
    if dataset.dtype.str[1:] not in kinds:
        raise WeightsError(
            f"{path}: {dataset.name} holds {dataset.dtype} numbers; weights are floating point (2 to 8 bytes)"
        )
    return dataset.name, dataset.shape, kinds[dataset.dtype.str[1:]]


def _values(array: "np.ndarray[Any, Any]") -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")))


def _bias(place: tuple[str, Shape, torch.dtype], path: Path, kind: str) -> Stored:
    name, shape, dtype = place

    def parts(target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        with open_keras(path, kind) as file, need_h5py().File(file, "r") as root:
            yield target, _values(root[name][...])

    return Stored(shape, dtype, parts)


def _kernel(place: tuple[str, Shape, torch.dtype], path: Path, kind: str, window: int, reverse: bool) -> Stored:
    """A kernel HWIO as [out, in, H, W], or a dense layer's [rows, out] as a convolution over `window` positions a side."""
    name, shape, dtype = place

    def parts(target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        with open_keras(path, kind) as file, need_h5py().File(file, "r") as root:
            dataset = root[name]
            if len(shape) == 4:
                values = _values(dataset[...]).permute(3, 2, 0, 1)
                yield target, values.flip(1) if reverse else values
                return
            for rows, part in dense_pieces(target):
                yield part, _values(dataset[rows]).T

    if len(shape) == 4:
        return Stored((shape[3], shape[2], shape[0], shape[1]), dtype, parts)
    return Stored((shape[1], shape[0] // window**2, window, window), dtype, parts)


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
