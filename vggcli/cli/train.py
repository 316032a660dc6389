"""`vgg train`: a network of Table 1 from scratch, or from net A's layers, in a run folder that can be resumed."""

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from vggcli.cli import options


class RecipeName(str, Enum):
    """Choices of --recipe."""

    paper = "paper"
    tiny = "tiny"


class InitName(str, Enum):
    """Choices of --init."""

    glorot = "glorot"
    gaussian = "gaussian"
    he = "he"


class HeadName(str, Enum):
    """Choices of --head."""

    fc = "fc"
    gap = "gap"


def train(
    data: options.Data = None,
    arch: options.Arch = None,
    recipe: Annotated[
        RecipeName | None,
        typer.Option(help="Sets all of the following: the paper's numbers, or a laptop's. (default: paper)"),
    ] = None,
    scale: Annotated[
        int | None,
        typer.Option(metavar="S", help="Shorter side in pixels before the crop. (paper: 256; tiny: 64 to 80)"),
    ] = None,
    scale_jitter: Annotated[
        tuple[int, int] | None, typer.Option(metavar="SMIN SMAX", help="S drawn anew for each view.")
    ] = None,
    crop: Annotated[int | None, typer.Option(help="Side of the crop in pixels. (paper: 224; tiny: 64)")] = None,
    epochs: Annotated[int | None, typer.Option(help="At most so many. (paper: 74; tiny: 14)")] = None,
    max_steps: Annotated[int | None, typer.Option(min=1, help="Stop after so many steps in all.")] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", "-b", help="Images a step. (paper: 256; tiny: 16)")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="First learning rate. (paper: 0.01; tiny: 0.003)")] = None,
    momentum: Annotated[float | None, typer.Option(help="Of SGD. (default: 0.9)")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="L2 penalty. (default: 0.0005)")] = None,
    dropout: Annotated[float | None, typer.Option(help="On the first two FC layers. (paper: 0.5; tiny: 0.3)")] = None,
    init: Annotated[InitName | None, typer.Option(help="Random weights. (paper: glorot; tiny: he)")] = None,
    init_std: Annotated[
        float | None, typer.Option(help="For --init gaussian; 0.1 is the paper's literal text. (default: 0.01)")
    ] = None,
    init_from: Annotated[
        Path | None, typer.Option(metavar="WEIGHTS", help="Take net A's layers from a run or checkpoint (section 3.1).")
    ] = None,
    width: Annotated[float | None, typer.Option(help="Factor on all channel counts. (paper: 1; tiny: 0.25)")] = None,
    head: Annotated[
        HeadName | None, typer.Option(help="gap: the last map averaged, one linear layer. (default: fc)")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Replay a run's config.json; flags beside it win.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="[RUN]", help="Go on with the newest run, or the one named.")
    ] = None,
    micro_batch: Annotated[
        int | None, typer.Option(min=1, help="Images computed at once; no effect on the result. (default: what fits)")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Everything random. (default: 0)")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="The run folder. (default: runs/ARCH-N)")
    ] = None,
    device: options.Device = "auto",
    precision: Annotated[
        options.PrecisionName | None, typer.Option("--precision", help="Of the heavy arithmetic; auto: bf16 on CUDA.")
    ] = None,
    workers: options.Workers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a network from scratch by the paper's recipe (section 3.1): SGD with momentum, dropout, random crops with
    scale jitter, flips and colour shift, and a learning rate that is divided by 10 when the validation error stalls."""
    from vggcli.cli.training import Plan, RunControl, prepare, resumed, run_to_end
    from vggcli.errors import UsageError

    recipe_flags: dict[str, Any] = {
        "scale": scale_range(scale, scale_jitter),
        "crop": crop,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": lr,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "dropout": dropout,
        "init": init.value if init else None,
        "init_std": init_std,
        "width": width,
        "head": head.value if head else None,
    }
    run_flags: dict[str, Any] = {
        "arch": arch,
        "data": data,
        "seed": seed,
        "max_steps": max_steps,
        "init_from": init_from,
        "precision": precision.value if precision else None,
    }
    control = RunControl(options.compute_device(device), options.worker_count(workers), micro_batch, quiet, json)
    if resume is None:
        plan = Plan.of(recipe.value if recipe else None, config, recipe_flags, run_flags)
        session = prepare(plan, out, control)
    else:
        if recipe or config or out:
            raise UsageError(
                "--recipe, --config and --out have no effect with --resume, which goes on with a run as it was"
            )
        session = resumed(resume, recipe_flags, run_flags, control)
    run_to_end(session, control)


def scale_range(scale: int | None, jitter: tuple[int, int] | None) -> tuple[int, int] | None:
    """S as a range. Raises UsageError where both flags are given."""
    from vggcli.errors import UsageError

    if scale is not None and jitter is not None:
        raise UsageError("--scale and --scale-jitter contradict each other; give one")
    return (scale, scale) if scale is not None else jitter
