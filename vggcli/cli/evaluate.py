"""`vgg evaluate` (`vgg eval`): the error of networks by centre crop, densely, by multi-crop, over scales."""

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from vggcli.cli import options
from vggcli.cli.devices import joined, on_devices
from vggcli.defaults import user_places
from vggcli.errors import UsageError, counted

if TYPE_CHECKING:
    from vggcli.evaluation.measure import Measured
    from vggcli.localisation.result import MeasuredBoxes

WORST = "worst.png"
_FILES = {"save_scores": ".safetensors", "confusion": ".png", "histogram": ".png"}
WrittenPaths = dict[str, str]  # of the files written for a network, by what they hold


@dataclass(frozen=True)
class ReportFlags:
    """The files that are written for evaluations, and how their figures are shown."""

    save_scores: options.SaveScores = None
    per_class: Annotated[bool, Option("--per-class", help="Error, support and worst confusion by class.")] = False
    confusion: Annotated[Path | None, Option(metavar="FILE", help="Write the confusion matrix to this .png.")] = None
    histogram: Annotated[Path | None, Option(metavar="FILE", help="Of boxes: write their IoU to this .png.")] = None
    worst: Annotated[
        int | None,
        Option(
            min=1,
            max=1000,
            help="Draw the N most confident mistakes, or boxes of lowest IoU: worst.png in the run, else here.",
        ),
    ] = None
    table: Annotated[
        bool,
        Option(
            "--table",
            help="One line per network, as in the paper's Tables 3 and 4; with --dense --multi-crop as in Table 5; of "
            "boxes as in Tables 8 and 9.",
        ),
    ] = False
    json: options.Json = False

    def outputs(self, weights: Sequence[Path]) -> list[tuple[str, Path]]:
        """The files that will be written for the networks at `weights`, each with the name of its parameter."""
        from vggcli.weights.find import run_of

        worst = [_worst_path(run_of(path)) for path in weights] if self.worst is not None else []
        named = [(name, getattr(self, name)) for name in _FILES] + [("worst", path) for path in worst]
        return [(name, path) for name, path in named if path is not None]

    def check(self, networks: int) -> None:
        """Raises UsageError for a report that cannot be made of so many networks, or would overwrite a file."""
        for name, suffix in _FILES.items():
            path = getattr(self, name)
            if path is not None and networks > 1:
                raise UsageError(f"{path} is one file for {networks} networks; evaluate them one by one", name)
            if path is not None:
                options.check_output(path, name, suffix)
        options.check_table(self.table, self.json)
        if self.table and self.per_class:
            raise UsageError("--per-class has no effect with --table, which has one line per network; leave one out")

    def write(self, measured: "Measured | MeasuredBoxes", written: WrittenPaths) -> None:
        """Write the scores and pictures that were asked for, and add their paths to `written`."""
        from vggcli.evaluation.result import worst_mistakes
        from vggcli.evaluation.scores_file import save_scores
        from vggcli.localisation.result import MeasuredBoxes
        from vggcli.report.evaluations import draw_confusion, save_mistakes
        from vggcli.report.outcomes import draw_histogram, save_worst_boxes

        path = _worst_path(measured.run)
        if isinstance(measured, MeasuredBoxes):
            if self.histogram is not None:
                draw_histogram(measured, self.histogram)
                written["histogram"] = str(self.histogram)
            if self.worst is not None:
                count = save_worst_boxes(measured, self.worst, path)
                written["worst"] = f"{path} ({counted(count, 'image')}, the lowest IoU first)"
            return
        if self.save_scores is not None:
            save_scores(self.save_scores, measured.scores, measured.to_json())
            written["scores"] = str(self.save_scores)
        if self.confusion is not None:
            draw_confusion(measured, self.confusion)
            written["confusion"] = str(self.confusion)
        if self.worst is not None and (mistakes := worst_mistakes(measured.scores, self.worst)):
            save_mistakes(measured, mistakes, path)
            written["worst"] = f"{path} ({counted(len(mistakes), 'mistake')}, the surest first)"

    def show(self, several: "Sequence[Measured | MeasuredBoxes]", written: Sequence[WrittenPaths]) -> None:
        """Print the figures in the form that was asked for, and the paths of the files `written`."""
        from json import dumps

        from vggcli.report.localisation import by_class, by_class_table, figures_table
        from vggcli.report.outcomes import rows_table

        if self.json:
            classes = [{"per_class": by_class(measured)} if self.per_class else {} for measured in several]
            results = [{**measured.to_json(), **more} for measured, more in zip(several, classes, strict=True)]
            print(dumps(results[0] if len(results) == 1 else {"evaluations": results}))
            return
        console = options.stdout_console()
        if self.table:
            console.print(rows_table(several))
            for path in (path for paths in written for path in paths.values()):
                options.written(path)
            return
        for measured, paths in zip(several, written, strict=True):
            console.print(figures_table(measured, paths))
            if self.per_class:
                console.print(by_class_table(measured))


@on_devices
@options.with_groups
def evaluate(
    several: Annotated[
        list[Path] | None,
        Argument(metavar="RUN", help="Run folders or checkpoints, in place of --weights or --arch."),
    ] = None,
    data: options.DataOfWeights = None,
    split: Annotated[str, Option(metavar="NAME", help="Which split of the data to use.")] = "val",
    arch: options.Arch = None,
    weights: options.Weights = None,
    *,
    views: options.ViewFlags,
    boxes: options.BoxFlags,
    tune_merging: Annotated[
        bool, Option("--tune-merging", help="Choose T on the training split, and keep it in the checkpoint.")
    ] = False,
    passes: options.PassFlags,
    skip_bad: options.SkipBad = False,
    report: ReportFlags,
    quiet: options.Quiet = False,
) -> None:
    """Measure the error of networks. Top-1 and top-5 error by centre crop, or --dense, --multi-crop or both (sections
    3.2 and 4.3); several --scales are averaged. Of a network that gives boxes (Appendix A), the localisation error: of
    the box of the true class in the centre crop, or with --dense --classifier of classes and boxes everywhere."""
    from vggcli.evaluation.result import keep_record
    from vggcli.localisation.evaluate import measure_networks

    asked = options.measure_options(views, passes, skip_bad=skip_bad, apart=report.table)
    files = _files(several or [], weights, arch)
    report.check(len(files))
    how = options.box_options(boxes, tune_merging)
    of_boxes = how.check(files, asked)
    others = ("save_scores", "confusion") if of_boxes else ("histogram",)
    options.check_reports(of_boxes, **{name: getattr(report, name) for name in others})
    places, progress, outputs = user_places(), options.progress(quiet), report.outputs(files)
    ranks = joined()
    found = measure_networks(
        files, data, split, asked, how, places=places, progress=progress, outputs=outputs, ranks=ranks
    )
    if not ranks.is_first:
        return
    written: list[WrittenPaths] = [{} for _ in found]
    with options.after_the_figures(lambda: report.show(found, written)):
        for measured in found:
            keep_record(measured.evaluation, measured.run)
        for measured, paths in zip(found, written, strict=True):
            report.write(measured, paths)


def _files(several: Sequence[Path], weights: Path | None, arch: str | None) -> list[Path]:
    """The checkpoints that RUN..., --weights or --arch mean. Raises UsageError for --weights beside RUN..., and for a run
    that is named twice."""
    from vggcli.weights.find import find_weights

    if several and weights is not None:
        raise UsageError(f"--weights has no effect beside the weights named first ({several[0]}); leave one out")
    paths: list[Path | None] = [*several] or [weights]
    files = [find_weights(path, arch, user_places()) for path in paths]
    for path, file in zip(paths, files, strict=True):
        if files.count(file) > 1:
            raise UsageError(f"{path} is named twice; once is enough")
    return files


def _worst_path(run: Path | None) -> Path:
    """Where the sheet of mistakes goes: into the run of the weights, else to a new file in the current folder: worst.png,
    or worst-2.png and so on where that exists, so that no file of the user's is overwritten."""
    if run is not None:
        return run / WORST
    first = Path.cwd() / WORST
    numbered = (first.with_name(f"{first.stem}-{number}{first.suffix}") for number in itertools.count(2))
    return next(one for one in itertools.chain([first], numbered) if not os.path.lexists(one))
