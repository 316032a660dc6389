"""What `vgg finetune` does before its run begins: weights become the start of a network, and their scale and recipe the
defaults of the new plan."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vggcli import paper
from vggcli.cli import options
from vggcli.cli.training import RunControl, Session, begun, say_data
from vggcli.cli.training_data import training_sets
from vggcli.colour import ColourStatistics
from vggcli.data.image_set import match_classes
from vggcli.data.outputs import check_run_outside
from vggcli.data.sources import ImageSet
from vggcli.data.training_batches import colour_statistics
from vggcli.errors import UsageError, WeightsError
from vggcli.files import file_sha256
from vggcli.training.frozen import Stages
from vggcli.training.memory import check_memory
from vggcli.training.options import TrainingData
from vggcli.training.plan import Plan
from vggcli.training.recipe import RECIPES, Recipe
from vggcli.training.run import check_run_place
from vggcli.weights.assumed import assumed_classes, say_what_is_assumed
from vggcli.weights.checkpoint import Checkpoint, load_checkpoint
from vggcli.weights.find import fetched, find_weights, is_published_name
from vggcli.weights.preprocessing import Pixels
from vggcli.zoo.initialise import inherit, initialise
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG


@dataclass(frozen=True)
class Choice:
    """What was asked for: the flags by the names of the recipe's and the plan's fields, None where not given."""

    weights: Path | None
    pixels: Pixels | None
    recipe: str | None
    config: Path | None
    recipe_flags: dict[str, Any]
    run_flags: dict[str, Any]


@dataclass(frozen=True)
class _Start:
    """The weights that a run starts from."""

    path: Path
    network: VGG
    checkpoint: Checkpoint
    pixels: Pixels | None


def prepare_finetuning(choice: Choice, out: Path | None, control: RunControl, again: Plan | None = None) -> Session:
    """Read weights and data, build the network from them, and make the run folder last, when nothing can be wrong any
    more; or begin the plan `again` in the folder `out`, whose lock is held."""
    if again is None:
        check_run_place(out, options.places().runs)
    replayed = again or _replayed(choice)
    start = _start(choice, replayed, control)
    plan = replayed or Plan()
    plan = replace(plan, **{name: value for name in ("data", "skip_bad") if (value := choice.run_flags.get(name))})
    sets = training_sets(plan, control.workers, control.quiet, out if again else None)
    train_set, val_set = sets.train, sets.val
    check_run_outside(out, options.places().runs, train_set, val_set)
    say_data(train_set, val_set, control.quiet)
    classes = _kept_classes(start, train_set)
    if replayed is None:
        plan = Plan(arch=start.checkpoint.config.arch, recipe=_recipe(choice, start, classes is not None))
    plan = plan.with_flags(choice.recipe_flags, {**choice.run_flags, "data": sets.name})
    plan = replace(plan, weights=str(start.path.resolve()), weights_sha256=file_sha256(start.path))
    plan = replace(plan, preprocessing=start.pixels.to_json() if start.pixels else None)
    plan = _checked(plan, choice)
    initial = next(
        (f"--{name.replace('_', '-')}" for name in ("init", "init_std") if choice.recipe_flags.get(name)), None
    )
    network = _network(plan, start, train_set, classes, initial, control)
    if classes is not None:
        train_set, val_set = (match_classes(images, classes) for images in (train_set, val_set))
    colour = _colour(start.checkpoint, train_set, control)
    del start
    return begun(plan, network, TrainingData(train_set, val_set, colour), out, control, sets.skipped, again is not None)


def _replayed(choice: Choice) -> Plan | None:
    if choice.config is None:
        return None
    if choice.recipe is not None:
        raise UsageError("--recipe and --config contradict each other; give one")
    plan = Plan.from_file(choice.config)
    if plan.weights is None:
        raise UsageError(
            f"{choice.config} is of a run from scratch; replay it with "
            f"`vgg train --config {shlex.quote(str(choice.config))}`"
        )
    return plan


def _start(choice: Choice, replayed: Plan | None, control: RunControl) -> _Start:
    """Raises WeightsError where the weights are not those that a replayed run began with."""
    weights, arch = choice.weights, choice.run_flags.get("arch")
    if replayed is not None and weights is None:
        path = Path(replayed.weights or "")
        if not path.is_file() or file_sha256(path) != replayed.weights_sha256:
            raise WeightsError(f"{path} is not what {choice.config} began with; name the weights with --weights")
    elif weights is not None and not is_published_name(weights):
        path = find_weights(weights, None, options.places())
    else:
        path = find_weights(weights, arch, options.places())
    path = fetched(path, options.places(), options.progress(control.quiet))
    pixels = choice.pixels or (
        Pixels.from_json(replayed.preprocessing) if replayed and replayed.preprocessing else None
    )
    network, checkpoint = load_checkpoint(path, pixels=pixels)
    say_what_is_assumed(path, checkpoint, options.places())
    return _Start(path, network, checkpoint, pixels)


def _kept_classes(start: _Start, train_set: ImageSet) -> tuple[str, ...] | None:
    """The weights' classes, where the data have just those (or, of weights that do not name them, as many): then the last
    layer is kept."""
    checkpoint = start.checkpoint
    if checkpoint.config.head == "none":
        return None
    if not checkpoint.classes:
        if len(train_set.classes) != checkpoint.config.classes:
            return None
        return assumed_classes(start.path, checkpoint, train_set.classes)
    try:
        matched = match_classes(train_set, checkpoint.classes)
    except WeightsError:
        return None
    return checkpoint.classes if len(matched.classes_used()) == len(checkpoint.classes) else None


def _recipe(choice: Choice, start: _Start, same_classes: bool) -> Recipe:
    """The numbers of the recipe named, else of the one that the weights were trained by, else the paper's, with a tenth of
    the learning rate (once), for the network and, as the paper has it, the next scale of the weights."""
    checkpoint = start.checkpoint
    own = checkpoint.training.get("recipe")
    if choice.recipe is None and own is not None:
        try:
            base = Recipe.from_json(own)
        except ValueError as error:
            raise WeightsError(f"the recipe in {start.path} cannot be used: {error}; name one with --recipe") from error
        base = base if "finetuned" in checkpoint.training else _slower(base)
    else:
        base = _slower(RECIPES[choice.recipe or "paper"])
    config = checkpoint.config
    head = "fc" if config.head == "none" else config.head
    scale = checkpoint.scale
    if own is not None and same_classes and config.crop == paper.CROP:
        scale = paper.NEXT_SCALE.get(scale, scale)
    return replace(base, scale=scale, crop=config.crop, width=config.width, head=head)


def _slower(recipe: Recipe) -> Recipe:
    return replace(recipe, learning_rate=recipe.learning_rate * paper.FINETUNING_RATE)


def _checked(plan: Plan, choice: Choice) -> Plan:
    """Raises UsageError for --cache-features where images could not stay as they are."""
    if not plan.cache_features:
        return plan
    if plan.layers == "all":
        raise UsageError(
            "--cache-features has no effect where all layers learn; give --layers fc or last, or --no-cache-features"
        )
    if choice.recipe_flags.get("scale") is not None and plan.recipe.scale[0] < plan.recipe.scale[1]:
        raise UsageError("--cache-features computes each image once, at one scale; give --scale S, not --scale-jitter")
    middle = plan.recipe.test_scale
    return replace(plan, recipe=replace(plan.recipe, scale=(middle, middle)))


def _network(
    plan: Plan,
    start: _Start,
    train_set: ImageSet,
    classes: tuple[str, ...] | None,
    initial: str | None,
    control: RunControl,
) -> VGG:
    """The network of the plan with what `start` gives it; says which layers are new.

    Raises UsageError where a new layer would not learn, or there is none for `initial` (the flag of initialisation that
    was given), WeightsError where the weights do not fit.
    """
    recipe, count = plan.recipe, len(classes or train_set.classes)
    config = NetworkConfig(plan.arch, count, recipe.crop, recipe.width, recipe.head)
    check_memory(config, 1 if plan.layers == "all" else 0, control.device)
    network = VGG(config, recipe.dropout)
    initialise(network, recipe.init, plan.seed, recipe.init_std)
    new = inherit(network, start.network, same_classes=classes is not None)
    if initial and not new:
        raise UsageError(f"{initial} has no effect: {start.path} gives every layer")
    stages = Stages(network, plan.layers)
    untrained = [name for name in new if not stages.learns(name)]
    if untrained:
        raise UsageError(f"--layers {plan.layers} would leave {untrained[0]} random, which {start.path} does not give")
    before, had = start.checkpoint.config.classes, start.checkpoint.config.head != "none"
    replaced = f"; fc8 is new: {count} classes of the data in place of {before}" if "fc8" in new and had else ""
    others = [name for name in new if name != "fc8" or not had]
    also = f"; new{' too' if had else ''}: {', '.join(others)}" if others else ""
    options.note(f"starting from {start.path}{replaced}{also}")
    return network


def _colour(checkpoint: Checkpoint, train_set: ImageSet, control: RunControl) -> ColourStatistics:
    """The weights' own mean and divisor; the colour shift's statistics too where they have them, else the data's."""
    colour = ColourStatistics.from_json(checkpoint.preprocessing)
    if colour.eigenvalues:
        return colour
    measured = colour_statistics(train_set, checkpoint.scale[0], control.workers)
    return replace(measured, mean=colour.mean, divisor=colour.divisor)
