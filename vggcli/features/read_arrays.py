"""Readers of .safetensors, .npy and .npz: lengths, types and names are checked before any row is read."""

import math
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from safetensors import safe_open

from vggcli.features.metadata import first_of, read_metadata, read_names, read_sidecar, sidecar
from vggcli.features.table import CHUNK_ROWS, ONLY_COLUMN, AnyArray, Column, Table
from vggcli.npy_header import NpyHeader, read_npy_header
from vggcli.weights.zip_members import claimed, compressed, directory

TYPES = {"F32": "float32", "F16": "float16", "F64": "float64", "BF16": "bfloat16"}  # others go by safetensors' name


def safetensors(path: Path) -> Table:
    """A file of `vgg features`, or of another program that names its rows in the metadata `images`."""
    with safe_open(path, framework="numpy") as file:
        metadata: dict[str, str] = dict(file.metadata() or {})
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        kinds = {name: str(one.get_dtype()) for name, one in slices.items()}
        shapes = {name: tuple(one.get_shape()) for name, one in slices.items()}
    if "images" not in metadata:
        raise ValueError(f"its metadata name no images; it holds {first_of(sorted(kinds))}")

    def chunks(name: str) -> Iterator[AnyArray]:
        torch_only = kinds[name] == "BF16"
        with safe_open(path, framework="pt" if torch_only else "numpy") as file:
            rows = file.get_slice(name)
            for start in range(0, shapes[name][0], CHUNK_ROWS):
                some = rows[start : min(start + CHUNK_ROWS, shapes[name][0])]
                yield some.float().numpy() if torch_only else some

    columns = {name: Column(TYPES.get(kind, kind), shapes[name], partial(chunks, name)) for name, kind in kinds.items()}
    return Table(read_names(metadata.pop("images")), columns, metadata)


def npy(path: Path) -> Table:
    """An array, with names and metadata in the file beside it."""
    about = read_sidecar(path)
    names, rows = read_names(about.pop("images", None)), about.pop("rows", None)
    if rows != len(names):
        raise ValueError(f"{sidecar(path).name} lists {len(names)} names but says {rows!r} rows"[:200])
    with path.open("rb") as file:
        header = read_npy_header(file, path.stat().st_size)
    column = Column(str(header.dtype), header.shape, lambda: _rows(lambda: path.open("rb"), header))
    return Table(names, {ONLY_COLUMN: column}, read_metadata(about))


def npz(path: Path) -> Table:
    """Uncompressed arrays: rows, "images" (texts), and "metadata" (one text, JSON) where there is one."""
    members = directory(path)
    if compressed(members):
        raise ValueError("its arrays are compressed, which `vgg features` never does; save them with numpy.savez")
    if claimed(members) > path.stat().st_size:
        raise ValueError("it says that its arrays have more bytes than the file itself")
    headers: dict[str, NpyHeader] = {}
    for name, member in members.items():
        with _member(path, name) as file:
            headers[name.removesuffix(".npy")] = read_npy_header(file, member.file_size)
    if "images" not in headers:
        raise ValueError(f"it has no array 'images'; it holds {first_of(sorted(headers))}")
    names = read_names(_texts(path, "images", headers.pop("images"), 1))
    metadata = read_metadata(_texts(path, "metadata", headers.pop("metadata"), 0) if "metadata" in headers else {})
    columns = {
        name: Column(str(header.dtype), header.shape, partial(_rows, partial(_member, path, f"{name}.npy"), header))
        for name, header in headers.items()
    }
    return Table(names, columns, metadata)


def _texts(path: Path, name: str, header: NpyHeader, axes: int) -> Any:
    if header.dtype.kind != "U" or len(header.shape) != axes:
        raise ValueError(f"its array {name!r} is not a {'list of texts' if axes else 'text'}")
    with _member(path, f"{name}.npy") as file:
        data = file.read()[header.start :]
    if not header.dtype.itemsize:  # texts without a letter
        return [""] * header.shape[0] if axes else ""
    return np.frombuffer(data, header.dtype).reshape(header.shape).tolist()


@contextmanager
def _member(path: Path, name: str) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(path) as archive, archive.open(name) as file:
        yield file


def _rows(opened: Callable[[], AbstractContextManager[IO[bytes]]], header: NpyHeader) -> Iterator[AnyArray]:
    """The rows behind a header, a thousand at a time. Raises ValueError where there are fewer, or bytes follow them."""
    row = math.prod(header.shape[1:]) * header.dtype.itemsize
    with opened() as file:
        file.read(header.start)
        for start in range(0, header.shape[0], CHUNK_ROWS):
            count = min(CHUNK_ROWS, header.shape[0] - start)
            some = file.read(count * row)
            if len(some) != count * row:
                raise ValueError("it is cut short")
            yield np.frombuffer(some, header.dtype).reshape(count, *header.shape[1:])
        if file.read(1):
            raise ValueError("bytes follow its last row")
