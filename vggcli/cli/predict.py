"""`vgg predict`: the top classes of images."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from vggcli.cli import options
from vggcli.defaults import user_places
from vggcli.errors import DataError, MachineError, counted

if TYPE_CHECKING:
    from vggcli.evaluation.predict import Predictions


@options.with_groups
def predict(
    paths: Annotated[
        list[str], Argument(metavar="PATH", help="Images, folders, globs, .csv lists, - for a list on stdin.")
    ],
    arch: options.Arch = None,
    weights: options.Weights = None,
    top: Annotated[int, Option(min=1, help="How many classes to show.")] = 5,
    *,
    views: options.ViewFlags,
    passes: options.PassFlags,
    out: Annotated[
        Path | None, Option("--out", "-o", metavar="FILE", help="A .csv (path,rank,class,posterior) or .json file.")
    ] = None,
    json: Annotated[bool, Option("--json", help="Print one JSON object per image, each on a line of its own.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Show the most probable classes of images. The protocols are those of `vgg evaluate`. A file that cannot be used
    does not stop the others: it is listed at the end, and the exit code is 3."""
    from vggcli.evaluation.predict import predicted
    from vggcli.weights.find import find_weights

    asked, places = options.measure_options(views, passes, skip_bad=True), user_places()
    if out is not None:
        options.check_output(out, "out", ".csv", ".json")
    file, outputs = find_weights(weights, arch, places), [("out", out)] if out is not None else []
    progress, stdin = options.progress(quiet), sys.stdin.buffer
    found = predicted(paths, file, asked, top, places=places, progress=progress, outputs=outputs, stdin=stdin)
    try:
        if out is not None:
            found.write(out)
            options.written(out)
    except MachineError:  # hours of work are not lost with the file
        _show(found, json)
        raise
    if json or out is None:
        _show(found, json)
    for bad in found.bad:
        options.note(f"not used: {bad.path}: {bad.reason}")
    if found.bad:
        files = counted(len(found.bad) + len(found.images), "file")
        raise DataError(f"{len(found.bad)} of {files} could not be used; see above")


def _show(found: "Predictions", json: bool) -> None:
    """One JSON object a line, or classes with bars, on stdout."""
    from json import dumps

    from vggcli.report.tables import predictions_table

    if json:
        for one in found.to_json():
            print(dumps(one))
        return
    options.stdout_console().print(predictions_table([(one.path, one.top) for one in found.images]))
