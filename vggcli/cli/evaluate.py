"""`vgg evaluate` (`vgg eval`): the error of networks by centre crop, densely, by multi-crop, over scales."""

from pathlib import Path
from typing import Annotated

import typer

from vggcli.cli import options
from vggcli.defaults import worker_count


def evaluate(
    several: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN]...", help="Run folders or checkpoints, in place of --weights or --arch."),
    ] = None,
    data: options.Data = None,
    split: options.Split = "val",
    arch: options.Arch = None,
    weights: options.Weights = None,
    preprocessing: options.Preprocessing = None,
    dense: options.Dense = False,
    multi_crop: options.MultiCrop = False,
    grid: options.Grid = None,
    multi_scale: options.MultiScale = False,
    scales: options.Scales = None,
    flip: options.Flip = None,
    skip_bad: options.SkipBad = False,
    save_scores: options.SaveScores = None,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Error, support and worst confusion by class.")
    ] = False,
    confusion: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Write the confusion matrix.")] = None,
    worst: Annotated[
        int | None,
        typer.Option(
            min=1, max=1000, help="The N surest mistakes as a sheet: worst.png of the run, else a new one here."
        ),
    ] = None,
    table: Annotated[
        bool,
        typer.Option(
            "--table",
            help="One line a network, as in the paper's Tables 3 and 4; with --dense --multi-crop as in Table 5: each and "
            "both averaged, from the same passes.",
        ),
    ] = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    batch_size: options.ViewBatch = None,
    workers: options.Workers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure the top-1 and top-5 error of a network, or of several, by centre crop, or --dense, --multi-crop or both
    (sections 3.2 and 4.3); several --scales are averaged."""
    from vggcli.cli.measuring import evaluate_options, evaluated_files
    from vggcli.cli.reporting import ReportOptions, evaluate_and_report

    opts = evaluate_options(
        dense=dense,
        multi_crop=multi_crop,
        grid=grid,
        scales=scales,
        multi_scale=multi_scale,
        flip=flip,
        skip_bad=skip_bad,
        device=device,
        precision=precision,
        batch_size=batch_size,
        workers=worker_count(workers),
        preprocessing=preprocessing,
        table=table,
    )
    report = ReportOptions(per_class, confusion, worst, save_scores, table, json)
    files = evaluated_files(several or [], weights, arch)
    report.check(len(files))
    evaluate_and_report(files, data, split, opts, multi_scale, report, quiet)
