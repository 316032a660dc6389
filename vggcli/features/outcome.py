"""The result of describing images: how many rows and where, which images could not be used, the rows of a single image."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vggcli.data.tars import Place
from vggcli.errors import DataError, counted
from vggcli.features.extract import RowArray
from vggcli.features.settings import HowMade, escaped
from vggcli.progress import LOG
from vggcli.results import Result

LISTED_BAD = 50  # images that could not be used, logged by name


@dataclass(frozen=True)
class OneImage:
    """The image, where there is only one: its row of each layer, where they are not written to a file, and the map
    [C, H, W] of its layer, where it is to be drawn."""

    name: str
    place: Place
    rows: tuple[RowArray, ...] = ()
    maps_CHW: RowArray | None = None


@dataclass(frozen=True)
class Outcome(Result):
    """The number of rows and their shape for each layer, (name, reason) of each image that could not be used, and of this
    run the number of images that EXIF had turned, the seconds, and the number of images `computed`."""

    how: HowMade
    rows: int
    shapes: tuple[tuple[int, ...], ...]
    bad: tuple[tuple[str, str], ...]
    turned: int
    out: Path | None
    seconds: float
    computed: int
    single: OneImage | None = field(default=None, repr=False)

    @property
    def images_per_second(self) -> float:
        return self.computed / max(self.seconds, 1e-9)

    def to_json(self) -> dict[str, Any]:
        """What `vgg features` prints as JSON; the rows of a single image are in it where no file has them."""
        shapes = [list(shape) for shape in self.shapes]
        values = [row.tolist() for row in self.single.rows] if self.single else []
        return {
            **self.how.settings,
            "images": self.rows,
            "skipped": [{"path": name, "reason": reason} for name, reason in self.bad],
            "turned": self.turned,
            "shape": shapes[0] if len(shapes) == 1 else shapes,
            "out": str(self.out) if self.out else None,
            "seconds": self.seconds,
            "images_per_second": self.images_per_second,
            **({"features": values if len(values) > 1 else values[0]} if values else {}),
        }

    def check(self) -> None:
        """Raises DataError where an image could not be used, after the first of these are logged."""
        note_bad(self.bad)
        if self.bad:
            total = counted(len(self.bad) + self.rows, "file")
            raise DataError(f"{len(self.bad)} of {total} could not be used; see above")


def note_bad(bad: Sequence[tuple[str, str]]) -> None:
    """Log the first images that could not be used."""
    for name, reason in bad[:LISTED_BAD]:
        LOG.info(f"not used: {escaped(name)}: {reason}")
    if len(bad) > LISTED_BAD:
        LOG.info(f"not used: {len(bad) - LISTED_BAD} more; the written metadata list them all")
