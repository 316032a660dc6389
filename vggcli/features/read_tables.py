"""Readers of .parquet and .csv: the schema, the claimed sizes and every number are checked."""

import csv
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vggcli.features.metadata import first_of, read_metadata, read_names, read_sidecar, sidecar
from vggcli.features.table import CHUNK_ROWS, ONLY_COLUMN, ROWS_DIGEST, AnyArray, Column, Table
from vggcli.features.write import arrow
from vggcli.files import file_sha256

SMALL = 64 << 20  # bytes that any file may unpack to, however small it is
MOST_UNPACKED = 1000  # times a Parquet file's own size; only rows of one value alone are packed more tightly
ROWS_A_BYTE = 4  # at most, of a Parquet file, names and all


def parquet_file(path: Path) -> Table:
    """Columns `path` and rows as lists of a fixed size."""
    pa = arrow()
    with _arrow_errors(pa):
        file = pa.parquet.ParquetFile(path)
        _check_claims(path, file.metadata)
        fields = {field.name: field for field in file.schema_arrow}
        columns = {name: _parquet_column(path, file, field) for name, field in fields.items() if name != "path"}
        if len(columns) + 1 != len(file.schema_arrow.names):
            raise ValueError(f"its columns are {first_of(file.schema_arrow.names)}, not `path` and rows by layer")
        names = _parquet_names(pa.parquet.ParquetFile(path, read_dictionary=["path"]), pa, fields["path"])
        metadata = {key.decode(): value.decode() for key, value in (file.schema_arrow.metadata or {}).items()}
    return Table(names, columns, read_metadata(metadata))


def _check_claims(path: Path, about: Any) -> None:
    """Raises ValueError where a file would unpack to far more than the rows that `vgg features` writes do."""
    size = path.stat().st_size
    unpacked = sum(about.row_group(index).total_byte_size for index in range(about.num_row_groups))
    if about.num_rows > ROWS_A_BYTE * size or unpacked > max(SMALL, MOST_UNPACKED * size):
        raise ValueError(f"its {size:,} bytes claim {about.num_rows:,} rows, {unpacked:,} bytes unpacked")


def _parquet_column(path: Path, file: Any, field: Any) -> Column:
    pa = arrow()
    kinds = {pa.float16(): "float16", pa.float32(): "float32", pa.float64(): "float64"}
    if not pa.types.is_fixed_size_list(field.type) or field.type.value_type not in kinds or field.type.list_size < 1:
        raise ValueError(f"its column {field.name!r} is of {field.type}, not of fixed-size lists of float32 or float16")
    width, kind = field.type.list_size, kinds[field.type.value_type]
    rows, size = file.metadata.num_rows, path.stat().st_size
    if rows * width * np.dtype(kind).itemsize > max(SMALL, MOST_UNPACKED * size):
        raise ValueError(f"its {size:,} bytes claim {rows:,} rows of {width:,} numbers")

    def chunks() -> Iterator[AnyArray]:
        with _arrow_errors(pa):
            for batch in pa.parquet.ParquetFile(path).iter_batches(CHUNK_ROWS, columns=[field.name]):
                lists = batch.column(0)
                numbers = lists.flatten()
                if lists.null_count or numbers.null_count:
                    raise ValueError(f"its column {field.name!r} has missing values")
                yield numbers.to_numpy().reshape(-1, width)

    return Column(kind, (rows, width), chunks)


def _parquet_names(file: Any, pa: Any, field: Any) -> tuple[str, ...]:
    """Names a thousand at a time, each looked up by its number: a name that is packed a million times never unpacks."""
    if field.type not in (pa.string(), pa.binary(), pa.large_string(), pa.large_binary()):
        raise ValueError(f"its column `path` is of {field.type}, not of texts")
    names: list[str] = []
    for batch in file.iter_batches(CHUNK_ROWS, columns=["path"]):
        column = batch.column(0)
        if column.null_count:
            raise ValueError("its column `path` has missing values")
        if pa.types.is_dictionary(column.type) and len(set(column.indices.to_pylist())) < len(column):
            raise ValueError("its column `path` names an image twice")
        names += map(_text, column.to_pylist())
    return read_names(names)


def index_rows(path: Path) -> Iterator[tuple[str, str, int]]:
    """Name, shard and row of every image that an index of shards has a row for. Raises ValueError where it is damaged."""
    pa = arrow()
    with _arrow_errors(pa):
        file = pa.parquet.ParquetFile(path, page_checksum_verification=True)
        _check_claims(path, file.metadata)
        for batch in file.iter_batches(CHUNK_ROWS):
            found = batch.to_pydict()
            for name, shard, row in zip(found["path"], found["shard"], found["row"], strict=True):
                if shard is not None:
                    yield _text(name), shard, row


def _text(name: str | bytes) -> str:
    return name.decode(errors="surrogateescape") if isinstance(name, bytes) else name


@contextmanager
def _arrow_errors(pa: Any) -> Iterator[None]:
    try:
        yield
    except pa.ArrowException as error:  # a damaged length that needs too much memory is Arrow's error too
        raise ValueError(str(error)) from error


def csv_file(path: Path) -> Table:
    """A line for each image; the metadata, with the SHA-256 of all lines, are in the file beside it."""
    about = read_sidecar(path)
    rows, metadata = about.pop("rows", None), read_metadata(about)
    if ROWS_DIGEST in metadata and metadata[ROWS_DIGEST] != file_sha256(path):
        raise ValueError("its lines are not those that were written (SHA-256 mismatch)")
    header = next(_lines(path), None)
    width = len(header or ()) - 1
    if width < 1 or header != ["path", *map(str, range(width))]:
        raise ValueError("its first line is not path,0,1,…")
    names = []
    for number, line in enumerate(itertools.islice(_lines(path), 1, None), start=1):
        if len(line) != width + 1:
            raise ValueError(f"row {number} has {len(line) - 1} numbers, but the first line {width}")
        names.append(line[0])
    if rows != len(names):
        raise ValueError(f"it has {len(names)} rows, but {sidecar(path).name} says {rows!r}"[:200])

    def chunks() -> Iterator[AnyArray]:
        lines = itertools.islice(_lines(path), 1, None)
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which is refused later
            while some := list(itertools.islice(lines, CHUNK_ROWS)):
                yield np.array([line[1:] for line in some], dtype=np.float32)

    return Table(read_names(names), {ONLY_COLUMN: Column("float32", (len(names), width), chunks)}, metadata)


def _lines(path: Path) -> Iterator[list[str]]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        yield from csv.reader(file, strict=True)
