"""What `vgg evaluate` does behind its flags: weights become an evaluation, that becomes tables, pictures and records."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from vggcli import __version__
from vggcli.cli import options
from vggcli.cli.weights import check_published, fetched
from vggcli.data.augment import ColourStatistics
from vggcli.data.decode import read_image
from vggcli.data.sources import ImageSet, load_split
from vggcli.errors import MachineError, UsageError, WeightsError
from vggcli.evaluation.fusion import NetworkMember, networks_posteriors
from vggcli.evaluation.metrics import (
    Evaluation,
    class_reports,
    confusion_counts,
    evaluation_of,
    published_result,
    save_scores,
    worst_mistakes,
)
from vggcli.evaluation.protocol import (
    EvaluateOptions,
    Protocol,
    Scores,
    image_posteriors,
    match_classes,
)
from vggcli.paper import CROP, CROP_GRID
from vggcli.report.plots import fitted, save_confusion, save_sheet
from vggcli.report.progress import Bar
from vggcli.report.tables import PaperRow, classes_table, facts_table, paper_table
from vggcli.zoo.checkpoint import Checkpoint, load_checkpoint, need_classifier, read_checkpoint
from vggcli.zoo.device import Precision, pick_dtype
from vggcli.zoo.files import append_line
from vggcli.zoo.scales import check_scales, paper_scales

WORST = "worst.png"
THUMBNAIL = 128  # pixels


@dataclass(frozen=True)
class Measured:
    """An evaluation, the posteriors it rests on, and where its images and weights are."""

    evaluation: Evaluation
    scores: Scores
    images: ImageSet
    checkpoint: Checkpoint
    weights: Path

    @property
    def run(self) -> Path | None:
        """The run folder that the weights lie in, if they lie in one."""
        folder = self.weights.parent
        return folder if (folder / "config.json").is_file() else None


@dataclass(frozen=True)
class ReportOptions:
    """What is made of an evaluation beside its figures."""

    per_class: bool
    confusion: Path | None
    worst: int | None
    scores: Path | None
    table: bool = False
    json: bool = False

    def check(self, networks: int) -> None:
        """Raises UsageError for a report that cannot be made of so many networks, or would overwrite a file."""
        for flag, path in (("--save-scores", self.scores), ("--confusion", self.confusion)):
            if path is None:
                continue
            if networks > 1:
                raise UsageError(f"{flag} {path} is one file for {networks} networks; evaluate them one by one")
            options.writable_output(path, flag)
        if self.table and self.json:
            raise UsageError("--table has no effect with --json, which holds the same figures; leave one out")
        if self.table and self.per_class:
            raise UsageError("--per-class has no place in --table; leave one out")


def evaluate_options(
    *,
    dense: bool,
    multi_crop: bool,
    grid: int | None,
    scales: list[int] | None,
    multi_scale: bool,
    flip: bool | None,
    skip_bad: bool,
    device: str,
    precision: Precision,
    batch_size: int | None,
    workers: int,
) -> EvaluateOptions:
    """The options that the flags of evaluation mean; scales stay empty where the network's own are wanted.

    Raises UsageError for flags that contradict each other or have no effect.
    """
    if scales and multi_scale:
        raise UsageError("--scales and --multi-scale contradict each other; give one")
    if grid is not None and not multi_crop:
        raise UsageError("--grid has no effect without --multi-crop")
    if grid is not None and grid < 2:
        raise UsageError(f"--grid {grid} is no grid: give 2 or more, or leave --multi-crop out for the centre crop")
    whole: Protocol = "dense" if dense else "centre-crop"
    cropped: Protocol = "dense+multi-crop" if dense else "multi-crop"
    where = options.compute_device(device)
    return EvaluateOptions(
        protocol=cropped if multi_crop else whole,
        scales=tuple(scales or ()),
        flip=dense or multi_crop if flip is None else flip,
        device=where,
        dtype=pick_dtype(precision, where),
        grid=CROP_GRID if grid is None else grid,
        batch_size=batch_size,
        workers=workers,
        skip_bad=skip_bad,
    )


def measure(
    weights: Sequence[Path], data: str | None, split: str, opts: EvaluateOptions, multi_scale: bool, quiet: bool
) -> list[Measured]:
    """Evaluate the networks at `weights` with progress, several over the same decoded images, and count. `opts.scales`
    empty takes what the paper takes for each.

    Raises WeightsError where weights are damaged, untrained or do not know the data's classes.
    """
    source = options.data_source(data, opts.workers, quiet)
    images = load_split(source.path, split)
    candidates = [_candidate(path, images, opts, multi_scale, quiet) for path in weights]
    for path in weights if len(weights) > 1 else ():
        load_checkpoint(path)  # so that what is wrong with any of them is said before work with the others starts
    views = len(images) * len({scale for one in candidates for scale in one.member.options.scales})
    with Bar(options.stderr_console(), "evaluating", views, "views", quiet) as bar:
        if len(candidates) == 1:
            member = candidates[0].member
            network, started = member.load(), time.perf_counter()
            scores = image_posteriors(network, member.images, member.colour, member.options, bar)
            results = [(scores, time.perf_counter() - started)]
        else:
            results = networks_posteriors([one.member for one in candidates], bar)
    return [
        Measured(
            evaluation_of(scores, one.member.options, one.weights, one.checkpoint, source.name, split, seconds),
            scores,
            one.member.images,
            one.checkpoint,
            one.weights,
        )
        for one, (scores, seconds) in zip(candidates, results, strict=True)
    ]


@dataclass(frozen=True)
class _Candidate:
    weights: Path
    checkpoint: Checkpoint
    member: NetworkMember


def _candidate(weights: Path, images: ImageSet, opts: EvaluateOptions, multi_scale: bool, quiet: bool) -> _Candidate:
    """Weights whose file says of them what can be used here; the weights themselves are not read yet, and published ones
    are fetched only for data that they fit."""
    check_published(weights, images)
    checkpoint = read_checkpoint(fetched(weights, quiet))
    need_classifier(weights, checkpoint)
    if not checkpoint.training.get("step", 1):
        raise WeightsError(f"{weights} holds untrained weights (no step was finished); go on with `vgg train --resume`")
    opts = replace(opts, scales=opts.scales or paper_scales(checkpoint.scale, multi_scale))
    check_scales(opts.scales, checkpoint.config.crop)
    try:
        mine = match_classes(images, checkpoint.classes or _by_position(weights, images, checkpoint.config.classes))
    except WeightsError as error:
        trained_on = checkpoint.training.get("data")
        known = f"they were trained on {trained_on}: name that, or its like, with --data"
        raise WeightsError(f"{error}; {known if trained_on else 'give other --data, or other weights'}") from None
    say_what_is_assumed(weights, checkpoint)
    colour = ColourStatistics.from_json(checkpoint.preprocessing)
    member = NetworkMember(lambda: load_checkpoint(weights, opts.device)[0], checkpoint.config, colour, mine, opts)
    return _Candidate(weights, checkpoint, member)


def _by_position(weights: Path, images: ImageSet, count: int) -> tuple[str, ...]:
    """The data's classes in sorted order, for weights that do not name theirs; said, since it cannot be checked."""
    if len(images.classes) != count:
        raise WeightsError(f"{weights} has {count} classes without names, and the data {len(images.classes)}")
    options.note(f"{weights} does not name its classes; taken to be the data's {count} in sorted order")
    return tuple(sorted(images.classes))


def say_what_is_assumed(weights: Path, checkpoint: Checkpoint) -> None:
    """Which preprocessing weights of another framework that say nothing of it are taken to expect."""
    if framework := checkpoint.training.get("framework"):
        mean, divisor = checkpoint.preprocessing["mean"], checkpoint.preprocessing["divisor"]
        divisors = divisor if isinstance(divisor, list | tuple) else (divisor,)
        shown = [", ".join(f"{value:g}" for value in values) for values in (mean, divisors)]
        options.note(f"{weights} is taken to expect {framework}'s pixels: RGB less {shown[0]}, over {shown[1]}")


def evaluate_and_report(
    weights: Sequence[Path],
    data: str | None,
    split: str,
    opts: EvaluateOptions,
    multi_scale: bool,
    report: ReportOptions,
    quiet: bool,
) -> None:
    """Measure, write what was asked for, keep a record in each run, and show the figures."""
    several = measure(weights, data, split, opts, multi_scale, quiet)
    for error in several[0].scores.skipped:
        options.note(f"left out: {error}")
    written = [write_files(measured, report) for measured in several]
    for measured in several:
        record(measured)
    if report.json:
        results = [result_json(measured, report) for measured in several]
        print(json.dumps(results[0] if len(results) == 1 else {"evaluations": results}))
    elif report.table:
        show_paper_table(several)
        for path in (path for files in written for path in files.values()):
            options.note(f"written: {path}")
    else:
        for measured, files in zip(several, written, strict=True):
            show(measured, report, files)


def record(measured: Measured) -> None:
    """Add the evaluation to evaluations.jsonl of the run, if the weights lie in one."""
    if measured.run is None:
        return
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    line = json.dumps({**measured.evaluation.to_json(), "date": now, "version": __version__})
    try:
        append_line(measured.run / "evaluations.jsonl", line)
    except MachineError as error:  # a run folder that may only be read still has an error figure
        options.note(f"not recorded: {error}")


def write_files(measured: Measured, report: ReportOptions) -> dict[str, str]:
    """The scores and pictures that were asked for; returns what was written where."""
    written = {}
    if report.scores is not None:
        save_scores(report.scores, measured.scores, measured.evaluation)
        written["scores"] = str(report.scores)
    if report.confusion is not None:
        counts_KK = confusion_counts(measured.scores).numpy()
        save_confusion(counts_KK, measured.scores.classes, report.confusion)
        written["confusion"] = str(report.confusion)
    if report.worst is not None:
        mistakes = worst_mistakes(measured.scores, report.worst)
        path = (measured.run or Path.cwd()) / WORST
        if mistakes:
            pictures = [fitted(read_image(measured.images.root / one.image), THUMBNAIL) for one in mistakes]
            captions = [f"{one.answer} {one.posterior:.2f}, is {one.label}\n{Path(one.image).name}" for one in mistakes]
            save_sheet(pictures, captions, path)
            written["worst"] = f"{path} ({len(mistakes)} mistakes, the surest first)"
    return written


def result_json(measured: Measured, report: ReportOptions) -> dict[str, Any]:
    """The object of `--json`, with the classes where they were asked for."""
    result = measured.evaluation.to_json()
    if report.per_class:
        result["per_class"] = [vars(one) for one in class_reports(measured.scores)]
    return result


def show(measured: Measured, report: ReportOptions, written: dict[str, str]) -> None:
    """The figures with what they were made with, as tables on stdout."""
    one, config = measured.evaluation, measured.checkpoint.config
    several = (("flips", one.flip), ("crops", one.crops > 0), ("scales", len(one.scales) > 1))
    averaged = ", ".join(name for name, more in several if more)
    skipped = f", {one.skipped} left out" if one.skipped else ""
    crops = f"{one.crops} crops an image; " if one.crops else ""
    facts = {
        "top-1 error": f"{one.top1_error:.2f} % ({one.images - one.correct_top1} wrong)",
        "top-5 error": f"{one.top5_error:.2f} % ({one.images - one.correct_top5} wrong)",
        "images": f"{one.images}{skipped}, of {one.classes} classes: {one.data} ({one.split})",
        "protocol": f"{one.protocol} at Q = {', '.join(map(str, one.scales))}; {crops}"
        + (f"{averaged} averaged as posteriors" if averaged else "one view an image"),
        "calibration": f"{one.calibration_error:.1f} % expected calibration error",
        "network": f"{one.arch}, crop {config.crop}, width {config.width:g}",
        "weights": f"{one.weights} (SHA-256 {one.weights_sha256[:12]}…)",
        "speed": f"{one.images_per_second:.1f} images/s, {one.seconds:.1f} s",
        **written,
    }
    console = options.stdout_console()
    console.print(facts_table("Evaluation", facts))
    if report.per_class:
        console.print(classes_table(class_reports(measured.scores)))


def show_paper_table(several: Sequence[Measured]) -> None:
    """All of them in the form of Tables 3 and 4, on stdout."""
    rows = []
    for measured in several:
        one, config = measured.evaluation, measured.checkpoint.config
        changes = [f"width {config.width:g}"] * (config.width != 1) + [f"crop {config.crop}"] * (config.crop != CROP)
        changes += ["gap"] * (config.head == "gap")
        name = f"{one.arch} ({', '.join(changes)})" if changes else one.arch
        published = published_result(measured.checkpoint, one, measured.scores.classes)
        weights = measured.run or measured.weights
        rows.append(PaperRow(name, measured.checkpoint.scale, one, published, weights.name))
    first = several[0].evaluation
    how = f"{first.protocol}{', with flips' if first.flip else ''}"
    title = f"{how}, {first.images} images of {first.data} ({first.split}); posteriors averaged"
    options.stdout_console().print(paper_table(title, rows))
