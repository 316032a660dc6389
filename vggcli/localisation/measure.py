"""From box networks and data to localisation errors: by protocol 1 of Appendix A, the box of the true class in the centre
crop, and by protocol 2, classes and boxes everywhere in the whole image."""

import time
from collections import ChainMap
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vggcli.colour import normalise
from vggcli.data.boxes import checked_boxes
from vggcli.data.decode import ImageError
from vggcli.data.find import find_source
from vggcli.data.image_set import ImageSet, match_classes
from vggcli.data.left_out import note_remarks
from vggcli.data.outputs import Output, check_outside_source
from vggcli.data.sources import load_split
from vggcli.data.survey import note_in_both
from vggcli.data.test_batches import test_batches
from vggcli.data.test_views import ViewPlan
from vggcli.device import computing
from vggcli.errors import DataError, UsageError, WeightsError, counted
from vggcli.evaluation.options import MeasureOptions
from vggcli.localisation.error import ImageOutcome, image_outcome
from vggcli.localisation.localise import THRESHOLD, Guess, Localiser
from vggcli.localisation.networks import BoxNetwork, box_network, open_localiser
from vggcli.localisation.result import BoxFusion, HowMeasured, MeasuredBoxes, box_evaluation
from vggcli.metrics import count_correct
from vggcli.places import Places
from vggcli.progress import LOG, Progress, silent
from vggcli.ranks import ALONE, Ranks
from vggcli.training.memory import ROWS
from vggcli.training.objective import BoxRegression, BoxTally
from vggcli.weights.checked_once import unchanged, weights_sha256
from vggcli.weights.checkpoint import load_hashed
from vggcli.weights.find import data_of


@dataclass(frozen=True)
class BoxedData:
    """One split with checked boxes: the `name` and the path of its source, its images, and how many were left out."""

    name: str
    path: Path
    images: ImageSet
    left_out: int


def boxed_data(
    data: str | Path | None,
    split: str,
    weights: Sequence[Path],
    asked: MeasureOptions,
    *,
    places: Places,
    progress: Progress = silent,
    outputs: Sequence[Output] = (),
    ranks: Ranks = ALONE,
) -> BoxedData:
    """A split of `data`, or of what `weights` were trained on, with its boxes. Raises DataError where it has none, or an
    image has none of its class (with `asked.skip_bad` this is left out), UsageError where an output would lie in it."""
    named = data_of(weights, places) if data is None else str(data)
    with ranks.first_before_others():
        source = find_source(named, places, asked.workers, progress)
    images = load_split(source.path, split, boxes=True)
    check_outside_source(outputs, source.path, images)
    if not images.has_objects:
        kinds = "VOC annotations, a CSV or shards with boxes, ILSVRC's own folders, or shapes"
        raise DataError(
            f"no box is marked in the {split} split of {source.path}; give data with boxes: {kinds}", "data"
        )
    with progress("looking at the boxes", len(images), "images") as bar:
        kept, bad = checked_boxes(images, asked.workers, asked.skip_bad, bar)
    note_remarks(kept)
    for error in bad:
        LOG.info(f"left out: {error}")
    return BoxedData(source.name, source.path, kept, len(images) - len(kept))


def measure_boxes(
    weights: Sequence[Path],
    data: str | Path | None,
    split: str,
    asked: MeasureOptions,
    *,
    places: Places,
    progress: Progress = silent,
    outputs: Sequence[Output] = (),
    ranks: Ranks = ALONE,
) -> list[MeasuredBoxes]:
    """Measure each of the box networks in the files `weights` by protocol 1: the box of the true class, predicted from the
    centre crop at Q = S or at the one scale of `asked`, is right where its IoU with any instance of the class is above 1/2.

    Raises UsageError for other views, DataError for data without boxes, WeightsError for weights that give none or, with a
    box for each class, are of other classes than the data.
    """
    if asked.dense:
        raise UsageError("boxes of whole images need a network that says their classes; name one", "classifier")
    several = len(asked.scales or ()) > 1
    given = {"multi_crop": asked.multi_crop, "multi_scale": asked.multi_scale, "scales": several, "flip": asked.flip}
    if names := [name for name, value in given.items() if value]:
        what = "the box of the true class is measured by a single view, the centre crop"
        raise UsageError(f"{what}; leave this out, or measure densely, with a classifier", *names)
    networks = [box_network(path, asked.resolved.pixels) for path in weights]
    found = boxed_data(data, split, weights, asked, places=places, progress=progress, outputs=outputs, ranks=ranks)
    if ranks.is_first:
        note_in_both(found.path, found.images)
    with ranks.progress(progress)("evaluating", len(found.images) * len(networks), "images") as bar:
        return [_by_centre_crop(one, found, asked, split, bar, ranks) for one in networks]


@torch.inference_mode()
def _by_centre_crop(
    one: BoxNetwork, data: BoxedData, asked: MeasureOptions, split: str, bar: Callable[[int], None], ranks: Ranks
) -> MeasuredBoxes:
    options, config = asked.for_network(one.checkpoint), one.checkpoint.config
    assert config.boxes is not None
    images, (scale,) = _of_its_classes(one, data.images), options.scales
    network, sha256 = load_hashed(one.path, options.device)
    one, started = replace(one, sha256=sha256), time.perf_counter()
    tally, skipped = BoxTally(images, BoxRegression(config.boxes, scale, config.crop)), dict[int, ImageError]()
    rows = asked.batch_size or ROWS
    plan = ViewPlan((scale,), centre_crop=config.crop)
    where = (options.workers, options.device, ranks.share(len(images)))
    for batch in test_batches(images, plan, lambda height, width: rows, *where, decode=options.decode):
        if isinstance(batch, ImageError):
            _skipped(batch, skipped, options.skip_bad)
            bar(1)
            continue
        with computing(options.device, options.precision, fixed=True):
            outputs = options.forward(network, normalise(batch.images_NHWC, one.checkpoint.preprocessing))
        tally.add(outputs.float(), batch.indices)
        bar(len(batch.indices))
    everyone = ranks.gathered((tally.found(), skipped))
    tally.take([found for found, _ in everyone])
    skipped = _all_skipped([bad for _, bad in everyone])
    kept = _without_skipped(images, skipped)
    guesses, outcomes = [], []
    for row in sorted(tally.boxes):
        label, (width, height) = images.classes[images.labels[row]], images.sizes[row]
        left, top, right, bottom = tally.boxes[row].tolist()
        box = (left * width, top * height, right * width, bottom * height)
        guesses.append((Guess(label, 1.0, box, 1.0, 1),))
        outcomes.append(ImageOutcome(label, True, tally.overlaps[row]))
    how, left_out = (
        HowMeasured(data.name, split, decode=options.decode, precision=options.precision),
        data.left_out + len(skipped),
    )
    seconds = time.perf_counter() - started
    evaluation = box_evaluation([one], outcomes, None, (scale,), False, kept, left_out, how, seconds)
    return MeasuredBoxes(evaluation, tuple(outcomes), tuple(guesses), kept, (one,))


def _of_its_classes(one: BoxNetwork, images: ImageSet) -> ImageSet:
    """`images` with labels of the network's classes, or their own where all classes have the same box."""
    if one.checkpoint.config.boxes == "scr":
        return images
    try:
        return match_classes(images, one.checkpoint.classes)
    except WeightsError as error:
        raise WeightsError(
            f"{error}; give data of the same classes as {one.checkpoint.training.get('data')}", "data"
        ) from None


def measure_localisation(
    weights: Sequence[Path],
    classifiers: Sequence[str | Path],
    data: str | Path | None,
    split: str,
    asked: MeasureOptions,
    threshold: float | None = None,
    *,
    places: Places,
    progress: Progress = silent,
    outputs: Sequence[Output] = (),
    ranks: Ranks = ALONE,
) -> BoxFusion:
    """Measure the box networks in the files `weights` by protocol 2, with the candidates of all of them united before they
    are merged, and each of them alone; see `open_localiser` for `classifiers` and `asked`. Boxes are merged up to the match
    score `threshold`, by default the mean of those that the networks were tuned to, else THRESHOLD.

    Raises UsageError, DataError, WeightsError or MachineError for whatever cannot be used.
    """
    with ExitStack() as reading:
        for path in weights:
            reading.enter_context(unchanged(path))
        networks = [box_network(path) for path in weights]
        found = boxed_data(data, split, weights, asked, places=places, progress=progress, outputs=outputs, ranks=ranks)
        with ranks.first_before_others():
            localiser = open_localiser(networks, classifiers, asked, found.images, places=places, progress=progress)
        networks = [replace(one, sha256=weights_sha256(one.path)) for one in networks]
    if ranks.is_first:
        note_in_both(found.path, found.images)
    several = len(networks) > 1
    parts = [*([(index,) for index in range(len(networks))] if several else []), tuple(range(len(networks)))]
    limit = own_threshold(networks) if threshold is None else threshold
    for one in networks if threshold is None else ():
        _note_other_scales(one, localiser.scales)
    how = HowMeasured(found.name, split, tuple(map(str, classifiers)), limit, asked.decode, asked.resolved.precision)
    measured = _everywhere(localiser, networks, parts, found, how, progress, ranks)
    names = tuple(str(one.path) for one in networks) if several else ()
    return BoxFusion(tuple(measured[:-1]), measured[-1], names)


def _note_other_scales(one: BoxNetwork, scales: Sequence[int]) -> None:
    """Log where the merging threshold of a network was tuned at other scales than these."""
    merging = one.checkpoint.training.get("merging") or {}
    tuned = merging.get("scales", list(scales))
    if tuned != list(scales):
        at = f"at Q = {', '.join(map(str, tuned))}"
        LOG.info(
            f"the merging threshold {merging['threshold']:g} of {one.path} was tuned {at}; tune it at these scales"
        )


def own_threshold(networks: Sequence[BoxNetwork]) -> float:
    """The mean of the merging thresholds that the networks were tuned to; THRESHOLD for one that was not."""
    own = [(one.checkpoint.training.get("merging") or {}).get("threshold", THRESHOLD) for one in networks]
    return float(sum(own) / len(own))


def _everywhere(
    localiser: Localiser,
    networks: Sequence[BoxNetwork],
    parts: Sequence[tuple[int, ...]],
    data: BoxedData,
    how: HowMeasured,
    progress: Progress,
    ranks: Ranks,
) -> list[MeasuredBoxes]:
    """The evaluation of each of `parts` of the networks."""
    assert how.threshold is not None
    images, skipped, started = (
        match_classes(data.images, localiser.classes),
        dict[int, ImageError](),
        time.perf_counter(),
    )
    guesses: list[dict[int, tuple[Guess, ...]]] = [{} for _ in parts]
    top1 = top5 = 0
    with ranks.progress(progress)("localising", len(images) * len(localiser.scales), "views") as bar:
        for found in localiser.found(images, bar, ranks.share(len(images))):
            if isinstance(found, ImageError):
                _skipped(found, skipped, localiser.options.skip_bad)
                continue
            for part, of_part in zip(parts, guesses, strict=True):
                of_part[found.row] = found.guesses(how.threshold, part)
            label_1 = torch.tensor([images.labels[found.row]])
            top1 += count_correct(found.posteriors_K[None], label_1, 1)
            top5 += count_correct(found.posteriors_K[None], label_1, 5)
    of_all, right1, right5, bad = zip(*ranks.gathered((guesses, top1, top5, skipped)), strict=True)
    guesses = [dict(ChainMap(*of_part)) for of_part in zip(*of_all, strict=True)]
    top1, top5, skipped = sum(right1), sum(right5), _all_skipped(bad)
    seconds, kept = time.perf_counter() - started, _without_skipped(images, skipped)
    results = []
    for part, of_part in zip(parts, guesses, strict=True):
        rows, some = sorted(of_part), [networks[index] for index in part]
        outcomes = [outcome_of(images, row, of_part[row]) for row in rows]
        scales = tuple(sorted({scale for index in part for scale in localiser.boxes[index].scales}))
        left_out = data.left_out + len(skipped)
        one = box_evaluation(some, outcomes, (top1, top5), scales, localiser.flip, kept, left_out, how, seconds)
        results.append(MeasuredBoxes(one, tuple(outcomes), tuple(of_part[row] for row in rows), kept, tuple(some)))
    return results


def outcome_of(images: ImageSet, row: int, guesses: Sequence[Guess]) -> ImageOutcome:
    """What became of the guesses for an image."""
    label, boxes_G4 = (
        images.classes[images.labels[row]],
        torch.tensor([one.box for one in guesses], dtype=torch.float64),
    )
    instances_M4 = torch.tensor(images.own_boxes(row), dtype=torch.float64)
    return image_outcome([one.label for one in guesses], boxes_G4, label, instances_M4)


def _skipped(error: ImageError, skipped: dict[int, ImageError], skip_bad: bool) -> None:
    if not skip_bad:
        raise error
    assert error.index is not None
    skipped[error.index] = error


def _all_skipped(bad: Sequence[dict[int, ImageError]]) -> dict[int, ImageError]:
    """The images that all processes have left out, which are noted."""
    skipped = dict(sorted(ChainMap(*bad).items()))
    for error in skipped.values():
        LOG.info(f"left out: {error}")
    return skipped


def _without_skipped(images: ImageSet, skipped: dict[int, ImageError]) -> ImageSet:
    """Raises DataError where none is left."""
    if len(skipped) == len(images):
        raise DataError(
            f"none of the {counted(len(images), 'image')} can be used; the first: {next(iter(skipped.values()))}"
        )
    return images.chosen([row for row in range(len(images)) if row not in skipped])
