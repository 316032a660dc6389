"""The nearest of stored images to a query by cosine (not in the paper, which compares descriptors by their inner product).

Shapes: N stored rows, D entries of a row.
"""

from dataclasses import dataclass

import numpy as np

from vggcli.errors import DataError
from vggcli.features.extract import Row
from vggcli.features.read import Stored


@dataclass(frozen=True)
class Neighbour:
    """A stored image and the cosine between its row and the query's, -1 to 1."""

    name: str
    cosine: float


def nearest(stored: Stored, query_D: Row, count: int) -> list[Neighbour]:
    """The `count` stored rows with the largest cosine to `query_D`, the nearest first; of equals the earlier one first.

    Raises DataError where rows and query differ in length, or the rows are damaged.
    """
    if stored.width != len(query_D):
        raise DataError(f"the stored rows have {stored.width} entries and the query's {len(query_D)}")
    best_cosines, best_rows = np.empty(0, np.float32), np.empty(0, np.int64)
    start = 0
    query_D = query_D.astype(np.float32) / max(float(np.linalg.norm(query_D)), 1e-12)
    for chunk in stored.chunks():
        rows_ND = chunk.astype(np.float32)
        rows_ND /= np.maximum(np.abs(rows_ND).max(axis=1, keepdims=True), 1e-30)  # squares of large numbers overflow
        lengths_N = np.maximum(np.linalg.norm(rows_ND, axis=1), 1e-12)
        cosines = np.concatenate([best_cosines, rows_ND @ query_D / lengths_N])
        rows = np.concatenate([best_rows, np.arange(start, start + len(rows_ND))])
        kept = np.argsort(-cosines, kind="stable")[:count]
        best_cosines, best_rows = cosines[kept], rows[kept]
        start += len(rows_ND)
    return [Neighbour(stored.names[row], float(cosine)) for row, cosine in zip(best_rows, best_cosines, strict=True)]
