"""Stored rows read back: any file or folder of shards that `vgg features` writes, a thousand rows at a time."""

import csv
import importlib
import itertools
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from vggcli.errors import DataError
from vggcli.features.formats import CHUNK, FEATURES, SUFFIXES, Array, parquet, sidecar
from vggcli.features.manifest import MANIFEST


@dataclass(frozen=True)
class Stored:
    """Rows of one layer: `names` of their images, what they were made with, and `chunks`, arrays [n, D] in order."""

    names: tuple[str, ...]
    metadata: Mapping[str, str]
    chunks: Callable[[], Iterator[Array]]


def open_rows(path: Path) -> Stored:
    """The rows that `path` holds. Raises DataError where it is no store, is damaged, or holds several layers or maps."""
    if path.is_dir():
        return _shards(path)
    readers = {".safetensors": _safetensors, ".npy": _npy, ".npz": _npz, ".parquet": _parquet, ".csv": _csv}
    if path.suffix not in readers:
        raise DataError(f"{path} is no file of `vgg features`; those end in {', '.join(SUFFIXES)}")
    if not path.is_file():
        raise DataError(f"there is no file {path}")
    try:
        return readers[path.suffix](path)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as a file of `vgg features`: {error}") from error


def _shards(folder: Path) -> Stored:
    if not (folder / MANIFEST).is_file():
        raise DataError(f"{folder} holds no {MANIFEST}, so it is no folder of shards that `vgg features` wrote")
    shards = [open_rows(path) for path in sorted(folder.glob("shard-*.safetensors"))]
    if not shards:
        raise DataError(f"{folder} holds no shard yet")
    names = tuple(name for shard in shards for name in shard.names)
    return Stored(names, shards[0].metadata, lambda: (rows for shard in shards for rows in shard.chunks()))


def _checked(path: Path, shape: tuple[int, ...], names: list[str], metadata: Mapping[str, str]) -> tuple[str, ...]:
    if len(shape) != 2:
        raise DataError(f"{path} holds maps as they are, {list(shape)}; rows are needed: make it with --gap or --gmp")
    if shape[0] != len(names):
        raise DataError(f"{path} has {shape[0]} rows and {len(names)} names")
    for key in ("layer", "weights", "weights_sha256"):
        if key not in metadata:
            raise DataError(f"{path} does not say its {key}, so `vgg features` did not write it")
    return tuple(names)


def _one_layer(path: Path, keys: object) -> None:
    found = [str(key) for key in keys]  # type: ignore[attr-defined]
    if FEATURES not in found:
        shown = ", ".join(found[:4]) + (", …" if len(found) > 4 else "")
        raise DataError(
            f"{path} holds {shown or 'nothing'}, not one layer's {FEATURES!r}: write each layer to its own file"
        )


def _safetensors(path: Path) -> Stored:
    with safe_open(path, framework="numpy") as file:
        _one_layer(path, file.keys())
        metadata: dict[str, str] = dict(file.metadata() or {})
        shape = tuple(file.get_slice(FEATURES).get_shape())
    names = _checked(path, shape, json.loads(metadata.pop("images")), metadata)

    def chunks() -> Iterator[Array]:
        with safe_open(path, framework="numpy") as file:
            rows = file.get_slice(FEATURES)
            for start in range(0, shape[0], CHUNK):
                yield rows[start : min(start + CHUNK, shape[0])]

    return Stored(names, metadata, chunks)


def _steps(rows: Array) -> Iterator[Array]:
    for start in range(0, len(rows), CHUNK):
        yield np.asarray(rows[start : start + CHUNK])


def _npy(path: Path) -> Stored:
    if not sidecar(path).is_file():
        raise DataError(f"{path} has lost the names of its rows: there is no {sidecar(path)}")
    metadata = json.loads(sidecar(path).read_text(encoding="utf-8"))
    del metadata["rows"]
    rows = np.load(path, mmap_mode="r", allow_pickle=False)
    names = _checked(path, rows.shape, metadata.pop("images"), metadata)
    return Stored(names, metadata, lambda: _steps(rows))


def _npz(path: Path) -> Stored:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        _one_layer(path, arrays.files)
        metadata = json.loads(str(arrays["metadata"]))
        rows = arrays[FEATURES]
        names = _checked(path, rows.shape, arrays["images"].tolist(), metadata)
    return Stored(names, metadata, lambda: _steps(rows))


def _parquet(path: Path) -> Stored:
    pq, pa = parquet(), importlib.import_module("pyarrow")
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        _one_layer(path, schema.names)
        found = file.read(["path"]).column("path").to_pylist()
    except pa.ArrowException as error:
        raise DataError(f"{path} cannot be read as a Parquet file: {error}") from error
    metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    width = schema.field(FEATURES).type.list_size
    names = [name.decode(errors="surrogateescape") if isinstance(name, bytes) else name for name in found]

    def chunks() -> Iterator[Array]:
        for batch in pq.ParquetFile(path).iter_batches(CHUNK, columns=[FEATURES]):
            yield batch.column(0).flatten().to_numpy().reshape(-1, width)

    return Stored(_checked(path, (len(names), width), names, metadata), metadata, chunks)


def _csv(path: Path) -> Stored:
    metadata: dict[str, Any] = json.loads(sidecar(path).read_text(encoding="utf-8"))

    def lines() -> Iterator[list[str]]:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            reader = csv.reader(file)
            next(reader)
            yield from reader

    def chunks() -> Iterator[Array]:
        found = lines()
        while some := list(itertools.islice(found, CHUNK)):
            yield np.array([line[1:] for line in some], dtype=np.float32)

    names, widths = [], set()
    for line in lines():
        names.append(line[0])
        widths.add(len(line) - 1)
    if len(names) != metadata.pop("rows") or len(widths) != 1:
        raise DataError(f"{path} is damaged or cut short: its lines are not those that it was written with")
    (width,) = widths
    return Stored(_checked(path, (len(names), width), names, metadata), metadata, chunks)
