"""Stored rows read back: any file or folder of shards that `vgg features` writes, a thousand rows at a time.

Whatever the format, names, shapes, types and metadata are checked before any row is read, and rows as they pass: that all
are finite, and that the SHA-256s are those that were written (files of older versions have none).
"""

import csv
import hashlib
import struct
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError

from vggcli.errors import DataError, counted
from vggcli.features.array_files import npy, npz, safetensors
from vggcli.features.digests import ROWS, WHOLE, expected_digests
from vggcli.features.found import Found, FoundColumn, is_of_the_machine
from vggcli.features.table_files import csv_file, parquet_file
from vggcli.features.write import FEATURES, SUFFIXES, Array, sidecar

READERS: Mapping[str, Callable[[Path], Found]] = {
    ".safetensors": safetensors,
    ".npy": npy,
    ".npz": npz,
    ".parquet": parquet_file,
    ".csv": csv_file,
}
NUMBERS = ("float16", "float32", "float64", "bfloat16", ">f2", ">f4", ">f8")


@dataclass(frozen=True)
class Stored:
    """Rows of one layer, `width` numbers each: `names` of their images, what they were made with, and `chunks`, float32 or
    float16 arrays [n, D] in order, of finite numbers. `chunks` raises DataError where the rows are damaged."""

    names: tuple[str, ...]
    width: int
    metadata: Mapping[str, str]
    chunks: Callable[[], Iterator[Array]]


def open_rows(path: Path, may_be_empty: bool = False) -> Stored:
    """The rows that a file holds. Raises DataError where it is none of `vgg features`, is damaged, holds several layers,
    maps or no row, or names an image twice."""
    found = open_file(path)
    if FEATURES not in found.columns:
        shown = ", ".join(list(found.columns)[:4]) + (", …" if len(found.columns) > 4 else "")
        raise DataError(
            f"{path} holds {shown or 'nothing'}, not one layer's {FEATURES!r}: write each layer to its own file"
        )
    column = found.columns[FEATURES]
    if len(column.shape) != 2:
        shape = list(column.shape)
        raise DataError(f"{path} holds maps as they are, of the shape {shape}; rows are needed: add --gap or --gmp")
    if not may_be_empty and not all(column.shape):
        raise DataError(f"{path} holds no descriptor")
    return Stored(found.names, column.shape[1], found.metadata, column.chunks)


def open_file(path: Path) -> Found:
    """All that a file says, checked; its columns' `chunks` check the rows and raise DataError. `metadata` are without the
    digests and what the formats add. Raises DataError as `open_rows`, but for what columns hold."""
    if path.suffix not in READERS:
        raise DataError(f"{path} is no file of `vgg features`; those end in {', '.join(SUFFIXES)}")
    if not path.is_file():
        what = "is no regular file" if path.exists() else "is not there"
        raise DataError(f"{path} {what}; make one with `vgg features PATH... --gap --out FILE`")
    if path.suffix in (".npy", ".csv") and not sidecar(path).exists():
        raise DataError(f"{path} has lost what belongs to it: there is no {sidecar(path)}")
    with _reading(path):
        path.open("rb").close()  # where the machine refuses, Python says so more clearly than the libraries do
        found = READERS[path.suffix](path)
        layout = {name: (one.dtype, one.shape) for name, one in found.columns.items()}
        digests = expected_digests(*(((), {}) if found.of_bytes else (found.names, layout)), found.metadata)
    _check_names(path, found)
    columns = {
        name: FoundColumn(one.dtype, one.shape, _checked(path, found.names, one, digests.get(name)))
        for name, one in found.columns.items()
    }
    about = {key: text for key, text in found.metadata.items() if key not in (WHOLE, ROWS)}
    return Found(found.names, columns, about, found.of_bytes)


def _check_names(path: Path, found: Found) -> None:
    for name, column in found.columns.items():
        if column.dtype not in NUMBERS:
            raise DataError(f"{path}: {name!r} is of the type {column.dtype}; rows are of float32 or float16")
        if column.shape[:1] != (len(found.names),):
            rows = counted(column.shape[0] if column.shape else 0, "descriptor")
            raise DataError(f"{path} is damaged: it has {rows} and the names of {counted(len(found.names), 'image')}")
    twice = next((name for name, count in Counter(found.names).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{path} has two descriptors of {twice!r}; describe each image once")


def _checked(
    path: Path, names: tuple[str, ...], column: FoundColumn, digest: str | None
) -> Callable[[], Iterator[Array]]:
    def chunks() -> Iterator[Array]:
        seen, start = hashlib.sha256(), 0
        with _reading(path):
            for rows in column.chunks():
                if digest is not None:
                    seen.update(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
                with np.errstate(over="ignore"):
                    numbers = rows if rows.dtype == np.float16 else rows.astype(np.float32, copy=False)
                _check_finite(path, names, start, numbers)
                yield numbers
                start += len(rows)
            if start != column.shape[0]:
                raise ValueError(f"it has {start} rows and says {column.shape[0]}")
            if digest is not None and seen.hexdigest() != digest:
                raise ValueError("its rows are not those that were written (their SHA-256 differs)")

    return chunks


def _check_finite(path: Path, names: tuple[str, ...], start: int, rows: Array) -> None:
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=tuple(range(1, rows.ndim))))
    if len(bad):
        raise DataError(
            f"{path}: the descriptor of {names[start + bad[0]]!r} holds values that are not finite; "
            f"describe the images again"
        )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever the readers of a damaged file raise, as a DataError; not what says nothing of the file."""
    try:
        yield
    except (
        SafetensorError, zipfile.BadZipFile, csv.Error, struct.error, OSError, EOFError, ValueError, TypeError,
        LookupError, ArithmeticError, RuntimeError,
    ) as error:  # fmt: skip
        if is_of_the_machine(error):
            raise
        reason = str(error)[:300] or type(error).__name__
        raise DataError(
            f"{path} cannot be read as a file of descriptors (damaged, or of another kind): {reason}"
        ) from error
