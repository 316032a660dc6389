"""`vgg train`: a network of Table 1 from scratch, or from net A's layers, in a run folder that can be resumed."""

from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Option

from vggcli import choices
from vggcli.cli import options
from vggcli.cli import training_options as flag
from vggcli.defaults import user_places, worker_count
from vggcli.errors import Interrupted, counted

if TYPE_CHECKING:
    from vggcli.training.options import FinetuneOptions, TrainOptions
    from vggcli.training.session import TrainingResult
    from vggcli.training.surroundings import Watch


@options.expanded
def train(
    data: options.Data = None,
    arch: options.Arch = None,
    recipe: Annotated[
        choices.RecipeName | None,
        Option(help="Sets all of the following: the paper's numbers, or a laptop's. (default: paper)"),
    ] = None,
    scale: Annotated[
        int | None, Option(metavar="S", help="Shorter side in pixels before the crop. (paper: 256; tiny: 64 to 80)")
    ] = None,
    scale_jitter: flag.ScaleJitter = None,
    crop: Annotated[int | None, Option(help="Side of the crop in pixels. (paper: 224; tiny: 64)")] = None,
    *,
    learning: flag.LearningFlags,
    init_from: Annotated[
        Path | None, Option(metavar="WEIGHTS", help="Take net A's layers from a run or checkpoint (section 3.1).")
    ] = None,
    width: Annotated[float | None, Option(help="Factor on all channel counts. (paper: 1; tiny: 0.25)")] = None,
    head: Annotated[
        Literal["fc", "gap"] | None, Option(help="gap: the last map averaged, one linear layer. (default: fc)")
    ] = None,
    run: flag.RunFlags,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a network from scratch by the paper's recipe (section 3.1): SGD with momentum, dropout, random crops with
    scale jitter, flips and colour shift, and a learning rate that is divided by 10 when the validation error stalls."""
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

    as_json, quiet = flags.pop("json"), flags.pop("quiet")
    flags |= vars(flags.pop("learning")) | vars(flags.pop("run"))
    flags["workers"] = worker_count(flags["workers"])
    around = Surroundings(
        user_places(),
        options.progress(quiet),
        lambda found: None if quiet else options.stderr_console().print(survey_table(found)),
        lambda: _on_screen(quiet),
        Pictures(save_curves, save_views),
    )
    result = start(kind(**flags), around)
    if as_json:
        print(dumps(result.to_json()))
    else:
        _show(result)


@contextmanager
def _on_screen(quiet: bool) -> "Iterator[Watch]":
    """Show the records of a run. On a signal the run saves and stops, and Interrupted is raised."""
    from vggcli.cli.signals import asked_to_stop
    from vggcli.report.progress import TrainingDisplay
    from vggcli.training.options import Stopped
    from vggcli.training.state import EpochRecord
    from vggcli.training.surroundings import Watch

    with asked_to_stop() as asked, TrainingDisplay(options.stderr_console(), quiet) as display:
        try:
            yield Watch(
                lambda record: display.epoch_end(record) if isinstance(record, EpochRecord) else display.step(record),
                lambda: bool(asked),
            )
        except Stopped as error:
            raise Interrupted(str(error), asked[0]) from None


def _show(result: "TrainingResult") -> None:
    """Print the best epoch of a finished run, its files, and the command to evaluate it."""
    from vggcli.report.tables import facts_table
    from vggcli.training.run import CONFIG, CURVES, LOG_FILE, VIEWS
    from vggcli.weights.checkpoint import BEST, LAST

    best, run = result.best, result.run
    facts = {
        "best": f"top-1 error {best.top1_error:.2f} %, top-5 {best.top5_error:.2f} %, epoch {best.epoch}",
        "trained": f"{counted(result.epochs, 'epoch')}, {counted(result.last.step, 'step')}, {result.seconds:.0f} s",
        "run": str(run),
        "files": ", ".join(name for name in (BEST, LAST, LOG_FILE, CONFIG, CURVES, VIEWS) if (run / name).is_file()),
        "next": f"vgg eval --weights {quote(str(run))} --data {quote(result.data)} --dense",
    }
    options.stdout_console().print(facts_table(f"Network {result.arch}", facts))
