"""What `vgg train` does behind its flags: a plan becomes a run folder, and a run goes to its end on screen."""

import json
import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from vggcli.cli import options
from vggcli.cli.signals import asked_to_stop
from vggcli.cli.training_data import Skipped, save_skipped, training_sets
from vggcli.data.decode import read_image
from vggcli.data.image_set import ImageSet
from vggcli.data.outputs import check_run_outside
from vggcli.data.survey import survey, survey_notes
from vggcli.data.test_views import ViewPlan, rescaled_views
from vggcli.data.training_batches import Schedule, colour_statistics, epoch_order, training_batches
from vggcli.data.training_views import augment
from vggcli.device import pick_dtype
from vggcli.errors import Interrupted, MachineError, WeightsError, counted
from vggcli.files import file_sha256, write_text
from vggcli.places import made_folder
from vggcli.report.plots import save_curves, save_sheet
from vggcli.report.progress import Bar, TrainingDisplay
from vggcli.report.tables import facts_table, survey_table
from vggcli.report.text import printable
from vggcli.training.frozen import FrozenOutputs, FrozenView, Stages, frozen_outputs
from vggcli.training.loop import train
from vggcli.training.memory import automatic_micro_batch, check_memory
from vggcli.training.options import Stopped, TrainingData, TrainOptions
from vggcli.training.plan import Plan
from vggcli.training.run import CONFIG, LOG, RunFolder, check_run_place, create_run, let_go_of_run, remove_unused
from vggcli.training.state import EpochRecord, RunState
from vggcli.weights.checkpoint import BEST, LAST, Checkpoint, load_checkpoint
from vggcli.weights.find import fetched, find_weights
from vggcli.zoo.initialise import initialise, initialise_from_network_a
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG

SHEET_VIEWS = 32
FILES = (BEST, LAST, LOG, CONFIG, "curves.png", "views.png")


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
    held: int | None  # the run's lock


def prepare(plan: Plan, out: Path | None, control: RunControl, again: bool = False) -> Session:
    """Read the data, build and initialise the network, and make the run folder last, when nothing can be wrong any more;
    or, `again`, begin once more in the folder `out`, whose lock is held."""
    recipe = plan.recipe
    if not again:
        check_run_place(out, options.places().runs)
    sets = training_sets(plan, control.workers, control.quiet, out if again else None)
    check_run_outside(out, options.places().runs, sets.train, sets.val)
    say_data(sets.train, sets.val, control.quiet)
    classes = sets.train.classes
    config = NetworkConfig(plan.arch, len(classes), recipe.crop, recipe.width, recipe.head)
    check_memory(config, 1, control.device)
    network = VGG(config, recipe.dropout)
    initialise(network, recipe.init, plan.seed, recipe.init_std)
    if plan.init_from is not None:
        donor = fetched(
            find_weights(Path(plan.init_from), None, options.places()),
            options.places(),
            options.progress(control.quiet),
        )
        if plan.init_from_sha256 not in (None, digest := file_sha256(donor)):
            raise WeightsError(f"{donor} is not what the run began with; name network A's weights with --init-from")
        plan = replace(plan, init_from=str(donor.resolve()), init_from_sha256=digest)
        _initialise_from(donor, network, classes)
    colour = colour_statistics(sets.train, recipe.scale[0], control.workers)
    data = TrainingData(sets.train, sets.val, colour)
    return begun(replace(plan, data=sets.name), network, data, out, control, sets.skipped, again)


def say_data(train: ImageSet, val: ImageSet, quiet: bool) -> None:
    """The table (unless `quiet`) and its notes on stderr, before training."""
    with options.progress(quiet)("looking at the images", len(train) + len(val), "images") as bar:
        found = survey(train, val, bar)
    if not quiet:
        options.stderr_console().print(survey_table(found))
    for line in survey_notes(found):
        options.note(f"data: {line}")


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


def begun(
    plan: Plan,
    network: VGG,
    data: TrainingData,
    out: Path | None,
    control: RunControl,
    skipped: Skipped = (),
    again: bool = False,
) -> Session:
    """A run of `plan` with a folder of its own, from the weights that `network` has; from its first file on it can be
    resumed. `again` and `skipped` as `prepare` and `training_sets` have them."""
    network.to(control.device)
    plan = replace(plan, micro_batch=control.micro_batch or plan.micro_batch)
    plan = replace(plan, micro_batch=_micro_batch(plan, network.config, len(data.train), control))
    data = with_frozen_outputs(plan, network, data, control)
    folder, held = (out, None) if again and out is not None else create_run(out, options.places().runs, plan.arch)
    try:
        write_text(folder / CONFIG, plan.to_text())
        about = {**plan.decisions(), "data": plan.data, "data_sha256": data.train.fingerprint()}
        about["val_sha256"] = data.val.fingerprint()
        if skipped:
            save_skipped(folder, skipped)
            about["skipped"] = len(skipped)
        checkpoint = Checkpoint(network.config, data.train.classes, data.colour.to_json(), plan.recipe.scale, about)
        _save_views(folder / "views.png", data, plan)
    except BaseException as error:
        let_go_of_run(folder, held)
        if not again:
            remove_unused(folder)
        if isinstance(error, MachineError) and (folder / CONFIG).is_file():
            raise MachineError(f"{error}; then go on with `{_go_on(plan, folder)}`") from error
        raise
    return Session(plan, RunFolder(folder, checkpoint), network, data, RunState(), {}, held)


def _micro_batch(plan: Plan, config: NetworkConfig, images: int, control: RunControl) -> int:
    """The plan's, else what fits in memory; at most a step. Raises MachineError where it cannot fit."""
    size = min(plan.recipe.batch_size, images)
    chosen = min(size, plan.micro_batch or automatic_micro_batch(config, size, control.device))
    check_memory(config, chosen if plan.layers == "all" else 0, control.device)
    return chosen


def with_frozen_outputs(plan: Plan, network: VGG, data: TrainingData, control: RunControl) -> TrainingData:
    """`data` with what the frozen layers make of it, where the plan wants that: computed once, kept in the user's cache."""
    if not plan.cache_features:
        return data
    folder = made_folder(options.places().cache / "features")
    dtype = pick_dtype(plan.precision, control.device)  # type: ignore[arg-type]
    view = FrozenView(Stages(network, plan.layers), data.colour, plan.recipe.test_scale, control.device, dtype)
    images, rows = len(data.train) + len(data.val), []
    with Bar(options.stderr_console(), "outputs of the frozen layers", images, "images", control.quiet) as bar:
        for split in (data.train, data.val):
            rows.append(frozen_outputs(folder, split, view, control.workers, bar, options.note))
    size = sum(each.nbytes for each in rows) / 1e6
    options.note(f"frozen layers' outputs, {size:.0f} MB: {folder} (may be removed; the run then computes them again)")
    return replace(data, frozen=FrozenOutputs(*rows))


def run_to_end(session: Session, control: RunControl) -> None:
    """Train with progress on stderr, then show what came of it on stdout.

    Raises Interrupted after SIGINT, SIGTERM or SIGHUP, and MachineError where the machine will not, with the command that
    goes on.
    """
    plan, path = session.plan, session.folder.path
    recipe, config = plan.recipe, session.network.config
    size = min(recipe.batch_size, len(session.data.train))
    micro_batch = _micro_batch(plan, config, len(session.data.train), control)
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
    started = time.monotonic()
    try:
        _train(session, opts, control)
    except MachineError as error:
        raise MachineError(f"{error}; then go on with `{_go_on(plan, path)}`") from error
    finally:
        let_go_of_run(path, session.held)
    show_result(path, plan, time.monotonic() - started, control)


def _train(session: Session, opts: TrainOptions, control: RunControl) -> None:
    path = session.folder.path
    with asked_to_stop() as asked, TrainingDisplay(options.stderr_console(), control.quiet) as display:
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
            raise Interrupted(f"stopped and saved; go on with `{_go_on(session.plan, path)}`", asked[0]) from None


def _go_on(plan: Plan, folder: Path) -> str:
    command = "train" if plan.weights is None else "finetune"
    return f"vgg {command} --resume {shlex.quote(str(folder))}"


def show_result(path: Path, plan: Plan, seconds: float, control: RunControl) -> None:
    """The best epoch of the finished run at `path` and what to do with it, on stdout."""
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
        "files": ", ".join(name for name in FILES if (path / name).is_file()),
        "next": f"vgg eval --weights {shlex.quote(str(path))} --data {shlex.quote(str(plan.data))} --dense",
    }
    options.stdout_console().print(facts_table(f"Network {plan.arch}", facts))


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
