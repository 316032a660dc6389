"""`vgg evaluate` (`vgg eval`): the error of one network by centre crop or densely, over one or several scales."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vggcli.cli import options

if TYPE_CHECKING:
    from vggcli.evaluation.protocol import Protocol


def evaluate(
    data: options.Data = None,
    split: options.Split = "val",
    arch: options.Arch = None,
    weights: options.Weights = None,
    dense: Annotated[bool, typer.Option("--dense", help="Whole images, fully convolutionally (section 3.2).")] = False,
    multi_crop: Annotated[
        bool, typer.Option("--multi-crop", help="A regular grid of crops; with --dense, both averaged (section 4.3).")
    ] = False,
    grid: Annotated[int | None, typer.Option(help="Crops along each side with --multi-crop. (default: 5)")] = None,
    multi_scale: Annotated[
        bool, typer.Option("--multi-scale", help="The paper's three scales: S-32, S, S+32, or Smin, middle, Smax.")
    ] = False,
    scales: Annotated[
        list[int] | None,
        typer.Option(
            metavar="Q...", help="Shorter sides; several are averaged. (default: the training S, or its middle)"
        ),
    ] = None,
    flip: Annotated[
        bool | None, typer.Option("--flip/--no-flip", help="Average with the mirror image. (default: with --dense)")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave unreadable images out, and say how many.")
    ] = False,
    save_scores: Annotated[Path | None, typer.Option(metavar="FILE.safetensors", help="Write the posteriors.")] = None,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Error, support and worst confusion by class.")
    ] = False,
    confusion: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Write the confusion matrix.")] = None,
    worst: Annotated[
        int | None, typer.Option(min=1, help="The N surest mistakes as a sheet: worst.png in the run folder.")
    ] = None,
    device: options.Device = "auto",
    precision: options.Precision = options.PrecisionName.auto,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", "-b", min=1, help="Views a forward pass. (default: auto)")
    ] = None,
    workers: options.Workers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure the top-1 and top-5 error of one network by centre crop, or --dense, --multi-crop or both (sections 3.2 and
    4.3); several --scales are averaged."""
    from json import dumps

    from vggcli.cli.measuring import ReportOptions, measure, record, result_json, show, write_pictures
    from vggcli.errors import UsageError
    from vggcli.evaluation.metrics import save_scores as write_scores
    from vggcli.evaluation.protocol import EvaluateOptions
    from vggcli.zoo.device import pick_device, pick_dtype
    from vggcli.zoo.layers import arch_of

    if scales and multi_scale:
        raise UsageError("--scales and --multi-scale contradict each other; give one")
    if arch is not None and weights is not None:
        raise UsageError("--arch has no effect beside --weights, which say their network; leave one out")
    if save_scores is not None:
        options.writable_output(save_scores, "--save-scores")
    if confusion is not None:
        options.writable_output(confusion, "--confusion")
    where = pick_device(device)
    checkpoint_path = options.find_weights(weights, arch_of(arch or "D"))
    opts = EvaluateOptions(
        protocol=protocol_of(dense, multi_crop),
        scales=tuple(scales or ()),
        flip=dense or multi_crop if flip is None else flip,
        grid=grid_of(grid, multi_crop),
        device=where,
        dtype=pick_dtype(precision.value, where),
        batch_size=batch_size,
        workers=options.worker_count(workers),
        skip_bad=skip_bad,
    )
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


def protocol_of(dense: bool, multi_crop: bool) -> "Protocol":
    """The protocol that the two flags ask for."""
    if dense and multi_crop:
        return "dense+multi-crop"
    return "dense" if dense else "multi-crop" if multi_crop else "centre-crop"


def grid_of(grid: int | None, multi_crop: bool) -> int:
    """The crops along each side. Raises UsageError for a grid of fewer than 2, or without --multi-crop."""
    from vggcli import paper
    from vggcli.errors import UsageError

    if grid is None:
        return paper.CROP_GRID
    if not multi_crop:
        raise UsageError("--grid has no effect without --multi-crop")
    if grid < 2:
        raise UsageError(f"--grid {grid} is no grid: give 2 or more, or leave --multi-crop out for the centre crop")
    return grid
