"""What `--resume` does: a run goes on as it was saved last; one that never came to save begins again in its own folder."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from vggcli.cli import options
from vggcli.cli.training import RunControl, Session, prepare, show_result, with_frozen_outputs
from vggcli.cli.training_data import TrainingSets, training_sets
from vggcli.colour import ColourStatistics
from vggcli.data.training_batches import steps_an_epoch
from vggcli.errors import DataError, UsageError, WeightsError, counted
from vggcli.files import machine_error, write_text
from vggcli.report.plots import save_curves
from vggcli.training.options import TrainingData
from vggcli.training.plan import Plan
from vggcli.training.recipe import Recipe
from vggcli.training.run import CONFIG, LOG, Resumable, RunFolder, hold_run, let_go_of_run, load_run
from vggcli.training.state import RunState
from vggcli.weights.checkpoint import BEST, LAST, Checkpoint, read_checkpoint
from vggcli.weights.find import newest_run
from vggcli.zoo.layers import arch_of

MAY_CHANGE = ("epochs", "max_steps", "data", "arch")  # by flags beside --resume


def resumed(run: str, recipe_flags: dict[str, Any], run_flags: dict[str, Any], control: RunControl) -> Session | None:
    """The newest run, or the one named; --epochs and --max-steps may make it longer. None where it was finished but for
    its log and curves, which it now has.

    Raises UsageError for other flags, for a config.json that is not the checkpoint's, and for a run that is finished;
    WeightsError where there is no run, or it is damaged; DataError where its images are others; MachineError where another
    process is at it.
    """
    given = {name: value for name, value in {**recipe_flags, **run_flags}.items() if value is not None}
    refused = next((name for name in given if name not in MAY_CHANGE), None)
    if refused:
        flag = {"learning_rate": "lr"}.get(refused, refused).replace("_", "-")
        raise UsageError(
            f"--{flag} has no effect with --resume, which goes on with a run as it was; start a new run with it"
        )
    path = _resumable_folder(run, run_flags["arch"])
    try:
        held = hold_run(path)
    except OSError as error:
        raise machine_error(path, error) from error
    try:
        session = _gone_on(path, given, control)
    except BaseException:
        let_go_of_run(path, held)
        raise
    if session is None:
        let_go_of_run(path, held)
        return None
    return replace(session, held=held)


def _gone_on(path: Path, given: dict[str, Any], control: RunControl) -> Session | None:
    written = Plan.from_file(path / CONFIG)
    plan = _longer(written, given)
    if not (path / LAST).is_file():
        _check_never_saved(path)
        options.note(f"{path} was stopped before it saved anything; it begins again")
        return _begun_again(path, plan, control)
    loaded = load_run(path, control.device)
    _check_same(path, plan, loaded.checkpoint)
    if loaded.state.records:
        _check_best(path, loaded.checkpoint)
    if control.micro_batch is not None:
        plan = replace(plan, micro_batch=control.micro_batch)
    _say_micro_batch(path, plan, loaded.checkpoint)
    training = {**loaded.checkpoint.training, "recipe": plan.recipe.to_json(), "micro_batch": plan.micro_batch}
    folder = RunFolder(path, replace(loaded.checkpoint, training=training))
    behind = _caught_up(folder, loaded.state)
    finished = _finished(path, plan, loaded.state)
    if finished is not None:
        if behind:
            show_result(path, plan, 0.0, control)
            return None
        raise UsageError(finished)
    sets = training_sets(plan, control.workers, control.quiet, path)
    plan = replace(plan, data=sets.name)
    _check_images(path, sets, plan, loaded)
    if plan != written:
        write_text(path / CONFIG, plan.to_text())
    loaded.network.dropout = plan.recipe.dropout
    classes, colour = loaded.checkpoint.classes, ColourStatistics.from_json(loaded.checkpoint.preprocessing)
    data = TrainingData(sets.train.with_classes(classes), sets.val.with_classes(classes), colour)
    data = with_frozen_outputs(plan, loaded.network, data, control)
    return Session(plan, folder, loaded.network, data, loaded.state, loaded.momentum, None)


def _check_never_saved(path: Path) -> None:
    """Raises WeightsError for a run that has saved, and has lost what it was saved to."""
    saved = [path / LAST, path / BEST, *path.glob("resume-[1-9]*.safetensors")]
    if any(one.exists() or one.is_symlink() for one in saved):
        raise WeightsError(f"{path} cannot be resumed: it has saved before, and its {LAST} is not there; put it back")


def _begun_again(path: Path, plan: Plan, control: RunControl) -> Session:
    if plan.weights is None:
        return prepare(plan, path, control, again=True)
    from vggcli.cli.finetuning import Choice, prepare_finetuning

    choice = Choice(None, None, None, path / CONFIG, {}, {})
    return prepare_finetuning(choice, path, control, plan)


def _longer(plan: Plan, given: dict[str, Any]) -> Plan:
    """The plan with the flags beside --resume. More epochs end what --max-steps had limited."""
    if "epochs" in given:
        plan = replace(plan, recipe=replace(plan.recipe, epochs=given["epochs"]), max_steps=None)
    return replace(plan, **{name: given[name] for name in ("max_steps", "data") if name in given})


def _resumable_folder(run: str, arch: str | None) -> Path:
    if run and arch is not None:
        raise UsageError(f"--arch has no effect beside --resume {run}, which says its network; leave one out")
    path = (
        Path(run).expanduser()
        if run
        else newest_run(options.places().runs, arch_of(arch) if arch else None, begun=CONFIG)
    )
    if path is None:
        raise WeightsError(
            f"there is no run to resume under {options.places().runs.resolve()}; name its folder with --resume RUN"
        )
    if not path.is_dir():
        raise WeightsError(f"there is no folder {path} to resume")
    if not (path / LAST).is_file() and not (path / CONFIG).is_file():
        raise WeightsError(
            f"{path} cannot be resumed: it holds no {LAST} and no {CONFIG}; begin a run there with --out {shlex.quote(run)}"
        )
    return path.resolve()


def _check_same(path: Path, plan: Plan, checkpoint: Checkpoint) -> None:
    """Raises UsageError where config.json says of what decides the result something else than the checkpoint."""
    now, then = plan.decisions(), dict(checkpoint.training)
    try:
        recipes = [Recipe.from_json(one["recipe"]).to_json() for one in (now, then)]
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path / LAST} does not say its recipe: {error}") from error
    pairs = {name: (recipes[0][name], recipes[1][name]) for name in recipes[0] if name != "epochs"}
    pairs["arch"] = (plan.arch, checkpoint.config.arch)
    older = "precision" not in then  # and says less
    more = (
        () if older else ("precision", "cache_features", "init_from", "init_from_sha256", "skip_bad", "preprocessing")
    )
    pairs |= {name: (now.get(name), then.get(name)) for name in ("seed", "finetuned", *more)}
    pairs["layers"] = (plan.layers, then.get("layers", plan.layers))
    for name, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise UsageError(
                f"{path / CONFIG} says {name} {_shown(ours)} and {path / LAST} {_shown(theirs)}; put the run's own back, "
                f"or begin a new run with --config"
            )


def _check_best(path: Path, checkpoint: Checkpoint) -> None:
    """Says that the best weights are not there. Raises WeightsError where they are damaged, or another run's."""
    if not (path / BEST).exists() and not (path / BEST).is_symlink():
        options.note(f"{path} has lost its {BEST}; an epoch that is better than all before makes a new one")
        return
    best = read_checkpoint(path / BEST).training
    if any(best.get(name) != checkpoint.training.get(name) for name in ("seed", "data_sha256", "finetuned")):
        raise WeightsError(f"{path / BEST} is another run's; put the run's own back, or remove it")


def _say_micro_batch(path: Path, plan: Plan, checkpoint: Checkpoint) -> None:
    before = checkpoint.training.get("micro_batch")
    if before not in (None, plan.micro_batch):
        options.note(
            f"the micro-batch of {path} was {before} and is {plan.micro_batch}, which changes the last bit of a sum"
        )


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _check_images(path: Path, sets: TrainingSets, plan: Plan, loaded: Resumable) -> None:
    training = loaded.checkpoint.training
    for kind, images, known in (
        ("training", sets.train, training.get("data_sha256")),
        ("validation", sets.val, training.get("val_sha256", sets.val.fingerprint())),  # which older runs do not say
    ):
        if known not in (images.fingerprint(), images.fingerprint(sizes=False)):  # which older runs say
            raise DataError(
                f"the {kind} images of {sets.name} are not those that {path} was begun with (by name, class and size); "
                f"name the same with --data"
            )
    steps = steps_an_epoch(len(sets.train), plan.recipe.batch_size)
    if loaded.state.step > steps:
        raise WeightsError(
            f"{path / LAST} is at step {loaded.state.step} of an epoch, which has {steps}; it is damaged"
        )


def _caught_up(folder: RunFolder, state: RunState) -> bool:
    """Bring log and curves up to what was saved; tells whether a kill had left them behind."""
    behind, curves = folder.write_log(state), folder.path / "curves.png"
    if not state.records or (not behind and curves.is_file()):
        return behind
    save_curves(folder.path / LOG, curves)
    return True


def _finished(path: Path, plan: Plan, state: RunState) -> str | None:
    """Why there is nothing left to do, or None."""
    longer = f"train longer with --resume {shlex.quote(str(path))}"
    if state.plateau.finished:
        return f"{path} is finished: its error stalled after the last drop of the learning rate"
    if state.epoch >= plan.recipe.epochs:
        return f"{path} has trained {counted(state.epoch, 'epoch')} already; {longer} --epochs N, above that"
    if plan.max_steps is not None and state.total_steps >= plan.max_steps:
        return f"{path} has finished its {counted(plan.max_steps, 'step')}; {longer} --max-steps N"
    return None
