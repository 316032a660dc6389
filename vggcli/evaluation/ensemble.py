"""Ensembles (section 4.4): the posteriors of networks and of saved scores, averaged by the names of images and classes in
whatever order these are, and the error of every member, every pair and the whole ensemble."""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vggcli.data.outputs import Output
from vggcli.errors import DataError, UsageError, WeightsError
from vggcli.evaluation.measure import measure
from vggcli.evaluation.options import MeasureOptions
from vggcli.evaluation.protocol import PARTS, Protocol, Scores
from vggcli.evaluation.result import correct_counts
from vggcli.evaluation.scores_file import load_scores, save_scores
from vggcli.metrics import calibration_error, error_rate, hidden_top5
from vggcli.places import Places
from vggcli.progress import Progress, silent
from vggcli.ranks import ALONE, Ranks
from vggcli.results import Result
from vggcli.weights.find import find_weights


@dataclass(frozen=True)
class FusedMember:
    """One member: its name, its posteriors, and how they were made (fields of `Evaluation.to_json`)."""

    name: str
    scores: Scores
    about: dict[str, Any]


@dataclass(frozen=True)
class Fusion(Result):
    """The members and their mean; `data` and `split` are None where all members are saved scores. `parts` are the means for
    dense and for multi-crop evaluation alone, where all members kept these apart."""

    members: tuple[FusedMember, ...]
    whole: Scores
    data: str | None
    split: str | None
    seconds: float
    parts: Mapping[Protocol, Scores]

    def to_json(self) -> dict[str, Any]:
        """The figures of the whole, named as those of one network, with those of every member and pair."""
        about = [member.about for member in self.members]
        return {
            "arch": "+".join(str(one["arch"]) for one in about),
            "weights": [one["weights"] for one in about],
            "data": self.data,
            "split": self.split,
            "protocol": about[0]["protocol"] if len({one["protocol"] for one in about}) == 1 else "mixed",
            "scales": sorted({scale for one in about for scale in one["scales"]}),
            **_counts(self.whole),
            "skipped": len(self.whole.skipped),
            "classes": len(self.whole.classes),
            "calibration_error": calibration_error(self.whole.posteriors_NK, self.whole.labels_N),
            "seconds": self.seconds,
            "images_per_second": len(self.whole.images) / max(self.seconds, 1e-9),
            "members": [{"name": one.name, **one.about, **_counts(one.scores)} for one in self.members],
            "pairs": [_row(pair) for pair in itertools.combinations(self.members, 2)],
        }

    def hidden(self) -> tuple[str, ...]:
        return hidden_top5(len(self.whole.classes))

    def table(self) -> list[dict[str, Any]]:
        """One row per member, per pair (of three members or more), and for the whole."""
        rows = [{"members": one.name, **_counts(one.scores)} for one in self.members]
        for pair in itertools.combinations(self.members, 2) if len(self.members) > 2 else ():
            rows.append({**_row(pair), "members": " + ".join(one.name for one in pair)})
        return [*rows, {"members": "all", **_counts(self.whole)}]

    def save(self, path: Path) -> None:
        """Write the averaged posteriors, as `save_scores` does."""
        hashes = "+".join(str(member.about["weights_sha256"]) for member in self.members)
        save_scores(path, self.whole, {**self.to_json(), "weights_sha256": hashes})


def _counts(scores: Scores) -> dict[str, Any]:
    images = len(scores.images)
    top1, top5 = correct_counts(scores)
    errors = {"top1_error": error_rate(top1, images), "top5_error": error_rate(top5, images)}
    return {"images": images, "correct_top1": top1, "correct_top5": top5, **errors}


def _row(chosen: Sequence[FusedMember]) -> dict[str, Any]:
    return {"members": [member.name for member in chosen], **_counts(_mean(chosen))}


def _mean(members: Sequence[FusedMember]) -> Scores:
    return fused([member.scores for member in members], [member.name for member in members])


def need_two(members: Sequence[object]) -> None:
    """Raises UsageError for a single member."""
    if len(members) < 2:
        raise UsageError("an ensemble needs at least two members; `vgg eval` measures one network")


def fuse(
    members: Sequence[str | Path],
    data: str | Path | None,
    split: str,
    asked: MeasureOptions,
    given: Sequence[str],
    *,
    places: Places,
    progress: Progress = silent,
    outputs: Sequence[Output] = (),
    ranks: Ranks = ALONE,
) -> Fusion:
    """Average the posteriors of `members`, any mix of run folders, checkpoints and files of saved scores. Networks are
    evaluated on a `split` of `data`; `given` are the names of the options that were set (an error where no member is a
    network), `outputs` the files that results will be written to.

    Raises UsageError, DataError, WeightsError or MachineError for whatever cannot be used, UsageError too where an output
    would lie among the images.
    """
    started = time.perf_counter()
    names = [str(member) for member in members]
    need_two(names)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{twice} is named twice; name each member once")
    files = {name: Path(name).expanduser() for name in names}
    saved = {name: load_scores(file) if file.is_file() else None for name, file in files.items()}
    networks = [name for name in names if saved[name] is None]
    if not networks and given:
        raise UsageError(f"{given[0]} has no effect where every member is a file of saved scores", given[0])
    weights = [find_weights(Path(name), None, places) for name in networks]
    evaluated = (
        measure(weights, data, split, asked, places=places, progress=progress, outputs=outputs, ranks=ranks)
        if networks
        else []
    )
    measured = dict(zip(networks, evaluated, strict=True))
    fusing = [
        FusedMember(name, measured[name].scores, measured[name].to_json())
        if scores is None
        else FusedMember(name, scores.scores, scores.about(name))
        for name, scores in saved.items()
    ]
    whole = _mean(fusing)
    apart = all(member.scores.parts for member in fusing)
    parts = {part: fused([one.scores.part(part) for one in fusing], names) for part in PARTS} if apart else {}
    seconds = time.perf_counter() - started
    source = evaluated[0].evaluation.data if networks else None
    return Fusion(tuple(fusing), whole, source, split if networks else None, seconds, parts)


def fused(members: Sequence[Scores], names: Sequence[str]) -> Scores:
    """The mean of the members' posteriors by image and class, in the order of the first member; errors call the members by
    their `names`.

    Raises WeightsError where the classes differ, DataError where the images or their labels differ, with examples.
    """
    first = members[0]
    total = torch.zeros_like(first.posteriors_NK, dtype=torch.float64)
    for member, name in zip(members, names, strict=True):
        total += _aligned(member, name, first, names[0]).double()
    return replace(first, posteriors_NK=(total / len(members)).float(), parts={})


def _aligned(member: Scores, name: str, first: Scores, first_name: str) -> Tensor:
    _same_set(member.classes, name, first.classes, first_name, "classes", WeightsError)
    _same_set(member.images, name, first.images, first_name, "images", DataError)
    class_at = {label: index for index, label in enumerate(member.classes)}
    row_at = {image: index for index, image in enumerate(member.images)}
    rows = torch.tensor([row_at[image] for image in first.images])
    columns = torch.tensor([class_at[label] for label in first.classes])
    for index, row in enumerate(rows.tolist()):
        mine, theirs = member.classes[int(member.labels_N[row])], first.classes[int(first.labels_N[index])]
        if mine != theirs:
            image = first.images[index]
            raise DataError(
                f"{image} is {mine!r} in {name} and {theirs!r} in {first_name}; average scores with the same labels"
            )
    return member.posteriors_NK[rows][:, columns]


def _same_set(
    mine: Sequence[str], name: str, theirs: Sequence[str], other: str, what: str, kind: type[DataError | WeightsError]
) -> None:
    for have, owner, lack, lacker in ((mine, name, theirs, other), (theirs, other, mine, name)):
        extra = sorted(set(have) - set(lack))
        if extra:
            shown = ", ".join(repr(one) for one in extra[:3]) + (", …" if len(extra) > 3 else "")
            raise kind(f"{owner} and {lacker} are of different {what}: only {owner} has {shown} ({len(extra)} in all)")
    if len(set(mine)) < len(mine):
        raise kind(f"{name} names some of its {what} twice")
