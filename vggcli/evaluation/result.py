"""The results of an evaluation: its record, kept in the run of the weights, the error by class, the worst mistakes."""

import json
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

from vggcli import __version__
from vggcli.choices import Decode, Precision
from vggcli.errors import MachineError
from vggcli.evaluation.protocol import EvaluateOptions, Scores, crops_an_image
from vggcli.files import append_line
from vggcli.metrics import answers, calibration_error, confusion_counts, count_correct, error_rate
from vggcli.progress import LOG
from vggcli.records import OPEN
from vggcli.regular_files import need_regular
from vggcli.weights.checkpoint import Checkpoint

RECORDS = "evaluations.jsonl"  # of a run, one `EvaluationRecord` or `BoxEvaluationRecord` a line


@dataclass(frozen=True)
class Evaluation:
    """One measured error: of which weights, on which data, by which protocol, with the counts behind it. `crops` is the
    number of grid crops per image, over flips and scales (0 without multi-crop evaluation); `preprocessing` has mean and
    divisor for RGB from 0 to 255; `network` has crop, width, head and `scale`, the training range of S; `decode` says where
    JPEGs were decoded, `precision` in what the network ran (None: not recorded). Errors are in per cent."""

    arch: str
    weights: str
    weights_sha256: str
    data: str
    split: str
    protocol: str
    scales: tuple[int, ...]
    flip: bool
    crops: int
    images: int
    skipped: int
    classes: int
    correct_top1: int
    correct_top5: int
    calibration_error: float
    preprocessing: dict[str, Any]
    seconds: float
    network: dict[str, Any] = field(default_factory=dict)
    decode: Decode = "cpu"
    precision: Precision | None = None
    __pydantic_config__ = OPEN  # a record also has the figures that follow from these

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
        """The fields, and the figures that follow from them."""
        derived = {name: getattr(self, name) for name in ("top1_error", "top5_error", "images_per_second")}
        return {**vars(self), "scales": list(self.scales), **derived}


class Recorded(Protocol):
    """An evaluation, of classes or of boxes."""

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class EvaluationRecord(Evaluation):
    """An evaluation as a run keeps it, with its `date` (ISO 8601, UTC) and the version of this program."""

    date: str = ""
    version: str = __version__


def keep_record(evaluation: Recorded, run: Path | None) -> None:
    """Add the evaluation to the records of the run folder, if there is one. Notes where that cannot be written, so that
    read-only runs can be evaluated too."""
    if run is None:
        return
    record = {**evaluation.to_json(), "date": datetime.now(timezone.utc).isoformat(timespec="seconds")}
    try:
        need_regular(run / RECORDS, MachineError)
        append_line(run / RECORDS, json.dumps({**record, "version": __version__}))
    except MachineError as error:
        LOG.info(f"not recorded: {error}")


def evaluation_of(
    scores: Scores,
    options: EvaluateOptions,
    weights: Path,
    sha256: str,
    checkpoint: Checkpoint,
    data: str,
    split: str,
    seconds: float,
) -> Evaluation:
    """The record of `scores`, which the network at `weights`, of this hash, gave by `options` in `seconds`."""
    correct_top1, correct_top5 = correct_counts(scores)
    config, colour = checkpoint.config, checkpoint.preprocessing
    divisor = list(colour.divisor) if isinstance(colour.divisor, tuple) else colour.divisor
    return Evaluation(
        arch=config.arch,
        weights=str(weights.resolve()),
        weights_sha256=sha256,
        data=data,
        split=split,
        protocol=options.protocol,
        scales=options.scales,
        flip=options.flip,
        crops=crops_an_image(options),
        images=len(scores.images),
        skipped=len(scores.skipped),
        classes=len(scores.classes),
        correct_top1=correct_top1,
        correct_top5=correct_top5,
        calibration_error=calibration_error(scores.posteriors_NK, scores.labels_N),
        preprocessing={"mean": list(colour.mean), "divisor": divisor},
        seconds=seconds,
        network={"crop": config.crop, "width": config.width, "head": config.head, "scale": list(checkpoint.scale)},
        decode=options.decode,
        precision=options.precision,
    )


def correct_counts(scores: Scores) -> tuple[int, int]:
    """How many images have their class first, and how many among the first five."""
    return tuple(count_correct(scores.posteriors_NK, scores.labels_N, k) for k in (1, 5))  # type: ignore[return-value]


@dataclass(frozen=True)
class ClassReport:
    """One class: its number of images, top-1 error (per cent), the class that its images are most often confused with
    (None if none is) and how many of them."""

    name: str
    support: int
    top1_error: float
    confused_with: str | None
    confused: int


def class_reports(scores: Scores) -> list[ClassReport]:
    """A report for every class that has an image, in the order of the classes."""
    counts_KK = confusion_counts(scores.posteriors_NK, scores.labels_N)
    reports = []
    for index, name in enumerate(scores.classes):
        support, right = int(counts_KK[index].sum()), int(counts_KK[index, index])
        if not support:
            continue
        others_K = counts_KK[index].clone()
        others_K[index] = 0
        most = int(others_K.argmax())
        confused = int(others_K[most])
        other = scores.classes[most] if confused else None
        reports.append(ClassReport(name, support, error_rate(right, support), other, confused))
    return reports


@dataclass(frozen=True)
class Mistake:
    """An image whose most probable class, the `answer`, is wrong, and the posterior of that class."""

    image: str
    label: str
    answer: str
    posterior: float


def worst_mistakes(scores: Scores, count: int) -> list[Mistake]:
    """At most `count` mistakes, those of the highest posterior first."""
    confidence_N, answer_N = scores.posteriors_NK.amax(1), answers(scores.posteriors_NK, scores.labels_N)
    wrong = (answer_N != scores.labels_N).nonzero().flatten().tolist()
    wrong.sort(key=lambda row: (-float(confidence_N[row]), scores.images[row]))
    return [
        Mistake(
            scores.images[row],
            scores.classes[int(scores.labels_N[row])],
            scores.classes[int(answer_N[row])],
            float(confidence_N[row]),
        )
        for row in wrong[:count]
    ]
