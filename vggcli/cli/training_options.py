"""The flags that `vgg train` and `vgg finetune` share, declared once."""

from pathlib import Path
from typing import Annotated

import typer

from vggcli import choices

ScaleJitter = Annotated[tuple[int, int] | None, typer.Option(metavar="SMIN SMAX", help="S drawn anew for each view.")]
Epochs = Annotated[int | None, typer.Option(help="The most epochs. (paper: 74; tiny: 14)")]
MaxSteps = Annotated[
    int | None, typer.Option(min=1, max=2**63 - 1, metavar="N", help="Stop after so many steps in all.")
]
BatchSize = Annotated[int | None, typer.Option("--batch-size", "-b", help="Images a step. (paper: 256; tiny: 16)")]
Momentum = Annotated[float | None, typer.Option(help="Momentum of SGD. (default: 0.9)")]
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
Seed = Annotated[
    int | None,
    typer.Option(min=0, max=2**63 - 1, metavar="N", help="Of random weights, order, views and dropout. (default: 0)"),
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FOLDER", help="The run folder. (default: runs/ARCH-N)")
]
Precision = Annotated[
    choices.Precision | None, typer.Option("--precision", help="Of the heavy arithmetic; auto: bf16 on CUDA.")
]
