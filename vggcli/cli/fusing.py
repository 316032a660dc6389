"""What `vgg ensemble` does behind its flags: members become scores, scores an ensemble, an ensemble a table."""

import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vggcli.cli import options
from vggcli.cli.measuring import measure
from vggcli.data.outputs import Output
from vggcli.errors import UsageError, counted
from vggcli.evaluation.ensemble import fused
from vggcli.evaluation.protocol import PARTS, EvaluateOptions, Protocol, Scores
from vggcli.evaluation.result import correct_counts
from vggcli.evaluation.scores_file import load_scores
from vggcli.metrics import calibration_error, error_rate
from vggcli.report.tables import ensemble_table
from vggcli.weights.checkpoint import save_tensors
from vggcli.weights.find import find_weights


@dataclass(frozen=True)
class Member:
    """One member: what it is called, its posteriors, and what they were made with."""

    name: str
    scores: Scores
    about: dict[str, Any]


@dataclass(frozen=True)
class Fusion:
    """The members and their mean; `data` and `split` are None where only saved scores took part. `parts` are the means of
    what the members' posteriors are the mean of, by protocol, where all of them kept it apart."""

    members: tuple[Member, ...]
    whole: Scores
    data: str | None
    split: str | None
    seconds: float
    parts: Mapping[Protocol, Scores]

    def row(self, chosen: Sequence[Member]) -> dict[str, Any]:
        """Error of some members with their posteriors averaged."""
        scores = fused([member.scores for member in chosen], [member.name for member in chosen])
        return {"members": [member.name for member in chosen], **_counts(scores)}

    def to_json(self) -> dict[str, Any]:
        """The object of `--json`: the whole as `vgg eval` prints one network, with every member and pair."""
        about = [member.about for member in self.members]
        return {
            "arch": "+".join(str(one["arch"]) for one in about),
            "weights": [one["weights"] for one in about],
            "data": self.data,
            "split": self.split,
            "protocol": _common([one["protocol"] for one in about]),
            "scales": sorted({scale for one in about for scale in one["scales"]}),
            **_counts(self.whole),
            "skipped": len(self.whole.skipped),
            "classes": len(self.whole.classes),
            "calibration_error": calibration_error(self.whole.posteriors_NK, self.whole.labels_N),
            "seconds": self.seconds,
            "images_per_second": len(self.whole.images) / max(self.seconds, 1e-9),
            "members": [{"name": one.name, **one.about, **_counts(one.scores)} for one in self.members],
            "pairs": [self.row(pair) for pair in itertools.combinations(self.members, 2)],
        }

    def save(self, path: Path) -> None:
        """Write the averaged posteriors as a scores file, whole or not at all."""
        result = self.to_json()
        metadata = {
            "images": json.dumps(self.whole.images),
            "classes": json.dumps(self.whole.classes),
            "arch": result["arch"],
            "protocol": result["protocol"],
            "scales": json.dumps(result["scales"]),
            "weights": "+".join(str(member.about["weights_sha256"]) for member in self.members),
        }
        save_tensors(path, {"posteriors": self.whole.posteriors_NK, "labels": self.whole.labels_N}, metadata)


def _common(values: list[str]) -> str:
    return values[0] if len(set(values)) == 1 else "mixed"


def _counts(scores: Scores) -> dict[str, Any]:
    images = len(scores.images)
    top1, top5 = correct_counts(scores)
    errors = {"top1_error": error_rate(top1, images), "top5_error": error_rate(top5, images)}
    return {"images": images, "correct_top1": top1, "correct_top5": top5, **errors}


def fuse(
    paths: Sequence[Path],
    data: str | None,
    split: str,
    opts: EvaluateOptions,
    multi_scale: bool,
    flags: Sequence[str],
    quiet: bool,
    outputs: Sequence[Output] = (),
) -> Fusion:
    """Evaluate the members that are networks, read those that are scores, and average them all. `flags` are the flags of
    evaluation that were given, which need a network to have an effect."""
    started = time.perf_counter()
    names = [str(path) for path in paths]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{twice} is named twice; a member counts once")
    saved = {path: load_scores(path.expanduser()) if path.expanduser().is_file() else None for path in paths}
    networks = [path for path in paths if saved[path] is None]
    if not networks and flags:
        raise UsageError(f"{flags[0]} has no effect where every member is a file of saved scores")
    files = [find_weights(path, None, options.places()) for path in networks]
    evaluated = measure(files, data, split, opts, multi_scale, quiet, outputs) if networks else []
    for error in evaluated[0].scores.skipped if evaluated else ():
        options.note(f"left out: {error}")
    measured = dict(zip(networks, evaluated, strict=True))
    members = []
    for path, name in zip(paths, names, strict=True):
        scores = saved[path]
        if scores is None:
            members.append(Member(name, measured[path].scores, measured[path].evaluation.to_json()))
            continue
        about = {"arch": scores.arch, "protocol": scores.protocol, "scales": list(scores.scales)}
        about |= {"weights": name, "weights_sha256": scores.weights_sha256, **scores.details}
        members.append(Member(name, scores.scores, about))
    whole = fused([member.scores for member in members], names)
    apart = all(member.scores.parts for member in members)
    parts = {part: fused([one.scores.part(part) for one in members], names) for part in PARTS} if apart else {}
    seconds = time.perf_counter() - started
    source = evaluated[0].evaluation.data if networks else None
    return Fusion(tuple(members), whole, source, split if networks else None, seconds, parts)


def show_fusion(fusion: Fusion) -> None:
    """The table of members, pairs and the whole, on stdout."""
    result = fusion.to_json()
    rows = [(one["name"], f"{one['arch']}, {one['protocol']} at {one['scales']}", one) for one in result["members"]]
    if len(fusion.members) > 2:
        rows += [(" + ".join(pair["members"]), "pair", pair) for pair in result["pairs"]]
    rows.append(("all", f"{counted(len(fusion.members), 'member')}", result))
    data = f" of {fusion.data} ({fusion.split})" if fusion.data else ""
    skipped = f" ({result['skipped']} left out)" if result["skipped"] else ""
    title = f"Ensemble over {counted(result['images'], 'image')}{skipped}{data}, posteriors averaged"
    options.stdout_console().print(ensemble_table(title, rows))
