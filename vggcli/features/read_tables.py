"""Rows found in .parquet and .csv: schema, claims of size and every number are looked over as they are read."""

import csv
import importlib
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vggcli.features.claims import ClaimedColumn, Claims, names_of, sidecar_of, texts_of
from vggcli.features.digests import ROWS_DIGEST
from vggcli.features.write import CHUNK_ROWS, ONLY_COLUMN, AnyArray, parquet, sidecar
from vggcli.files import file_sha256

SMALL = 64 << 20  # bytes; what a file may unpack to whatever its own size is
MOST_UNPACKED = 1000  # times a Parquet file's own size; rows of one value alone are packed more tightly
NAMES_A_BYTE = 4  # rows in a byte of a Parquet file, names and all


def parquet_file(path: Path) -> Claims:
    """Columns `path` and rows as lists of a fixed size."""
    pq, pa = parquet(), importlib.import_module("pyarrow")
    with _arrow_errors(pa):
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        _check_claims(path, file.metadata)
        columns = {
            schema.field(index).name: _parquet_column(path, file, schema.field(index))
            for index in range(len(schema.names))
            if schema.field(index).name != "path"
        }
        if len(columns) + 1 != len(schema.names):
            raise ValueError(f"its columns are {', '.join(map(str, schema.names[:5]))}, not `path` and rows by layer")
        names = _parquet_names(pq.ParquetFile(path, read_dictionary=["path"]), pa, schema.field("path"))
        metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    return Claims(names, columns, texts_of(metadata))


def _check_claims(path: Path, about: Any) -> None:
    """Raises ValueError where a file would unpack to far more than the rows that `vgg features` writes do."""
    size = path.stat().st_size
    unpacked = sum(about.row_group(index).total_byte_size for index in range(about.num_row_groups))
    if about.num_rows > NAMES_A_BYTE * size or unpacked > max(SMALL, MOST_UNPACKED * size):
        raise ValueError(f"its {size:,} bytes claim {about.num_rows:,} rows, {unpacked:,} bytes unpacked")


def _parquet_column(path: Path, file: Any, field: Any) -> ClaimedColumn:
    pq, pa = parquet(), importlib.import_module("pyarrow")
    kinds = {pa.float16(): "float16", pa.float32(): "float32", pa.float64(): "float64"}
    if not pa.types.is_fixed_size_list(field.type) or field.type.value_type not in kinds or field.type.list_size < 1:
        raise ValueError(
            f"its column {field.name!r} is of {field.type}, not of lists of one length of float32 or float16"
        )
    width, kind = field.type.list_size, kinds[field.type.value_type]
    rows, size = file.metadata.num_rows, path.stat().st_size
    if rows * width * np.dtype(kind).itemsize > max(SMALL, MOST_UNPACKED * size):
        raise ValueError(f"its {size:,} bytes claim {rows:,} rows of {width:,} numbers")

    def chunks() -> Iterator[AnyArray]:
        with _arrow_errors(pa):
            for batch in pq.ParquetFile(path).iter_batches(CHUNK_ROWS, columns=[field.name]):
                lists = batch.column(0)
                numbers = lists.flatten()
                if lists.null_count or numbers.null_count:
                    raise ValueError(f"its column {field.name!r} has empty places")
                yield numbers.to_numpy().reshape(-1, width)

    return ClaimedColumn(kind, (rows, width), chunks)


def _parquet_names(file: Any, pa: Any, field: Any) -> tuple[str, ...]:
    """Names a thousand at a time, each looked up by its number: a name that is packed a million times never unpacks."""
    if field.type not in (pa.string(), pa.binary(), pa.large_string(), pa.large_binary()):
        raise ValueError(f"its column `path` is of {field.type}, not of texts")
    names: list[str] = []
    for batch in file.iter_batches(CHUNK_ROWS, columns=["path"]):
        column = batch.column(0)
        if column.null_count:
            raise ValueError("its column `path` has empty places")
        if pa.types.is_dictionary(column.type) and len(set(column.indices.to_pylist())) < len(column):
            raise ValueError("its column `path` names an image twice")
        found = column.to_pylist()
        names += [name.decode(errors="surrogateescape") if isinstance(name, bytes) else name for name in found]
    return names_of(names)


def index_rows(path: Path) -> Iterator[tuple[str, str, int]]:
    """Name, shard and row of every image that an index of shards has a row for. Raises ValueError where it is damaged."""
    pq, pa = parquet(), importlib.import_module("pyarrow")
    with _arrow_errors(pa):
        file = pq.ParquetFile(path, page_checksum_verification=True)
        _check_claims(path, file.metadata)
        for batch in file.iter_batches(CHUNK_ROWS):
            found = batch.to_pydict()
            for name, shard, row in zip(found["path"], found["shard"], found["row"], strict=True):
                if shard is not None:
                    yield name.decode(errors="surrogateescape") if isinstance(name, bytes) else name, shard, row


@contextmanager
def _arrow_errors(pa: Any) -> Iterator[None]:
    try:
        yield
    except pa.ArrowException as error:  # no memory for a damaged length is Arrow's error too
        raise ValueError(str(error)) from error


def csv_file(path: Path) -> Claims:
    """A line an image; what else there is to know lies beside it, the SHA-256 of all lines too."""
    about = sidecar_of(path)
    rows, metadata = about.pop("rows", None), texts_of(about)
    if ROWS_DIGEST in metadata and metadata[ROWS_DIGEST] != file_sha256(path):
        raise ValueError("its lines are not those that were written (their SHA-256 differs)")
    header = next(_lines(path), None)
    width = len(header or ()) - 1
    if width < 1 or header != ["path", *map(str, range(width))]:
        raise ValueError("its first line is not path,0,1,…")
    names = []
    for number, line in enumerate(itertools.islice(_lines(path), 1, None), start=1):
        if len(line) != width + 1:
            raise ValueError(f"row {number} has {len(line) - 1} numbers and the first line {width}")
        names.append(line[0])
    if rows != len(names):
        raise ValueError(f"it has {len(names)} rows, and {sidecar(path).name} says {rows!r}"[:200])
    column = ClaimedColumn("float32", (len(names), width), lambda: _numbers(path))
    return Claims(names_of(names), {ONLY_COLUMN: column}, metadata, of_bytes=True)


def _lines(path: Path) -> Iterator[list[str]]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        yield from csv.reader(file, strict=True)


def _numbers(path: Path) -> Iterator[AnyArray]:
    lines = itertools.islice(_lines(path), 1, None)
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and said
        while some := list(itertools.islice(lines, CHUNK_ROWS)):
            yield np.array([line[1:] for line in some], dtype=np.float32)
