"""The nearest of stored images to a query by cosine (not in the paper, which compares descriptors by their inner product).

The query is described by the same weights and settings as the stored images.

Shapes: N stored rows, D entries of a row.
"""

import posixpath
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from vggcli.choices import Precision
from vggcli.data.splits import role_of
from vggcli.data.tars import SUFFIX, Place, image_members
from vggcli.device import ready_device
from vggcli.errors import DataError, UsageError, WeightsError, counted
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
    """A stored image, the cosine between its row and the query's, -1 to 1, and its class, where its folder tells one."""

    name: str
    cosine: float
    label: str | None = None


@dataclass(frozen=True)
class Neighbours(Result):
    """The stored images nearest to `query`, the nearest first, of `images` in the store, whose rows are of `layer`
    and whose names are relative to the folder `root`. Where the query is stored itself, it is not among them: `itself` is
    its name there. `label` is its class, where its folder tells one."""

    query: Path
    store: Path
    images: int
    layer: str
    root: Path
    found: tuple[Neighbour, ...]
    itself: str | None = None
    label: str | None = None

    def to_json(self) -> dict[str, Any]:
        """What `vgg features` prints of a search as JSON."""
        about = {"query": str(self.query), "query_stored_as": self.itself, "store": str(self.store)}
        return {**about, "neighbours": self.table()}

    def table(self) -> list[dict[str, Any]]:
        """A row for each image, the nearest first."""
        return [{"path": one.name, "class": one.label, "cosine": one.cosine} for one in self.found]

    def sentence(self) -> str:
        """What was searched."""
        left_out = "; the query itself, which is stored too, is left out" if self.itself is not None else ""
        return f"{len(self.found)} of {counted(self.images, 'image')}, {self.layer} of {self.store.name}{left_out}"


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
                precision=about.computed_in if precision == "auto" else precision,
                preprocessing=ExpectedPixels.from_json(about.preprocessing) if about.preprocessing else None,
            )
        except (KeyError, TypeError, ValueError, UsageError) as error:
            raise DataError(f"{self.path} was made with settings that do not fit its weights: {error}") from error
        root, query, names = Path(about.root), Path(query), self.rows.names
        place, same, label_of = query.resolve(), dict[str, bool](), folder_classes(names)

        def is_query(name: str) -> bool:
            if name not in same:
                same[name] = Path(root, name).resolve() == place
            return same[name]

        rows = nearest(self.rows, describe(query), top, is_query)
        found = tuple(replace(one, label=label_of(one.name)) for one in rows)
        itself = next((name for name in same if same[name]), None)
        return Neighbours(query, self.path, len(names), about.layer, root, found, itself, label_of(place.as_posix()))


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
    (by default those at the path that the store names). An image is not its own neighbour: where the query is stored, it
    is left out.

    >>> vggcli.search("photo.jpg", "photos.npz", top=2).found[0].name
    'photos/train/class0/0.jpg'

    Raises DataError for a store that cannot be searched, WeightsError where it was made with other weights,
    ImageError where the query cannot be used.
    """
    check_value("top", top, Ordinal)
    return OpenStore.at(store).nearest_to(query, top, weights, device, precision)


def nearest(
    stored: StoredRows, query_D: RowArray, count: int, left_out: Callable[[str], bool] = lambda name: False
) -> list[Neighbour]:
    """The `count` stored rows with the largest cosine to `query_D`, the nearest first; of equal ones the earlier first.
    Images whose name is `left_out` are passed over.

    Raises DataError where rows and query differ in length, or the rows are damaged.
    """
    if stored.width != len(query_D):
        raise DataError(f"the stored rows have {stored.width} entries and the query's {len(query_D)}")
    best_cosines, best_rows = np.empty(0, np.float32), np.empty(0, np.int64)
    start, unit_D = 0, l2_normalised(query_D[None])[0]
    for chunk in stored.chunks():
        cosines = np.concatenate([best_cosines, (l2_normalised(chunk) @ unit_D).clip(-1, 1)])
        rows = np.concatenate([best_rows, np.arange(start, start + len(chunk))])
        order = np.argsort(-cosines, kind="stable")
        kept = list(islice((place for place in order if not left_out(stored.names[rows[place]])), count))
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
                if posixpath.normpath(member.name).lstrip("/") == wanted:
                    return member
            raise DataError(f"{parent} no longer holds {wanted}")
    return path


def folder_classes(names: Iterable[str]) -> Callable[[str], str | None]:
    """What tells the class of an image by its name: the folder that it lies in, where the images `names` lie in several
    that are neither splits nor tars; else None."""
    folders = {_folder(name) for name in names}
    classes = {one for one in folders if one and role_of(one) is None and not one.lower().endswith(SUFFIX)}
    return lambda name: _folder(name) if len(classes) > 1 and _folder(name) in classes else None


def _folder(name: str) -> str:
    return name.rpartition("/")[0].rpartition("/")[2]
