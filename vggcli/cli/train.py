"""`vgg train`: a network of Table 1 from scratch, or from net A's layers, in a run folder that can be resumed."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vggcli import choices
from vggcli.cli import options
from vggcli.cli import training_options as flags
from vggcli.defaults import worker_count


def train(
    data: options.Data = None,
    arch: options.Arch = None,
    recipe: Annotated[
        choices.RecipeName | None,
        typer.Option(help="Sets all of the following: the paper's numbers, or a laptop's. (default: paper)"),
    ] = None,
    scale: Annotated[
        int | None,
        typer.Option(metavar="S", help="Shorter side in pixels before the crop. (paper: 256; tiny: 64 to 80)"),
    ] = None,
    scale_jitter: flags.ScaleJitter = None,
    crop: Annotated[int | None, typer.Option(help="Side of the crop in pixels. (paper: 224; tiny: 64)")] = None,
    epochs: flags.Epochs = None,
    max_steps: flags.MaxSteps = None,
    batch_size: flags.BatchSize = None,
    lr: Annotated[float | None, typer.Option(help="First learning rate. (paper: 0.01; tiny: 0.003)")] = None,
    momentum: flags.Momentum = None,
    weight_decay: flags.WeightDecay = None,
    dropout: flags.Dropout = None,
    init: flags.Init = None,
    init_std: flags.InitStd = None,
    init_from: Annotated[
        Path | None, typer.Option(metavar="WEIGHTS", help="Take net A's layers from a run or checkpoint (section 3.1).")
    ] = None,
    width: Annotated[float | None, typer.Option(help="Factor on all channel counts. (paper: 1; tiny: 0.25)")] = None,
    head: Annotated[
        Literal["fc", "gap"] | None, typer.Option(help="gap: the last map averaged, one linear layer. (default: fc)")
    ] = None,
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
    """Train a network from scratch by the paper's recipe (section 3.1): SGD with momentum, dropout, random crops with
    scale jitter, flips and colour shift, and a learning rate that is divided by 10 when the validation error stalls."""
    from vggcli.cli.resuming import resumed
    from vggcli.cli.training import RunControl, Session, prepare, run_to_end
    from vggcli.errors import UsageError
    from vggcli.training.plan import Plan

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
    recipe_flags |= {"crop": crop, "width": width, "head": head}
    run_flags: dict[str, Any] = {
        "arch": arch,
        "data": data,
        "seed": seed,
        "max_steps": max_steps,
        "init_from": init_from,
        "precision": precision,
        "skip_bad": skip_bad or None,
    }
    control = RunControl(options.compute_device(device), worker_count(workers), micro_batch, quiet, json)
    session: Session | None
    if resume is None:
        plan = Plan.of(recipe, config, recipe_flags, run_flags)
        session = prepare(plan, out, control)
    elif recipe or config or out:
        raise UsageError(
            "--recipe, --config and --out have no effect with --resume, which goes on with a run as it was"
        )
    else:
        session = resumed(resume, recipe_flags, run_flags, control)
    if session is not None:
        run_to_end(session, control)
