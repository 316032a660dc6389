"""The one reader of stored rows: `open_store` opens any file or folder of shards that `vgg features` writes.

Names, shapes, types and metadata, as the readers of the formats find them (read_arrays, read_tables), are checked before
any row is read, and rows as they pass, a thousand at a time: that all are finite, and that their SHA-256s are those that
were written (files of older versions have none). A folder must be whole, with the shards that its manifest means.
"""

import csv
import hashlib
import importlib.util
import itertools
import struct
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError

from vggcli.data.own_files import MANIFEST, STORE_SUFFIXES
from vggcli.errors import DataError, counted
from vggcli.features.claims import ClaimedColumn, Claims, is_of_the_machine
from vggcli.features.digests import ROWS_DIGEST, WHOLE_DIGEST, expected_digests
from vggcli.features.manifest import INDEX, Manifest, read_manifest, shard_name
from vggcli.features.read_arrays import npy, npz, safetensors
from vggcli.features.read_tables import csv_file, index_rows, parquet_file
from vggcli.features.write import ONLY_COLUMN, AnyArray, sidecar
from vggcli.records import read_record

READERS: Mapping[str, Callable[[Path], Claims]] = {
    ".safetensors": safetensors,
    ".npy": npy,
    ".npz": npz,
    ".parquet": parquet_file,
    ".csv": csv_file,
}
SKIPPED_KEY = "skipped"  # of the metadata: JSON, [name, reason] of each image without a row
NUMBERS = ("float16", "float32", "float64", "bfloat16", ">f2", ">f4", ">f8")


@dataclass(frozen=True)
class StoredRows:
    """Rows of one layer, `width` numbers each: `names` of their images, what they were made with, and `chunks`, float32 or
    float16 arrays [n, D] in order, of finite numbers. `chunks` raises DataError where the rows are damaged."""

    names: tuple[str, ...]
    width: int
    metadata: Mapping[str, str]
    chunks: Callable[[], Iterator[AnyArray]]


def open_store(path: Path) -> StoredRows:
    """The rows that a file or a folder of shards holds. Raises DataError where it is no store, is damaged or not finished,
    names an image twice, or holds several layers, maps or no row."""
    return _shards(path) if path.is_dir() else open_rows(path)


def open_rows(path: Path, may_be_empty: bool = False) -> StoredRows:
    """The rows that a file holds. Raises DataError where it is none of `vgg features`, is damaged, holds several layers,
    maps or no row, or names an image twice."""
    found = open_file(path)
    if ONLY_COLUMN not in found.columns:
        shown = ", ".join(list(found.columns)[:4]) + (", …" if len(found.columns) > 4 else "")
        raise DataError(
            f"{path} holds {shown or 'nothing'}, not one layer's {ONLY_COLUMN!r}: write each layer to its own file"
        )
    column = found.columns[ONLY_COLUMN]
    if len(column.shape) != 2:
        shape = list(column.shape)
        raise DataError(f"{path} holds maps as they are, of the shape {shape}; rows are needed, as pooling gives")
    if not may_be_empty and not all(column.shape):
        raise DataError(f"{path} holds no descriptor")
    return StoredRows(found.names, column.shape[1], found.metadata, column.chunks)


def open_file(path: Path) -> Claims:
    """All that a file says, checked; its columns' `chunks` check the rows and raise DataError. `metadata` are without the
    digests and what the formats add. Raises DataError as `open_rows`, but for what columns hold."""
    if path.suffix not in READERS:
        raise DataError(f"{path} is no file of `vgg features`; those end in {', '.join(STORE_SUFFIXES)}")
    if not path.is_file():
        what = "is no regular file" if path.exists() else "is not there"
        raise DataError(f"{path} {what}; make one with `vgg features`")
    if path.suffix in (".npy", ".csv") and not sidecar(path).exists():
        raise DataError(f"{path} has lost what belongs to it: there is no {sidecar(path)}")
    with _reading(path):
        path.open("rb").close()  # where the machine refuses, Python says so more clearly than the libraries do
        found = READERS[path.suffix](path)
        layout = {name: (one.dtype, one.shape) for name, one in found.columns.items()}
        digests = expected_digests(*(((), {}) if found.of_bytes else (found.names, layout)), found.metadata)
    _check_names(path, found)
    columns = {
        name: ClaimedColumn(one.dtype, one.shape, _checked(path, found.names, one, digests.get(name)))
        for name, one in found.columns.items()
    }
    about = {key: text for key, text in found.metadata.items() if key not in (WHOLE_DIGEST, ROWS_DIGEST)}
    return Claims(found.names, columns, about, found.of_bytes)


def _check_names(path: Path, found: Claims) -> None:
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
    path: Path, names: tuple[str, ...], column: ClaimedColumn, digest: str | None
) -> Callable[[], Iterator[AnyArray]]:
    def chunks() -> Iterator[AnyArray]:
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


def _check_finite(path: Path, names: tuple[str, ...], start: int, rows: AnyArray) -> None:
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


def _shards(folder: Path) -> StoredRows:
    manifest = _manifest(folder)
    missing = [n for n in range(manifest.shards) if not (folder / shard_name(n)).is_file()]
    if missing or not (folder / INDEX).is_file():
        what = (
            f"{len(missing)} of its {manifest.shards} shards, the first {shard_name(missing[0])}" if missing else INDEX
        )
        raise DataError(
            f"{folder} is not finished, it lacks {what}; give the command that made it again, and it goes on from there"
        )
    shards, names = [], dict[str, Path]()
    for number in range(manifest.shards):
        path = folder / shard_name(number)
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

    about = {name: text for name, text in shards[0].metadata.items() if name != SKIPPED_KEY}
    return StoredRows(tuple(names), shards[0].width, about, chunks)


def _manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(f"{folder} holds no {MANIFEST}, so it is no folder of shards that `vgg features` wrote")
    try:
        return read_manifest(path)
    except (OSError, ValueError) as error:
        if is_of_the_machine(error):
            raise
        raise DataError(f"{path} is damaged ({error}); make the shards again") from error


def _check_index(path: Path, shards: Sequence[StoredRows]) -> None:
    """Raises DataError where the index does not say what the shards hold. Nothing here needs it, so neither pyarrow."""
    if importlib.util.find_spec("pyarrow") is None:
        return
    held = (
        (name, shard_name(number), row) for number, shard in enumerate(shards) for row, name in enumerate(shard.names)
    )
    try:
        if any(entry != other for entry, other in itertools.zip_longest(index_rows(path), held)):
            raise ValueError("it does not say what the shards hold")
    except (ValueError, LookupError, AttributeError, TypeError, OSError) as error:
        if is_of_the_machine(error):
            raise
        raise DataError(
            f"{path} is damaged ({error}); give the command that made it again, and it is written anew"
        ) from error


def _check_shard(path: Path, shard: StoredRows, manifest: Manifest, number: int, width: int) -> None:
    """Raises DataError where a shard is not the one that the manifest means."""
    images = min(manifest.shard_size, manifest.images - number * manifest.shard_size)
    try:
        rows = images - len(skipped_of(shard.metadata))
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}") from error
    if len(shard.names) != rows:
        raise DataError(
            f"{path} has {len(shard.names)} rows and should have {rows}; it is of another folder, or damaged"
        )
    if {key: text for key, text in shard.metadata.items() if key != SKIPPED_KEY} != manifest.metadata:
        raise DataError(
            f"{path} was made with other settings than {MANIFEST} says; it is of another folder, or damaged"
        )
    if shard.width != width:
        raise DataError(f"{path} has rows of {shard.width} numbers and the first shard of {width}")


def skipped_of(metadata: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Names and reasons of the images that have no row. Raises ValueError where the metadata do not say them."""
    try:
        return tuple(read_record(list[tuple[str, str]], metadata.get(SKIPPED_KEY, "")))
    except ValueError as error:
        raise ValueError(f"it does not say which images have no row: {error}") from error
