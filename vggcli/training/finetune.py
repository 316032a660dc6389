"""A run from trained weights: its network starts from them, and their scale and recipe are the defaults of its plan."""

from dataclasses import dataclass, replace
from pathlib import Path

from vggcli import paper
from vggcli.data.image_set import match_classes
from vggcli.data.sources import ImageSet
from vggcli.data.training_batches import colour_statistics
from vggcli.errors import UsageError, WeightsError, counted
from vggcli.files import file_sha256
from vggcli.progress import LOG
from vggcli.training.data import surveyed_sets
from vggcli.training.frozen import Stages
from vggcli.training.objective import mean_box
from vggcli.training.options import FinetuneOptions, TrainingData
from vggcli.training.plan import Plan
from vggcli.training.recipe import RECIPES, Recipe
from vggcli.training.run import check_run_place
from vggcli.training.session import Session, begun, new_network
from vggcli.training.surroundings import Surroundings
from vggcli.weights.assumed import assumed_classes, say_what_is_assumed
from vggcli.weights.checkpoint import Checkpoint, load_checkpoint
from vggcli.weights.find import data_of, fetched, find_weights, is_published_name
from vggcli.weights.preprocessing import ExpectedPixels, read_pixels
from vggcli.zoo.initialise import inherit, initialise_boxes
from vggcli.zoo.network import VGG


@dataclass(frozen=True)
class _Start:
    """The weights that a run starts from."""

    path: Path
    network: VGG
    checkpoint: Checkpoint
    pixels: ExpectedPixels | None


def prepare_finetuning(options: FinetuneOptions, around: Surroundings, again: Plan | None = None) -> Session:
    """Read weights and data, build the network, and make the run folder last, after all checks; or begin the plan `again`
    in the folder of `options`, whose lock is held."""
    pixels = read_pixels(options.preprocessing) if isinstance(options.preprocessing, str) else options.preprocessing
    if again is None:
        check_run_place(options.folder, around.places.runs)
    replayed = again or Plan.replayed(options.config, "finetune")
    start = _start(options, pixels, replayed, around)
    plan = replayed or Plan()
    plan = replace(plan, skip_bad=options.skip_bad or plan.skip_bad, boxes=options.boxes or plan.boxes)
    named = options.data or plan.data or data_of([start.path], around.places)
    plan = plan if named is None else replace(plan, data=str(named))
    sets = surveyed_sets(plan, options, around, again is not None)
    train_set, val_set = sets.train, sets.val
    if plan.boxes is not None:
        _check_boxes(options, start)
    classes = _kept_classes(start, train_set, subset=plan.boxes is not None)
    if replayed is None:
        recipe = _recipe(options, start, classes is not None)
        recipe = recipe if plan.boxes is None else _box_recipe(recipe, start)
        plan = Plan(arch=start.checkpoint.config.arch, recipe=recipe)
    plan = replace(
        plan.with_options(options),
        data=sets.name,
        weights=str(start.path.resolve()),
        weights_sha256=file_sha256(start.path),
        preprocessing=start.pixels.to_json() if start.pixels else None,
    )
    plan = _at_one_scale(plan, options) if plan.cache_features else plan
    network = _network(plan, start, options, classes, len(train_set.classes))
    if classes is not None:
        train_set, val_set = (match_classes(images, classes) for images in (train_set, val_set))
    if plan.boxes is not None:
        initialise_boxes(network, mean_box(train_set, plan.recipe.test_scale, plan.recipe.crop), plan.seed)
    colour = start.checkpoint.preprocessing
    if not colour.eigenvalues:  # of the colour shift: then measured on the data
        measured = colour_statistics(train_set, start.checkpoint.scale[0], options.workers, around.progress)
        colour = replace(measured, mean=colour.mean, divisor=colour.divisor)
    data = TrainingData(train_set, val_set, colour)
    del start  # frees the memory of its weights
    return begun(plan, network, data, options, around, sets.skipped, again is not None)


def _start(
    options: FinetuneOptions, pixels: ExpectedPixels | None, replayed: Plan | None, around: Surroundings
) -> _Start:
    """Read the weights. Raises WeightsError where they are not those that a replayed run started from."""
    weights = None if options.weights is None else Path(options.weights)
    if replayed is not None and weights is None:
        path = Path(replayed.weights or "")
        if not path.is_file():
            raise WeightsError(f"{path}, the weights of {options.config}, is missing; name the weights", "weights")
        if file_sha256(path) != replayed.weights_sha256:
            raise WeightsError(f"{path} has changed since {options.config} was written; name the weights", "weights")
    else:
        named = weights is not None and not is_published_name(weights)
        path = find_weights(weights, None if named else options.arch, around.places)
    path = fetched(path, around.places, around.progress)
    if pixels is None and replayed is not None and replayed.preprocessing:
        pixels = ExpectedPixels.from_json(replayed.preprocessing)
    network, checkpoint = load_checkpoint(path, pixels=pixels)
    say_what_is_assumed(path, checkpoint, around.places)
    return _Start(path, network, checkpoint, pixels)


def _check_boxes(options: FinetuneOptions, start: _Start) -> None:
    """Raises UsageError or WeightsError for what boxes cannot be learnt with."""
    if start.checkpoint.config.boxes is not None:
        raise WeightsError(
            f"{start.path} gives boxes already; give the network of classes that they begin from", "weights"
        )
    if start.checkpoint.config.head != "fc":
        raise WeightsError(
            f"{start.path} has no FC layers, by which boxes are learnt; give one that has them", "weights"
        )
    if options.layers == "last":
        raise UsageError("boxes are learnt by all layers or by the FC layers, not by the last alone", "layers", "boxes")
    if options.cache_features:
        raise UsageError(
            "outputs of frozen layers cannot be cached where boxes are learnt, because each crop has a box of its own",
            *("cache_features", "boxes"),
        )


def _kept_classes(start: _Start, train_set: ImageSet, subset: bool) -> tuple[str, ...] | None:
    """The weights' classes, where the data have just those, with `subset` some of those (or, of weights that do not name
    them, as many): then the last layer, or what its outputs stand for, is kept."""
    checkpoint = start.checkpoint
    if checkpoint.config.head == "none" or checkpoint.config.boxes is not None:
        return None
    if not checkpoint.classes:
        if len(train_set.classes) != checkpoint.config.classes:
            return None
        return assumed_classes(start.path, checkpoint, train_set.classes)
    try:
        matched = match_classes(train_set, checkpoint.classes)
    except WeightsError:
        return None
    return checkpoint.classes if subset or len(matched.classes_used()) == len(checkpoint.classes) else None


def _recipe(options: FinetuneOptions, start: _Start, same_classes: bool) -> Recipe:
    """The numbers of the recipe named, else of the one that the weights were trained by, else the paper's, with a tenth of
    the learning rate (once), for the network and, as the paper has it, the next scale of the weights."""
    checkpoint = start.checkpoint
    own = checkpoint.training.get("recipe")
    base, slower = RECIPES[options.recipe or "paper"], True
    if options.recipe is None and own is not None:
        try:
            base, slower = Recipe.from_json(own), "finetuned" not in checkpoint.training
        except ValueError as error:
            raise WeightsError(
                f"the recipe in {start.path} cannot be used: {error}; name a recipe", "recipe"
            ) from error
    rate = base.learning_rate * (paper.FINETUNING_RATE if slower else 1)
    config = checkpoint.config
    head = "fc" if config.head == "none" else config.head
    scale = checkpoint.scale
    if own is not None and same_classes and config.crop == paper.CROP:
        scale = paper.NEXT_SCALE.get(scale, scale)
    return replace(base, learning_rate=rate, scale=scale, crop=config.crop, width=config.width, head=head)


def _box_recipe(recipe: Recipe, start: _Start) -> Recipe:
    """The recipe with the learning rate and the scale of Appendix A: the S of the weights, or the middle of its range."""
    middle = sum(start.checkpoint.scale) // 2
    return replace(recipe, learning_rate=paper.BOX_LEARNING_RATE, scale=(middle, middle))


def _at_one_scale(plan: Plan, options: FinetuneOptions) -> Plan:
    """The plan with one training scale, the middle of its range, for outputs of frozen layers that are computed once an
    image. Raises UsageError where all layers learn, or a range of scales was given."""
    if plan.layers == "all":
        raise UsageError(
            "outputs of frozen layers cannot be cached where all layers learn; let only fc or last learn, or cache none",
            *("layers", "cache_features"),
        )
    if options.scale_jitter is not None and plan.recipe.scale[0] < plan.recipe.scale[1]:
        raise UsageError(
            "outputs of frozen layers are computed once an image, at one scale; give one scale, not a range",
            *("scale", "scale_jitter", "cache_features"),
        )
    middle = plan.recipe.test_scale
    return replace(plan, recipe=replace(plan.recipe, scale=(middle, middle)))


def _network(
    plan: Plan, start: _Start, options: FinetuneOptions, classes: tuple[str, ...] | None, data_classes: int
) -> VGG:
    """The network of the plan with the weights of `start`, of its last layer too where `classes` are kept; notes which
    layers are new.

    Raises UsageError where a new layer would not learn, or an initialisation was given and no layer is new; WeightsError
    where the weights do not fit.
    """
    count = len(classes) if classes else data_classes
    network = new_network(plan, count, options)
    new = inherit(network, start.network, same_classes=classes is not None and plan.boxes is None)
    initial = [name for name in ("init", "init_std") if getattr(options, name)]
    if initial and (plan.boxes is not None or not new):
        why = "boxes begin at their mean" if plan.boxes else f"{start.path} has weights for every layer"
        raise UsageError(f"an initialisation has no effect, because {why}", *initial)
    stages = Stages(network, plan.layers)
    untrained = [name for name in new if not stages.learns(name)]
    if untrained:
        raise UsageError(
            f"{start.path} has no weights for {untrained[0]}, which would stay random where only {plan.layers} learns; let "
            f"all layers learn",
            "layers",
        )
    before, had = start.checkpoint.config.classes, start.checkpoint.config.head != "none"
    boxes = " and their boxes" if start.checkpoint.config.boxes else ""
    replaced = f"; fc8 is new: {count} classes of the data in place of {before}{boxes}" if "fc8" in new and had else ""
    if plan.boxes is not None:
        replaced = f"; fc8 is new: {counted(network.config.outputs // 4, 'box', 'boxes')} in place of {before} classes"
    others = [name for name in new if name != "fc8" or not had]
    also = f"; new{' too' if had else ''}: {', '.join(others)}" if others else ""
    LOG.info(f"starting from {start.path}{replaced}{also}")
    return network
