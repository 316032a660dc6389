"""What a file of descriptors holds, in any format: names of images, a column of rows for each layer, and metadata.

The metadata have two SHA-256s: `rows_sha256` of the bytes of the rows, one for each column, and `sha256` of names, types,
shapes and all other metadata, so that these are checked before anything is done with them. Equal content has equal digests
in every format but CSV, where `rows_sha256` is that of the file itself.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from vggcli.records import read_record

ONLY_COLUMN = "features"  # the column's name where there is one layer
CHUNK_ROWS = 1024  # rows that are read or written at a time
WHOLE_DIGEST, ROWS_DIGEST = "sha256", "rows_sha256"  # keys of the metadata

AnyArray = NDArray[Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Column:
    """Rows of one layer: the name of their type, their shape [N, ...], and `chunks`, which iterates over them in order and
    raises ValueError, or its library's own error, where a file is damaged."""

    dtype: str
    shape: tuple[int, ...]
    chunks: Callable[[], Iterator[AnyArray]]


@dataclass(frozen=True)
class Table:
    """The name of each row's image, a column for each layer, and metadata that say how the rows were made."""

    names: Sequence[str]
    columns: Mapping[str, Column]
    metadata: Mapping[str, str]

    def with_digests(self, rows: Mapping[str, str]) -> dict[str, str]:
        """The metadata with both digests, given the SHA-256 of each column's rows."""
        about = {**self.metadata, ROWS_DIGEST: " ".join(rows[name] for name in sorted(rows))}
        return {**about, WHOLE_DIGEST: self._whole_sha256(about)}

    def expected_digests(self) -> dict[str, str]:
        """The SHA-256 of each column's rows, empty where the file has none (those of older versions).

        Raises ValueError where names, types, shapes or metadata are not those that were written.
        """
        if WHOLE_DIGEST not in self.metadata and ROWS_DIGEST not in self.metadata:
            return {}
        digests = self.metadata.get(ROWS_DIGEST, "").split()
        whole = self._whole_sha256(self.metadata)
        if whole != self.metadata.get(WHOLE_DIGEST) or len(digests) != max(1, len(self.columns)):
            raise ValueError("its names, shapes or metadata are not those that were written (SHA-256 mismatch)")
        return dict(zip(sorted(self.columns) or [""], digests, strict=True))

    def _whole_sha256(self, metadata: Mapping[str, str]) -> str:
        about = {name: text for name, text in metadata.items() if name != WHOLE_DIGEST}
        layout = {name: [one.dtype, list(one.shape)] for name, one in self.columns.items()}
        return hashlib.sha256(json.dumps([list(self.names), layout, about], sort_keys=True).encode()).hexdigest()


def column_of(rows: AnyArray) -> Column:
    """A column of rows that are in memory."""
    steps = range(0, len(rows), CHUNK_ROWS)
    return Column(str(rows.dtype), rows.shape, lambda: (rows[at : at + CHUNK_ROWS] for at in steps))


def column_names(layers: Sequence[str]) -> list[str]:
    """What the columns are called: "features" where there is one layer, else by the layers' own names."""
    return [ONLY_COLUMN] if len(layers) == 1 else list(layers)


def sidecar(path: Path) -> Path:
    """The file beside a .npy with its names and metadata, or beside a .csv with its metadata: the same name and .json."""
    return path.with_name(f"{path.name}.json")


def read_sidecar(path: Path) -> dict[str, Any]:
    """The JSON object in the file beside a .npy or a .csv. Raises ValueError where there is none."""
    beside = sidecar(path)
    if not beside.is_file():  # a link may lead to a file; anything else might block when it is read
        raise ValueError(f"{beside.name} is not a regular file" if beside.exists() else f"there is no {beside.name}")
    return read_part(dict[str, Any], beside.read_bytes(), beside.name)


def read_names(value: Any) -> tuple[str, ...]:
    """A list of names, as JSON or already parsed. Raises ValueError where `value` is anything else."""
    return tuple(read_part(list[str], value, "its metadata do not list the names of its images"))


def read_metadata(value: Any) -> dict[str, str]:
    """Texts by name, as JSON or already parsed. Raises ValueError where `value` is anything else."""
    return read_part(dict[str, str], value, "its metadata are not texts by name")


def read_part(kind: type[T], value: Any, wrong: str) -> T:
    """As `read_record`, with `wrong` before the reason of a ValueError."""
    try:
        return read_record(kind, value)
    except ValueError as error:
        raise ValueError(f"{wrong}: {error}") from error


def first_of(names: Iterable[str]) -> str:
    """The first four of some names, for a message."""
    several = list(names)
    return ", ".join(several[:4]) + (", …" if len(several) > 4 else "") or "nothing"
