"""From weights and data to evaluations, for `vgg evaluate` and for the networks of an ensemble."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vggcli.data.decode import saying_skip_bad
from vggcli.data.find import find_source
from vggcli.data.image_set import ImageSet, match_classes
from vggcli.data.left_out import note_remarks
from vggcli.data.outputs import Output, check_outside_source
from vggcli.data.sources import load_split
from vggcli.data.survey import note_in_both
from vggcli.errors import UsageError, WeightsError
from vggcli.evaluation.options import MeasureOptions
from vggcli.evaluation.protocol import Scores, image_posteriors
from vggcli.evaluation.result import Evaluation, evaluation_of
from vggcli.evaluation.together import NetworkMember, networks_posteriors
from vggcli.metrics import hidden_top5
from vggcli.places import Places
from vggcli.progress import LOG, Progress, silent
from vggcli.ranks import ALONE, Ranks
from vggcli.results import Result
from vggcli.weights.assumed import assumed_classes, say_what_is_assumed
from vggcli.weights.checkpoint import (
    Checkpoint,
    load_hashed,
    need_classifier,
    need_trained,
    read_checkpoint,
    says_preprocessing,
)
from vggcli.weights.find import check_published, data_of, fetched, run_of
from vggcli.zoo.network import VGG


@dataclass(frozen=True)
class Measured(Result):
    """An evaluation, its posteriors, and its images and weights."""

    evaluation: Evaluation
    scores: Scores
    images: ImageSet
    checkpoint: Checkpoint
    weights: Path

    @property
    def run(self) -> Path | None:
        """The run folder that the weights lie in, if they lie in one."""
        return run_of(self.weights)

    def to_json(self) -> dict[str, Any]:
        """The object that `vgg evaluate --json` prints."""
        return self.evaluation.to_json()

    def hidden(self) -> tuple[str, ...]:
        return hidden_top5(self.evaluation.classes)


def measure(
    weights: Sequence[Path],
    data: str | Path | None,
    split: str,
    asked: MeasureOptions,
    *,
    places: Places,
    progress: Progress = silent,
    outputs: Sequence[Output] = (),
    ranks: Ranks = ALONE,
) -> list[Measured]:
    """Evaluate the networks in the files `weights`, several over the same decoded images, and note the images left out.
    `outputs` are the files that results will be written to. Several processes share the images, and each gets the result.

    Raises WeightsError where weights are damaged, untrained or of other classes than the data, UsageError where an output
    would lie among the images.
    """
    pixels, workers = asked.resolved.pixels, asked.resolved.workers
    named = data_of(weights, places) if data is None else str(data)
    with ranks.first_before_others():
        source = find_source(named, places, workers, progress)
    images = load_split(source.path, split)
    check_outside_source(outputs, source.path, images)
    note_remarks(images)
    hashes: dict[Path, str] = {}
    with ranks.first_before_others():  # which then find published weights
        candidates = [_candidate(path, images, asked, places, progress, len(weights) > 1, hashes) for path in weights]
    if pixels is not None and not any(member.options.pixels for _, member in candidates):
        why = f"has no effect beside {weights[0]}, which says its own; leave it out"
        raise UsageError(f"a preprocessing {why}", "preprocessing")
    for _, member in candidates if len(weights) > 1 else ():
        member.load()  # so that damaged weights are an error before any work
    if ranks.is_first:
        note_in_both(source.path, images)
    results = _results([member for _, member in candidates], ranks.progress(progress), ranks)
    for error in results[0][0].skipped:
        LOG.info(f"left out: {error}")
    return [
        Measured(
            evaluation_of(scores, member.options, path, hashes[path], checkpoint, source.name, split, seconds),
            scores,
            member.images,
            checkpoint,
            path,
        )
        for path, (checkpoint, member), (scores, seconds) in zip(weights, candidates, results, strict=True)
    ]


def _candidate(
    weights: Path,
    images: ImageSet,
    asked: MeasureOptions,
    places: Places,
    progress: Progress,
    in_turns: bool,
    hashes: dict[Path, str],
) -> tuple[Checkpoint, NetworkMember]:
    """What the file of the weights says of them, checked for these images. The weights themselves are not read yet, and
    published ones are fetched only for data that they fit. Their SHA-256 comes into `hashes` when they are loaded."""
    check_published(weights, images, places)
    checkpoint = read_checkpoint(fetched(weights, places, progress))
    pixels = None if says_preprocessing(checkpoint) else asked.resolved.pixels  # for weights that do not say theirs
    checkpoint = read_checkpoint(weights, pixels) if pixels else checkpoint
    need_classifier(weights, checkpoint)
    need_trained(weights, checkpoint)
    options = replace(asked.for_network(checkpoint), pixels=pixels, in_turns=in_turns)
    try:
        mine = match_classes(images, checkpoint.classes or assumed_classes(weights, checkpoint, images.classes))
    except WeightsError as error:
        trained_on = checkpoint.training.get("data")
        known = f"they were trained on {trained_on}: give that, or data of the same classes"
        advice = known if trained_on else "give other data, or other weights"
        raise WeightsError(f"{error}; {advice}", "data") from None
    say_what_is_assumed(weights, checkpoint, places)
    colour = checkpoint.preprocessing

    def load() -> VGG:
        network, sha256 = load_hashed(weights, options.device, pixels)
        if hashes.setdefault(weights, sha256) != sha256:
            raise WeightsError(f"{weights} has changed since the evaluation began; begin it again")
        return network

    return checkpoint, NetworkMember(load, checkpoint.config, colour, mine, options)


def _results(members: Sequence[NetworkMember], progress: Progress, ranks: Ranks) -> list[tuple[Scores, float]]:
    """The scores of each network, and the seconds that they took."""
    first = members[0]
    views = len(first.images) * sum(len(member.options.scales) for member in members)
    with (
        progress("evaluating", views, "images" if views == len(first.images) else "views") as bar,
        saying_skip_bad(first.options.skip_bad),
    ):
        if len(members) > 1:
            return networks_posteriors(members, bar, ranks)
        network, started = first.load(), time.perf_counter()
        scores = image_posteriors(network, first.images, first.colour, first.options, bar, ranks)
        return [(scores, time.perf_counter() - started)]
