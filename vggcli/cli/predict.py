"""`vgg predict`: the top classes of images."""

from pathlib import Path
from typing import Annotated

import typer

from vggcli.cli import options
from vggcli.defaults import worker_count
from vggcli.files import writable_output


def predict(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="Images, folders, globs, .csv lists, - for a list on stdin.")
    ],
    arch: options.Arch = None,
    weights: options.Weights = None,
    preprocessing: options.Preprocessing = None,
    top: Annotated[int, typer.Option("--top", min=1, help="How many classes.")] = 5,
    dense: options.Dense = False,
    multi_crop: options.MultiCrop = False,
    grid: options.Grid = None,
    multi_scale: options.MultiScale = False,
    scales: options.Scales = None,
    flip: options.Flip = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="A .csv (path,rank,class,posterior) or .json file."),
    ] = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    batch_size: options.ViewBatch = None,
    workers: options.Workers = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line and image on stdout.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Show the most probable classes of images, by the protocols of `vgg evaluate`. A file that cannot be used does not
    stop the others: it is listed at the end, and the exit code is 3."""
    from vggcli.cli.measuring import evaluate_options
    from vggcli.cli.predicting import finish, predicted, show_json, show_table, write_table
    from vggcli.errors import MachineError, UsageError
    from vggcli.weights.find import find_weights

    if out is not None:
        if out.suffix not in (".csv", ".json"):
            raise UsageError(f"--out {out}: give a name that ends in .csv or .json")
        writable_output(out, "out")
    opts = evaluate_options(
        dense=dense,
        multi_crop=multi_crop,
        grid=grid,
        scales=scales,
        multi_scale=multi_scale,
        flip=flip,
        skip_bad=True,
        device=device,
        precision=precision,
        batch_size=batch_size,
        workers=worker_count(workers),
        preprocessing=preprocessing,
    )
    found = predicted(paths, find_weights(weights, arch, options.places()), opts, multi_scale, top, quiet, out)
    try:
        if out is not None:
            write_table(out, found)
            options.note(f"written: {out}")
    except MachineError:  # hours of work are not lost with the file
        (show_json if json else show_table)(found)
        raise
    if json:
        show_json(found)
    elif out is None:
        show_table(found)
    finish(found)
