"""`vgg train`: a network of Table 1 from scratch, or from net A's layers, in a run folder that can be resumed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Option

from vggcli import choices
from vggcli.cli import options
from vggcli.cli.devices import joined, on_devices
from vggcli.defaults import user_places, worker_count
from vggcli.errors import Interrupted, counted

if TYPE_CHECKING:
    from vggcli.training.options import FinetuneOptions, TrainOptions
    from vggcli.training.session import TrainingResult
    from vggcli.training.surroundings import Watch

ScaleJitter = Annotated[
    tuple[int, int] | None, Option(metavar="SMIN SMAX", help="Draw S for every view between these two, in pixels.")
]


@dataclass(frozen=True)
class LearningFlags:
    """The numbers of the recipe that both commands take."""

    epochs: Annotated[int | None, Option(help="Maximum number of epochs. (paper: 74; tiny: 14)")] = None
    max_steps: Annotated[
        int | None,
        Option(min=1, max=2**63 - 1, metavar="N", help="Stop after N steps, those of earlier sittings included."),
    ] = None
    batch_size: Annotated[int | None, Option("--batch-size", "-b", help="Images per step. (paper: 256; tiny: 16)")] = (
        None
    )
    learning_rate: Annotated[
        float | None,
        Option("--lr", help="Initial learning rate. (paper: 0.01; tiny: 0.003; finetune: a tenth of these)"),
    ] = None
    momentum: Annotated[float | None, Option(help="Momentum of SGD. (default: 0.9)")] = None
    weight_decay: Annotated[float | None, Option(help="Factor of the L2 penalty. (default: 0.0005)")] = None
    dropout: Annotated[
        float | None, Option(help="Share of values dropped after fc6 and fc7. (paper: 0.5; tiny: 0.3)")
    ] = None
    init: Annotated[choices.Init | None, Option(help="How new layers are initialised. (paper: glorot; tiny: he)")] = (
        None
    )
    init_std: Annotated[
        float | None, Option(help="Standard deviation with --init gaussian; the paper says 0.1. (default: 0.01)")
    ] = None


@dataclass(frozen=True)
class RunFlags:
    """Where a run begins and is kept, and how it is carried out."""

    config: Annotated[
        Path | None, Option(metavar="FILE", help="Repeat the run of this config.json; flags given here override it.")
    ] = None
    resume: Annotated[str | None, Option(metavar="[RUN]", help="Continue the newest run, or RUN.")] = None
    micro_batch: Annotated[
        int | None,
        Option(
            min=1,
            help="Images in one forward and backward pass; several add up to a step. (default: as many as fit in memory)",
        ),
    ] = None
    skip_bad: Annotated[
        bool, Option("--skip-bad", help="Decode every image first, and leave out those that cannot be used.")
    ] = False
    seed: Annotated[
        int | None,
        Option(
            min=0, max=2**63 - 1, metavar="N", help="Seed of initial weights, order, views and dropout. (default: 0)"
        ),
    ] = None
    out: Annotated[
        Path | None, Option("--out", "-o", metavar="FOLDER", help="The run folder. (default: runs/ARCH-N)")
    ] = None
    tensorboard: Annotated[
        bool, Option("--tensorboard", help="Write the log for TensorBoard too, in tensorboard/ of the run folder.")
    ] = False
    device: options.Device = "auto"
    precision: Annotated[
        choices.Precision | None,
        Option(
            help="Precision of convolutions and products; fp32 has no TF32. auto: bf16 on CUDA from Ampere on, else fp32."
        ),
    ] = None
    compile: Annotated[
        bool | None,
        Option(
            "--compile/--no-compile",
            help="Run the network by torch.compile. It pays on GPUs; on a CPU this program's own convolutions are faster.",
        ),
    ] = None
    workers: options.Workers = None
    decode: options.DecodeIfGiven = None


@on_devices
@options.with_groups
def train(
    data: options.Data = None,
    arch: options.Arch = None,
    recipe: Annotated[
        choices.RecipeName | None,
        Option(
            help="Defaults of the flags below and of --width: the paper's, or small ones for a laptop. (default: paper)"
        ),
    ] = None,
    scale: Annotated[
        int | None,
        Option(metavar="S", help="Shorter side that images are rescaled to, in pixels. (paper: 256; tiny: 64 to 80)"),
    ] = None,
    scale_jitter: ScaleJitter = None,
    crop: Annotated[int | None, Option(help="Side of the crop in pixels. (paper: 224; tiny: 64)")] = None,
    *,
    learning: LearningFlags,
    init_from: Annotated[
        Path | None,
        Option(metavar="WEIGHTS", help="Start from the layers of this run or checkpoint of net A (section 3.1)."),
    ] = None,
    width: Annotated[float | None, Option(help="Factor on all channel counts. (paper: 1; tiny: 0.25)")] = None,
    head: Annotated[
        Literal["fc", "gap"] | None,
        Option(help="fc: three FC layers; gap: the last map averaged, then one linear layer. (default: fc)"),
    ] = None,
    run: RunFlags,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a network from scratch. The recipe is the paper's (section 3.1): SGD with momentum, dropout, random crops
    with scale jitter, flips and colour shift, and a learning rate that is divided by 10 when the validation error
    stalls."""
    flags = dict(locals())
    from vggcli.training.options import TrainOptions

    train_and_show(TrainOptions, flags)


def train_and_show(kind: "type[TrainOptions | FinetuneOptions]", flags: dict[str, Any]) -> None:
    """Train by the `flags` of a command: its parameters by name, which are the fields of `kind` with `json` and `quiet`.
    Progress is shown on stderr, the result on stdout."""
    from vggcli.report.plots import save_curves, save_views
    from vggcli.report.tables import survey_table
    from vggcli.training.start import start
    from vggcli.training.surroundings import Pictures, Surroundings

    ranks, as_json = joined(), flags.pop("json")
    quiet = flags.pop("quiet") or not ranks.is_first
    flags |= vars(flags.pop("learning")) | vars(flags.pop("run"))
    flags["workers"] = worker_count(flags["workers"], ranks.local_world)
    around = Surroundings(
        user_places(),
        options.progress(quiet),
        lambda found: None if quiet else options.stderr_console().print(survey_table(found)),
        lambda classes, best: _on_screen(quiet, classes, best, flags.get("recipe") != "tiny", ranks.world == 1),
        Pictures(save_curves, save_views),
        ranks,
    )
    result = start(kind(**flags), around)
    if not ranks.is_first:
        return
    if as_json:
        print(dumps(result.to_json()))
    else:
        _show(result)


@contextmanager
def _on_screen(quiet: bool, classes: int, best: float, paper: bool, alone: bool) -> "Iterator[Watch]":
    """Show the records of a run. On a signal the run saves and stops, and Interrupted is raised; a second Ctrl-C stops one
    that is `alone` at once."""
    from vggcli.cli.signals import asked_to_stop
    from vggcli.report.progress import TrainingDisplay
    from vggcli.training.options import Stopped
    from vggcli.training.state import EpochRecord
    from vggcli.training.surroundings import Watch

    advice = "; `vgg train --recipe tiny` takes minutes" if paper else ""
    display = TrainingDisplay(options.stderr_console(), quiet, classes, best, advice, alone)
    with asked_to_stop(display.stopping, at_once=alone) as asked, display:
        try:
            yield Watch(
                lambda record: display.epoch_end(record) if isinstance(record, EpochRecord) else display.step(record),
                lambda: bool(asked),
                display.phase,
            )
        except Stopped as error:
            raise Interrupted(str(error), asked[0]) from None


def _show(result: "TrainingResult") -> None:
    """Print the best epoch of a finished run, its files, and the command to evaluate it."""
    from vggcli.data.own_files import CONFIG, VIEWS
    from vggcli.report.cells import from_here
    from vggcli.report.progress import error_words
    from vggcli.report.tables import facts_table
    from vggcli.training.data import SKIPPED
    from vggcli.training.run import CURVES, LOG_FILE
    from vggcli.weights.checkpoint import BEST, LAST

    best, run, seconds = result.best, result.run, sum(record.seconds for record in result.records)
    facts = {
        "best": f"{error_words(best, result.classes)}, epoch {best.epoch}",
        "trained": f"{counted(result.epochs, 'epoch')}, {counted(result.last.step, 'step')}, {seconds:.0f} s",
        "run": from_here(str(run)),
        "files": ", ".join(
            name for name in (BEST, LAST, LOG_FILE, CONFIG, CURVES, VIEWS, SKIPPED) if (run / name).is_file()
        ),
    }
    options.stdout_console().print(facts_table(f"Network {result.arch}", facts))
    data = f" --data {quote(result.data)}" if user_places().data not in (None, result.data) else ""
    print(
        f"next: vgg eval --weights {quote(from_here(str(run)))}{data}{'' if best.mean_iou is not None else ' --dense'}"
    )
