"""Safetensors files: written whole, their header read with suspicion: every length, offset and shape is checked before it
is used.

The file is eight bytes of header length, a JSON object (tensor names to type, shape and place) and the bytes.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from vggcli.errors import WeightsError
from vggcli.files import replacing
from vggcli.weights.unread import Shape, Stored, by_rows

_LONGEST_HEADER = 8 << 20  # bytes; network E with the names of a thousand classes needs 50 thousand
MOST_TENSORS = 10_000  # network E-BN has 118
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A tensor of the file: its type, its shape and the byte of the file where it begins."""

    dtype: torch.dtype
    shape: Shape
    start: int


@dataclass(frozen=True)
class Header:
    """What a safetensors file says before its bytes."""

    entries: dict[str, Entry]
    metadata: dict[str, str]


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write contiguous tensors on the CPU, and texts, to `path`, whole or not at all. Raises MachineError where the disk
    refuses."""
    with replacing(path) as temporary:
        try:
            save_file(dict(tensors), temporary, dict(metadata))
        except SafetensorError as error:  # the library wraps the system's error in its own
            found = re.search(r"os error (\d+)", str(error))
            raise OSError(int(found.group(1)) if found else 0, str(error)) from error


def read_header(path: Path) -> Header:
    """The header of the file. Raises WeightsError where it contradicts itself or the size of the file."""
    try:
        return _header(path)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = "its header is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise WeightsError(f"{path} cannot be read as a checkpoint (damaged or cut short): {reason}") from error


def stored_tensors(path: Path, header: Header) -> dict[str, Stored]:
    """The tensors of the file, to be read later."""
    return {
        name: by_rows(entry.shape, entry.dtype, file_rows(path, entry.start, entry.shape, entry.dtype))
        for name, entry in header.entries.items()
    }


def file_rows(path: Path, start: int, shape: Shape, dtype: torch.dtype) -> Callable[[int, int], Tensor]:
    """A reader of rows of an array that lies in the file from byte `start` on, little-endian, its last axis fastest."""
    row = math.prod(shape[1:]) * dtype.itemsize

    def read(first: int, last: int) -> Tensor:
        buffer = bytearray(row * (last - first))
        with path.open("rb") as file:
            file.seek(start + row * first)
            if file.readinto(buffer) != len(buffer):
                raise WeightsError(f"{path} is cut short")
        return torch.frombuffer(buffer, dtype=dtype)

    return read


def _header(path: Path) -> Header:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise ValueError(f"it claims a header of {length:,} bytes and has {size:,} in all")
        if length > _LONGEST_HEADER:
            raise ValueError(f"it claims a header of {length:,} bytes; no network needs over {_LONGEST_HEADER:,}")
        fields = json.loads(file.read(length), object_pairs_hook=_without_repeats)
    if not isinstance(fields, dict):
        raise TypeError("its header is no JSON object")
    metadata = fields.pop("__metadata__", {})
    if len(fields) > MOST_TENSORS:
        raise ValueError(f"it lists {len(fields):,} tensors; no network needs over {MOST_TENSORS:,}")
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise TypeError("its metadata are not texts by name")
    entries = {name: _entry(name, entry, 8 + length) for name, entry in fields.items()}
    end = 8 + length
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, math.prod(item[1].shape))):
        if entry.start != end:
            raise ValueError(f"{name} begins at byte {entry.start:,}, and what lies before it ends at {end:,}")
        end += math.prod(entry.shape) * entry.dtype.itemsize
    if end != size:
        raise ValueError(f"its tensors end at byte {end:,}, and the file at {size:,}")
    return Header(entries, metadata)


def _entry(name: str, fields: Any, data: int) -> Entry:
    shape, offsets = fields["shape"], fields["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, *offsets)) or len(offsets) != 2:
        raise ValueError(f"{name} has the shape {shape} and the offsets {offsets}"[:200])
    if fields["dtype"] not in DTYPES:
        raise ValueError(f"{name} is of the type {fields['dtype']!r}, which no weights are")
    dtype = DTYPES[fields["dtype"]]
    if offsets[1] - offsets[0] != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} takes {offsets[1] - offsets[0]:,} bytes, and its shape {shape} other"[:200])
    return Entry(dtype, tuple(shape), data + offsets[0])


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) < len(pairs):
        seen: set[str] = set()
        repeated = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"it names {repeated!r} twice")
    return names
