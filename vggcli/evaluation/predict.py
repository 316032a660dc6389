"""The top classes of images that are named by paths, folders, patterns or lists."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vggcli.data.decode import ImageError
from vggcli.data.image_set import ImageSet
from vggcli.data.outputs import Output, check_outside_folders
from vggcli.data.paths import images_once, texts_of
from vggcli.errors import DataError, UsageError
from vggcli.evaluation.load import opened, ranked
from vggcli.evaluation.options import MeasureOptions, shows_options
from vggcli.evaluation.protocol import image_posteriors
from vggcli.files import write_text
from vggcli.places import Places
from vggcli.progress import Progress, silent
from vggcli.ranks import ALONE, Ranks
from vggcli.records import Ordinal, check_value
from vggcli.results import Result
from vggcli.weights.find import find_weights

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from vggcli.evaluation.options import Asked

_HEADER = ("path", "rank", "class", "posterior")


@dataclass(frozen=True)
class Prediction:
    """An image and its most probable classes with their posteriors, the most probable first."""

    path: str
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Predictions(Result):
    """The predictions in the order of the paths, and the images that could not be used."""

    images: tuple[Prediction, ...]
    bad: tuple[ImageError, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """One object per image: path and predictions, or path and error."""
        good = [
            {"path": one.path, "predictions": [{"class": name, "posterior": value} for name, value in one.top]}
            for one in self.images
        ]
        return [*good, *({"path": one.path, "error": one.reason} for one in self.bad)]

    def table(self) -> list[dict[str, Any]]:
        """One row per image and class, with the rank from 1."""
        return [
            dict(zip(_HEADER, (one.path, rank, name, posterior), strict=True))
            for one in self.images
            for rank, (name, posterior) in enumerate(one.top, start=1)
        ]

    def write(self, path: Path) -> None:
        """Write the rows of `table` as CSV or, by the suffix, JSON, whole or not at all. Raises MachineError where that
        fails."""
        if path.suffix == ".json":
            write_text(path, json.dumps(self.table(), indent=1) + "\n")
        else:
            write_rows(path, _HEADER, self.table())


def write_rows(path: Path, header: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV, whole or not at all. Raises MachineError where that fails."""
    text = io.StringIO()
    writer = csv.DictWriter(text, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


@shows_options
def predict(
    places: Places,
    paths: str | Path | Sequence[str | Path],
    weights: str | Path | None = None,
    *,
    top: int = 5,
    arch: str | None = None,
    progress: Progress = silent,
    **asked: "Unpack[Asked]",
) -> Predictions:
    """The `top` classes of every image that `paths` name (images, folders, patterns, .csv lists), as `vgg predict` gives
    them. An image that cannot be used is in `bad` of the result and stops no other.

    Raises DataError where there is no image, UsageError, WeightsError or MachineError for whatever else cannot be used.

    >>> found = vggcli.predict("photos/val/", "runs/A-1", top=3)
    >>> (label, posterior), second, third = found.images[0].top
    >>> posterior >= second[1] >= third[1]
    True
    """
    options = replace(MeasureOptions(**asked), skip_bad=True)
    check_value("top", top, Ordinal)
    file = find_weights(None if weights is None else Path(weights), arch, places)
    return predicted(texts_of(paths), file, options, top, places=places, progress=progress)


def predicted(
    paths: Sequence[str],
    weights: Path,
    asked: MeasureOptions,
    top: int,
    *,
    places: Places,
    progress: Progress = silent,
    outputs: Sequence[Output] = (),
    stdin: IO[bytes] | None = None,
    ranks: Ranks = ALONE,
) -> Predictions:
    """As `predict`, with the file `weights`; `outputs` are the files that results will be written to, `stdin` has the list
    that "-" among `paths` reads. Several processes share the images, and each gets the result. Raises UsageError too where
    an output would lie among the images."""
    names = ranks.first_does(lambda: names_to_predict(paths, outputs, stdin))
    with ranks.first_before_others():
        by = opened(weights, asked, places, progress, names)
    images = ImageSet(Path(), "", by.classes, names, (0,) * len(names), ((),) * len(names))
    with ranks.progress(progress)("predicting", len(names) * len(by.options.scales), "views") as bar:
        scores = image_posteriors(by.network, images, by.colour, by.options, bar, ranks)
    found = zip(scores.images, ranked(scores, top), strict=True)
    return Predictions(tuple(Prediction(name, classes) for name, classes in found), scores.skipped)


def names_to_predict(paths: Sequence[str], outputs: Sequence[Output], stdin: IO[bytes] | None) -> tuple[str, ...]:
    """The images that `paths` name, each once. Raises DataError where there is none, UsageError where nothing is named, or
    where an output would lie among them."""
    if not paths:
        raise UsageError("there is nothing to predict: give images, folders, globs or lists")
    names = images_once(paths, stdin)
    check_outside_folders(outputs, paths, names)
    if not names:
        raise DataError(f"there is no image in {', '.join(paths)}")
    return names
