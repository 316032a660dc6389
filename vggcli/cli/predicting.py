"""What `vgg predict` does behind its flags: paths become images, images their top classes."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vggcli.cli import options
from vggcli.colour import ColourStatistics
from vggcli.data.decode import ImageError
from vggcli.data.outputs import check_outside_folders
from vggcli.data.paths import images_once
from vggcli.data.sources import ImageSet
from vggcli.errors import DataError, counted
from vggcli.evaluation.protocol import EvaluateOptions, check_test_scales, image_posteriors
from vggcli.files import write_text
from vggcli.report.progress import Bar
from vggcli.report.tables import predictions_table
from vggcli.weights.assumed import say_what_is_assumed
from vggcli.weights.checkpoint import load_checkpoint, need_classifier
from vggcli.weights.find import check_published_classifier, fetched
from vggcli.zoo.scales import paper_scales


@dataclass(frozen=True)
class Prediction:
    """An image and its most probable classes with their posteriors, the first first."""

    path: str
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Predictions:
    """What was predicted, in the order asked for, and what could not be used."""

    images: tuple[Prediction, ...]
    bad: tuple[ImageError, ...]


def predicted(
    paths: Sequence[str],
    weights: Path,
    opts: EvaluateOptions,
    multi_scale: bool,
    top: int,
    quiet: bool,
    out: Path | None = None,
) -> Predictions:
    """The top classes of every image that `paths` name. Raises DataError where they name none, UsageError where `out`
    would lie among them."""
    names = images_once(paths, sys.stdin.buffer)
    check_outside_folders([("out", out)] if out is not None else [], paths, names)
    if not names:
        raise DataError(f"there is no image in {', '.join(paths)}")
    check_published_classifier(weights, options.places())
    network, checkpoint = load_checkpoint(
        fetched(weights, options.places(), options.progress(quiet), names), opts.device, opts.pixels
    )
    need_classifier(weights, checkpoint)
    say_what_is_assumed(weights, checkpoint, options.places())
    opts = replace(opts, scales=opts.scales or paper_scales(checkpoint.scale, multi_scale))
    check_test_scales(checkpoint.config, opts, "--multi-scale: the scale" if multi_scale else "--scales")
    if not checkpoint.classes:
        options.note(f"{weights} does not name its classes; they are shown by the number of their score, from 0")
    classes = checkpoint.classes or tuple(str(index) for index in range(checkpoint.config.classes))
    images = ImageSet(Path(), "", classes, names, (0,) * len(names), ((),) * len(names))
    colour = ColourStatistics.from_json(checkpoint.preprocessing)
    with Bar(options.stderr_console(), "predicting", len(names) * len(opts.scales), "views", quiet) as bar:
        scores = image_posteriors(network, images, colour, opts, bar)
    values_NK, order_NK = scores.posteriors_NK.topk(min(top, len(scores.classes)), dim=1)
    found = []
    for name, values, order in zip(scores.images, values_NK.tolist(), order_NK.tolist(), strict=True):
        found.append(Prediction(name, tuple((scores.classes[k], v) for k, v in zip(order, values, strict=True))))
    return Predictions(tuple(found), scores.skipped)


def show_table(found: Predictions) -> None:
    """Classes with bars, on stdout."""
    options.stdout_console().print(predictions_table([(one.path, one.top) for one in found.images]))


def show_json(found: Predictions) -> None:
    """One JSON object a line: path and predictions, or path and error."""
    for one in found.images:
        predictions = [{"class": name, "posterior": posterior} for name, posterior in one.top]
        print(json.dumps({"path": one.path, "predictions": predictions}))
    for bad in found.bad:
        print(json.dumps({"path": bad.path, "error": bad.reason}))


def write_table(path: Path, found: Predictions) -> None:
    """Path, rank, class and posterior as CSV or JSON, whole or not at all."""
    rows = [
        (one.path, rank, name, posterior)
        for one in found.images
        for rank, (name, posterior) in enumerate(one.top, start=1)
    ]
    header = ("path", "rank", "class", "posterior")
    if path.suffix == ".json":
        write_text(path, json.dumps([dict(zip(header, row, strict=True)) for row in rows], indent=1) + "\n")
        return
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_text(path, text.getvalue())


def finish(found: Predictions) -> None:
    """List what could not be used. Raises DataError where there is any."""
    for bad in found.bad:
        options.note(f"not used: {bad}")
    if found.bad:
        raise DataError(
            f"{len(found.bad)} of {counted(len(found.bad) + len(found.images), 'file')} could not be used; see above"
        )
