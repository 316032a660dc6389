"""What `vgg train` does behind its flags: a plan becomes a run folder, and a run goes to its end on screen."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vggcli import __version__
from vggcli.cli import options
from vggcli.data.augment import ColourStatistics, augment
from vggcli.data.loader import Schedule, colour_statistics, training_batches
from vggcli.data.sources import load_training
from vggcli.errors import DataError, ExitCode, Interrupted, UsageError, WeightsError
from vggcli.report.plots import save_curves, save_sheet
from vggcli.report.progress import TrainingDisplay
from vggcli.report.tables import facts_table
from vggcli.training.loop import Stopped, TrainingData, TrainOptions, train
from vggcli.training.memory import automatic_micro_batch
from vggcli.training.recipe import RECIPES, Recipe
from vggcli.training.run import CONFIG, LOG, RunFolder, create_run, load_run
from vggcli.training.state import EpochRecord, RunState
from vggcli.zoo.checkpoint import BEST, LAST, Checkpoint, load_checkpoint, newest_run, weights_file
from vggcli.zoo.device import pick_dtype
from vggcli.zoo.files import write_text
from vggcli.zoo.initialise import initialise, initialise_from_network_a
from vggcli.zoo.layers import NetworkConfig, arch_of
from vggcli.zoo.network import VGG

SHEET_VIEWS = 32


@dataclass(frozen=True)
class RunControl:
    """What changes how a run is carried out but not its result."""

    device: torch.device
    workers: int
    micro_batch: int | None
    quiet: bool
    json: bool


@dataclass(frozen=True)
class Plan:
    """What decides a run's result; config.json holds it."""

    arch: str = "D"
    data: str | None = None
    seed: int = 0
    max_steps: int | None = None
    init_from: str | None = None
    precision: str = "auto"
    recipe: Recipe = RECIPES["paper"]

    @classmethod
    def of(
        cls, recipe: str | None, config: Path | None, recipe_flags: dict[str, Any], run_flags: dict[str, Any]
    ) -> "Plan":
        """A recipe or a config file, with the flags that were given in front."""
        if recipe is not None and config is not None:
            raise UsageError("--recipe and --config contradict each other; give one")
        plan = cls(recipe=RECIPES[recipe or "paper"]) if config is None else cls.from_file(config)
        return plan.with_flags(recipe_flags, run_flags)

    @classmethod
    def from_file(cls, path: Path) -> "Plan":
        """Raises UsageError where the file is not what a run writes."""
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            fields.pop("version", None)
            return cls(**{**fields, "recipe": Recipe.from_json(fields["recipe"])})
        except FileNotFoundError as error:
            raise UsageError(f"there is no file {path}; give --config a run's config.json") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{path} is not a run's config.json: {error}") from error

    def with_flags(self, recipe_flags: dict[str, Any], run_flags: dict[str, Any]) -> "Plan":
        given = {name: value for name, value in run_flags.items() if value is not None}
        if "arch" in given:
            given["arch"] = arch_of(given["arch"])
        if "init_from" in given:
            given["init_from"] = str(given["init_from"])
        recipe = {name: value for name, value in recipe_flags.items() if value is not None}
        if recipe.get("init", "gaussian") != "gaussian" and "init_std" not in recipe:
            recipe["init_std"] = None  # a config's std goes with its gaussian
        changed = replace(self.recipe, **recipe)
        if changed.head == "gap" and "dropout" in recipe:
            raise UsageError("--dropout has no effect with --head gap, which has no hidden FC layers")
        return replace(self, **given, recipe=changed)

    def to_text(self) -> str:
        return json.dumps({"version": __version__, **asdict(self)}, indent=2) + "\n"


@dataclass(frozen=True)
class Session:
    """A run about to go on."""

    plan: Plan
    folder: RunFolder
    network: VGG
    data: TrainingData
    state: RunState
    momentum: dict[str, Tensor]


def prepare(plan: Plan, out: Path | None, control: RunControl) -> Session:
    """Read the data, build and initialise the network, and make the run folder last, when nothing can be wrong any more."""
    recipe = plan.recipe
    source = options.data_source(plan.data, control.workers, control.quiet)
    train_set, val_set = load_training(source.path)
    config = NetworkConfig(plan.arch, len(train_set.classes), recipe.crop, recipe.width, recipe.head)
    network = VGG(config, recipe.dropout)
    initialise(network, recipe.init, plan.seed, recipe.init_std)
    if plan.init_from is not None:
        donor = weights_file(Path(plan.init_from).expanduser())
        copied = initialise_from_network_a(network, load_checkpoint(donor)[0])
        options.note(f"initialised from {donor}: {', '.join(copied)}")
    colour = colour_statistics(train_set, recipe.scale[0], control.workers)
    folder = create_run(out, options.RUNS, plan.arch)
    plan = replace(plan, data=source.name)
    write_text(folder / CONFIG, plan.to_text())
    about = Checkpoint(config, train_set.classes, colour.to_json(), recipe.scale, _about(plan, train_set.fingerprint()))
    data = TrainingData(train_set, val_set, colour)
    _save_views(folder / "views.png", data, plan)
    return Session(plan, RunFolder(folder, about), network.to(control.device), data, RunState(), {})


def _about(plan: Plan, fingerprint: str) -> dict[str, Any]:
    return {"recipe": plan.recipe.to_json(), "seed": plan.seed, "data": plan.data, "data_sha256": fingerprint}


def resumed(run: str, recipe_flags: dict[str, Any], run_flags: dict[str, Any], control: RunControl) -> Session:
    """The newest run, or the one named, as it was saved last; --epochs and --max-steps may make it longer."""
    allowed = {"epochs", "max_steps", "data", "arch"}
    refused = [
        name for name, value in {**recipe_flags, **run_flags}.items() if value is not None and name not in allowed
    ]
    if refused:
        flag = {"learning_rate": "lr"}.get(refused[0], refused[0]).replace("_", "-")
        raise UsageError(
            f"--{flag} has no effect with --resume, which goes on with a run as it was; start a new run with it"
        )
    path = _resumable_folder(run, run_flags["arch"])
    plan = Plan.from_file(path / CONFIG)
    loaded = load_run(path, control.device)
    source = options.data_source(run_flags["data"] or plan.data, control.workers, control.quiet)
    train_set, val_set = load_training(source.path)
    if train_set.fingerprint() != loaded.checkpoint.training.get("data_sha256"):
        raise DataError(
            f"the training images of {source.name} are not those that {path} was begun with; name the same with --data"
        )
    changes = {name: recipe_flags[name] for name in ("epochs",) if recipe_flags[name] is not None}
    recipe = replace(plan.recipe, **changes)
    max_steps = (
        run_flags["max_steps"] if run_flags["max_steps"] is not None else (plan.max_steps if not changes else None)
    )
    plan = replace(plan, recipe=recipe, max_steps=max_steps, data=source.name)
    _check_not_finished(path, plan, loaded.state)
    write_text(path / CONFIG, plan.to_text())
    training = {**loaded.checkpoint.training, "recipe": recipe.to_json()}
    folder = RunFolder(path, replace(loaded.checkpoint, training=training))
    loaded.network.dropout = recipe.dropout
    data = TrainingData(train_set, val_set, ColourStatistics.from_json(loaded.checkpoint.preprocessing))
    return Session(plan, folder, loaded.network, data, loaded.state, loaded.momentum)


def _resumable_folder(run: str, arch: str | None) -> Path:
    if run and arch is not None:
        raise UsageError(f"--arch has no effect beside --resume {run}, which says its network; leave one out")
    path = Path(run).expanduser() if run else newest_run(options.RUNS, arch_of(arch) if arch else None)
    if path is None:
        raise WeightsError(
            f"there is no run to resume under {options.RUNS.resolve()}; name its folder with --resume RUN"
        )
    if not (path / LAST).is_file():
        raise WeightsError(f"{path} cannot be resumed: it holds no {LAST}")
    return path.resolve()


def _check_not_finished(path: Path, plan: Plan, state: RunState) -> None:
    if state.plateau.finished:
        raise UsageError(f"{path} is finished: its error stalled after the last drop of the learning rate")
    if state.epoch >= plan.recipe.epochs:
        raise UsageError(
            f"{path} has finished its {plan.recipe.epochs} epochs; train longer with --resume {path} --epochs N"
        )
    if plan.max_steps is not None and state.total_steps >= plan.max_steps:
        raise UsageError(
            f"{path} has finished its {plan.max_steps} steps; train longer with --resume {path} --max-steps N"
        )


def run_to_end(session: Session, control: RunControl) -> None:
    """Train with progress on stderr, then show what came of it on stdout. Raises Interrupted after SIGINT or SIGTERM."""
    plan, path = session.plan, session.folder.path
    recipe, config = plan.recipe, session.network.config
    size = min(recipe.batch_size, len(session.data.train))
    micro_batch = min(size, control.micro_batch or automatic_micro_batch(config, size, control.device))
    dtype = pick_dtype(plan.precision, control.device)  # type: ignore[arg-type]
    opts = TrainOptions(recipe, plan.seed, micro_batch, control.workers, control.device, dtype, plan.max_steps)
    counts = f"{len(session.data.train)} training and {len(session.data.val)} validation images"
    shape = f"crop {config.crop}, width {config.width:g}, {config.classes} classes"
    options.note(f"network {config.arch} ({shape}) on {control.device}; {counts}; steps of {size} by {micro_batch}")
    options.note(f"run: {path}")
    console = options.stderr_console()
    started = time.monotonic()
    with _signals() as asked, TrainingDisplay(console, control.quiet) as display:
        records = train(
            session.network, session.data, opts, session.folder, session.state, session.momentum, lambda: bool(asked)
        )
        try:
            for record in records:
                if isinstance(record, EpochRecord):
                    display.epoch_end(record)
                    save_curves(path / LOG, path / "curves.png")
                else:
                    display.step(record)
        except Stopped:
            raise Interrupted(f"stopped and saved; go on with `vgg train --resume {path}`", asked[0]) from None
    _show_result(path, time.monotonic() - started, session, control)


@contextmanager
def _signals() -> Iterator[list[ExitCode]]:
    """A list that SIGINT and SIGTERM put their exit codes into; a second SIGINT interrupts at once."""
    asked: list[ExitCode] = []
    codes = {signal.SIGINT: ExitCode.INTERRUPTED, signal.SIGTERM: ExitCode.TERMINATED}

    def handle(number: int, frame: object) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(codes[signal.Signals(number)])

    before = {number: signal.signal(number, handle) for number in codes}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_result(path: Path, seconds: float, session: Session, control: RunControl) -> None:
    records = [json.loads(line) for line in (path / LOG).read_text(encoding="utf-8").splitlines()]
    best = min(records, key=lambda record: float(record["top1_error"]))
    if control.json:
        result = {"run": str(path), "epochs": len(records), "seconds": seconds, "best": best, "last": records[-1]}
        print(json.dumps(result))
        return
    facts = {
        "best": f"top-1 error {best['top1_error']:.2f} %, top-5 {best['top5_error']:.2f} %, epoch {best['epoch']}",
        "trained": f"{len(records)} epochs, {records[-1]['step']} steps, {seconds:.0f} s",
        "run": str(path),
        "files": f"{BEST}, {LAST}, {LOG}, {CONFIG}, curves.png, views.png",
        "next": f"vgg eval --weights {path} --data {session.plan.data} --dense",
    }
    options.stdout_console().print(facts_table(f"Network {session.plan.arch}", facts))


def _save_views(path: Path, data: TrainingData, plan: Plan) -> None:
    """A sheet of the first training views with their class and file names, as the network sees them."""
    recipe, count = plan.recipe, min(SHEET_VIEWS, len(data.train))
    schedule = Schedule(len(data.train), count, count, epochs=1)
    cpu = torch.device("cpu")
    from vggcli.data.loader import epoch_order

    order = epoch_order(len(data.train), plan.seed, 0)[:count]
    batch = next(training_batches(data.train, data.colour, recipe.scale, recipe.crop, plan.seed, schedule, 0, cpu))
    seen_NCHW = augment(batch.images_NHWC, batch.flips_N, batch.shifts_NC, data.colour)
    pixels = (
        seen_NCHW * torch.tensor(data.colour.divisor).reshape(-1, 1, 1) + torch.tensor(data.colour.mean)[:, None, None]
    )
    pictures = pixels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    names = [f"{data.train.classes[data.train.labels[index]]} {Path(data.train.names[index]).name}" for index in order]
    save_sheet(list(pictures), names, path)
