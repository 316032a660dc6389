"""What measuring commands do behind their flags: weights and data become evaluations."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vggcli.choices import Precision
from vggcli.cli import options
from vggcli.colour import ColourStatistics
from vggcli.data.image_set import match_classes
from vggcli.data.outputs import Output, check_outside_source
from vggcli.data.sources import ImageSet, load_split
from vggcli.data.survey import note_in_both
from vggcli.device import pick_dtype
from vggcli.errors import UsageError, WeightsError
from vggcli.evaluation.ensemble import NetworkMember, networks_posteriors
from vggcli.evaluation.protocol import EvaluateOptions, Protocol, Scores, check_test_scales, image_posteriors
from vggcli.evaluation.result import Evaluation, evaluation_of
from vggcli.paper import CROP_GRID
from vggcli.report.progress import Bar
from vggcli.weights.assumed import assumed_classes, say_what_is_assumed
from vggcli.weights.checkpoint import (
    Checkpoint,
    load_checkpoint,
    need_classifier,
    need_trained,
    read_checkpoint,
    says_preprocessing,
)
from vggcli.weights.find import check_published, fetched, find_weights
from vggcli.zoo.scales import paper_scales

LARGEST_GRID = 50  # a hundred times the paper's crops


@dataclass(frozen=True)
class Measured:
    """An evaluation, the posteriors it rests on, and where its images and weights are."""

    evaluation: Evaluation
    scores: Scores
    images: ImageSet
    checkpoint: Checkpoint
    weights: Path

    @property
    def run(self) -> Path | None:
        """The run folder that the weights lie in, if they lie in one."""
        return run_of(self.weights)


def run_of(weights: Path) -> Path | None:
    """The run folder that a checkpoint lies in, if it lies in one."""
    return weights.parent if (weights.parent / "config.json").is_file() else None


def evaluate_options(
    *,
    dense: bool,
    multi_crop: bool,
    grid: int | None,
    scales: list[int] | None,
    multi_scale: bool,
    flip: bool | None,
    skip_bad: bool,
    device: str,
    precision: Precision,
    batch_size: int | None,
    workers: int,
    preprocessing: str | None,
    table: bool = False,
) -> EvaluateOptions:
    """The options that the flags of evaluation mean; scales stay empty where the network's own are wanted, and a `table`
    compares protocols that are averaged.

    Raises UsageError for flags that contradict each other or have no effect.
    """
    if scales and multi_scale:
        raise UsageError("--scales and --multi-scale contradict each other; give one")
    if grid is not None and not multi_crop:
        raise UsageError("--grid has no effect without --multi-crop")
    if grid is not None and grid < 2:
        raise UsageError(f"--grid {grid} is no grid: give 2 or more, or leave --multi-crop out for the centre crop")
    if grid is not None and grid > LARGEST_GRID:
        raise UsageError(
            f"--grid {grid} is {grid**2} crops a view; give at most {LARGEST_GRID} (the paper: {CROP_GRID})"
        )
    whole: Protocol = "dense" if dense else "centre-crop"
    cropped: Protocol = "dense+multi-crop" if dense else "multi-crop"
    where = options.compute_device(device)
    return EvaluateOptions(
        protocol=cropped if multi_crop else whole,
        scales=tuple(scales or ()),
        flip=dense or multi_crop if flip is None else flip,
        device=where,
        dtype=pick_dtype(precision, where),
        grid=CROP_GRID if grid is None else grid,
        batch_size=batch_size,
        workers=workers,
        skip_bad=skip_bad,
        pixels=options.pixels_of(preprocessing),
        apart=table,
    )


def measure(
    weights: Sequence[Path],
    data: str | None,
    split: str,
    opts: EvaluateOptions,
    multi_scale: bool,
    quiet: bool,
    outputs: Sequence[Output] = (),
) -> list[Measured]:
    """Evaluate the networks at `weights` with progress, several over the same decoded images, and count. `opts.scales`
    empty takes what the paper takes for each. `outputs` are where results will be written.

    Raises WeightsError where weights are damaged, untrained or do not know the data's classes, UsageError where an output
    would lie among the images.
    """
    source = options.data_source(data, opts.workers, quiet)
    images = load_split(source.path, split)
    check_outside_source(outputs, source.path, images)
    options.note_remarks(images)
    candidates = [_candidate(path, images, opts, multi_scale, quiet) for path in weights]
    if opts.pixels is not None and not any(one.member.options.pixels for one in candidates):
        raise UsageError(f"--preprocessing has no effect beside {weights[0]}, which says its own; leave it out")
    for one in candidates if len(weights) > 1 else ():
        # so that what is wrong with any of them is said before work with the others starts
        load_checkpoint(one.weights, pixels=one.member.options.pixels)
    note_in_both(source.path, images)
    views = len(images) * len({scale for one in candidates for scale in one.member.options.scales})
    with Bar(options.stderr_console(), "evaluating", views, "views", quiet) as bar:
        if len(candidates) == 1:
            member = candidates[0].member
            network, started = member.load(), time.perf_counter()
            scores = image_posteriors(network, member.images, member.colour, member.options, bar)
            results = [(scores, time.perf_counter() - started)]
        else:
            results = networks_posteriors([one.member for one in candidates], bar)
    return [
        Measured(
            evaluation_of(scores, one.member.options, one.weights, one.checkpoint, source.name, split, seconds),
            scores,
            one.member.images,
            one.checkpoint,
            one.weights,
        )
        for one, (scores, seconds) in zip(candidates, results, strict=True)
    ]


@dataclass(frozen=True)
class _Candidate:
    weights: Path
    checkpoint: Checkpoint
    member: NetworkMember


def _candidate(weights: Path, images: ImageSet, opts: EvaluateOptions, multi_scale: bool, quiet: bool) -> _Candidate:
    """Weights whose file says of them what can be used here; the weights themselves are not read yet, and published ones
    are fetched only for data that they fit."""
    check_published(weights, images, options.places())
    checkpoint = read_checkpoint(fetched(weights, options.places(), options.progress(quiet)))
    if opts.pixels is not None and says_preprocessing(checkpoint):
        opts = replace(opts, pixels=None)  # it is for other members
    checkpoint = read_checkpoint(weights, opts.pixels) if opts.pixels else checkpoint
    need_classifier(weights, checkpoint)
    need_trained(weights, checkpoint)
    opts = replace(opts, scales=opts.scales or paper_scales(checkpoint.scale, multi_scale))
    check_test_scales(checkpoint.config, opts, "--multi-scale: the scale" if multi_scale else "--scales")
    try:
        mine = match_classes(images, checkpoint.classes or assumed_classes(weights, checkpoint, images.classes))
    except WeightsError as error:
        trained_on = checkpoint.training.get("data")
        known = f"they were trained on {trained_on}: name that, or its like, with --data"
        raise WeightsError(f"{error}; {known if trained_on else 'give other --data, or other weights'}") from None
    say_what_is_assumed(weights, checkpoint, options.places())
    colour = ColourStatistics.from_json(checkpoint.preprocessing)
    member = NetworkMember(
        lambda: load_checkpoint(weights, opts.device, opts.pixels)[0], checkpoint.config, colour, mine, opts
    )
    return _Candidate(weights, checkpoint, member)


def evaluated_files(several: Sequence[Path], weights: Path | None, arch: str | None) -> list[Path]:
    """The checkpoints that RUN..., --weights or --arch mean. Raises UsageError where more than one of them is given, or
    one twice."""
    if several and weights is not None:
        raise UsageError(f"--weights has no effect beside the weights named first ({several[0]}); leave one out")
    if not several:
        return [find_weights(weights, arch, options.places())]
    files = [find_weights(path, arch, options.places()) for path in several]
    for path, file in zip(several, files, strict=True):
        if files.count(file) > 1:
            raise UsageError(f"{path} is named twice; once is enough")
    return files
