"""Many names in one text: a third of the memory of a tuple, and forked workers that read a name copy no page of it."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

Rows = slice | NDArray[np.int64] | Sequence[int]


class PackedNames(Sequence[str]):
    """Names as UTF-8 (bytes that are not are kept) in `text`, uint8; the one of row i is from `bounds`[i] to
    `bounds`[i + 1], int64 [N + 1]."""

    def __init__(self, text: NDArray[np.uint8], bounds: NDArray[np.int64]) -> None:
        self.text, self.bounds = text, bounds

    @classmethod
    def of(cls, names: Iterable[str]) -> "PackedNames":
        text, bounds = bytearray(), [0]
        for name in names:
            text += name.encode(errors="surrogateescape")
            bounds.append(len(text))
        return cls(np.frombuffer(bytes(text), np.uint8), np.array(bounds, np.int64))

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @overload
    def __getitem__(self, row: int) -> str: ...

    @overload
    def __getitem__(self, row: slice) -> tuple[str, ...]: ...

    def __getitem__(self, row: int | slice) -> str | tuple[str, ...]:
        if isinstance(row, slice):
            return tuple(self[one] for one in range(*row.indices(len(self))))
        at = range(len(self))[row]
        return self.text[self.bounds[at] : self.bounds[at + 1]].tobytes().decode(errors="surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (self[row] for row in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PackedNames):
            return len(self) == len(other) and all(map(str.__eq__, self, other))
        return NotImplemented

    def __hash__(self) -> int:
        return hash((len(self), self.text[:64].tobytes()))

    def chosen(self, rows: Rows) -> "PackedNames":
        """The names at `rows`; those of a slice without a step share the text."""
        if isinstance(rows, slice) and rows.step in (None, 1):
            first, last, _ = rows.indices(len(self))
            bounds = self.bounds[first : max(first, last) + 1]
            return PackedNames(self.text[bounds[0] : bounds[-1]], bounds - bounds[0])
        order = range(len(self))[rows] if isinstance(rows, slice) else rows
        return PackedNames.of(self[int(row)] for row in order)


def chosen_names(names: Sequence[str], rows: Sequence[int]) -> Sequence[str]:
    """The names at `rows`, packed where `names` are."""
    return names.chosen(rows) if isinstance(names, PackedNames) else tuple(names[row] for row in rows)


def names_after(names: Sequence[str], others: Sequence[str]) -> Sequence[str]:
    """The names and then the others, packed where `names` are."""
    both = itertools.chain(names, others)
    return PackedNames.of(both) if isinstance(names, PackedNames) else tuple(both)
