"""A run is resumed from its last save; one that was stopped before its first save begins again in its own folder."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from vggcli.data.decode_on_device import need_decoder
from vggcli.data.image_set import with_names
from vggcli.data.own_files import CONFIG
from vggcli.data.training_batches import steps_an_epoch
from vggcli.device import pick_device
from vggcli.errors import DataError, UsageError, WeightsError, command_or_python, counted
from vggcli.files import machine_error, write_text
from vggcli.progress import LOG
from vggcli.training.data import TrainingSets, training_sets
from vggcli.training.finetune import prepare_finetuning
from vggcli.training.options import FinetuneOptions, TrainingData, TrainOptions
from vggcli.training.plan import Plan
from vggcli.training.recipe import Recipe
from vggcli.training.run import CURVES, LOG_FILE, Resumable, RunFolder, hold_run, let_go_of_run, load_run
from vggcli.training.scratch import prepare
from vggcli.training.session import Session, TrainingResult
from vggcli.training.state import RunState
from vggcli.training.surroundings import Surroundings
from vggcli.weights.checkpoint import BEST, LAST, Checkpoint, read_checkpoint
from vggcli.weights.find import newest_run
from vggcli.zoo.inductor import need_compiler
from vggcli.zoo.layers import arch_of

MAY_BE_GIVEN = ("epochs", "max_steps", "data", "arch", "compile")  # beside the run; arch: whose newest run is resumed


def resumed(options: TrainOptions | FinetuneOptions, around: Surroundings) -> Session | TrainingResult:
    """The newest run, or the one named, ready to train; more epochs or steps make it longer. Where training had finished
    and only its log and curves were not yet written, they are written now and its result is returned.

    Raises UsageError for other options and for a run that is finished; WeightsError where there is no run, or it is
    damaged (also where its config.json is not the checkpoint's); DataError where its images are others; MachineError where
    another process is training it.
    """
    refused = [name for name, _ in options.given() if name not in MAY_BE_GIVEN]
    if refused:
        raise UsageError(
            "a resumed run keeps its own settings, so this has no effect; begin a new run with it",
            *refused,
        )
    path = _resumable_folder(str(options.resume or ""), options.arch, around.places.runs)
    try:
        held = hold_run(path)
    except OSError as error:
        raise machine_error(path, error) from error
    try:
        found = _gone_on(path, options, around)
    except BaseException:
        let_go_of_run(path, held)
        raise
    if isinstance(found, TrainingResult):
        let_go_of_run(path, held)
        return found
    return replace(found, held=held)


def _gone_on(path: Path, options: TrainOptions | FinetuneOptions, around: Surroundings) -> Session | TrainingResult:
    written = Plan.of_run(path)
    plan = _longer(written, options)
    if plan.compile:
        need_compiler(pick_device(options.device))
    if plan.compile != written.compile:
        LOG.info(
            f"{path} goes on with{'' if plan.compile else 'out'} torch.compile, which changes the last bit of a sum"
        )
    if not (path / LAST).is_file():
        return _begun_again(path, plan, options, around)
    loaded = load_run(path, pick_device(options.device))
    _check_same(path, plan, loaded.checkpoint)
    need_decoder(plan.decode, pick_device(options.device))
    if loaded.state.records:
        _check_best(path, loaded.checkpoint)
    plan = replace(plan, micro_batch=options.micro_batch or plan.micro_batch)
    before = loaded.checkpoint.training.get("micro_batch")
    if before not in (None, plan.micro_batch):
        LOG.info(
            f"the micro-batch of {path} was {before} and is {plan.micro_batch}, which changes the last bit of a sum"
        )
    training = {**loaded.checkpoint.training, "recipe": plan.recipe.to_json(), "micro_batch": plan.micro_batch}
    training = {**training, "compile": True} if plan.compile else {k: v for k, v in training.items() if k != "compile"}
    folder = RunFolder(path, replace(loaded.checkpoint, training=training))
    behind = _caught_up(folder, loaded.state, around)
    finished = _finished(path, plan, loaded.state)
    if finished is not None:
        if behind:
            count = loaded.network.config.classes
            return TrainingResult(path, plan.arch, str(plan.data), count, loaded.state.records, 0.0)
        raise finished
    sets, classes = training_sets(plan, options.workers, around, path), loaded.checkpoint.classes
    sets = replace(sets, train=with_names(sets.train, classes), val=with_names(sets.val, classes))
    plan = replace(plan, data=sets.name)
    _check_images(path, sets, plan, loaded)
    if plan != written:
        write_text(path / CONFIG, plan.to_text())
    loaded.network.dropout = plan.recipe.dropout
    train, val = (images.with_classes(classes) for images in (sets.train, sets.val))
    data = TrainingData(train, val, loaded.checkpoint.preprocessing)
    return Session(plan, folder, loaded.network, data, loaded.state, loaded.momentum, None)


def _begun_again(path: Path, plan: Plan, options: TrainOptions | FinetuneOptions, around: Surroundings) -> Session:
    """A run that was stopped before its first save. Raises WeightsError for one that has saved and lost that file."""
    saved = [path / LAST, path / BEST, *path.glob("resume-[1-9]*.safetensors")]
    if any(one.exists() or one.is_symlink() for one in saved):
        raise WeightsError(f"{path} cannot be resumed: its {LAST}, which it has saved, is missing; put it back")
    LOG.info(f"{path} was stopped before it saved anything; it begins again")
    if plan.weights is None:
        return prepare(plan, replace(options, out=path), around, again=True)
    how = {name: getattr(options, name) for name in ("device", "workers", "micro_batch")}
    return prepare_finetuning(FinetuneOptions(config=path / CONFIG, out=path, **how), around, plan)


def _longer(plan: Plan, options: TrainOptions | FinetuneOptions) -> Plan:
    """The plan with the epochs, steps and data that were given. More epochs remove a limit on the steps."""
    if options.compile is not None:
        plan = replace(plan, compile=options.compile)
    if options.epochs is not None:
        plan = replace(plan, recipe=replace(plan.recipe, epochs=options.epochs), max_steps=None)
    if options.max_steps is not None:
        plan = replace(plan, max_steps=options.max_steps)
    return plan if options.data is None else replace(plan, data=str(options.data))


def _resumable_folder(run: str, arch: str | None, runs: Path) -> Path:
    if run and arch is not None:
        raise UsageError(f"the network of {run} is known; leave out its name", "arch", "resume")
    path = Path(run).expanduser() if run else newest_run(runs, arch_of(arch) if arch else None, begun=CONFIG)
    if path is None:
        raise WeightsError(f"there is no run to resume under {runs.resolve()}; name its folder", "resume")
    if not path.is_dir():
        raise WeightsError(f"there is no folder {path} to resume")
    if not (path / LAST).is_file() and not (path / CONFIG).is_file():
        begin = f"begin a run there with `vgg train --out {shlex.quote(run)}`"
        what = "it is not a run folder" if any(path.iterdir()) else begin
        raise WeightsError(f"{path} cannot be resumed: it has neither {LAST} nor {CONFIG}; {what}")
    return path.resolve()


def _check_same(path: Path, plan: Plan, checkpoint: Checkpoint) -> None:
    """Raises WeightsError where config.json and the checkpoint differ in a setting that decides the result."""
    now, then = plan.decisions(), dict(checkpoint.training)
    try:
        recipes = [Recipe.from_json(one["recipe"]).to_json() for one in (now, then)]
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path / LAST} has no readable recipe: {error}") from error
    pairs = {name: (recipes[0][name], recipes[1][name]) for name in recipes[0] if name != "epochs"}
    pairs["arch"] = (plan.arch, checkpoint.config.arch)
    names = ["seed", "finetuned"]
    if "precision" in then:  # older versions stored less
        names += ["precision", "cache_features", "init_from", "init_from_sha256", "skip_bad", "preprocessing", "boxes"]
    pairs |= {name: (now.get(name), then.get(name)) for name in names}
    pairs["decode"] = (plan.decode, then.get("decode", "cpu"))
    pairs["layers"] = (plan.layers, then.get("layers", plan.layers))
    for name, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise WeightsError(
                f"{path / CONFIG} says {name} {_shown(ours)} and {path / LAST} {_shown(theirs)}; put the run's own "
                f"{CONFIG} back, or copy this one and begin a new run with the copy"
            )


def _check_best(path: Path, checkpoint: Checkpoint) -> None:
    """Notes where the best weights are missing. Raises WeightsError where they are damaged, or another run's."""
    if not (path / BEST).exists() and not (path / BEST).is_symlink():
        LOG.info(f"the {BEST} of {path} is missing; the next epoch that is better than all before writes a new one")
        return
    best = read_checkpoint(path / BEST).training
    if any(best.get(name) != checkpoint.training.get(name) for name in ("seed", "data_sha256", "finetuned")):
        raise WeightsError(f"{path / BEST} belongs to another run; put the run's own back, or remove it")


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _check_images(path: Path, sets: TrainingSets, plan: Plan, loaded: Resumable) -> None:
    training = loaded.checkpoint.training
    for kind, images, known in (
        ("training", sets.train, training.get("data_sha256")),
        ("validation", sets.val, training.get("val_sha256", sets.val.fingerprint())),  # older runs have none
    ):
        if known not in (images.fingerprint(), images.fingerprint(sizes=False)):  # older runs have one without sizes
            raise DataError(
                f"the {kind} images of {sets.name} are not those that {path} began with (by name, class and size); give "
                f"the same data",
                "data",
            )
    steps = steps_an_epoch(len(sets.train), plan.recipe.batch_size)
    if loaded.state.step > steps:
        raise WeightsError(f"{path / LAST} is damaged: it is at step {loaded.state.step} of an epoch of {steps}")


def _caught_up(folder: RunFolder, state: RunState, around: Surroundings) -> bool:
    """Bring log and curves up to date with what was saved; returns whether they were out of date."""
    behind, curves = folder.write_log(state), folder.path / CURVES
    if behind:
        LOG.info(f"{folder.path / LOG_FILE} was missing, cut short or changed; it is written again from {LAST}")
    if not state.records or around.pictures is None or (not behind and curves.is_file()):
        return behind
    around.pictures.curves(folder.path / LOG_FILE, curves, folder.pictured)
    return True


def _finished(path: Path, plan: Plan, state: RunState) -> UsageError | None:
    """The error where training has finished already, else None."""
    python = f"vggcli.{plan.command}(resume={str(path)!r})"
    longer = command_or_python(f"vgg {plan.command} --resume {shlex.quote(str(path))}", python)
    longer = f"train longer with {longer} and a larger number"
    if state.plateau.finished:
        return UsageError(f"{path} is finished: its error stalled after the last drop of the learning rate")
    if state.epoch >= plan.recipe.epochs:
        return UsageError(f"{path} has trained {counted(state.epoch, 'epoch')} already; {longer}", "epochs")
    if plan.max_steps is not None and state.total_steps >= plan.max_steps:
        return UsageError(f"{path} has finished its {counted(plan.max_steps, 'step')}; {longer}", "max_steps")
    return None
