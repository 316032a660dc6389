"""What `vgg evaluate` does behind its flags: weights become an evaluation, that becomes tables, pictures and records."""

import json
import time
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from vggcli import __version__
from vggcli.cli import options
from vggcli.data.augment import ColourStatistics
from vggcli.data.decode import read_image
from vggcli.data.sources import ImageSet, load_split
from vggcli.errors import MachineError, UsageError, WeightsError
from vggcli.evaluation.metrics import (
    Evaluation,
    class_reports,
    confusion_counts,
    correct_counts,
    expected_calibration_error,
    worst_mistakes,
)
from vggcli.evaluation.protocol import (
    EvaluateOptions,
    Protocol,
    Scores,
    check_scales,
    crops_an_image,
    image_posteriors,
    match_classes,
    paper_scales,
)
from vggcli.paper import CROP_GRID
from vggcli.report.plots import fitted, save_confusion, save_sheet
from vggcli.report.progress import Bar
from vggcli.report.tables import classes_table, facts_table
from vggcli.zoo.checkpoint import Checkpoint, file_sha256, load_checkpoint
from vggcli.zoo.device import Precision, pick_device, pick_dtype
from vggcli.zoo.files import append_line

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
    where = pick_device(device)
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
    weights: Path, data: str | None, split: str, opts: EvaluateOptions, multi_scale: bool, quiet: bool
) -> Measured:
    """Load, evaluate with progress, and count. `opts.scales` empty takes what the paper takes.

    Raises WeightsError where the weights are untrained or do not know the data's classes.
    """
    network, checkpoint = load_checkpoint(weights, opts.device)
    if not checkpoint.training.get("step", 1):
        raise WeightsError(f"{weights} holds untrained weights (no step was finished); go on with `vgg train --resume`")
    opts = replace(opts, scales=opts.scales or paper_scales(checkpoint.scale, multi_scale))
    check_scales(opts.scales, checkpoint.config.crop)
    source = options.data_source(data, opts.workers, quiet)
    try:
        images = match_classes(load_split(source.path, split), checkpoint.classes)
    except WeightsError as error:
        trained_on = checkpoint.training.get("data")
        raise WeightsError(f"{error}; they were trained on {trained_on}: name that, or its like, with --data") from None
    colour = ColourStatistics.from_json(checkpoint.preprocessing)
    started = time.perf_counter()
    with Bar(options.stderr_console(), "evaluating", len(images) * len(opts.scales), "views", quiet) as bar:
        scores = image_posteriors(network, images, colour, opts, bar)
    seconds = time.perf_counter() - started
    correct_top1, correct_top5 = correct_counts(scores)
    evaluation = Evaluation(
        arch=checkpoint.config.arch,
        weights=str(weights.resolve()),
        weights_sha256=file_sha256(weights),
        data=source.name,
        split=split,
        protocol=opts.protocol,
        scales=opts.scales,
        flip=opts.flip,
        crops=crops_an_image(opts),
        images=len(scores.images),
        skipped=len(scores.skipped),
        classes=len(images.classes),
        correct_top1=correct_top1,
        correct_top5=correct_top5,
        calibration_error=expected_calibration_error(scores),
        seconds=seconds,
    )
    return Measured(evaluation, scores, images, checkpoint, weights)


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


def write_pictures(measured: Measured, report: ReportOptions) -> dict[str, str]:
    """The pictures that were asked for; returns what was written where."""
    written = {}
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
