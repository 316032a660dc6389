"""`vgg evaluate` (`vgg eval`): the error of one network by centre crop or densely, over one or several scales."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vggcli.cli import options

if TYPE_CHECKING:
    from vggcli.evaluation.metrics import Evaluation
    from vggcli.evaluation.protocol import EvaluateOptions, Scores
    from vggcli.zoo.checkpoint import Checkpoint


def evaluate(
    data: options.Data = None,
    split: options.Split = "val",
    arch: options.Arch = None,
    weights: options.Weights = None,
    dense: Annotated[bool, typer.Option("--dense", help="Whole images, fully convolutionally (section 3.2).")] = False,
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
    device: options.Device = "auto",
    precision: options.Precision = options.PrecisionName.auto,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", "-b", min=1, help="Views a forward pass. (default: auto)")
    ] = None,
    workers: options.Workers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure the top-1 and top-5 error of one network: centre crop, or --dense; several --scales are averaged."""
    from json import dumps

    from vggcli.errors import UsageError
    from vggcli.evaluation.protocol import EvaluateOptions
    from vggcli.zoo.device import pick_device, pick_dtype
    from vggcli.zoo.layers import arch_of

    if arch is not None and weights is not None:
        raise UsageError("--arch has no effect beside --weights, which say their network; leave one out")
    if save_scores is not None:
        options.writable_output(save_scores, "--save-scores")
    where = pick_device(device)
    checkpoint_path = options.find_weights(weights, arch_of(arch or "D"))
    opts = EvaluateOptions(
        protocol="dense" if dense else "centre-crop",
        scales=tuple(scales or ()),
        flip=dense if flip is None else flip,
        device=where,
        dtype=pick_dtype(precision.value, where),
        batch_size=batch_size,
        workers=options.worker_count(workers),
        skip_bad=skip_bad,
    )
    evaluation, scores, checkpoint = _measure(checkpoint_path, data, split, opts, quiet)
    if save_scores is not None:
        from vggcli.evaluation.metrics import save_scores as write

        write(save_scores, scores, evaluation)
    record(checkpoint_path, evaluation)
    for error in scores.skipped:
        options.note(f"left out: {error}")
    if json:
        print(dumps(evaluation.to_json()))
        return
    _show(evaluation, checkpoint, save_scores)


def _measure(
    path: Path, data: str | None, split: str, opts: "EvaluateOptions", quiet: bool
) -> "tuple[Evaluation, Scores, Checkpoint]":
    """Load, evaluate and count."""
    import time
    from dataclasses import replace

    from vggcli.data.augment import ColourStatistics
    from vggcli.data.sources import load_split
    from vggcli.errors import WeightsError
    from vggcli.evaluation.metrics import Evaluation, correct_counts
    from vggcli.evaluation.protocol import check_scales, image_posteriors, match_classes
    from vggcli.report.progress import Bar
    from vggcli.zoo.checkpoint import file_sha256, load_checkpoint

    network, checkpoint = load_checkpoint(path, opts.device)
    if not checkpoint.training.get("step", 1):
        raise WeightsError(
            f"{path} holds untrained weights: its run has not finished a step; go on with `vgg train --resume`"
        )
    opts = replace(opts, scales=opts.scales or (sum(checkpoint.scale) // 2,))
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
        weights=str(path.resolve()),
        weights_sha256=file_sha256(path),
        data=source.name,
        split=split,
        protocol=opts.protocol,
        scales=opts.scales,
        flip=opts.flip,
        images=len(scores.images),
        skipped=len(scores.skipped),
        classes=len(images.classes),
        correct_top1=correct_top1,
        correct_top5=correct_top5,
        seconds=seconds,
    )
    return evaluation, scores, checkpoint


def record(path: Path, evaluation: "Evaluation") -> None:
    """Add the evaluation to evaluations.jsonl of the run that the checkpoint at `path` lies in, if it is one."""
    from datetime import datetime, timezone
    from json import dumps

    from vggcli import __version__
    from vggcli.errors import MachineError
    from vggcli.zoo.files import append_line

    if not (path.parent / "config.json").is_file():
        return
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    try:
        append_line(
            path.parent / "evaluations.jsonl", dumps({**evaluation.to_json(), "date": now, "version": __version__})
        )
    except MachineError as error:  # a run folder that may only be read still has an error figure
        options.note(f"not recorded: {error}")


def _show(evaluation: "Evaluation", checkpoint: "Checkpoint", saved: Path | None) -> None:
    from vggcli.report.tables import facts_table

    averaged = "flips and scales averaged as posteriors" if evaluation.flip else "scales averaged as posteriors"
    single = "flips averaged as posteriors" if evaluation.flip else "one view an image"
    skipped = f", {evaluation.skipped} left out" if evaluation.skipped else ""
    facts = {
        "top-1 error": f"{evaluation.top1_error:.2f} % ({evaluation.images - evaluation.correct_top1} wrong)",
        "top-5 error": f"{evaluation.top5_error:.2f} % ({evaluation.images - evaluation.correct_top5} wrong)",
        "images": f"{evaluation.images}{skipped}, of {evaluation.classes} classes: {evaluation.data} ({evaluation.split})",
        "protocol": f"{evaluation.protocol} at Q = {', '.join(map(str, evaluation.scales))}; "
        f"{averaged if len(evaluation.scales) > 1 else single}",
        "network": f"{evaluation.arch}, crop {checkpoint.config.crop}, width {checkpoint.config.width:g}",
        "weights": f"{evaluation.weights} (SHA-256 {evaluation.weights_sha256[:12]}…)",
        "speed": f"{evaluation.images_per_second:.1f} images/s, {evaluation.seconds:.1f} s",
    }
    if saved is not None:
        facts["scores"] = str(saved)
    options.stdout_console().print(facts_table("Evaluation", facts))
