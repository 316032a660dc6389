"""Saved scores: the posteriors of an evaluation with the names of their images and classes, and how they were made."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vggcli.choices import Decode, Head, Precision
from vggcli.errors import WeightsError
from vggcli.evaluation.protocol import Scores
from vggcli.records import OPEN, RECORD, Count, Positive, Side, parsed, read_record
from vggcli.weights.checkpoint import save_tensors
from vggcli.weights.seal import check_seal, unsealed

DETAILS = ("flip", "crops", "skipped", "network", "decode", "precision")  # of an evaluation, kept beside saved scores
JSON_TEXTS = ("images", "classes", "scales", "details")  # of a scores file's metadata
HEADER_MARKS, HEADER_BYTES = (b'"posteriors":', b'"protocol":"'), 1 << 20
LABELS = (torch.int64, torch.int32, torch.int16, torch.uint8)


def save_scores(path: Path, scores: Scores, about: Mapping[str, Any]) -> None:
    """Write posteriors and labels with the names of their images and classes, and how they were made: `about` has fields of
    `Evaluation.to_json`. The file appears whole or not at all. Raises MachineError where it cannot be written."""
    metadata = {
        "images": json.dumps(scores.images),
        "classes": json.dumps(scores.classes),
        "arch": about["arch"],
        "protocol": about["protocol"],
        "scales": json.dumps(about["scales"]),
        "weights": about["weights_sha256"],
    }
    if "network" in about:  # of one network, not of an ensemble
        metadata["details"] = json.dumps({name: about[name] for name in DETAILS})
    save_tensors(path, {"posteriors": scores.posteriors_NK, "labels": scores.labels_N}, metadata)


@dataclass(frozen=True)
class SavedScores:
    """A scores file: posteriors with names, and how they were made. `details` are DETAILS as in `Evaluation`, or
    empty where the file has none."""

    scores: Scores
    arch: str
    protocol: str
    scales: tuple[int, ...]
    weights_sha256: str
    details: dict[str, Any] = field(default_factory=dict)

    def about(self, name: str) -> dict[str, Any]:
        """What the file says of the evaluation, as fields of `Evaluation.to_json`; `name` is used for the weights."""
        about = {"arch": self.arch, "protocol": self.protocol, "scales": list(self.scales)}
        return {**about, "weights": name, "weights_sha256": self.weights_sha256, **self.details}


@dataclass(frozen=True)
class _Network:
    crop: Side
    width: Positive
    head: Head
    scale: Annotated[list[Side], Field(min_length=2, max_length=2)]
    __pydantic_config__ = OPEN


@dataclass(frozen=True)
class _Details:
    flip: bool
    crops: Count
    skipped: Count
    network: _Network
    decode: Decode = "cpu"
    precision: Precision | None = None
    __pydantic_config__ = OPEN


@dataclass(frozen=True)
class _About:
    """The metadata of a scores file, its JSON texts parsed; `format` is added by safetensors' own writers."""

    images: tuple[str, ...]
    classes: tuple[str, ...]
    arch: str
    protocol: str
    scales: tuple[Side, ...]
    weights: str
    details: _Details | None = None
    format: str = ""
    __pydantic_config__ = RECORD


def load_scores(path: Path) -> SavedScores | None:
    """The scores that `save_scores` wrote to `path`, or None where the file is a checkpoint or anything else.

    Raises WeightsError for a scores file that is damaged, whose parts do not fit together, or that holds no posteriors.
    """
    try:
        with safe_open(path, framework="pt") as file:
            fields = file.metadata() or {}
            if "images" not in fields or "posteriors" not in file.keys():  # noqa: SIM118 (not a dict)
                return None
            posteriors_NK, labels_N = file.get_tensor("posteriors"), file.get_tensor("labels")
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        if _begins_like_scores(path):
            raise WeightsError(
                f"{path} is a scores file that is damaged or cut short ({error}); restore a copy, or make it again"
            ) from error
        return None
    check_seal(path)
    about = _about(path, unsealed(path, fields)[0])
    _check_tensors(path, posteriors_NK, labels_N, about)
    scores = Scores(posteriors_NK.float(), labels_N.long(), about.images, about.classes)
    details = {} if about.details is None else asdict(about.details)
    return SavedScores(scores, about.arch, about.protocol, about.scales, about.weights, details)


def _begins_like_scores(path: Path) -> bool:
    """Whether a file that cannot be read as safetensors has in its header what only a scores file has."""
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
    except OSError:
        return False
    return any(mark in head for mark in HEADER_MARKS)


def _about(path: Path, texts: dict[str, str]) -> _About:
    try:
        fields = {name: parsed(text) if name in JSON_TEXTS else text for name, text in texts.items()}
        return read_record(_About, {**fields, "details": fields.get("details") or None}, partly=True)
    except ValueError as error:
        raise WeightsError(f"{path} is a scores file whose metadata cannot be used: {error}") from error


def _check_tensors(path: Path, posteriors_NK: Tensor, labels_N: Tensor, about: _About) -> None:
    shape = (len(about.images), len(about.classes))
    if posteriors_NK.shape != shape or labels_N.shape != shape[:1]:
        raise WeightsError(f"{path} is a scores file whose names do not fit its posteriors {list(posteriors_NK.shape)}")
    if not about.images or not posteriors_NK.is_floating_point() or labels_N.dtype not in LABELS:
        kinds = " and ".join(str(one.dtype).removeprefix("torch.") for one in (posteriors_NK, labels_N))
        raise WeightsError(f"{path} is a scores file of {kinds}, not posteriors (float32) and labels (int64) of images")
    sums = posteriors_NK.double().sum(1)
    if not torch.isfinite(posteriors_NK).all() or (posteriors_NK < 0).any() or ((sums - 1).abs() > 1e-3).any():
        raise WeightsError(f"{path} is a scores file whose rows are not posteriors: each must be positive and sum to 1")
    if int(labels_N.min()) < 0 or int(labels_N.max()) >= len(about.classes):
        raise WeightsError(f"{path} is a scores file with a label that none of its classes has")
