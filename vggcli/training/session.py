"""A run from its first file to its end: a plan with its network and data gets a folder, is trained, and gives a result."""

import contextlib
import json
import math
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vggcli.boxes import cxcywh_to_xyxy
from vggcli.data.decode import read_image
from vggcli.data.own_files import CONFIG, VIEWS
from vggcli.data.test_views import ViewPlan, rescaled_views
from vggcli.data.training_batches import Schedule, epoch_order, training_batches
from vggcli.data.training_views import augment
from vggcli.device import pick_device, pick_precision
from vggcli.errors import MachineError, counted
from vggcli.files import write_text
from vggcli.metrics import hidden_top5
from vggcli.places import made_folder
from vggcli.progress import LOG
from vggcli.ranks import Ranks
from vggcli.results import Result
from vggcli.training.data import SKIPPED, Skipped
from vggcli.training.frozen import FrozenOutputs, FrozenView, Stages, frozen_outputs
from vggcli.training.loop import train_epochs
from vggcli.training.memory import automatic_micro_batch, check_memory
from vggcli.training.options import LoopOptions, RunOptions, Stopped, TrainingData
from vggcli.training.plan import Plan
from vggcli.training.run import CURVES, LOG_FILE, RunFolder, create_run, let_go_of_run
from vggcli.training.state import EpochRecord, RunState
from vggcli.training.surroundings import PicturedRun, Pictures, Surroundings
from vggcli.training.tensorboard import event_file
from vggcli.weights.checkpoint import Checkpoint
from vggcli.zoo.inductor import need_compiler
from vggcli.zoo.initialise import initialise
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG

SHEET_VIEWS = 32
LEARNING = {"all": "", "fc": "; the FC layers learn", "last": "; the last layer learns"}


@dataclass(frozen=True)
class TrainingResult(Result):
    """A finished run: its folder, the names of its network and data, the number of `classes`, the `records` of its epochs
    (the last may have been cut short) and the `seconds` that this call took."""

    run: Path
    arch: str
    data: str
    classes: int
    records: tuple[EpochRecord, ...] = field(repr=False)
    seconds: float

    @property
    def epochs(self) -> int:
        return len(self.records)

    @property
    def best(self) -> EpochRecord:
        """The first epoch of the lowest validation error."""
        return min(self.records, key=lambda record: record.validation_error)

    @property
    def last(self) -> EpochRecord:
        return self.records[-1]

    def to_json(self) -> dict[str, Any]:
        """What `vgg train --json` prints."""
        about = {"run": str(self.run), "epochs": self.epochs, "seconds": self.seconds}
        return {**about, "best": self.best.to_json(), "last": self.last.to_json()}

    def table(self) -> list[dict[str, Any]]:
        """One row per epoch, as in log.jsonl."""
        return [record.to_json() for record in self.records]

    def hidden(self) -> tuple[str, ...]:
        return hidden_top5(self.classes)


@dataclass(frozen=True)
class Session:
    """A run that is ready to train."""

    plan: Plan
    folder: RunFolder
    network: VGG
    data: TrainingData
    state: RunState
    momentum: dict[str, Tensor]
    held: int | None  # the run's lock


def new_network(plan: Plan, classes: int, options: RunOptions) -> VGG:
    """The network of `plan` with random weights. Raises MachineError where there is too little memory to train it."""
    recipe = plan.recipe
    config = NetworkConfig(plan.arch, classes, recipe.crop, recipe.width, recipe.head, plan.boxes)
    check_memory(config, 1 if plan.layers == "all" else 0, pick_device(options.device))
    network = VGG(config, recipe.dropout)
    initialise(network, recipe.init, plan.seed, recipe.init_std)
    return network


def begun(
    plan: Plan,
    network: VGG,
    data: TrainingData,
    options: RunOptions,
    around: Surroundings,
    skipped: Skipped = (),
    again: bool = False,
) -> Session:
    """A new run of `plan` in a new folder, starting from the weights in `network`; it can be resumed as soon as its first
    file is there. `skipped` are the images left out; with `again` the run begins again in the folder `out`, whose lock is
    held."""
    device, out = pick_device(options.device), options.folder
    if plan.compile:
        need_compiler(device)
    network.to(device)
    plan = replace(plan, micro_batch=options.micro_batch or plan.micro_batch)
    size = _micro_batch(plan, network.config, len(data.train), device, around.ranks)
    plan = replace(plan, micro_batch=size)
    folder, held = (out, None) if again and out is not None else create_run(out, around.places.runs, plan.arch)
    try:
        write_text(folder / CONFIG, plan.to_text())
        about = {**plan.decisions(), "data": plan.data, "data_sha256": data.train.fingerprint()}
        about["val_sha256"] = data.val.fingerprint()
        if skipped:
            write_text(folder / SKIPPED, json.dumps(skipped, indent=1) + "\n")
            about["skipped"] = len(skipped)
        checkpoint = Checkpoint(network.config, data.train.classes, data.colour, plan.recipe.scale, about)
        if around.pictures is not None:
            run = PicturedRun(folder, network.config, str(plan.data))
            with around.progress(f"drawing {VIEWS}", 1, "picture"):
                _draw_views(around.pictures, folder / VIEWS, data, plan, run)
    except BaseException as error:
        let_go_of_run(folder, held)
        if not again:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()
        if isinstance(error, MachineError) and (folder / CONFIG).is_file():
            raise _with_advice(error, plan, folder) from error
        raise
    return Session(plan, RunFolder(folder, checkpoint), network, data, RunState(), {}, held)


def shared(
    prepare: Callable[[], Session | TrainingResult], device: torch.device, ranks: Ranks
) -> Session | TrainingResult:
    """What `prepare` gives in the first process, for all of them; the others have no lock."""
    found = list[Session | TrainingResult]()

    def told() -> tuple[Any, ...] | TrainingResult:
        found.append(prepare())
        if isinstance(found[0], TrainingResult):
            return found[0]
        one = found[0]
        shapes = {name: tuple(buffer.shape) for name, buffer in one.momentum.items()}
        return one.plan, one.folder, one.network.config, one.network.dropout, one.data, one.state, shapes

    heard = ranks.first_does(told)
    if isinstance(heard, TrainingResult):
        return heard
    if found:
        session = found[0]
        assert isinstance(session, Session)
    else:
        plan, folder, config, dropout, data, state, shapes = heard
        momentum = {name: torch.empty(shape) for name, shape in shapes.items()}
        session = Session(plan, folder, VGG(config, dropout).to(device), data, state, momentum, None)
    ranks.copy_first([*session.network.state_dict().values(), *session.momentum.values()])
    return session


def with_frozen_outputs(
    plan: Plan, network: VGG, data: TrainingData, options: RunOptions, around: Surroundings
) -> TrainingData:
    """`data` with the outputs of the frozen layers, if the plan caches them: computed once, kept in the user's cache."""
    if not plan.cache_features:
        return data
    folder, device = made_folder(around.places.cache / "features"), pick_device(options.device)
    precision = pick_precision(plan.precision, device)
    view = FrozenView(Stages(network, plan.layers), data.colour, plan.recipe.test_scale, device, precision, plan.decode)
    images = len(data.train) + len(data.val)
    with around.progress("outputs of the frozen layers", images, "images") as bar:
        rows = [
            frozen_outputs(folder, split, view, options.workers, bar, around.ranks) for split in (data.train, data.val)
        ]
    size = sum(each.nbytes for each in rows) / 1e6
    LOG.info(f"outputs of the frozen layers: {size:.0f} MB in {folder} (may be removed; they are then computed again)")
    return replace(data, frozen=FrozenOutputs(*rows))


def run_to_end(session: Session, options: RunOptions, around: Surroundings) -> TrainingResult:
    """Train to the end of the plan, with curves drawn after every epoch.

    Raises Stopped once `around` asks for it, and MachineError where disk or memory fail, both with the command that
    resumes the run; otherwise as `train_epochs`.
    """
    plan, path, images, ranks = session.plan, session.folder.path, len(session.data.train), around.ranks
    config, device = session.network.config, pick_device(options.device)
    micro_batch, precision = _micro_batch(plan, config, images, device, ranks), pick_precision(plan.precision, device)
    loop = LoopOptions(
        plan.recipe,
        plan.seed,
        micro_batch,
        options.workers,
        device,
        precision,
        plan.max_steps,
        plan.layers,
        decode=plan.decode,
        compile=plan.compile,
        ranks=ranks,
    )
    counts = f"{images} training and {counted(len(session.data.val), 'validation image')}"
    shape = f"crop {config.crop}, width {config.width:g}, {counted(config.classes, 'class', 'classes')}"
    steps = f"steps of {counted(min(plan.recipe.batch_size, images), 'image')}, {micro_batch} at a time"
    steps += f" on each of {ranks.world} devices" if ranks.world > 1 else ""
    LOG.info(f"network {config.arch} ({shape}) on {device}; {counts}; {steps}{LEARNING[plan.layers]}")
    LOG.info(f"run: {path}")
    started, epochs = time.monotonic(), list(session.state.history)
    pictures = around.pictures if ranks.is_first else None
    try:
        data = with_frozen_outputs(plan, session.network, session.data, options, around)
        best = min((record.validation_error for record in epochs), default=math.inf)
        events = event_file(path, epochs, config.classes, options.tensorboard and ranks.is_first)
        with around.watching(config.classes, best) as watch, events as add_event:
            begin = (session.folder, session.state, session.momentum)
            try:
                for record in train_epochs(session.network, data, loop, *begin, watch.stop, watch.phase):
                    watch.record(record)
                    if isinstance(record, EpochRecord):
                        epochs.append(record)
                        add_event(record)
                        if pictures is not None:
                            pictures.curves(path / LOG_FILE, path / CURVES, session.folder.pictured)
            except Stopped as error:
                done = (
                    "stopped and saved; go on"
                    if error.steps
                    else "stopped before the end of the first step; begin it again"
                )
                raise Stopped(f"{done} with `{_resuming(plan, path)}`") from None
    except MachineError as error:
        raise _with_advice(error, plan, path) from error
    finally:
        let_go_of_run(path, session.held)
    return TrainingResult(path, plan.arch, str(plan.data), config.classes, tuple(epochs), time.monotonic() - started)


def _with_advice(error: MachineError, plan: Plan, folder: Path) -> MachineError:
    return MachineError(f"{error}; then go on with `{_resuming(plan, folder)}`", *error.options)


def _resuming(plan: Plan, folder: Path) -> str:
    return f"vgg {plan.command} --resume {shlex.quote(str(folder))}"


def _micro_batch(plan: Plan, config: NetworkConfig, images: int, device: torch.device, ranks: Ranks) -> int:
    """The plan's, else the largest that fits in memory; at most a process's share of a step. Raises MachineError where
    it does not fit."""
    size = -(-min(plan.recipe.batch_size, images) // ranks.world)
    chosen = min(size, plan.micro_batch or automatic_micro_batch(config, size, device, ranks.local_world))
    check_memory(config, chosen if plan.layers == "all" else 0, device)
    return chosen


def _draw_views(pictures: Pictures, sheet: Path, data: TrainingData, plan: Plan, run: PicturedRun) -> None:
    """Draw the first training views as the network sees them, each with its class and file name."""
    recipe, count = plan.recipe, min(SHEET_VIEWS, len(data.train))
    order = epoch_order(len(data.train), plan.seed, 0)[:count].tolist()
    names = [(data.train.classes[data.train.labels[index]], Path(data.train.names[index]).name) for index in order]
    if plan.cache_features:
        view = ViewPlan((recipe.test_scale,), centre_crop=recipe.crop)
        paths = [data.train.path(index) for index in order]
        pictures.views([rescaled_views(path, read_image(path), view)[0] for path in paths], names, sheet, run)
        return
    schedule, cpu = Schedule(len(data.train), count, count, epochs=1), torch.device("cpu")
    batch = next(training_batches(data.train, data.colour, recipe.scale, recipe.crop, plan.seed, schedule, 0, cpu))
    seen_NCHW = augment(batch.images_NHWC, batch.flips_N, batch.shifts_NC, data.colour)
    divisor, mean = (torch.tensor(each).reshape(-1, 1, 1) for each in (data.colour.divisor, data.colour.mean))
    pixels = (seen_NCHW * divisor + mean).round().clamp(0, 255).to(torch.uint8)
    if batch.boxes_N4 is not None and batch.learnt_N is not None:
        pixels = _outlined(pixels, batch.boxes_N4, batch.learnt_N)
    pictures.views(list(pixels.permute(0, 2, 3, 1).numpy()), names, sheet, run)


def _outlined(pixels_NCHW: Tensor, boxes_N4: Tensor, learnt_N: Tensor) -> Tensor:
    """Views, uint8, with their boxes (cxcywh in the frame of each) as yellow outlines, grey where it is not learnt from."""
    from torchvision.utils import draw_bounding_boxes

    side = pixels_NCHW.shape[-1]
    corners = (cxcywh_to_xyxy(boxes_N4) * side).clamp(0, side - 1)
    colours = ["yellow" if learnt else "grey" for learnt in learnt_N.tolist()]
    drawn = zip(pixels_NCHW, corners, colours, strict=True)
    width = side // 100 + 1
    return torch.stack([draw_bounding_boxes(one, box[None], colors=colour, width=width) for one, box, colour in drawn])
