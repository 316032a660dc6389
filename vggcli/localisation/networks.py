"""The networks of localisation, opened and held against one another: those that give boxes, and those that say classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vggcli.data.image_set import ImageSet, match_classes
from vggcli.errors import UsageError, WeightsError
from vggcli.evaluation.ensemble import fused
from vggcli.evaluation.options import MeasureOptions
from vggcli.evaluation.protocol import Scores, check_test_scales
from vggcli.evaluation.scores_file import load_scores
from vggcli.localisation.localise import DenseNetwork, Localiser
from vggcli.places import Places
from vggcli.progress import LOG, Progress, silent
from vggcli.weights.assumed import assumed_classes, say_what_is_assumed
from vggcli.weights.checkpoint import (
    Checkpoint,
    glanced_at,
    load_checkpoint,
    need_boxes,
    need_classifier,
    need_trained,
    read_checkpoint,
    says_preprocessing,
)
from vggcli.weights.find import check_published, check_published_classifier, fetched, find_weights
from vggcli.weights.preprocessing import ExpectedPixels


@dataclass(frozen=True)
class BoxNetwork:
    """A network that gives boxes, as its file says it; `sha256` is the file's, once it is loaded to be measured."""

    path: Path
    checkpoint: Checkpoint
    sha256: str = ""


def gives_boxes(weights: Sequence[Path]) -> bool:
    """Whether the networks in the files `weights` give boxes. Raises WeightsError where some do and others do not."""
    found = [
        (one, checkpoint is not None and checkpoint.config.boxes is not None)
        for one, checkpoint in zip(weights, map(glanced_at, weights), strict=True)
    ]
    boxes, classes = ([path for path, gives in found if gives is wanted] for wanted in (True, False))
    if boxes and classes:
        raise WeightsError(f"{boxes[0]} gives boxes and {classes[0]} classes; measure networks of one kind at a time")
    return bool(boxes)


def box_network(weights: Path, pixels: ExpectedPixels | None = None) -> BoxNetwork:
    """Raises WeightsError where the file holds no network that gives boxes, or no trained one, UsageError for `pixels`, the
    preprocessing of weights that do not say theirs."""
    checkpoint = read_checkpoint(weights, pixels)
    need_boxes(weights, checkpoint)
    return BoxNetwork(weights, checkpoint)


def one_class(boxes: Sequence[BoxNetwork]) -> bool:
    """Whether the networks have one class only, the same, so that nothing has to say which class an image has."""
    return len({one.checkpoint.classes for one in boxes}) == 1 and len(boxes[0].checkpoint.classes) == 1


def open_localiser(
    boxes: Sequence[BoxNetwork],
    classifiers: Sequence[str | Path],
    asked: MeasureOptions,
    images: ImageSet | None,
    *,
    places: Places,
    progress: Progress = silent,
) -> Localiser:
    """Box networks with `classifiers` (run folders, checkpoints, published names, files of saved scores; none need be where
    there is one class), each box network at its own scales unless `asked` has some; for `images`, whose classes they must
    know, or where that is None for images without labels. `asked.flip` True adds the boxes of mirror images; None and True
    average the posteriors with theirs.

    Raises UsageError, WeightsError or MachineError for what cannot be used, or not together.
    """
    if not asked.dense or asked.multi_crop:
        names = ["dense"] if not asked.dense else ["multi_crop"]
        raise UsageError("classes and boxes of whole images are found by dense evaluation alone", *names)
    if not classifiers and not one_class(boxes):
        raise UsageError("boxes of whole images need a network that says their classes; name one", "classifier")
    members = tuple(
        DenseNetwork(
            load_checkpoint(one.path, asked.resolved.device)[0],
            one.checkpoint.preprocessing,
            one.checkpoint.classes,
            asked.for_network(one.checkpoint).scales,
        )
        for one in boxes
    )
    scales = tuple(sorted({scale for one in members for scale in one.scales}))
    texts = [str(one) for one in classifiers]
    if len(set(texts)) < len(texts):
        twice = next(text for text in texts if texts.count(text) > 1)
        raise UsageError(f"{twice} is named twice; name each classifier once", "classifier")
    saved = _saved(texts, images)
    names = [text for text in texts if text not in saved]
    networks = _classifiers(names, boxes, asked, scales, images, places, progress)
    if saved and not networks:
        LOG.info(
            "saved scores do not tell the windows of an image apart, as a network does, which costs accuracy of boxes"
        )
    known = {path: one.classes for path, one in networks.items()}
    _check_classes(boxes, {**known, **{Path(text): one.classes for text, one in saved.items()}}, images)
    mean = (fused([*saved.values()], [*saved]), len(saved)) if saved else None
    only = () if classifiers else members[0].classes
    return Localiser(members, tuple(networks.values()), mean, only, asked.flip is True, asked.resolved)


def _saved(names: Sequence[str], images: ImageSet | None) -> dict[str, Scores]:
    """The saved scores among `names`. Raises WeightsError where there are images that some do not have."""
    read = {name: load_scores(path) for name in names if (path := Path(name).expanduser()).is_file()}
    saved = {name: one.scores for name, one in read.items() if one is not None}
    for name, scores in saved.items():
        missing = set(images.names if images is not None else ()) - set(scores.images)
        if missing or images is None:
            what = f"no scores of {min(missing)}" if missing else "scores of images by their names, not a network"
            raise WeightsError(f"{name} has {what}; give scores of the same images, or a network", "classifier")
    return saved


def _classifiers(
    names: Sequence[str],
    boxes: Sequence[BoxNetwork],
    asked: MeasureOptions,
    scales: tuple[int, ...],
    images: ImageSet | None,
    places: Places,
    progress: Progress,
) -> dict[Path, DenseNetwork]:
    """The classifiers that are networks, by file, at `scales`. Raises WeightsError where one cannot be used with `boxes`,
    UsageError where `asked.preprocessing` has no effect on any."""
    found, options, effect = dict[Path, DenseNetwork](), asked.resolved, False
    known = images.classes if images is not None else boxes[0].checkpoint.classes
    for path in [find_weights(Path(name), None, places) for name in names]:
        if images is None:
            check_published_classifier(path, places)
        else:
            check_published(path, images, places)
        checkpoint = read_checkpoint(fetched(path, places, progress))
        need_classifier(path, checkpoint)
        need_trained(path, checkpoint)
        _check_crops(path, checkpoint, boxes)
        check_test_scales(checkpoint.config, replace(options, scales=scales))
        pixels = None if says_preprocessing(checkpoint) else options.pixels
        effect |= pixels is not None
        network, checkpoint = load_checkpoint(path, options.device, pixels)
        say_what_is_assumed(path, checkpoint, places)
        classes = checkpoint.classes or assumed_classes(path, checkpoint, known)
        found[path] = DenseNetwork(network, checkpoint.preprocessing, classes, scales)
    if options.pixels is not None and not effect:
        what = "a preprocessing has no effect beside weights and saved scores, each of which says its own"
        raise UsageError(f"{what}; leave it out", "preprocessing")
    return found


def _check_crops(path: Path, checkpoint: Checkpoint, boxes: Sequence[BoxNetwork]) -> None:
    """Raises WeightsError where the windows of a classifier are not those of the box networks."""
    crop = checkpoint.config.crop
    for one in boxes:
        if (theirs := one.checkpoint.config.crop) != crop:
            what = f"{path} has a crop of {crop} and {one.path} one of {theirs}, so their windows differ"
            raise WeightsError(f"{what}; give a classifier of the same crop, or its saved scores", "classifier")


def _check_classes(
    boxes: Sequence[BoxNetwork], classifiers: Mapping[Path, tuple[str, ...]], images: ImageSet | None
) -> None:
    """Raises WeightsError where PCR networks and classifiers differ in their classes, or do not know those of `images`."""
    of_boxes = [(one.path, one.checkpoint.classes) for one in boxes if one.checkpoint.config.boxes == "pcr"]
    known = [*classifiers.items(), *of_boxes] or [(one.path, one.checkpoint.classes) for one in boxes]
    first, theirs = known[0]
    for path, mine in known[1:]:
        if set(mine) != set(theirs):
            only = (("first", sorted({*mine} - {*theirs})), ("other", sorted({*theirs} - {*mine})))
            shown = ", ".join(f"only the {one} has {', '.join(map(repr, some[:3]))}" for one, some in only if some)
            what = f"{path} and {first} are of different classes: {shown}"
            raise WeightsError(f"{what}; give networks of the same classes", "classifier")
    if images is not None:
        match_classes(images, theirs)
