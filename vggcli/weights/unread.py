"""Tensors of a file that are not read yet, and how they get into a network without being held in memory twice.

A reader lists `Stored` tensors under the network's own names. They are checked against the network and the size of the
file before any memory is taken, then copied a few megabytes at a time, straight into the network's own memory layout.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from vggcli.errors import WeightsError
from vggcli.zoo.layers import NetworkConfig, network_layers
from vggcli.zoo.network import VGG

PIECE = 16 << 20  # bytes that are read at once
COUNTER = "num_batches_tracked"  # of batch normalisation: the one whole number among the weights

Shape = tuple[int, ...]
RowReader = Callable[[int, int], Tensor]  # reads the rows from the first up to the last, exclusive, of an array


@dataclass(frozen=True)
class Entry:
    """Where a file lists a tensor: its shape and type there, and the offset of its bytes."""

    shape: Shape
    dtype: torch.dtype
    start: int


@dataclass(frozen=True)
class Stored:
    """A tensor in a file: its `shape` in the network, its `dtype` in the file. `parts` takes a tensor of that shape and
    yields views of it, each with the values that belong there."""

    shape: Shape
    dtype: torch.dtype
    parts: Callable[[Tensor], Iterator[tuple[Tensor, Tensor]]]

    def reshape(self, *shape: int) -> "Stored":
        """The same values under another shape with as many rows; one size may be -1. Only for tensors `by_rows`."""
        known = math.prod(size for size in shape if size >= 0)
        free = math.prod(self.shape) // known if known else 0
        return replace(self, shape=tuple(free if size < 0 else size for size in shape))

    def reversed_channels(self) -> "Stored":
        """The same kernels with their input channels in the opposite order, RGB for BGR."""
        return replace(self, parts=lambda target: ((place, part.flip(1)) for place, part in self.parts(target)))


def by_rows(shape: Shape, dtype: torch.dtype, read: RowReader) -> Stored:
    """A tensor whose rows (along its first axis) `read(first, last)` gives in the network's order."""

    def parts(target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        if not target.dim():
            yield target, read(0, 1).reshape(())
            return
        rows = max(1, PIECE // (dtype.itemsize * max(1, target[0].numel())))
        for first in range(0, len(target), rows):
            place = target[first : first + rows]
            yield place, read(first, first + len(place)).reshape(place.shape)

    return Stored(shape, dtype, parts)


def file_rows(path: Path, start: int, shape: Shape, dtype: torch.dtype, big_endian: bool = False) -> RowReader:
    """A reader of rows [last - first, ...] of an array from byte `start` of the file on, its last axis fastest."""
    row = math.prod(shape[1:]) * dtype.itemsize

    def read(first: int, last: int) -> Tensor:
        buffer = bytearray(row * (last - first))
        with path.open("rb") as file:
            file.seek(start + row * first)
            if file.readinto(buffer) != len(buffer):
                raise WeightsError(f"{path} is cut short")
        rows = torch.frombuffer(buffer, dtype=dtype)
        if big_endian:
            rows.untyped_storage().byteswap(dtype)
        return rows.view(last - first, *shape[1:])

    return read


def in_file(path: Path, entry: Entry) -> Stored:
    """A tensor of a file that has the network's own order and is little-endian."""
    return by_rows(entry.shape, entry.dtype, file_rows(path, entry.start, entry.shape, entry.dtype))


def expected_shapes(config: NetworkConfig) -> dict[str, Shape]:
    """Name and shape of every weight of a network, without building it."""
    shapes: dict[str, Shape] = {}
    for layer in network_layers(config):
        if layer.kind in ("conv", "fc"):
            shapes[f"{layer.name}.weight"] = (layer.channels, layer.channels_in, layer.kernel, layer.kernel)
            shapes[f"{layer.name}.bias"] = (layer.channels,)
        elif layer.kind == "bn":
            for part in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{layer.name}.{part}"] = (layer.channels,)
            shapes[f"{layer.name}.{COUNTER}"] = ()
    return shapes


def check_stored(stored: Mapping[str, Stored], config: NetworkConfig, path: Path) -> None:
    """Raises WeightsError where the tensors of the file `path` are not those of the network: one is missing, has another
    shape or type, is not of the network, or is larger than the file."""
    expected = expected_shapes(config)
    for name, wanted in expected.items():
        if name not in stored and name.endswith(COUNTER):
            continue  # torch before 0.4.1 had none, and no result depends on it
        if name not in stored:
            raise WeightsError(f"{path} has no weights for {name}")
        found, dtype = stored[name].shape, stored[name].dtype
        if tuple(found) != wanted:
            raise WeightsError(f"{path}: {name} has the shape {list(found)} where {list(wanted)} is expected")
        if not (dtype.is_floating_point or (name.endswith(COUNTER) and dtype == torch.int64)):
            shown = str(dtype).removeprefix("torch.")
            raise WeightsError(f"{path}: {name} holds {shown} numbers; weights are floating point (float16 to float64)")
    extra = sorted(set(stored) - set(expected))
    if extra:
        raise WeightsError(f"{path} holds {extra[0]}, which network {config.arch} does not have")
    needed = sum(math.prod(one.shape) * one.dtype.itemsize for one in stored.values())
    size = path.stat().st_size
    if needed > size:
        raise WeightsError(f"{path} claims {needed:,} bytes of weights and has {size:,}; it is damaged or cut short")


@torch.no_grad()
def filled_network(config: NetworkConfig, stored: Mapping[str, Stored], path: Path, device: torch.device | None) -> VGG:
    """The network with the weights of `stored` (checked by `check_stored`), on `device`, in evaluation mode. Floating point
    of another width becomes float32: exactly from narrower types, to the nearest from float64.

    Raises WeightsError at a value that is not finite.
    """
    with torch.device("meta"):
        network = VGG(config)
    empty = {name: _empty_like(tensor, device or torch.device("cpu")) for name, tensor in network.state_dict().items()}
    network.load_state_dict(empty, assign=True)
    for name, target in network.state_dict().items():
        if name not in stored:
            target.zero_()  # a counter that the file does not have
            continue
        for place, read in stored[name].parts(target):
            values = read.to(place.dtype)
            # a sum is one pass, and not finite wherever one of its terms is not
            if not torch.isfinite(values.sum()) and not torch.isfinite(values).all():
                raise WeightsError(f"{path}: {name} holds values that are not finite")
            place.copy_(values)
    return network.eval()


def _empty_like(tensor: Tensor, device: torch.device) -> Tensor:
    """As `torch.empty_like` gives, which imports sympy for a tensor that is on the meta device: half a second."""
    form = torch.channels_last if tensor.dim() == 4 else torch.contiguous_format
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=device, memory_format=form)
