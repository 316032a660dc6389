"""What `vgg evaluate` makes of an evaluation: tables, pictures, files and the record in its run."""

import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from vggcli import __version__
from vggcli.cli import options
from vggcli.cli.measuring import Measured, measure, run_of
from vggcli.cli.tabulating import check_table, show_networks
from vggcli.data.decode import read_image
from vggcli.data.outputs import Output
from vggcli.errors import MachineError, UsageError, counted
from vggcli.evaluation.protocol import EvaluateOptions
from vggcli.evaluation.result import class_reports, worst_mistakes
from vggcli.evaluation.scores_file import save_scores
from vggcli.files import append_line, writable_output
from vggcli.metrics import confusion_counts
from vggcli.regular import need_regular
from vggcli.report.plots import fitted, save_confusion, save_sheet
from vggcli.report.tables import classes_table, facts_table
from vggcli.report.text import printable

WORST = "worst.png"
THUMBNAIL = 128  # pixels


@dataclass(frozen=True)
class ReportOptions:
    """What is made of an evaluation beside its figures."""

    per_class: bool
    confusion: Path | None
    worst: int | None
    scores: Path | None
    table: bool = False
    json: bool = False

    def outputs(self, weights: Sequence[Path]) -> list[Output]:
        """Where the reports on networks at `weights` go, with their flags."""
        worst = [worst_path(run_of(path)) for path in weights] if self.worst is not None else []
        named = (
            ("save_scores", self.scores),
            ("confusion", self.confusion),
            *(("worst", path) for path in worst),
        )
        return [(flag, path) for flag, path in named if path is not None]

    def check(self, networks: int) -> None:
        """Raises UsageError for a report that cannot be made of so many networks, or would overwrite a file."""
        for flag, path, suffix in (
            ("save_scores", self.scores, ".safetensors"),
            ("confusion", self.confusion, ".png"),
        ):
            if path is None:
                continue
            if path.suffix != suffix:
                raise UsageError(f"{path} must be a name that ends in {suffix}", flag)
            if networks > 1:
                raise UsageError(f"{path} is one file for {networks} networks; evaluate them one by one", flag)
            writable_output(path, flag)
        check_table(self.table, self.json)
        if self.table and self.per_class:
            raise UsageError("--per-class has no place in --table; leave one out")


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
    several = measure(weights, data, split, opts, multi_scale, quiet, report.outputs(weights))
    for error in several[0].scores.skipped:
        options.note(f"left out: {error}")
    written: list[dict[str, str]] = [{} for _ in several]
    with options.after_the_figures(lambda: show_all(several, report, written)):
        for measured in several:
            record(measured)
        for measured, files in zip(several, written, strict=True):
            write_files(measured, report, files)


def show_all(several: Sequence[Measured], report: ReportOptions, written: Sequence[dict[str, str]]) -> None:
    """The figures, in the form that was asked for, and what of them was written where."""
    if report.json:
        results = [result_json(measured, report) for measured in several]
        print(json.dumps(results[0] if len(results) == 1 else {"evaluations": results}))
    elif report.table:
        show_networks(several)
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
    path = measured.run / "evaluations.jsonl"
    try:
        need_regular(path, MachineError)
        append_line(path, line)
    except MachineError as error:  # a run folder that may only be read still has an error figure
        options.note(f"not recorded: {error}")


def write_files(measured: Measured, report: ReportOptions, written: dict[str, str]) -> None:
    """The scores and pictures that were asked for; adds what was written where to `written`."""
    if report.scores is not None:
        save_scores(report.scores, measured.scores, measured.evaluation)
        written["scores"] = str(report.scores)
    if report.confusion is not None:
        counts_KK = confusion_counts(measured.scores.posteriors_NK, measured.scores.labels_N).numpy()
        save_confusion(counts_KK, measured.scores.classes, report.confusion)
        written["confusion"] = str(report.confusion)
    if report.worst is not None:
        mistakes = worst_mistakes(measured.scores, report.worst)
        path = worst_path(measured.run)
        if mistakes:
            pictures = [fitted(read_image(measured.images.root / one.image), THUMBNAIL) for one in mistakes]
            captions = [
                f"{printable(one.answer)} {one.posterior:.2f}, is {printable(one.label)}\n"
                f"{printable(Path(one.image).name)}"
                for one in mistakes
            ]
            save_sheet(pictures, captions, path)
            written["worst"] = f"{path} ({counted(len(mistakes), 'mistake')}, the surest first)"


def worst_path(run: Path | None) -> Path:
    """Where the sheet of mistakes goes: into the run of the weights, else to a new file in the current folder."""
    return run / WORST if run else _unused(Path.cwd() / WORST)


def _unused(path: Path) -> Path:
    """`path`, or NAME-2, NAME-3 … beside it where there is a file of that name: it may be anyone's."""
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))
    return next(one for one in itertools.chain([path], numbered) if not os.path.lexists(one))


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
    crops = f"{counted(one.crops, 'crop')} an image; " if one.crops else ""
    facts = {
        "top-1 error": f"{one.top1_error:.2f} % ({one.images - one.correct_top1} wrong)",
        "top-5 error": f"{one.top5_error:.2f} % ({one.images - one.correct_top5} wrong)",
        "images": f"{one.images}{skipped}, of {counted(one.classes, 'class', 'classes')}: {one.data} ({one.split})",
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
