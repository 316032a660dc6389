"""Files of rows: .safetensors, .npy, .npz, .parquet and .csv, each with names of rows, what was asked, and SHA-256s.

Rows are written as they are read, a thousand at a time, so memory does not grow with their number. Names survive exactly,
whatever bytes they hold: JSON and NumPy keep Python's escapes of what is not UTF-8 (surrogateescape), a CSV has the bytes
themselves, and Parquet a binary column where a string column cannot hold them.
"""

import hashlib
import importlib
import json
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vggcli.data.own_files import STORE_SUFFIXES
from vggcli.errors import MachineError, UsageError, counted
from vggcli.features.digests import UNKNOWN, ColumnTypes, rows_digests, with_digests
from vggcli.files import file_sha256, replacing, write_text

ONLY_COLUMN = "features"  # the tensor's name where there is one layer
CHUNK_ROWS = 1024  # rows
LARGEST_HEADER = 100_000_000  # bytes of JSON that safetensors' own readers accept
SAFETENSORS_TYPES = {"float32": "F32", "float16": "F16"}

AnyArray = NDArray[Any]


@dataclass(frozen=True)
class Column:
    """Rows of one layer: how many, the shape of each, their type, and `chunks`, which goes through them in order."""

    rows: int
    shape: tuple[int, ...]
    dtype: str
    chunks: Callable[[], Iterator[AnyArray]]

    @property
    def nbytes(self) -> int:
        return self.rows * int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Table:
    """What a file holds: the name of each row's image, a column a layer (the only one is called "features"), and texts
    that say how it was made."""

    names: Sequence[str]
    columns: Mapping[str, Column]
    metadata: Mapping[str, str]

    @property
    def layout(self) -> ColumnTypes:
        return {name: (one.dtype, (one.rows, *one.shape)) for name, one in self.columns.items()}

    def with_digests(self, rows: str) -> dict[str, str]:
        """The metadata with the digests of rows and of all else."""
        return with_digests(self.names, self.layout, self.metadata, rows)


def column_of(rows: AnyArray) -> Column:
    """A column of rows that are at hand."""
    steps = range(0, len(rows), CHUNK_ROWS)
    return Column(len(rows), rows.shape[1:], str(rows.dtype), lambda: (rows[at : at + CHUNK_ROWS] for at in steps))


def check_format(path: Path, layers: Sequence[str], pooled: bool) -> None:
    """Raises UsageError where the suffix of `path` is none of ours or its format cannot hold what is asked, MachineError
    where the library that writes it is missing."""
    suffix = path.suffix
    if suffix not in STORE_SUFFIXES:
        endings = f"{', '.join(STORE_SUFFIXES[:-1])} or {STORE_SUFFIXES[-1]}"
        raise UsageError(f"{path}: give a name that ends in {endings}", "out")
    if suffix in (".npy", ".csv") and len(layers) > 1:
        raise UsageError(f"{path}: {suffix} holds one layer; give .safetensors, .npz or .parquet for several", "out")
    if suffix in (".parquet", ".csv") and not pooled:
        raise UsageError(
            f"{path}: {suffix} holds rows of numbers, no maps; pool these over space, or give another suffix",
            *("pool", "out"),
        )
    if suffix == ".parquet":
        parquet()


def parquet() -> Any:
    """pyarrow's parquet module. Raises MachineError where it is not installed."""
    try:
        importlib.import_module("pyarrow")
        return importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise MachineError(
            "Parquet files, and the index of shards, need pyarrow; install it with `pip install 'vggcli[parquet]'`"
        ) from error


def sidecar(path: Path) -> Path:
    """Where names and metadata of a .npy lie, and the metadata of a .csv: the same name with .json behind it."""
    return path.with_name(f"{path.name}.json")


def write_table(path: Path, table: Table) -> None:
    """Write `table` to `path` in the format of its suffix, whole or not at all; equal tables give equal bytes.

    Raises MachineError where the disk refuses, UsageError where names are too many for one file.
    """
    writers = {
        ".safetensors": _write_safetensors,
        ".npy": _write_npy,
        ".npz": _write_npz,
        ".parquet": _write_parquet,
        ".csv": _write_csv,
    }
    with replacing(path) as temporary:
        about = writers[path.suffix](temporary, table)
        if path.suffix in (".npy", ".csv"):
            names = {"images": list(table.names)} if path.suffix == ".npy" else {}
            text = json.dumps({**about, "rows": len(table.names), **names}, indent=1, sort_keys=True)
            write_text(sidecar(path), text + "\n")


def _write_safetensors(path: Path, table: Table) -> Mapping[str, str]:
    """The digests' places are kept in the header, and filled when the rows are written."""
    about = table.with_digests(rows_digests(dict.fromkeys(table.columns, UNKNOWN)))
    text = _header(table, about)
    if len(text) > LARGEST_HEADER:
        raise UsageError(
            f"the names of {counted(len(table.names), 'image')} do not fit into one .safetensors file; write "
            f"shards of 10,000 or so",
            "shard_size",
        )
    with path.open("wb") as file:
        file.write(text)
        digests = {name: _write_chunks(file, column) for name, column in table.columns.items()}
        about = table.with_digests(rows_digests(digests))
        file.seek(0)
        file.write(_header(table, about))
    return about


def _header(table: Table, metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {**metadata, "images": json.dumps(list(table.names))}}
    start = 0
    for name, column in table.columns.items():
        end = start + column.nbytes
        shape = [column.rows, *column.shape]
        header[name] = {"dtype": SAFETENSORS_TYPES[column.dtype], "shape": shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _write_npy(path: Path, table: Table) -> Mapping[str, str]:
    (column,) = table.columns.values()
    with path.open("wb") as file:
        return table.with_digests(_npy_into(file, column))


def _write_npz(path: Path, table: Table) -> Mapping[str, str]:
    """Arrays "features" (or one a layer), "images" (text) and "metadata" (one text, JSON)."""
    names = np.array(list(table.names), dtype=np.str_) if table.names else np.zeros(0, "<U1")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        digests = {name: _member(archive, name, column) for name, column in table.columns.items()}
        about = table.with_digests(rows_digests(digests))
        text = np.array(json.dumps(about, sort_keys=True))
        _member(archive, "images", column_of(names))
        _member(archive, "metadata", Column(1, (), str(text.dtype), lambda: iter((text,))), scalar=True)
    return about


def _member(archive: zipfile.ZipFile, name: str, column: Column, scalar: bool = False) -> str:
    entry = zipfile.ZipInfo(f"{name}.npy")  # of a fixed date, so that equal tables are equal files
    with archive.open(entry, "w", force_zip64=True) as file:
        return _npy_into(file, column, scalar)


def _npy_into(file: Any, column: Column, scalar: bool = False) -> str:
    shape = () if scalar else (column.rows, *column.shape)
    descr = np.lib.format.dtype_to_descr(np.dtype(column.dtype))
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return _write_chunks(file, column)


def _write_chunks(file: BinaryIO | Any, column: Column) -> str:
    """Write the rows; their SHA-256."""
    digest = hashlib.sha256()
    for rows in column.chunks():
        some = rows.tobytes()
        digest.update(some)
        file.write(some)
    return digest.hexdigest()


def _rows_sha256(column: Column) -> str:
    digest = hashlib.sha256()
    for rows in column.chunks():
        digest.update(rows.tobytes())
    return digest.hexdigest()


def _write_parquet(path: Path, table: Table) -> Mapping[str, str]:
    """A column `path`, then a fixed-size list a layer; the metadata are the schema's, which is written first."""
    pq, pa = parquet(), importlib.import_module("pyarrow")
    types = {name: pa.list_(getattr(pa, column.dtype)(), column.shape[0]) for name, column in table.columns.items()}
    fields = [("path", name_type(table.names)), *types.items()]
    about = table.with_digests(rows_digests({name: _rows_sha256(column) for name, column in table.columns.items()}))
    schema = pa.schema(fields).with_metadata(about)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        start = 0
        for chunks in zip(*(column.chunks() for column in table.columns.values()), strict=True):
            names = name_array(table.names[start : start + len(chunks[0])], fields[0][1])
            start += len(chunks[0])
            lists = [
                pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1]).cast(types[name])
                for name, rows in zip(table.columns, chunks, strict=True)
            ]
            writer.write_table(pa.table([names, *lists], schema=schema))
    return about


def name_type(names: Sequence[str]) -> Any:
    """pyarrow's string, or binary where some name is not valid UTF-8."""
    pa = importlib.import_module("pyarrow")
    return pa.string() if all(_is_utf8(name) for name in names) else pa.binary()


def name_array(names: Sequence[str], kind: Any) -> Any:
    """A column of names; in a binary one the bytes that the file system has."""
    pa = importlib.import_module("pyarrow")
    exact = kind == pa.binary()
    return pa.array([name.encode(errors="surrogateescape") if exact else name for name in names], kind)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write_csv(path: Path, table: Table) -> Mapping[str, str]:
    """A header `path,0,1,…` and a line a row: numbers as short as they can be read back exactly, names always in quotes
    (Python's own writer forgets them around a carriage return)."""
    (column,) = table.columns.values()
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        file.write(",".join(["path", *map(str, range(column.shape[0]))]) + "\n")
        names = iter(table.names)
        for rows in column.chunks():
            for row in rows:
                name = next(names).replace('"', '""')
                file.write(",".join([f'"{name}"', *map(str, row)]) + "\n")
    return with_digests((), {}, table.metadata, file_sha256(path))
