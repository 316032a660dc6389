"""The nearest of stored images to a query by cosine (not in the paper, which compares descriptors by their inner product).

The query is described by the same weights and settings as the stored images.

Shapes: N stored rows, D entries of a row.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vggcli.choices import Precision
from vggcli.data.decode import Place
from vggcli.data.tars import SUFFIX, image_members
from vggcli.device import ready_device
from vggcli.errors import DataError, UsageError, WeightsError
from vggcli.features.describe import Features
from vggcli.features.extract import RowArray
from vggcli.features.pooling import l2_normalised
from vggcli.features.read import StoredRows, open_store
from vggcli.features.settings import StoreSettings
from vggcli.files import file_sha256
from vggcli.records import Ordinal, check_value
from vggcli.results import Result
from vggcli.weights.find import weights_file
from vggcli.weights.preprocessing import ExpectedPixels


@dataclass(frozen=True)
class Neighbour:
    """A stored image and the cosine between its row and the query's, -1 to 1."""

    name: str
    cosine: float


@dataclass(frozen=True)
class Neighbours(Result):
    """The stored images nearest to `query`, the nearest first, of `images` in the store, whose rows are of `layer`
    and whose names are relative to the folder `root`."""

    query: Path
    store: Path
    images: int
    layer: str
    root: Path
    found: tuple[Neighbour, ...]

    def to_json(self) -> dict[str, Any]:
        """What `vgg features` prints of a search as JSON."""
        return {"query": str(self.query), "store": str(self.store), "neighbours": self.table()}

    def table(self) -> list[dict[str, Any]]:
        """A row for each image, the nearest first."""
        return [{"path": one.name, "cosine": one.cosine} for one in self.found]


@dataclass(frozen=True)
class OpenStore:
    """A store that can be searched: its rows, and how they were made."""

    path: Path
    rows: StoredRows
    settings: StoreSettings

    @classmethod
    def at(cls, path: str | Path) -> "OpenStore":
        """The store at `path`. Raises DataError where it is missing, damaged or not finished, or has no settings."""
        path = Path(path).expanduser()
        rows = open_store(path)
        return cls(path, rows, StoreSettings.of(rows, path))

    def nearest_to(
        self, query: str | Path, top: int, weights: str | Path | None, device: str, precision: Precision
    ) -> Neighbours:
        """As `search`."""
        about = self.settings
        path = weights_file(Path(weights).expanduser() if weights else Path(about.weights))
        if file_sha256(path) != about.weights_sha256:
            what = f"{path} holds other weights than {self.path} was made with"
            raise WeightsError(f"{what}; give those that it was made with", "weights")
        ready_device(device)
        try:
            describe = Features(
                path,
                about.layer,
                about.pool,
                scales=about.scales,
                aggregate=about.aggregate,
                norm=about.norm,
                flip=about.flip,
                device=device,
                precision=precision,
                preprocessing=ExpectedPixels.from_json(about.preprocessing) if about.preprocessing else None,
            )
        except (KeyError, TypeError, ValueError, UsageError) as error:
            raise DataError(f"{self.path} was made with settings that do not fit its weights: {error}") from error
        found = tuple(nearest(self.rows, describe([query])[0], top))
        return Neighbours(Path(query), self.path, len(self.rows.names), about.layer, Path(about.root), found)


def search(
    query: str | Path,
    store: str | Path,
    *,
    top: int = 12,
    weights: str | Path | None = None,
    device: str = "auto",
    precision: Precision = "auto",
) -> Neighbours:
    """The `top` images of a store of `vgg features` nearest to the image `query`, described as the store was, by `weights`
    (by default those at the path that the store names).

    >>> vggcli.search("photo.jpg", "photos.npz", top=2).found[0].name
    'photos/train/class0/0.jpg'

    Raises DataError for a store that cannot be searched, WeightsError where it was made with other weights,
    ImageError where the query cannot be used.
    """
    check_value("top", top, Ordinal)
    return OpenStore.at(store).nearest_to(query, top, weights, device, precision)


def nearest(stored: StoredRows, query_D: RowArray, count: int) -> list[Neighbour]:
    """The `count` stored rows with the largest cosine to `query_D`, the nearest first; of equal ones the earlier first.

    Raises DataError where rows and query differ in length, or the rows are damaged.
    """
    if stored.width != len(query_D):
        raise DataError(f"the stored rows have {stored.width} entries and the query's {len(query_D)}")
    best_cosines, best_rows = np.empty(0, np.float32), np.empty(0, np.int64)
    start, unit_D = 0, l2_normalised(query_D[None])[0]
    for chunk in stored.chunks():
        cosines = np.concatenate([best_cosines, l2_normalised(chunk) @ unit_D])
        rows = np.concatenate([best_rows, np.arange(start, start + len(chunk))])
        kept = np.argsort(-cosines, kind="stable")[:count]
        best_cosines, best_rows = cosines[kept], rows[kept]
        start += len(chunk)
    return [Neighbour(stored.names[row], float(cosine)) for row, cosine in zip(best_rows, best_cosines, strict=True)]


def place_of(root: Path, name: str) -> Place:
    """Where a stored image is: below the folder `root`, or in a tar there. Raises DataError where the tar lacks it."""
    path = root / name
    for parent in path.parents:
        if parent.name.lower().endswith(SUFFIX) and parent.is_file():
            wanted = path.relative_to(parent).as_posix()
            for member in image_members(parent):
                if member.name == wanted:
                    return member
            raise DataError(f"{parent} no longer holds {wanted}")
    return path
