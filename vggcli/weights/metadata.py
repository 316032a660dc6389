"""What a checkpoint may say of how it came to be, checked before anything is built."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from vggcli.records import OPEN, Count, Percent, Sha256, read_record


@dataclass(frozen=True)
class _Training:
    """How a checkpoint came to be: the fields that this program relies on, of a run and of another framework's file.
    There may be others."""

    recipe: dict[str, Any] | None = None
    seed: int | None = None
    data: str | None = None
    data_sha256: Sha256 | None = None
    finetuned: dict[str, Any] | None = None
    epoch: Count = 0
    step: Count = 0
    top1_error: Percent = 0.0
    top5_error: Percent = 0.0
    localisation_error: Percent = 0.0
    mean_iou: Annotated[float, Field(ge=0, le=1)] = 0.0
    merging: dict[str, Any] | None = None  # of boxes: the threshold, and what it was chosen on
    state: dict[str, Any] | None = None
    resume: Annotated[str, Field(pattern=r"^[\w.-]{1,200}$")] | None = None  # the name of a file in the same folder
    resume_sha256: Sha256 | None = None
    framework: str | None = None
    source: str | None = None
    pixels: str | None = None
    channels: str | None = None
    operations: str | None = None
    __pydantic_config__ = OPEN


def check_training(fields: dict[str, Any]) -> None:
    """Raises ValueError where a field is not what a run, or the reader of another framework's file, writes."""
    try:
        read_record(_Training, fields, partly=True)
    except ValueError as error:
        raise ValueError(f"its training: {error}") from error
