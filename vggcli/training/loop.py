"""The training loop (section 3.1): SGD with momentum, in steps of 256 images on any machine.

A step's images are split into micro-batches whose gradients add up; views and dropout masks are functions of seed, epoch,
step and image, so the result depends neither on the micro-batch (except with batch normalisation) nor on where a run was
interrupted.

Several processes share each step by DistributedDataParallel: each has its part of the images, and gradients are summed over
all of them once a step. The first one alone saves.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vggcli.data.decode import ImageError
from vggcli.data.training_batches import (
    Position,
    Schedule,
    TrainingBatch,
    empty_batch,
    steps_an_epoch,
    tasks,
    training_batches,
)
from vggcli.data.training_views import augment
from vggcli.data.workers import WorkerLost
from vggcli.device import computing, products
from vggcli.errors import DataError
from vggcli.metrics import error_rate
from vggcli.ranks import RankLost, Ranks
from vggcli.training.frozen import CompiledStages, FrozenBatch, Stages, frozen_batch
from vggcli.training.learner import Learner
from vggcli.training.objective import Objective, Validation, objective_of
from vggcli.training.options import LoopOptions, Stopped, TrainingData
from vggcli.training.run import RunFolder
from vggcli.training.state import EpochRecord, RunState, StepRecord
from vggcli.training.validation import validate
from vggcli.zoo.network import VGG

SAVE_SECONDS = 600.0  # between saves within an epoch, so that a kill costs at most ten minutes


def train_epochs(
    network: VGG,
    data: TrainingData,
    options: LoopOptions,
    folder: RunFolder,
    state: RunState,
    momentum: dict[str, Tensor],
    stop: Callable[[], bool],
    phase: Callable[[str], None] = lambda what: None,
) -> Iterator[StepRecord | EpochRecord]:
    """Train `network` in place from `state` to the end of the recipe, yielding a record after every micro-batch and
    every epoch, and saving to `folder` as it goes; `phase` is told what it is busy with in between.

    Raises Stopped, within the time of one layer (compiled, or with several processes: of one micro-batch), once `stop()` is
    true, ImageError at an image that cannot be used, WorkerLost where a decoding process is killed and RankLost where
    another process of `options.ranks` is (saving first, also where the caller closes the iterator); DataError at a loss
    that is not finite (before the step, leaving the last save as it was).
    """
    recipe = options.recipe
    steps = steps_an_epoch(len(data.train), recipe.batch_size)
    stages, between_layers = _passes(network, options, stop)
    stages.train()
    learner = Learner(stages, options.ranks)
    optimizer = new_optimizer(stages, options, momentum)
    scaler = _scaler(options, state)
    save = _Saves(folder, stages, optimizer, options.ranks, phase, state if folder.is_saved else None)
    saved = clock = save(state)
    batches = _batches(data, options, state)
    objective = objective_of(network.config, recipe.test_scale)
    source = (learner, batches, data, options, objective)
    phase("the first micro-batch")
    with between_layers, closing(batches):  # whose workers end before this process
        try:
            while not (state.epoch >= recipe.epochs or state.plateau.finished or _enough_steps(state, options)):
                while state.step < steps and not _enough_steps(state, options):
                    loss_sum, correct, images = yield from _accumulate(*source, state, scaler, stop)
                    _take_step(optimizer, scaler, options, state, loss_sum, folder)
                    clock, seconds = time.monotonic(), time.monotonic() - clock
                    state = replace(state.after_step(loss_sum, correct, images, seconds), scaler=scaler.state_dict())
                    if clock - saved > SAVE_SECONDS:
                        saved = save(state)
                        phase("training")
                phase("validation")
                learner.share_statistics()
                record = _epoch_record(validate(stages, data, options, objective, stop), state, options, clock)
                _check_finite("validation loss", record.val_loss, f"after step {state.total_steps};", folder)
                improved = record.validation_error < state.plateau.best_error
                whole = state.step == steps
                state = state.after_epoch(record, recipe.patience) if whole else replace(state, partial=record)
                if improved:
                    save.best(state)
                saved = clock = save(state)
                phase("training")
                yield record
        except (Stopped, ImageError, WorkerLost, RankLost, GeneratorExit) as error:
            save(state)
            if isinstance(error, Stopped):
                error.steps = state.total_steps
            raise


@dataclass
class _Saves:
    """Saves the state of a run, each state once, in the first process."""

    folder: RunFolder
    stages: Stages
    optimizer: torch.optim.SGD
    ranks: Ranks
    phase: Callable[[str], None]
    last: RunState | None = None

    def __call__(self, state: RunState) -> float:
        """Save, unless that is done already; returns the time."""
        if state is not self.last and self.ranks.is_first:
            self.phase("saving")
            with self.ranks.busy():
                self.folder.save_last(self.stages.network, _momentum(self.stages, self.optimizer), state)
            self.last = state
        return time.monotonic()

    def best(self, state: RunState) -> None:
        """Save the weights of the best epoch."""
        if self.ranks.is_first:
            self.phase("saving the best weights")
            with self.ranks.busy():
                self.folder.save_best(self.stages.network, state)


def _passes(
    network: VGG, options: LoopOptions, stop: Callable[[], bool]
) -> tuple[Stages, AbstractContextManager[None]]:
    """What runs the network, and the context in which it can be stopped: a compiled pass has no layers between which it
    could, and several processes stop together."""
    if options.compile:
        return CompiledStages(network, options.layers, options.device), nullcontext()
    alone = options.ranks.world == 1
    return Stages(network, options.layers), stop_between_layers(network, stop) if alone else nullcontext()


@contextmanager
def stop_between_layers(network: VGG, stop: Callable[[], bool]) -> Iterator[None]:
    """Let a pass through `network`, forward or backward, raise Stopped at its next layer once `stop()` is true: on a CPU a
    micro-batch of D takes many seconds."""

    def check(*_: object) -> None:
        if stop():
            raise Stopped

    def check_both(layer: torch.nn.Module, given: object, output: Tensor) -> None:
        check()
        if output.requires_grad:
            output.register_hook(check)

    hooks = [layer.register_forward_hook(check_both) for layer in network.children()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _check_finite(name: str, loss: float, where: str, folder: RunFolder) -> None:
    if not math.isfinite(loss):
        raise DataError(
            f"the {name} is {loss} {where} {folder.path} keeps the last good checkpoint; try a lower learning rate",
            "learning_rate",
        )


def _accumulate(
    learner: Learner,
    batches: Iterator[tuple[Position, TrainingBatch | FrozenBatch]],
    data: TrainingData,
    options: LoopOptions,
    objective: Objective,
    state: RunState,
    scaler: torch.amp.GradScaler,
    stop: Callable[[], bool],
) -> Generator[StepRecord, None, tuple[float, int, int]]:
    """Accumulate the gradients of one step over its micro-batches, and in the last over all processes; returns the summed
    loss of all, correct images, and images. If it ends early, the running statistics of batch normalisation are
    restored."""
    step_size = min(options.recipe.batch_size, len(data.train))  # an image has the same weight in a short last step
    stages, ranks = learner.stages, options.ranks
    network = stages.network
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    stages.train()
    loss_sum, correct, begun = 0.0, 0, False
    masks: list[Tensor] = []
    try:
        for place, batch in batches:
            if not begun:  # workers have, and share no memory that is written from now on
                begun, adds_up = True, not place.ends_step
                clear_gradients(stages, keep_memory=options.compile or (adds_up and options.device.type == "cpu"))
                masks = dropout_masks(network, place.size, options.seed, state.total_steps, options.device)
            keep = [mask[place.start : place.stop] for mask in masks]
            with products(options.precision), learner.summing(place.ends_step):
                with computing(options.device, options.precision):
                    if isinstance(batch, FrozenBatch):
                        outputs = batch.outputs
                    else:
                        outputs = stages.frozen(augment(batch.images_NHWC, batch.flips_N, batch.shifts_NC, data.colour))
                    scores = learner.scores(outputs, keep)
                losses, right = objective.losses(scores.float(), batch)  # the host waits for the device here
                loss, all_right, stopping = ranks.summed(losses.item(), right, stop())
                if stopping:
                    raise Stopped
                scaler.scale(losses * (ranks.world / step_size)).backward()  # of which the mean over processes is taken
            loss_sum += loss
            correct += int(all_right)
            yield _step_record(state, options, len(data.train), place, loss_sum, correct)
            if place.ends_step:
                break
    except BaseException:
        network.load_state_dict(before, strict=False)
        raise
    return loss_sum, correct, place.size


def clear_gradients(stages: Stages, keep_memory: bool) -> None:
    """Forget the gradients of the step before, or make them zeros where they are. A compiled backward pass must add to
    these: what it gives itself may lie in the memory of a CUDA graph, which the next pass overwrites. On a CPU smaller
    tensors would take a part of the place that is freed, and the gradients would need another one."""
    stages.network.zero_grad(set_to_none=not keep_memory)
    for _, parameter in stages.parameters() if keep_memory else ():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


def dropout_masks(network: VGG, rows: int, seed: int, step: int, device: torch.device) -> list[Tensor]:
    """One mask [rows, C] for each layer followed by dropout, of 0 or 1/(1-p): a function of seed and step alone."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + step) % 2**63 ^ 0x5DEECE66D)
    keep = 1 - network.dropout
    sizes = network.hidden_sizes()
    return [(torch.empty(rows, size).bernoulli_(keep, generator=generator) / keep).to(device) for size in sizes]


def _enough_steps(state: RunState, options: LoopOptions) -> bool:
    return options.max_steps is not None and state.total_steps >= options.max_steps


def new_optimizer(stages: Stages, options: LoopOptions, momentum: dict[str, Tensor]) -> torch.optim.SGD:
    recipe = options.recipe
    optimizer = torch.optim.SGD(
        [parameter for _, parameter in stages.parameters()],
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        fused=options.device.type in ("cpu", "cuda"),
    )
    for name, parameter in stages.parameters():
        if options.precision == "fp16":  # a first step that the scaler leaves out would leave momentum as memory was
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        if name in momentum:  # in the parameter's memory layout, which the fused step needs
            optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(momentum[name])
    return optimizer


def _scaler(options: LoopOptions, state: RunState) -> torch.amp.GradScaler:
    """What scales the loss where gradients are float16."""
    scaler = torch.amp.GradScaler(options.device.type, enabled=options.precision == "fp16")
    if state.scaler:
        scaler.load_state_dict(state.scaler)
    return scaler


def _take_step(
    optimizer: torch.optim.SGD,
    scaler: torch.amp.GradScaler,
    options: LoopOptions,
    state: RunState,
    loss_sum: float,
    folder: RunFolder,
) -> None:
    """The step by the gradients that were accumulated. Raises DataError, before it, where their loss is not finite."""
    where = f"at step {state.total_steps + 1} (epoch {state.epoch + 1})"
    _check_finite("loss", loss_sum, f"{where}; the run stopped before that step and", folder)
    optimizer.param_groups[0]["lr"] = state.plateau.learning_rate(options.recipe.learning_rate)
    scaler.step(optimizer)
    scaler.update()


def _momentum(stages: Stages, optimizer: torch.optim.SGD) -> dict[str, Tensor]:
    buffers = ((name, optimizer.state[parameter].get("momentum_buffer")) for name, parameter in stages.parameters())
    return {name: buffer for name, buffer in buffers if buffer is not None}


def _batches(
    data: TrainingData, options: LoopOptions, state: RunState
) -> Generator[tuple[Position, TrainingBatch | FrozenBatch], None, None]:
    """All remaining micro-batches of this process, each with its place; its workers decode ahead across the ends of
    epochs."""
    recipe, start = options.recipe, (state.epoch, state.step)
    numbers = (len(data.train), recipe.batch_size, options.micro_batch, recipe.epochs)
    schedule = Schedule(*numbers, start, options.ranks.rank, options.ranks.world)
    if data.frozen is not None:
        coming = tasks(schedule, options.seed)
        for place in schedule:
            rows = [] if place.is_empty else [index for _, index in next(coming)]
            yield place, frozen_batch(data.frozen.train, data.train.labels, rows, options.device)
        return
    where = (options.workers, options.device, options.decode)
    views = training_batches(data.train, data.colour, recipe.scale, recipe.crop, options.seed, schedule, *where)
    nothing = empty_batch(recipe.crop, boxes=bool(data.train.sizes), device=options.device)
    with closing(views):
        for place in schedule:
            yield place, nothing if place.is_empty else next(views)


def _step_record(
    state: RunState, options: LoopOptions, images: int, place: Position, loss_sum: float, correct: int
) -> StepRecord:
    recipe, seen = options.recipe, state.seen + place.done
    return StepRecord(
        epoch=state.epoch + 1,
        epochs=recipe.epochs,
        step=state.step + 1,
        steps=steps_an_epoch(images, recipe.batch_size),
        done=seen,
        images=images,
        loss=(state.loss_sum + loss_sum) / seen,
        error=error_rate(state.correct + correct, seen),
        learning_rate=state.plateau.learning_rate(recipe.learning_rate),
    )


def _epoch_record(validation: Validation, state: RunState, options: LoopOptions, clock: float) -> EpochRecord:
    return EpochRecord(
        epoch=state.epoch + 1,
        step=state.total_steps,
        loss=state.loss_sum / max(1, state.seen),
        **vars(validation),
        learning_rate=state.plateau.learning_rate(options.recipe.learning_rate),
        images_per_second=state.seen / max(state.seconds, 1e-9),
        seconds=state.seconds + time.monotonic() - clock,
        training_error=error_rate(state.correct, state.seen) if state.seen else None,
    )
