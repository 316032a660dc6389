"""The flags that `vgg train` and `vgg finetune` share, declared once."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vggcli import choices
from vggcli.errors import UsageError

ScaleJitter = Annotated[tuple[int, int] | None, typer.Option(metavar="SMIN SMAX", help="S drawn anew for each view.")]
Epochs = Annotated[int | None, typer.Option(help="At most so many. (paper: 74; tiny: 14)")]
MaxSteps = Annotated[
    int | None, typer.Option(min=1, max=2**63 - 1, metavar="N", help="Stop after so many steps in all.")
]
BatchSize = Annotated[int | None, typer.Option("--batch-size", "-b", help="Images a step. (paper: 256; tiny: 16)")]
Momentum = Annotated[float | None, typer.Option(help="Of SGD. (default: 0.9)")]
WeightDecay = Annotated[float | None, typer.Option(help="L2 penalty. (default: 0.0005)")]
Dropout = Annotated[float | None, typer.Option(help="On the first two FC layers. (paper: 0.5; tiny: 0.3)")]
Init = Annotated[choices.Init | None, typer.Option(help="Random weights. (paper: glorot; tiny: he)")]
InitStd = Annotated[
    float | None, typer.Option(help="For --init gaussian; 0.1 is the paper's literal text. (default: 0.01)")
]
Config = Annotated[Path | None, typer.Option(metavar="FILE", help="Replay a run's config.json; flags beside it win.")]
Resume = Annotated[
    str | None, typer.Option("--resume", metavar="[RUN]", help="Go on with the newest run, or the one named.")
]
MicroBatch = Annotated[
    int | None,
    typer.Option(min=1, help="Images computed at once: changes the last bit of a sum. (default: what fits, then kept)"),
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Look at every image first; leave out, and list, what cannot be used.")
]
Seed = Annotated[int | None, typer.Option(min=0, max=2**63 - 1, metavar="N", help="Everything random. (default: 0)")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="The run folder. (default: runs/ARCH-N)")
]
Precision = Annotated[
    choices.Precision | None, typer.Option("--precision", help="Of the heavy arithmetic; auto: bf16 on CUDA.")
]


def recipe_flags(
    *,
    scale: int | None,
    scale_jitter: tuple[int, int] | None,
    epochs: int | None,
    batch_size: int | None,
    lr: float | None,
    momentum: float | None,
    weight_decay: float | None,
    dropout: float | None,
    init: choices.Init | None,
    init_std: float | None,
) -> dict[str, Any]:
    """The flags by the names of the recipe's fields, None where not given. Raises UsageError where S is given twice."""
    if scale is not None and scale_jitter is not None:
        raise UsageError("--scale and --scale-jitter contradict each other; give one")
    return {
        "scale": (scale, scale) if scale is not None else scale_jitter,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": lr,
        "momentum": momentum,
        "weight_decay": weight_decay,
        "dropout": dropout,
        "init": init,
        "init_std": init_std,
    }
