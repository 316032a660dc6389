"""The data of a run: both splits, surveyed; with `skip_bad` without the images that cannot be used, which the run lists in
skipped.json."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vggcli.data.boxes import checked_boxes
from vggcli.data.decode import ImageError
from vggcli.data.decode_on_device import need_decoder
from vggcli.data.find import find_source
from vggcli.data.image_set import ImageSet
from vggcli.data.outputs import check_outside
from vggcli.data.sources import load_both, load_training
from vggcli.data.survey import survey, survey_notes
from vggcli.data.usable import usable, without
from vggcli.device import pick_device
from vggcli.errors import WeightsError, counted
from vggcli.progress import LOG
from vggcli.records import read_record
from vggcli.regular_files import need_regular
from vggcli.training.options import RunOptions
from vggcli.training.plan import Plan
from vggcli.training.surroundings import Surroundings

SKIPPED = "skipped.json"  # of a run
LISTED = 50  # of the images left out, how many are noted by name

Skipped = tuple[tuple[str, str], ...]  # names relative to the source, each with the reason


@dataclass(frozen=True)
class TrainingSets:
    """Both splits; `name` is the source as an absolute path, or as a set's name."""

    name: str
    train: ImageSet
    val: ImageSet
    skipped: Skipped = ()


def training_sets(plan: Plan, workers: int, around: Surroundings, run: Path | None) -> TrainingSets:
    """The data of `plan`, with checked boxes where it learns them; for a resumed run in the folder `run` without the images
    that it has left out before.

    Raises DataError where the data cannot be trained on, WeightsError where the list is damaged.
    """
    source = find_source(plan.data, around.places, workers, around.progress)
    train, val = load_training(source.path) if plan.boxes is None else load_both(source.path, boxes=True)
    known: Skipped = ()
    if plan.skip_bad and run is not None and (run / SKIPPED).exists():
        need_regular(run / SKIPPED, WeightsError)
        try:
            known = read_record(Skipped, (run / SKIPPED).read_bytes())
        except (OSError, ValueError) as error:
            raise WeightsError(
                f"{run / SKIPPED} is not a run's list of images that were left out: {error}; put it back"
            ) from error
        names = {name for name, _ in known}
        train, val = (
            without(images, {row for row, name in enumerate(images.names) if name in names}) for images in (train, val)
        )
    total, bad = len(train) + len(val), list[tuple[str, str]]()
    if plan.boxes is not None:
        with around.progress("looking at the boxes", total, "images") as bar:
            train, val = (
                _kept(checked_boxes(images, workers, plan.skip_bad, bar), images, bad) for images in (train, val)
            )
    if plan.skip_bad and not known:
        with around.progress("looking for images that cannot be used", len(train) + len(val), "images") as bar:
            train, val = (_kept(usable(images, workers, bar), images, bad) for images in (train, val))
    if bad:
        LOG.info(
            f"left out: {counted(len(bad), 'image')} of {total} that cannot be used, listed in {SKIPPED} of the run"
        )
    for name, reason in bad[:LISTED]:
        LOG.info(f"left out: {name}: {reason}")
    return TrainingSets(source.name, train, val, (*known, *bad))


def _kept(found: tuple[ImageSet, Sequence[ImageError]], images: ImageSet, bad: list[tuple[str, str]]) -> ImageSet:
    """The images that can be used of `images`; the names of the others, with the reasons, are added to `bad`."""
    kept, errors = found
    bad += [(images.names[error.index or 0], error.reason) for error in errors]
    return kept


def surveyed_sets(plan: Plan, options: RunOptions, around: Surroundings, again: bool) -> TrainingSets:
    """As `training_sets`, before a run begins (or begins `again` in its own folder); notes what the data hold. Raises
    UsageError too where the run folder would lie among the images, MachineError where JPEGs cannot be decoded as the plan
    says."""
    need_decoder(options.decode or plan.decode, pick_device(options.device))
    sets = training_sets(plan, options.workers, around, options.folder if again else None)
    for images in (sets.train, sets.val):
        check_outside([("out", options.folder or around.places.runs)], images.root, images.file_names)
    with around.progress("looking at the images", len(sets.train) + len(sets.val), "images") as bar:
        found = survey(sets.train, sets.val, bar)
    around.surveyed(found)
    for line in survey_notes(found, plan.boxes is not None):
        LOG.info(f"data: {line}")
    return sets
