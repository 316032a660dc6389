"""Files of rows: .safetensors, .npy, .npz, .parquet and .csv, each with names of images, settings, and SHA-256s.

Rows are written as they are read, a thousand at a time, so memory does not grow with their number. Names survive exactly,
whatever bytes they hold: JSON and NumPy keep Python's escapes of what is not UTF-8 (surrogateescape), a CSV has the bytes
themselves, and Parquet a binary column where a string column cannot hold them.
"""

import hashlib
import importlib
import json
import math
import struct
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vggcli.data.own_files import STORE_SUFFIXES
from vggcli.errors import MachineError, UsageError, counted
from vggcli.features.metadata import sidecar
from vggcli.features.table import Column, Table, column_of
from vggcli.files import file_sha256, replacing, write_text

LARGEST_HEADER = 100_000_000  # bytes of JSON that safetensors' own readers accept
SAFETENSORS_TYPES = {"float32": "F32", "float16": "F16"}
UNKNOWN = "0" * 64  # in the place of a digest that is not known yet


def check_format(path: Path, layers: Sequence[str], pooled: bool) -> None:
    """Raises UsageError where the suffix of `path` is unknown or its format cannot hold the rows, MachineError where the
    library that writes it is missing."""
    suffix = path.suffix
    if suffix not in STORE_SUFFIXES:
        endings = f"{', '.join(STORE_SUFFIXES[:-1])} or {STORE_SUFFIXES[-1]}"
        raise UsageError(f"{path}: give a name that ends in {endings}", "out")
    if suffix in (".npy", ".csv") and len(layers) > 1:
        raise UsageError(f"{path}: {suffix} holds one layer; give .safetensors, .npz or .parquet for several", "out")
    if suffix in (".parquet", ".csv") and not pooled:
        raise UsageError(
            f"{path}: {suffix} holds pooled rows, not maps; pool over space, or give another suffix",
            *("pool", "out"),
        )
    if suffix == ".parquet":
        arrow()


def arrow() -> Any:
    """pyarrow, with its module `parquet`. Raises MachineError where it is not installed."""
    try:
        importlib.import_module("pyarrow.parquet")
        return importlib.import_module("pyarrow")
    except ImportError as error:
        raise MachineError(
            "Parquet files, and the index of shards, need pyarrow; install it with `pip install 'vggcli[parquet]'`"
        ) from error


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
    """The header is written twice: with room for the digests, and with them once the rows are written."""
    text = _header(table, table.with_digests(dict.fromkeys(table.columns, UNKNOWN)))
    if len(text) > LARGEST_HEADER:
        raise UsageError(
            f"the names of {counted(len(table.names), 'image')} do not fit into one .safetensors file; write "
            f"shards of 10,000 or so",
            "shard_size",
        )
    with path.open("wb") as file:
        file.write(text)
        about = table.with_digests({name: _write_chunks(file, column) for name, column in table.columns.items()})
        file.seek(0)
        file.write(_header(table, about))
    return about


def _header(table: Table, metadata: Mapping[str, str]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {**metadata, "images": json.dumps(list(table.names))}}
    start = 0
    for name, column in table.columns.items():
        end = start + math.prod(column.shape) * np.dtype(column.dtype).itemsize
        kind, shape = SAFETENSORS_TYPES[column.dtype], list(column.shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _write_npy(path: Path, table: Table) -> Mapping[str, str]:
    with path.open("wb") as file:
        return table.with_digests({name: _write_array(file, column) for name, column in table.columns.items()})


def _write_npz(path: Path, table: Table) -> Mapping[str, str]:
    """Arrays "features" (or one for each layer), "images" (text) and "metadata" (one text, JSON)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:

        def write(name: str, column: Column) -> str:
            entry = zipfile.ZipInfo(f"{name}.npy")  # of a fixed date, so that equal tables are equal files
            with archive.open(entry, "w", force_zip64=True) as file:
                return _write_array(file, column)

        about = table.with_digests({name: write(name, column) for name, column in table.columns.items()})
        text = np.array(json.dumps(about, sort_keys=True))
        write("images", column_of(np.array(list(table.names), dtype=np.str_)))
        write("metadata", Column(str(text.dtype), (), lambda: iter((text,))))
    return about


def _write_array(file: Any, column: Column) -> str:
    """Write an array in the format of .npy; the SHA-256 of its bytes."""
    descr = np.lib.format.dtype_to_descr(np.dtype(column.dtype))
    header = {"descr": descr, "fortran_order": False, "shape": column.shape}
    np.lib.format.write_array_header_1_0(file, header)
    return _write_chunks(file, column)


def _write_chunks(file: BinaryIO | Any | None, column: Column) -> str:
    """The SHA-256 of the rows, which are written to `file` where there is one."""
    digest = hashlib.sha256()
    for rows in column.chunks():
        some = rows.tobytes()
        digest.update(some)
        if file is not None:
            file.write(some)
    return digest.hexdigest()


def _write_parquet(path: Path, table: Table) -> Mapping[str, str]:
    """A column `path`, then one of fixed-size lists for each layer; the metadata are the schema's, which comes first."""
    pa = arrow()
    types = {name: pa.list_(getattr(pa, column.dtype)(), column.shape[1]) for name, column in table.columns.items()}
    fields = [("path", name_type(table.names)), *types.items()]
    about = table.with_digests({name: _write_chunks(None, column) for name, column in table.columns.items()})
    schema = pa.schema(fields).with_metadata(about)
    with pa.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
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
    try:
        for name in names:
            name.encode()
    except UnicodeEncodeError:
        return arrow().binary()
    return arrow().string()


def name_array(names: Sequence[str], kind: Any) -> Any:
    """A column of names; in a binary one they are the bytes of the file system."""
    pa = arrow()
    exact = kind == pa.binary()
    return pa.array([name.encode(errors="surrogateescape") if exact else name for name in names], kind)


def _write_csv(path: Path, table: Table) -> Mapping[str, str]:
    """A header `path,0,1,…` and a line for each row: numbers with as few digits as can be read back exactly, names always
    in quotes (Python's own writer leaves them out around a carriage return)."""
    (column,) = table.columns.values()
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        file.write(",".join(["path", *map(str, range(column.shape[1]))]) + "\n")
        names = iter(table.names)
        for rows in column.chunks():
            for row in rows:
                name = next(names).replace('"', '""')
                file.write(",".join([f'"{name}"', *map(str, row)]) + "\n")
    return Table((), {}, table.metadata).with_digests({"": file_sha256(path)})
