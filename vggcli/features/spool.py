"""Rows on their way to one file: each is kept at its place in a nameless temporary file until all are computed.

Rows are finished out of order and some images have none; on the disk they take no memory, and a program that is killed
leaves nothing behind.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from vggcli.data.decode import ImageError, none_usable
from vggcli.errors import UsageError
from vggcli.features.extract import Rows, check_alike
from vggcli.features.table import CHUNK_ROWS, AnyArray, Column, Table, column_names
from vggcli.files import machine_error
from vggcli.ranks import Ranks, share_of


class Spool:
    """Rows of the images `names`, put in any order and stored as `dtype`; a context manager."""

    def __init__(self, folder: Path, layers: Sequence[str], names: Sequence[str], dtype: str) -> None:
        self.folder, self.layers, self.names, self.dtype = folder, layers, names, dtype
        self.shapes: list[tuple[int, ...]] = []
        self.present = np.zeros(len(names), bool)
        self.bad: dict[int, ImageError] = {}
        try:
            self.files = [tempfile.TemporaryFile(dir=folder) for _ in layers]  # noqa: SIM115 (closed by __exit__)
        except OSError as error:
            raise machine_error(folder, error) from error

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *error: object) -> None:
        for file in self.files:
            with contextlib.suppress(OSError):  # rows that a full disk did not take, and that are not needed any more
                file.close()

    def put(self, rows: Rows) -> None:
        """Keep rows. Raises DataError where their shape differs from that of earlier ones, UsageError where the type cannot
        hold a value, MachineError where the disk is full."""
        for place, index in enumerate(rows.indices):
            for layer, (file, values) in enumerate(zip(self.files, rows.layers, strict=True)):
                row = stored(values[place], self.dtype, self.names[index])
                if len(self.shapes) <= layer:
                    self.shapes.append(row.shape)
                if row.shape != self.shapes[layer]:
                    first = self.names[int(self.present.argmax())]
                    check_alike(self.names[index], row.shape, first, self.shapes[layer])
                try:
                    file.seek(index * row.nbytes)
                    file.write(row.tobytes())
                except OSError as error:
                    raise machine_error(self.folder, error) from error
            self.present[index] = True

    def leave_out(self, error: ImageError) -> None:
        """Record an image that has no row."""
        assert error.index is not None
        self.bad[error.index] = error

    def take_all(self, ranks: Ranks) -> None:
        """In the first process, the rows and errors of all processes, which have put those of their shares."""
        mine = ranks.share(len(self.names))
        steps = max(len(share_of(len(self.names), rank, ranks.world)) for rank in range(ranks.world))
        for start in range(0, steps if ranks.world > 1 else 0, CHUNK_ROWS):
            rows = [index for index in mine[start : start + CHUNK_ROWS] if self.present[index]]
            layers = tuple(self._rows(layer, rows) for layer in range(len(self.layers))) if rows else ()
            bad = [error for index, error in self.bad.items() if index in mine[start : start + CHUNK_ROWS]]
            for rank, (theirs, values, errors) in enumerate(ranks.collected((tuple(rows), layers, bad))):
                if rank > 0 and theirs:
                    self.put(Rows(theirs, values))
                for error in errors if rank > 0 else ():
                    self.leave_out(error)

    def _rows(self, layer: int, indices: Sequence[int]) -> AnyArray:
        """Rows of a layer that were put."""
        file, shape = self.files[layer], self.shapes[layer]
        row_bytes, read = int(np.prod(shape)) * np.dtype(self.dtype).itemsize, []
        for index in indices:
            file.seek(index * row_bytes)
            read.append(np.frombuffer(file.read(row_bytes), self.dtype))
        return np.stack(read).reshape(len(indices), *shape)

    def table(self, metadata: dict[str, str]) -> Table:
        """The rows in the order of the images. Raises DataError where there are none."""
        kept = np.flatnonzero(self.present).tolist()
        if not kept:
            first = next(iter(self.bad.values()))
            raise none_usable(len(self.names), (first.path, first.reason))
        columns = {
            name: Column(self.dtype, (len(kept), *self.shapes[layer]), partial(self._chunks, layer))
            for layer, name in enumerate(column_names(self.layers))
        }
        return Table([self.names[index] for index in kept], columns, metadata)

    def _chunks(self, layer: int) -> Iterator[AnyArray]:
        file, shape = self.files[layer], self.shapes[layer]
        row_bytes = int(np.prod(shape)) * np.dtype(self.dtype).itemsize
        for start in range(0, len(self.names), CHUNK_ROWS):
            kept = self.present[start : start + CHUNK_ROWS]
            stop = start + int(np.flatnonzero(kept)[-1]) + 1 if kept.any() else start
            file.seek(start * row_bytes)
            values = np.frombuffer(file.read((stop - start) * row_bytes), self.dtype).reshape(stop - start, *shape)
            if stop > start:
                yield values[kept[: stop - start]]


def stored(row: AnyArray, dtype: str, name: str) -> AnyArray:
    """A row in the type it is stored in. Raises UsageError where float16 cannot hold one of its values."""
    with np.errstate(over="ignore"):
        result = row.astype(dtype)
    if not np.isfinite(result).all():
        largest = float(np.abs(row).max())
        raise UsageError(
            f"{dtype} cannot hold {largest:g}, a value of {name}; use float32, or L2-normalise the rows",
            *("dtype", "norm"),
        )
    return result
