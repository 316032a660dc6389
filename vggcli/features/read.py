"""The one reader of stored descriptors: `open_store` opens any file or folder of shards that `vgg features` writes.

Names, shapes, types and metadata, as the readers of the formats find them (read_arrays, read_tables), are checked before
any row is read. The rows are checked while they are read, a thousand at a time: they must be finite, and have the SHA-256
that was written (files of older versions have none). A folder must have all shards of its manifest, unchanged.
"""

import csv
import errno
import hashlib
import importlib.util
import itertools
import struct
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError

from vggcli.data.own_files import MANIFEST, STORE_SUFFIXES
from vggcli.errors import DataError, counted
from vggcli.features.manifest import INDEX, Manifest, read_manifest, shard_name
from vggcli.features.metadata import first_of, read_part, sidecar
from vggcli.features.read_arrays import npy, npz, safetensors
from vggcli.features.read_tables import csv_file, index_rows, parquet_file
from vggcli.features.table import ONLY_COLUMN, ROWS_DIGEST, WHOLE_DIGEST, AnyArray, Column, Table

READERS: Mapping[str, Callable[[Path], Table]] = {
    ".safetensors": safetensors,
    ".npy": npy,
    ".npz": npz,
    ".parquet": parquet_file,
    ".csv": csv_file,
}
SKIPPED_KEY = "skipped"  # of the metadata: JSON, [name, reason] of each image without a row
NUMBERS = ("float16", "float32", "float64", "bfloat16", ">f2", ">f4", ">f8")
# Errors that say nothing about the file: no permission, a failing disk, too little memory, too many open files
_MACHINE_ERRORS = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE)


@dataclass(frozen=True)
class StoredRows:
    """Rows of one layer, `width` numbers each: `names` of their images, metadata that say how they were made, and `chunks`,
    which iterates over float32 or float16 arrays [n, D] of finite numbers, and raises DataError where they are damaged."""

    names: tuple[str, ...]
    width: int
    metadata: Mapping[str, str]
    chunks: Callable[[], Iterator[AnyArray]]


def open_store(path: Path) -> StoredRows:
    """The rows that a file or a folder of shards holds. Raises DataError where it is no store, is damaged or not finished,
    names an image twice, or holds several layers, maps or no row."""
    return _shards(path) if path.is_dir() else open_rows(path)


def open_rows(path: Path, may_be_empty: bool = False) -> StoredRows:
    """The rows that a file holds. Raises DataError where it is not from `vgg features`, is damaged, holds several layers,
    maps or no row, or names an image twice."""
    found = open_file(path)
    if ONLY_COLUMN not in found.columns:
        held = first_of(found.columns)
        raise DataError(
            f"{path} holds {held}, not the rows of one layer ({ONLY_COLUMN!r}); write one file for each layer"
        )
    column = found.columns[ONLY_COLUMN]
    if len(column.shape) != 2:
        shape = list(column.shape)
        raise DataError(f"{path} holds maps of the shape {shape}, not rows; pool over space when describing the images")
    if not may_be_empty and not all(column.shape):
        raise DataError(f"{path} holds no descriptor")
    return StoredRows(tuple(found.names), column.shape[1], found.metadata, column.chunks)


def open_file(path: Path) -> Table:
    """All that a file holds, checked; its columns' `chunks` check the rows and raise DataError. The metadata are without
    the digests and what the formats add. Raises DataError as `open_rows` does, but for what the columns are."""
    if path.suffix not in READERS:
        raise DataError(f"{path} is not a file of `vgg features`, whose names end in {', '.join(STORE_SUFFIXES)}")
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "is not there"
        raise DataError(f"{path} {what}; make one with `vgg features`")
    beside = sidecar(path)
    if path.suffix in (".npy", ".csv") and not beside.exists():
        raise DataError(
            f"there is no {beside}, which belongs to {path} and says how it was made; put it back beside it"
        )
    with _reading(path):
        path.open("rb").close()  # where the machine refuses, Python says so more clearly than the libraries do
        found = READERS[path.suffix](path)
        digests = (Table((), {}, found.metadata) if path.suffix == ".csv" else found).expected_digests()
    for name, column in found.columns.items():
        if column.dtype not in NUMBERS:
            raise DataError(f"{path}: {name!r} is of the type {column.dtype}; rows are of float32 or float16")
        if column.shape[:1] != (len(found.names),):
            rows = counted(column.shape[0] if column.shape else 0, "descriptor")
            raise DataError(f"{path} is damaged: it has {rows} and the names of {counted(len(found.names), 'image')}")
    twice = next((name for name, count in Counter(found.names).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{path} has two descriptors of {twice!r}; describe each image once")
    columns = {name: _checked(path, found.names, one, digests.get(name)) for name, one in found.columns.items()}
    about = {key: text for key, text in found.metadata.items() if key not in (WHOLE_DIGEST, ROWS_DIGEST)}
    return Table(found.names, columns, about)


def _checked(path: Path, names: Sequence[str], column: Column, digest: str | None) -> Column:
    """The column with chunks in float32 or float16 that are checked as they are read."""

    def chunks() -> Iterator[AnyArray]:
        seen, start = hashlib.sha256(), 0
        with _reading(path):
            for rows in column.chunks():
                if digest is not None:
                    seen.update(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
                with np.errstate(over="ignore"):
                    numbers = rows if rows.dtype == np.float16 else rows.astype(np.float32, copy=False)
                bad = np.flatnonzero(~np.isfinite(numbers).all(axis=tuple(range(1, numbers.ndim))))
                if len(bad):
                    where = f"{path}: the descriptor of {names[start + bad[0]]!r}"
                    raise DataError(f"{where} holds values that are not finite; describe the images again")
                yield numbers
                start += len(rows)
            if start != column.shape[0]:
                raise ValueError(f"it has {start} rows but says that it has {column.shape[0]}")
            if digest is not None and seen.hexdigest() != digest:
                raise ValueError("its rows are not those that were written (SHA-256 mismatch)")

    return replace(column, chunks=chunks)


@contextmanager
def _reading(
    path: Path, wrong: str = "cannot be read as a file of descriptors (damaged, or of another kind): {}"
) -> Iterator[None]:
    """Whatever the readers raise for a damaged file becomes a DataError, but not what says nothing about the file."""
    try:
        yield
    except (
        SafetensorError, zipfile.BadZipFile, csv.Error, struct.error, OSError, EOFError, ValueError, TypeError,
        LookupError, ArithmeticError, AttributeError, RuntimeError,
    ) as error:  # fmt: skip
        if isinstance(error, OSError) and (
            error.errno in _MACHINE_ERRORS or "(os error 24)" in str(error)
        ):  # as Rust says it
            raise
        raise DataError(f"{path} {wrong.format(str(error)[:300] or type(error).__name__)}") from error


def _shards(folder: Path) -> StoredRows:
    if not (folder / MANIFEST).is_file():
        raise DataError(f"{folder} holds no {MANIFEST}, so it is not a folder of shards that `vgg features` wrote")
    with _reading(folder / MANIFEST, "is damaged ({}); make the shards again"):
        manifest = read_manifest(folder / MANIFEST)
    paths = [folder / shard_name(number) for number in range(manifest.shards)]
    missing = [path.name for path in paths if not path.is_file()]
    if missing or not (folder / INDEX).is_file():
        what = f"{len(missing)} of its {len(paths)} shards, the first {missing[0]}" if missing else INDEX
        raise DataError(f"{folder} is not finished, it lacks {what}; run the command that made it again to finish it")
    shards, names = [], dict[str, Path]()
    for number, path in enumerate(paths):
        shards.append(open_rows(path, may_be_empty=True))
        _check_shard(path, shards[-1], manifest, number, shards[0].width)
        twice = next((name for name in shards[-1].names if name in names), None)
        if twice is not None:
            raise DataError(f"{names[twice]} and {path} both have a descriptor of {twice!r}; one is a copy")
        names.update(dict.fromkeys(shards[-1].names, path))
    if not names:
        raise DataError(f"{folder} holds no descriptor")
    _check_index(folder / INDEX, shards)

    def chunks() -> Iterator[AnyArray]:
        for shard in shards:
            yield from shard.chunks()

    return StoredRows(tuple(names), shards[0].width, manifest.metadata, chunks)


def _check_index(path: Path, shards: Sequence[StoredRows]) -> None:
    """Raises DataError where the index does not match the shards. Reading rows does not need it, nor pyarrow therefore."""
    if importlib.util.find_spec("pyarrow") is None:
        return
    held = (
        (name, shard_name(number), row) for number, shard in enumerate(shards) for row, name in enumerate(shard.names)
    )
    with _reading(path, "is damaged ({}); run the command that made it again to write it anew"):
        if any(entry != other for entry, other in itertools.zip_longest(index_rows(path), held)):
            raise ValueError("it does not match the shards")


def _check_shard(path: Path, shard: StoredRows, manifest: Manifest, number: int, width: int) -> None:
    """Raises DataError where a shard is not the one that the manifest means."""
    skipped, about = skipped_of(path, shard.metadata)
    rows = len(manifest.span(number)) - len(skipped)
    if len(shard.names) != rows:
        what = f"has {len(shard.names)} rows and should have {rows}"
    elif about != manifest.metadata:
        what = f"was made with other settings than {MANIFEST} says"
    elif shard.width != width:
        what = f"has rows of {shard.width} numbers and the first shard of {width}"
    else:
        return
    raise DataError(f"{path} {what}; it belongs to another folder, or is damaged")


def skipped_of(path: Path, metadata: Mapping[str, str]) -> tuple[tuple[tuple[str, str], ...], dict[str, str]]:
    """From the metadata of a shard: name and reason of each image without a row, and all else. Raises DataError where it
    does not say them."""
    with _reading(path, "is damaged: {}"):
        skipped = read_part(
            list[tuple[str, str]], metadata.get(SKIPPED_KEY, ""), "it does not say which images have no row"
        )
    return tuple(skipped), {key: text for key, text in metadata.items() if key != SKIPPED_KEY}
