"""Rows found in .safetensors, .npy and .npz: lengths, types and names are looked over before anything is read."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from safetensors import safe_open

from vggcli.features.claims import ClaimedColumn, Claims, names_of, rows_of, sidecar_of, texts_of
from vggcli.features.write import CHUNK_ROWS, ONLY_COLUMN, AnyArray, sidecar
from vggcli.npy_header import NpyHeader, read_npy_header
from vggcli.weights.zip_members import claimed, compressed, directory

TYPES = {"F32": "float32", "F16": "float16", "F64": "float64", "BF16": "bfloat16"}  # others go by safetensors' name


def safetensors(path: Path) -> Claims:
    """A file of `vgg features`, or of another program that names its rows in the metadata `images`."""
    with safe_open(path, framework="numpy") as file:
        metadata: dict[str, str] = dict(file.metadata() or {})
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        kinds = {name: str(one.get_dtype()) for name, one in slices.items()}
        shapes = {name: tuple(one.get_shape()) for name, one in slices.items()}
    if "images" not in metadata:
        shown = ", ".join(sorted(kinds)[:4]) + (", …" if len(kinds) > 4 else "")
        raise ValueError(f"its metadata name no images; it holds {shown or 'nothing'}")

    def chunks(name: str) -> Iterator[AnyArray]:
        torch_only = kinds[name] == "BF16"
        with safe_open(path, framework="pt" if torch_only else "numpy") as file:
            rows = file.get_slice(name)
            for start in range(0, shapes[name][0], CHUNK_ROWS):
                some = rows[start : min(start + CHUNK_ROWS, shapes[name][0])]
                yield some.float().numpy() if torch_only else some

    columns = {
        name: ClaimedColumn(TYPES.get(kinds[name], kinds[name]), shapes[name], partial(chunks, name)) for name in kinds
    }
    return Claims(names_of(metadata.pop("images")), columns, metadata)


def npy(path: Path) -> Claims:
    """An array whose names and metadata lie beside it."""
    about = sidecar_of(path)
    names, rows = names_of(about.pop("images", None)), about.pop("rows", None)
    if rows != len(names):
        raise ValueError(f"{sidecar(path).name} lists {len(names)} names and says {rows!r} rows"[:200])
    with path.open("rb") as file:
        header = read_npy_header(file, path.stat().st_size)
    column = ClaimedColumn(str(header.dtype), header.shape, lambda: rows_of(lambda: path.open("rb"), header))
    return Claims(names, {ONLY_COLUMN: column}, texts_of(about))


def npz(path: Path) -> Claims:
    """Arrays stored as they are: rows, "images" (texts), and "metadata" (one text, JSON) where there is one."""
    members = directory(path)
    if compressed(members):
        raise ValueError("its arrays are compressed, which `vgg features` never does; save them with numpy.savez")
    if claimed(members) > path.stat().st_size:
        raise ValueError("it claims more bytes of arrays than it has")
    headers: dict[str, NpyHeader] = {}
    for name, member in members.items():
        with _member(path, name) as file:
            headers[name.removesuffix(".npy")] = read_npy_header(file, member.file_size)
    if "images" not in headers:
        raise ValueError(f"it has no array 'images'; it holds {', '.join(sorted(headers)[:4]) or 'nothing'}")
    names = names_of(_texts(path, "images", headers["images"], 1))
    metadata = texts_of(_texts(path, "metadata", headers["metadata"], 0) if "metadata" in headers else {})
    columns = {
        name: ClaimedColumn(str(header.dtype), header.shape, partial(_rows, path, name, header))
        for name, header in headers.items()
        if name not in ("images", "metadata")
    }
    return Claims(names, columns, metadata)


def _texts(path: Path, name: str, header: NpyHeader, axes: int) -> Any:
    if header.dtype.kind != "U" or len(header.shape) != axes:
        raise ValueError(f"its array {name!r} is no {'list of texts' if axes else 'text'}")
    with _member(path, f"{name}.npy") as file:
        data = file.read()[header.start :]
    if not header.dtype.itemsize:  # texts without a letter
        return [""] * header.shape[0] if axes else ""
    return np.frombuffer(data, header.dtype).reshape(header.shape).tolist()


def _rows(path: Path, name: str, header: NpyHeader) -> Iterator[AnyArray]:
    return rows_of(lambda: _member(path, f"{name}.npy"), header)


@contextmanager
def _member(path: Path, name: str) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(path) as archive, archive.open(name) as file:
        yield file
