"""The flags that `vgg train` and `vgg finetune` share, declared once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from typer import Option

from vggcli import choices
from vggcli.cli import options

ScaleJitter = Annotated[tuple[int, int] | None, Option(metavar="SMIN SMAX", help="S drawn anew for each view.")]


@dataclass(frozen=True)
class LearningFlags:
    """The numbers of the recipe that both commands take."""

    epochs: Annotated[int | None, Option(help="The most epochs. (paper: 74; tiny: 14)")] = None
    max_steps: Annotated[
        int | None, Option(min=1, max=2**63 - 1, metavar="N", help="Stop after so many steps in all.")
    ] = None
    batch_size: Annotated[int | None, Option("--batch-size", "-b", help="Images a step. (paper: 256; tiny: 16)")] = None
    learning_rate: Annotated[
        float | None,
        Option("--lr", help="First learning rate. (paper: 0.01; tiny: 0.003; to fine-tune, a tenth of these)"),
    ] = None
    momentum: Annotated[float | None, Option(help="Momentum of SGD. (default: 0.9)")] = None
    weight_decay: Annotated[float | None, Option(help="L2 penalty. (default: 0.0005)")] = None
    dropout: Annotated[float | None, Option(help="On the first two FC layers. (paper: 0.5; tiny: 0.3)")] = None
    init: Annotated[choices.Init | None, Option(help="Random weights. (paper: glorot; tiny: he)")] = None
    init_std: Annotated[
        float | None, Option(help="For --init gaussian; 0.1 is the paper's literal text. (default: 0.01)")
    ] = None


@dataclass(frozen=True)
class RunFlags:
    """Where a run begins and is kept, and how it is carried out."""

    config: Annotated[Path | None, Option(metavar="FILE", help="Replay a run's config.json; flags beside it win.")] = (
        None
    )
    resume: Annotated[str | None, Option(metavar="[RUN]", help="Go on with the newest run, or the one named.")] = None
    micro_batch: Annotated[
        int | None,
        Option(min=1, help="Images computed at once: changes the last bit of a sum. (default: what fits, then kept)"),
    ] = None
    skip_bad: Annotated[
        bool, Option("--skip-bad", help="Look at every image first; leave out, and list, what cannot be used.")
    ] = False
    seed: Annotated[
        int | None,
        Option(min=0, max=2**63 - 1, metavar="N", help="Of random weights, order, views and dropout. (default: 0)"),
    ] = None
    out: Annotated[
        Path | None, Option("--out", "-o", metavar="FOLDER", help="The run folder. (default: runs/ARCH-N)")
    ] = None
    device: options.Device = "auto"
    precision: Annotated[choices.Precision | None, Option(help="Of the heavy arithmetic; auto: bf16 on CUDA.")] = None
    workers: options.Workers = None
