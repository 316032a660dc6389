"""`vgg predict`: the top classes of images, and where they are."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from vggcli.cli import options
from vggcli.cli.devices import joined, on_devices
from vggcli.defaults import user_places
from vggcli.errors import DataError, MachineError, UsageError, counted

if TYPE_CHECKING:
    from vggcli.evaluation.predict import Predictions
    from vggcli.localisation.predict import BoxPredictions


@dataclass(frozen=True)
class BoxFlags:
    """The networks that say where classes are, and the pictures of that."""

    boxes: Annotated[
        list[Path] | None,
        Option(
            metavar="W",
            rich_help_panel="Boxes",
            help="Give each class a box, by this network of boxes; those of several (repeat it) are united.",
        ),
    ] = None
    classifier: Annotated[
        list[str] | None,
        Option(metavar="W", help="What says the classes of the boxes, as --weights; several (repeat it) are averaged."),
    ] = None
    merging: options.Merging = None
    draw: Annotated[
        Path | None, Option(metavar="FOLDER", help="Write copies of the images with their boxes there.")
    ] = None
    candidates: Annotated[bool, Option("--candidates", help="With --draw: draw also what was merged.")] = False

    def check(self, **others: object) -> None:
        """Raises UsageError for a flag that would have no effect; `others` are those that --boxes replaces."""
        names = {**vars(self), **others}
        wanted = ("weights", "arch") if self.boxes else ("draw", "candidates", "classifier", "merging")
        if given := next((name for name in wanted if names[name] is not None and names[name] is not False), None):
            raise UsageError(f"--{given} has no effect with{'' if self.boxes else 'out'} --boxes; leave one out")
        if self.candidates and self.draw is None:
            raise UsageError("--candidates has no effect without --draw, which says where to")


@on_devices
@options.with_groups
def predict(
    paths: Annotated[
        list[str], Argument(metavar="PATH", help="Images, folders, globs, .csv lists, - for a list on stdin.")
    ],
    arch: options.Arch = None,
    weights: options.Weights = None,
    top: Annotated[int, Option(min=1, help="How many classes to show.")] = 5,
    *,
    where: BoxFlags,
    views: options.ViewFlags,
    passes: options.PassFlags,
    out: Annotated[
        Path | None,
        Option("--out", "-o", metavar="FILE", help="A .csv or .json file: path, rank, class, posterior (and the box)."),
    ] = None,
    json: Annotated[bool, Option("--json", help="Print one JSON object per image, each on a line of its own.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Show the most probable classes of images. The protocols are those of `vgg evaluate`; with --boxes, each class has
    a box, found by dense evaluation (Appendix A). A file that cannot be used does not stop the others: it is listed at
    the end, and the exit code is 3."""
    from vggcli.evaluation.predict import predicted
    from vggcli.localisation.evaluate import BoxOptions
    from vggcli.localisation.predict import predicted_boxes
    from vggcli.report.copies import Copies
    from vggcli.weights.find import find_weights

    where.check(weights=weights, arch=arch)
    asked, places = options.measure_options(views, passes, skip_bad=True), user_places()
    if out is not None:
        options.check_output(out, "out", ".csv", ".json")
    outputs = [(name, path) for name, path in (("out", out), ("draw", where.draw)) if path is not None]
    ranks, progress = joined(), options.progress(quiet)
    how: Any = {"places": places, "progress": progress, "outputs": outputs, "stdin": sys.stdin.buffer, "ranks": ranks}
    copies = None if where.draw is None else Copies(where.draw, where.candidates)
    found: Predictions | BoxPredictions
    if where.boxes is not None:
        whole = replace(asked, dense=True)
        by = BoxOptions(tuple(where.classifier or ()), where.merging)
        found = predicted_boxes(paths, where.boxes, by, whole, top, drawer=copies, **how)
    else:
        found = predicted(paths, find_weights(weights, arch, places), asked, top, **how)
    drawn = sum(ranks.gathered(copies.drawn if copies is not None else 0))
    if not ranks.is_first:
        if copies is not None:
            copies.finish()
        return
    try:
        if out is not None:
            found.write(out)
            options.written(out)
        if copies is not None:
            copies.finish()
            options.written(f"{counted(drawn, 'image')} with boxes in {where.draw}")
    except (MachineError, DataError):  # hours of work are not lost with the file
        _show(found, json)
        raise
    if json or out is None:
        _show(found, json)
    for bad in found.bad:
        options.note(f"not used: {bad.path}: {bad.reason}")
    if found.bad:
        files = counted(len(found.bad) + len(found.images), "file")
        raise DataError(f"{len(found.bad)} of {files} could not be used; see above")


def _show(found: "Predictions | BoxPredictions", json: bool) -> None:
    """One JSON object a line, or a table, on stdout."""
    from json import dumps

    from vggcli.localisation.predict import BoxPredictions
    from vggcli.report.tables import box_predictions_table, predictions_table

    if json:
        for one in found.to_json():
            print(dumps(one))
    elif isinstance(found, BoxPredictions):
        options.stdout_console().print(box_predictions_table(found.images))
    else:
        options.stdout_console().print(predictions_table([(one.path, one.top) for one in found.images]))
