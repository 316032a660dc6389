"""The merging threshold, chosen on the training split and kept in the checkpoint of the box network."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vggcli.data.decode import ImageError
from vggcli.data.image_set import match_classes
from vggcli.evaluation.options import MeasureOptions
from vggcli.files import machine_error
from vggcli.localisation.error import ImageOutcome, Localisation, localisation
from vggcli.localisation.localise import THRESHOLD
from vggcli.localisation.measure import BoxedData, boxed_data, outcome_of
from vggcli.localisation.networks import box_network, open_localiser
from vggcli.places import Places
from vggcli.progress import LOG, Progress, silent
from vggcli.ranks import ALONE, Ranks
from vggcli.training.run import hold_run, let_go_of_run
from vggcli.weights.checkpoint import load_checkpoint, save_checkpoint
from vggcli.weights.find import run_of

GRID = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.25, 1.5, 2.0)  # match scores
MOST_IMAGES = 1000  # of the training split, evenly spaced


@dataclass(frozen=True)
class Tuned:
    """The threshold of the least error, among those the one of the greatest mean IoU, then the one nearest to THRESHOLD;
    and the error at each threshold that was tried, on so many images, at the shorter sides `scales`."""

    threshold: float
    tried: dict[float, Localisation]
    images: int
    scales: list[int]


def tune_merging(
    weights: Path,
    classifiers: Sequence[str | Path],
    data: str | Path | None,
    asked: MeasureOptions,
    *,
    places: Places,
    progress: Progress = silent,
    ranks: Ranks = ALONE,
) -> Tuned:
    """Choose the merging threshold of the box network in the file `weights` by protocol 2 on at most MOST_IMAGES images of
    the training split, and keep it in the file, whose weights stay as they are; a run that is being written is refused.

    Raises as `measure_localisation` does, and MachineError where the file cannot be written.
    """
    run = run_of(weights) if ranks.is_first else None
    try:
        held = None if run is None else hold_run(run)
    except OSError as error:
        raise machine_error(weights, error) from error
    try:
        found = boxed_data(data, "train", [weights], asked, places=places, progress=progress, ranks=ranks)
        tuned = _tuned(weights, classifiers, found, asked, places, progress, ranks)
        with ranks.first_before_others():
            if ranks.is_first:
                network, checkpoint = load_checkpoint(weights)
                kept = {
                    "threshold": tuned.threshold,
                    "data": found.name,
                    "images": tuned.images,
                    "scales": tuned.scales,
                }
                training = {**checkpoint.training, "merging": kept}
                save_checkpoint(weights, network, replace(checkpoint, training=training))
    finally:
        if run is not None:
            let_go_of_run(run, held)
    best = tuned.tried[tuned.threshold]
    how = f"error {best.localisation_error:.2f} % on {tuned.images} training images"
    LOG.info(f"merging threshold: {tuned.threshold:g} ({how}), kept in {weights}")
    return tuned


def _tuned(
    weights: Path,
    classifiers: Sequence[str | Path],
    data: BoxedData,
    asked: MeasureOptions,
    places: Places,
    progress: Progress,
    ranks: Ranks,
) -> Tuned:
    count = min(MOST_IMAGES, len(data.images))
    some = data.images.chosen([index * len(data.images) // count for index in range(count)])
    localiser = open_localiser([box_network(weights)], classifiers, asked, some, places=places, progress=progress)
    images = match_classes(some, localiser.classes)
    mine: dict[float, list[ImageOutcome]] = {threshold: [] for threshold in GRID}
    with ranks.progress(progress)("tuning the merging", len(images) * len(localiser.scales), "views") as bar:
        for found in localiser.found(images, bar, ranks.share(len(images))):
            if isinstance(found, ImageError):
                if not localiser.options.skip_bad:
                    raise found
                continue
            for threshold, of_it in mine.items():
                of_it.append(outcome_of(images, found.row, found.guesses(threshold)))
    everyone = ranks.gathered(mine)
    tried = {threshold: localisation([one for each in everyone for one in each[threshold]]) for threshold in GRID}
    best = min(GRID, key=lambda one: (tried[one].localisation_error, -tried[one].mean_iou, abs(one - THRESHOLD)))
    return Tuned(best, tried, tried[best].images, list(localiser.scales))
