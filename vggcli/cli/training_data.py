"""The data of a training run: both splits, without the images that `--skip-bad` leaves out, which the run lists."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vggcli.cli import options
from vggcli.data.image_set import ImageSet
from vggcli.data.sources import load_training
from vggcli.data.usable import usable, without
from vggcli.errors import UsageError, counted
from vggcli.files import write_text
from vggcli.records import read_record
from vggcli.regular import need_regular
from vggcli.report.progress import Bar
from vggcli.training.plan import Plan

SKIPPED = "skipped.json"  # of a run
LISTED = 50  # images that were left out, by name on stderr

Skipped = tuple[tuple[str, str], ...]  # names relative to the source, each with the reason


@dataclass(frozen=True)
class TrainingSets:
    """What is trained on: `name` means the source anywhere on this machine."""

    name: str
    train: ImageSet
    val: ImageSet
    skipped: Skipped = ()


def training_sets(plan: Plan, workers: int, quiet: bool, run: Path | None) -> TrainingSets:
    """The data of `plan`; those of the folder `run` without the images that it lists as left out already.

    Raises DataError where the data cannot be trained on, UsageError where the list is damaged.
    """
    source = options.data_source(plan.data, workers, quiet)
    train, val = load_training(source.path)
    if not plan.skip_bad:
        return TrainingSets(source.name, train, val)
    if run is not None and (run / SKIPPED).exists():
        skipped = read_skipped(run / SKIPPED)
        train, val = (_without_named(images, skipped) for images in (train, val))
        return TrainingSets(source.name, train, val, skipped)
    total = len(train) + len(val)
    with Bar(options.stderr_console(), "looking for images that cannot be used", total, "images", quiet) as bar:
        good_train, bad_train = usable(train, workers, bar)
        good_val, bad_val = usable(val, workers, bar)
    bad = [(images, error) for images, errors in ((train, bad_train), (val, bad_val)) for error in errors]
    skipped = tuple((images.names[error.index or 0], error.reason) for images, error in bad)
    _say(skipped, total)
    return TrainingSets(source.name, good_train, good_val, skipped)


def _without_named(images: ImageSet, skipped: Skipped) -> ImageSet:
    names = {name for name, _ in skipped}
    return without(images, {row for row, name in enumerate(images.names) if name in names})


def _say(skipped: Skipped, total: int) -> None:
    if skipped:
        options.note(
            f"left out: {counted(len(skipped), 'image')} of {total} that cannot be used; {SKIPPED} of the run lists them"
        )
    for name, reason in skipped[:LISTED]:
        options.note(f"left out: {name}: {reason}")


def save_skipped(folder: Path, skipped: Sequence[tuple[str, str]]) -> None:
    """Write the list of a run. Raises MachineError where the disk refuses."""
    write_text(folder / SKIPPED, json.dumps(skipped, indent=1) + "\n")


def read_skipped(path: Path) -> Skipped:
    """The list of a run. Raises UsageError where it is not what `save_skipped` writes."""
    need_regular(path, UsageError)
    try:
        return read_record(Skipped, path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a run's list of images that were left out: {error}") from error
