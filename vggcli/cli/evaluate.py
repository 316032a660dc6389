"""`vgg evaluate` (`vgg eval`): the error of one network by centre crop, densely, by multi-crop, over scales."""

from pathlib import Path
from typing import Annotated

import typer

from vggcli.cli import options


def evaluate(
    data: options.Data = None,
    split: options.Split = "val",
    arch: options.Arch = None,
    weights: options.Weights = None,
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
        int | None, typer.Option(min=1, help="The N surest mistakes as a sheet: worst.png in the run folder.")
    ] = None,
    device: options.Device = "auto",
    precision: options.Precision = options.PrecisionName.auto,
    batch_size: options.ViewBatch = None,
    workers: options.Workers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure the top-1 and top-5 error of one network by centre crop, or --dense, --multi-crop or both (sections 3.2 and
    4.3); several --scales are averaged."""
    from json import dumps

    from vggcli.cli.measuring import ReportOptions, evaluate_options, measure, record, result_json, show, write_pictures
    from vggcli.errors import UsageError
    from vggcli.evaluation.metrics import save_scores as write_scores
    from vggcli.zoo.layers import arch_of

    if arch is not None and weights is not None:
        raise UsageError("--arch has no effect beside --weights, which say their network; leave one out")
    if save_scores is not None:
        options.writable_output(save_scores, "--save-scores")
    if confusion is not None:
        options.writable_output(confusion, "--confusion")
    opts = evaluate_options(
        dense=dense,
        multi_crop=multi_crop,
        grid=grid,
        scales=scales,
        multi_scale=multi_scale,
        flip=flip,
        skip_bad=skip_bad,
        device=device,
        precision=precision.value,
        batch_size=batch_size,
        workers=options.worker_count(workers),
    )
    checkpoint_path = options.find_weights(weights, arch_of(arch or "D"))
    report = ReportOptions(per_class, confusion, worst, save_scores)
    measured = measure(checkpoint_path, data, split, opts, multi_scale, quiet)
    written = write_pictures(measured, report)
    if save_scores is not None:
        write_scores(save_scores, measured.scores, measured.evaluation)
        written["scores"] = str(save_scores)
    record(measured)
    for error in measured.scores.skipped:
        options.note(f"left out: {error}")
    if json:
        print(dumps(result_json(measured, report)))
    else:
        show(measured, report, written)
