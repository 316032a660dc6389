"""What `vgg train` does behind its flags: a plan becomes a run folder, and a run goes to its end on screen."""

import json
import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vggcli.cli import options
from vggcli.cli.outputs import check_run_outside
from vggcli.cli.plan import Plan
from vggcli.cli.signals import asked_to_stop
from vggcli.cli.surveying import say_data
from vggcli.cli.weights import fetched, find_weights
from vggcli.data.augment import ColourStatistics, augment
from vggcli.data.decode import read_image
from vggcli.data.loader import Schedule, colour_statistics, epoch_order, training_batches
from vggcli.data.sources import load_training
from vggcli.data.views import ViewPlan, rescaled_views
from vggcli.errors import DataError, Interrupted, UsageError, WeightsError, counted
from vggcli.files import write_text
from vggcli.report.plots import save_curves, save_sheet
from vggcli.report.progress import Bar, TrainingDisplay
from vggcli.report.tables import facts_table
from vggcli.report.text import printable
from vggcli.training.cache import FrozenOutputs, FrozenView, frozen_outputs
from vggcli.training.loop import train
from vggcli.training.memory import automatic_micro_batch
from vggcli.training.options import Stopped, TrainingData, TrainOptions
from vggcli.training.run import CONFIG, LOG, RunFolder, create_run, load_run
from vggcli.training.stages import Stages
from vggcli.training.state import EpochRecord, RunState
from vggcli.zoo.checkpoint import BEST, LAST, Checkpoint, load_checkpoint, newest_run
from vggcli.zoo.device import pick_dtype
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
    check_run_outside(out, options.RUNS, train_set, val_set)
    say_data(train_set, val_set, control.quiet)
    config = NetworkConfig(plan.arch, len(train_set.classes), recipe.crop, recipe.width, recipe.head)
    network = VGG(config, recipe.dropout)
    initialise(network, recipe.init, plan.seed, recipe.init_std)
    if plan.init_from is not None:
        donor = fetched(find_weights(Path(plan.init_from), None), control.quiet)
        _initialise_from(donor, network, train_set.classes)
    colour = colour_statistics(train_set, recipe.scale[0], control.workers)
    return begun(replace(plan, data=source.name), network, TrainingData(train_set, val_set, colour), out, control)


def _initialise_from(donor: Path, network: VGG, classes: tuple[str, ...]) -> None:
    """Net A's layers at `donor` into `network`; its class scores too where it knows the same classes by name."""
    source, about = load_checkpoint(donor)
    known = sorted(about.classes) == sorted(classes)
    copied = initialise_from_network_a(
        network, source, [about.classes.index(one) for one in classes] if known else None
    )
    options.note(f"initialised from {donor}: {', '.join(copied)}")
    if not known:
        reason = "knows other classes" if about.classes else "does not name its classes"
        options.note(f"fc8 is new: {donor} {reason}")


def begun(plan: Plan, network: VGG, data: TrainingData, out: Path | None, control: RunControl) -> Session:
    """A run of `plan` with a folder of its own, from the weights that `network` has."""
    about: dict[str, Any] = {"recipe": plan.recipe.to_json(), "seed": plan.seed, "data": plan.data}
    about["data_sha256"] = data.train.fingerprint()
    if plan.weights is not None:
        about["finetuned"] = {"from": plan.weights, "sha256": plan.weights_sha256, "layers": plan.layers}
    network.to(control.device)
    data = with_frozen_outputs(plan, network, data, control)
    folder = create_run(out, options.RUNS, plan.arch)
    write_text(folder / CONFIG, plan.to_text())
    checkpoint = Checkpoint(network.config, data.train.classes, data.colour.to_json(), plan.recipe.scale, about)
    _save_views(folder / "views.png", data, plan)
    return Session(plan, RunFolder(folder, checkpoint), network, data, RunState(), {})


def with_frozen_outputs(plan: Plan, network: VGG, data: TrainingData, control: RunControl) -> TrainingData:
    """`data` with what the frozen layers make of it, where the plan wants that: computed once, kept in the user's cache."""
    if not plan.cache_features:
        return data
    folder = options.made_folder(options.cache_folder() / "features")
    dtype = pick_dtype(plan.precision, control.device)  # type: ignore[arg-type]
    view = FrozenView(Stages(network, plan.layers), data.colour, plan.recipe.test_scale, control.device, dtype)
    images, rows = len(data.train) + len(data.val), []
    with Bar(options.stderr_console(), "outputs of the frozen layers", images, "images", control.quiet) as bar:
        for split in (data.train, data.val):
            rows.append(frozen_outputs(folder, split, view, control.workers, bar))
    size = sum(each.nbytes for each in rows) / 1e6
    options.note(f"frozen layers' outputs, {size:.0f} MB: {folder} (may be removed; the run then computes them again)")
    return replace(data, frozen=FrozenOutputs(*rows))


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
    classes, colour = loaded.checkpoint.classes, ColourStatistics.from_json(loaded.checkpoint.preprocessing)
    data = TrainingData(train_set.with_classes(classes), val_set.with_classes(classes), colour)
    data = with_frozen_outputs(plan, loaded.network, data, control)
    return Session(plan, folder, loaded.network, data, loaded.state, loaded.momentum)


def _resumable_folder(run: str, arch: str | None) -> Path:
    if run and arch is not None:
        raise UsageError(f"--arch has no effect beside --resume {run}, which says its network; leave one out")
    path = Path(run).expanduser() if run else newest_run(options.RUNS, arch_of(arch) if arch else None)
    if path is None:
        raise WeightsError(
            f"there is no run to resume under {options.RUNS.resolve()}; name its folder with --resume RUN"
        )
    if not path.is_dir():
        raise WeightsError(f"there is no folder {path} to resume")
    if not (path / LAST).is_file():
        raise WeightsError(f"{path} cannot be resumed: it holds no {LAST}")
    return path.resolve()


def _check_not_finished(path: Path, plan: Plan, state: RunState) -> None:
    if state.plateau.finished:
        raise UsageError(f"{path} is finished: its error stalled after the last drop of the learning rate")
    if state.epoch >= plan.recipe.epochs:
        raise UsageError(
            f"{path} has trained {counted(state.epoch, 'epoch')} already; train longer with "
            f"--resume {shlex.quote(str(path))} --epochs N, above that"
        )
    if plan.max_steps is not None and state.total_steps >= plan.max_steps:
        raise UsageError(
            f"{path} has finished its {counted(plan.max_steps, 'step')}; train longer with "
            f"--resume {shlex.quote(str(path))} --max-steps N"
        )


def run_to_end(session: Session, control: RunControl) -> None:
    """Train with progress on stderr, then show what came of it on stdout. Raises Interrupted after SIGINT or SIGTERM."""
    plan, path = session.plan, session.folder.path
    recipe, config = plan.recipe, session.network.config
    size = min(recipe.batch_size, len(session.data.train))
    micro_batch = min(size, control.micro_batch or automatic_micro_batch(config, size, control.device))
    dtype = pick_dtype(plan.precision, control.device)  # type: ignore[arg-type]
    opts = TrainOptions(
        recipe, plan.seed, micro_batch, control.workers, control.device, dtype, plan.max_steps, plan.layers
    )
    counts = f"{len(session.data.train)} training and {counted(len(session.data.val), 'validation image')}"
    shape = f"crop {config.crop}, width {config.width:g}, {config.classes} classes"
    learning = {"all": "", "fc": "; the FC layers learn", "last": "; the last layer learns"}[plan.layers]
    steps = f"steps of {size} by {micro_batch}"
    options.note(f"network {config.arch} ({shape}) on {control.device}; {counts}; {steps}{learning}")
    options.note(f"run: {path}")
    console = options.stderr_console()
    started = time.monotonic()
    with asked_to_stop() as asked, TrainingDisplay(console, control.quiet) as display:
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
            command = "train" if plan.weights is None else "finetune"
            raise Interrupted(f"stopped and saved; go on with `vgg {command} --resume {path}`", asked[0]) from None
    _show_result(path, time.monotonic() - started, session, control)


def _show_result(path: Path, seconds: float, session: Session, control: RunControl) -> None:
    records = [json.loads(line) for line in (path / LOG).read_text(encoding="utf-8").splitlines()]
    best = min(records, key=lambda record: float(record["top1_error"]))
    if control.json:
        result = {"run": str(path), "epochs": len(records), "seconds": seconds, "best": best, "last": records[-1]}
        print(json.dumps(result))
        return
    facts = {
        "best": f"top-1 error {best['top1_error']:.2f} %, top-5 {best['top5_error']:.2f} %, epoch {best['epoch']}",
        "trained": f"{counted(len(records), 'epoch')}, {counted(records[-1]['step'], 'step')}, {seconds:.0f} s",
        "run": str(path),
        "files": f"{BEST}, {LAST}, {LOG}, {CONFIG}, curves.png, views.png",
        "next": f"vgg eval --weights {shlex.quote(str(path))} --data {shlex.quote(str(session.plan.data))} --dense",
    }
    options.stdout_console().print(facts_table(f"Network {session.plan.arch}", facts))


def _save_views(sheet: Path, data: TrainingData, plan: Plan) -> None:
    """A sheet of the first training views with their class and file names, as the network sees them."""
    recipe, count = plan.recipe, min(SHEET_VIEWS, len(data.train))
    schedule = Schedule(len(data.train), count, count, epochs=1)
    order = epoch_order(len(data.train), plan.seed, 0)[:count]
    names = [
        printable(f"{data.train.classes[data.train.labels[index]]} {Path(data.train.names[index]).name}")
        for index in order
    ]
    if plan.cache_features:
        view = ViewPlan((recipe.test_scale,), centre_crop=recipe.crop)
        paths = [data.train.path(index) for index in order]
        save_sheet([rescaled_views(path, read_image(path), view)[0] for path in paths], names, sheet)
        return
    cpu = torch.device("cpu")
    batch = next(training_batches(data.train, data.colour, recipe.scale, recipe.crop, plan.seed, schedule, 0, cpu))
    seen_NCHW = augment(batch.images_NHWC, batch.flips_N, batch.shifts_NC, data.colour)
    pixels = (
        seen_NCHW * torch.tensor(data.colour.divisor).reshape(-1, 1, 1) + torch.tensor(data.colour.mean)[:, None, None]
    )
    pictures = pixels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    save_sheet(list(pictures), names, sheet)
