"""`vgg finetune`: from weights that someone has trained to new classes, a new scale, or both."""

from typing import Annotated, Any

import typer

from vggcli import choices
from vggcli.cli import options
from vggcli.cli import training_options as flags
from vggcli.defaults import worker_count


def finetune(
    data: options.Data = None,
    arch: Annotated[
        str | None,
        typer.Option(
            "--arch", metavar="NAME", help="The network; a deeper one takes net A's layers. (default: that of W)"
        ),
    ] = None,
    weights: options.Weights = None,
    preprocessing: options.Preprocessing = None,
    layers: Annotated[
        choices.Layers | None, typer.Option(help="What learns: all layers, the FC layers, or the last. (default: all)")
    ] = None,
    cache_features: Annotated[
        bool | None,
        typer.Option(
            "--cache-features/--no-cache-features",
            help="Run the frozen layers once an image, unaugmented, and keep that on disk.",
        ),
    ] = None,
    recipe: Annotated[
        choices.RecipeName | None,
        typer.Option(help="Whose numbers, with a tenth of its learning rate. (default: the recipe of W, else paper)"),
    ] = None,
    scale: Annotated[
        int | None,
        typer.Option(
            metavar="S", help="Shorter side in pixels. (default: that of W; for its own classes 384 after 256)"
        ),
    ] = None,
    scale_jitter: flags.ScaleJitter = None,
    epochs: flags.Epochs = None,
    max_steps: flags.MaxSteps = None,
    batch_size: flags.BatchSize = None,
    lr: Annotated[float | None, typer.Option(help="First learning rate. (paper: 0.001; tiny: 0.0003)")] = None,
    momentum: flags.Momentum = None,
    weight_decay: flags.WeightDecay = None,
    dropout: flags.Dropout = None,
    init: flags.Init = None,
    init_std: flags.InitStd = None,
    config: flags.Config = None,
    resume: flags.Resume = None,
    micro_batch: flags.MicroBatch = None,
    skip_bad: flags.SkipBad = False,
    seed: flags.Seed = None,
    out: flags.Out = None,
    device: options.Device = "auto",
    precision: flags.Precision = None,
    workers: options.Workers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Go on from weights (a run, a checkpoint, another framework's file, or published ones): to new classes, with a new
    last layer; to a new scale, by the paper's curriculum (section 3.1: S=384 from 256, scale jitter from 384); or from
    net A to a deeper network."""
    from vggcli.cli.finetuning import Choice, prepare_finetuning
    from vggcli.cli.resuming import resumed
    from vggcli.cli.training import RunControl, Session, run_to_end
    from vggcli.errors import UsageError

    recipe_flags = flags.recipe_flags(
        scale=scale,
        scale_jitter=scale_jitter,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        momentum=momentum,
        weight_decay=weight_decay,
        dropout=dropout,
        init=init,
        init_std=init_std,
    )
    run_flags: dict[str, Any] = {
        "arch": arch,
        "data": data,
        "seed": seed,
        "max_steps": max_steps,
        "precision": precision,
        "skip_bad": skip_bad or None,
        "layers": layers,
        "cache_features": cache_features,
    }
    control = RunControl(options.compute_device(device), worker_count(workers), micro_batch, quiet, json)
    session: Session | None
    if resume is None:
        choice = Choice(weights, options.pixels_of(preprocessing), recipe, config, recipe_flags, run_flags)
        session = prepare_finetuning(choice, out, control)
    elif recipe or config or out or weights or preprocessing:
        raise UsageError(
            "--weights, --preprocessing, --recipe, --config and --out have no effect with --resume, which goes on with "
            "a run as it was"
        )
    else:
        session = resumed(resume, recipe_flags, run_flags, control)
    if session is not None:
        run_to_end(session, control)
