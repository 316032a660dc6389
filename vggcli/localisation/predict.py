"""The top classes of images that are named by paths, folders, patterns or lists, each with a box (protocol 2)."""

import json
from collections import ChainMap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from vggcli.data.decode import ImageError
from vggcli.data.image_set import ImageSet
from vggcli.data.outputs import Output
from vggcli.data.paths import texts_of
from vggcli.data.voc import CORNERS
from vggcli.errors import DataError, UsageError, counted
from vggcli.evaluation import predict as of_classes
from vggcli.evaluation.options import MeasureOptions, shows_options
from vggcli.evaluation.predict import Predictions, names_to_predict, write_rows
from vggcli.files import write_text
from vggcli.localisation.error import MOST_GUESSES
from vggcli.localisation.evaluate import BoxOptions
from vggcli.localisation.localise import Found, Guess
from vggcli.localisation.measure import own_threshold
from vggcli.localisation.networks import box_network, open_localiser
from vggcli.places import Places
from vggcli.progress import Progress, silent
from vggcli.ranks import ALONE, Ranks
from vggcli.records import Ordinal, check_value
from vggcli.results import Result
from vggcli.weights.find import find_weights

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from vggcli.evaluation.options import Asked

Names = str | Path | Sequence[str | Path]
_HEADER = ("path", "rank", "class", "score", *CORNERS)


@dataclass(frozen=True)
class BoxPrediction:
    """An image and its most probable classes, each with its box, the most probable first. Boxes are xyxy in pixels of the
    upright image, continuous coordinates from 0 at its left and top, as they were found: they may pass its border."""

    path: str
    boxes: tuple[Guess, ...]


@dataclass(frozen=True)
class BoxPredictions(Result):
    """The predictions in the order of the paths, and the images that could not be used."""

    images: tuple[BoxPrediction, ...]
    bad: tuple[ImageError, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """One object per image: its path and boxes, or path and error."""
        good = [
            {
                "image": one.path,
                "boxes": [{"class": box.label, "score": box.score, "box": [*box.box]} for box in one.boxes],
            }
            for one in self.images
        ]
        return [*good, *({"image": one.path, "error": one.reason} for one in self.bad)]

    def table(self) -> list[dict[str, Any]]:
        """One row per image and class, with the rank from 1."""
        return [
            dict(zip(_HEADER, (one.path, rank, box.label, box.score, *box.box), strict=True))
            for one in self.images
            for rank, box in enumerate(one.boxes, start=1)
        ]

    def write(self, path: Path) -> None:
        """Write the rows of `table` as CSV or, by the suffix, what `to_json` gives as JSON, whole or not at all. Raises
        MachineError where that fails."""
        if path.suffix == ".json":
            write_text(path, json.dumps(self.to_json(), indent=1) + "\n")
        else:
            write_rows(path, _HEADER, self.table())


class Drawer(Protocol):
    """What draws boxes as they are found. `begin` gets the names of all images before any work is done, and may raise
    UsageError; `draw` an image, its guesses, what they are from, and the threshold of merging."""

    def begin(self, names: Sequence[str]) -> None: ...

    def draw(self, name: str, guesses: Sequence[Guess], found: Found, threshold: float) -> None: ...


@shows_options
def predict(
    places: Places,
    paths: Names,
    weights: str | Path | None = None,
    *,
    boxes: Names | None = None,
    classifier: Names = (),
    merging: float | None = None,
    top: int = 5,
    arch: str | None = None,
    progress: Progress = silent,
    **asked: "Unpack[Asked]",
) -> Predictions | BoxPredictions:
    """The `top` classes of every image that `paths` name (images, folders, patterns, .csv lists), as `vgg predict` gives
    them; the other keywords, those of `MeasureOptions`, say by which views. An image that cannot be used is in `bad` of the
    result and stops no other.

    With `boxes`, one or several networks that give boxes, each class has a box (protocol 2 of Appendix A); the classes are
    then those of `classifier`, one or several networks, the views whole images, and boxes are merged up to the match score
    `merging` (None: as the networks were tuned).

    Raises DataError where there is no image, UsageError, WeightsError or MachineError for whatever else cannot be used.

    >>> found = vggcli.predict("photos/val/", "runs/A-1", top=3)
    >>> (label, posterior), second, third = found.images[0].top
    >>> posterior >= second[1] >= third[1]
    True
    """
    if boxes is None:
        for name, given in (("classifier", bool(classifier)), ("merging", merging is not None)):
            if given:
                raise UsageError(f"{name} has no effect without networks that give boxes", name, "boxes")
        return of_classes.predict(places, paths, weights, top=top, arch=arch, progress=progress, **asked)
    if weights is not None or arch is not None:
        raise UsageError("weights have no effect beside boxes, whose classes the classifier says", "classifier")
    check_value("top", top, Ordinal)
    whole = replace(MeasureOptions(**asked), dense=True)
    by = BoxOptions(texts_of(classifier), merging)
    return predicted_boxes(texts_of(paths), texts_of(boxes), by, whole, top, places=places, progress=progress)


def predicted_boxes(
    paths: Sequence[str],
    boxes: Sequence[str | Path],
    by: BoxOptions,
    asked: MeasureOptions,
    top: int,
    *,
    places: Places,
    progress: Progress = silent,
    outputs: Sequence[Output] = (),
    stdin: IO[bytes] | None = None,
    drawer: Drawer | None = None,
    ranks: Ranks = ALONE,
) -> BoxPredictions:
    """As `predict` with boxes; `outputs` are the files and folders that results will be written to, `stdin` has the list
    that "-" among `paths` reads. Several processes share the images; each draws its own, and gets the result of all. Raises
    UsageError too where an output would lie among the images."""
    if top > MOST_GUESSES:
        raise UsageError(f"boxes are found for at most {MOST_GUESSES} classes an image, not for {top}", "top")
    names = ranks.first_does(lambda: names_to_predict(paths, outputs, stdin))
    if drawer is not None:
        drawer.begin(names)
    networks = [box_network(find_weights(Path(one), None, places)) for one in boxes]
    with ranks.first_before_others():
        localiser = open_localiser(networks, by.classifier, asked, None, places=places, progress=progress)
    threshold = own_threshold(networks) if by.merging is None else by.merging
    images = ImageSet(Path(), "", localiser.classes, names, (0,) * len(names), ((),) * len(names))
    good: dict[int, BoxPrediction] = {}
    bad: list[ImageError] = []
    with ranks.progress(progress)("predicting", len(names) * len(localiser.scales), "views") as bar:
        for found in localiser.found(images, bar, ranks.share(len(names))):
            if isinstance(found, ImageError):
                bad.append(found)
                continue
            guesses, name = found.guesses(threshold)[:top], names[found.row]
            good[found.row] = BoxPrediction(name, guesses)
            if drawer is not None:
                drawer.draw(name, guesses, found, threshold)
    everyone = ranks.gathered((good, bad))
    good, bad = dict(ChainMap(*(found for found, _ in everyone))), [one for _, some in everyone for one in some]
    if not good:
        raise DataError(f"none of the {counted(len(names), 'image')} can be used; the first: {bad[0]}")
    return BoxPredictions(tuple(one for _, one in sorted(good.items())), tuple(bad))
