"""What a file of descriptors holds, in any format: names of images, a column of rows for each layer, and metadata.

The metadata have two SHA-256s: `rows_sha256` of the bytes of the rows, one for each column, and `sha256` of names, types,
shapes and all other metadata, so that these are checked before anything is done with them. Equal content has equal digests
in every format but CSV, where `rows_sha256` is that of the file itself.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

ONLY_COLUMN = "features"  # the column's name where there is one layer
CHUNK_ROWS = 1024  # rows that are read or written at a time
WHOLE_DIGEST, ROWS_DIGEST = "sha256", "rows_sha256"  # keys of the metadata

AnyArray = NDArray[Any]


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
