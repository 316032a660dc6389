"""Error of posteriors, and the record of an evaluation."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vggcli.evaluation.protocol import Scores
from vggcli.zoo.checkpoint import save_tensors
from vggcli.zoo.scores import count_correct, error_rate


@dataclass(frozen=True)
class Evaluation:
    """One measured error: what was measured on what and how, and the counts it rests on. Errors are in per cent."""

    arch: str
    weights: str
    weights_sha256: str
    data: str
    split: str
    protocol: str
    scales: tuple[int, ...]
    flip: bool
    images: int
    skipped: int
    classes: int
    correct_top1: int
    correct_top5: int
    seconds: float

    @property
    def top1_error(self) -> float:
        return error_rate(self.correct_top1, self.images)

    @property
    def top5_error(self) -> float:
        return error_rate(self.correct_top5, self.images)

    @property
    def images_per_second(self) -> float:
        return self.images / max(self.seconds, 1e-9)

    def to_json(self) -> dict[str, Any]:
        """The object of `vgg eval --json`."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        fields["scales"] = list(self.scales)
        derived = {name: getattr(self, name) for name in ("top1_error", "top5_error", "images_per_second")}
        return {**fields, **derived}


def correct_counts(scores: Scores) -> tuple[int, int]:
    """How many images have their class first, and among the first five."""
    return tuple(count_correct(scores.posteriors_NK, scores.labels_N, k) for k in (1, 5))  # type: ignore[return-value]


def save_scores(path: Path, scores: Scores, evaluation: Evaluation) -> None:
    """Write posteriors and labels with the names of their rows and columns, whole or not at all.

    Raises MachineError where the disk refuses.
    """
    metadata = {
        "images": json.dumps(scores.images),
        "classes": json.dumps(scores.classes),
        "arch": evaluation.arch,
        "protocol": evaluation.protocol,
        "scales": json.dumps(evaluation.scales),
        "weights": evaluation.weights_sha256,
    }
    save_tensors(path, {"posteriors": scores.posteriors_NK, "labels": scores.labels_N}, metadata)
