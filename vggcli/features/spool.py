"""One file of rows, however many: they wait in a nameless temporary file, each at its place, until all are there.

Rows are finished out of order and some images have none; on the disk they can wait without taking memory, and a program
that is killed leaves nothing behind.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from vggcli.data.decode import ImageError
from vggcli.errors import DataError, UsageError, counted
from vggcli.features.extract import Rows, check_alike
from vggcli.features.write import CHUNK_ROWS, ONLY_COLUMN, AnyArray, Column, Table
from vggcli.files import machine_error


class Spool:
    """Rows of `len(names)` images, put in any order; a context manager. `dtype` is the type they are stored in."""

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self.files:
            with contextlib.suppress(OSError):  # rows that a full disk did not take, and nobody wants any more
                file.close()

    def put(self, rows: Rows) -> None:
        """Keep rows. Raises DataError where their shape is another than that of those before, UsageError where the type
        cannot hold a value, MachineError where the disk is full."""
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
        """Note an image that has no row."""
        assert error.index is not None
        self.bad[error.index] = error

    def table(self, metadata: dict[str, str]) -> Table:
        """What is kept, in the order of the images. Raises DataError where that is nothing."""
        if not self.present.any():
            raise DataError(
                f"none of the {counted(len(self.names), 'image')} can be used; the first: {next(iter(self.bad.values()))}"
            )
        rows = int(self.present.sum())
        keys = tensor_names(self.layers)
        columns = {
            key: Column(rows, self.shapes[layer], self.dtype, lambda layer=layer: self._chunks(layer))  # type: ignore[misc]
            for layer, key in enumerate(keys)
        }
        return Table([self.names[index] for index in np.flatnonzero(self.present).tolist()], columns, metadata)

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


def tensor_names(layers: Sequence[str]) -> list[str]:
    """What the columns are called: "features" where there is one layer, else by the layers' own names."""
    return [ONLY_COLUMN] if len(layers) == 1 else list(layers)


def stored(row: AnyArray, dtype: str, name: str) -> AnyArray:
    """A row in the type it is stored in. Raises UsageError where float16 cannot hold one of its values."""
    with np.errstate(over="ignore"):
        result = row.astype(dtype)
    if not np.isfinite(result).all():
        largest = float(np.abs(row).max())
        raise UsageError(
            f"{dtype} cannot hold {largest:g}, a value of {name}; use float32, or divide rows by their L2 norm",
            *("dtype", "norm"),
        )
    return result
