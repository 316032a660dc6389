"""What a checkpoint's record may say of its preprocessing and of how it came to be, checked before anything is built."""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from vggcli.records import OPEN, RECORD, Count, Percent, Sha256, read_record
from vggcli.weights.preprocessing import Divisors, Triple

FileName = Annotated[str, Field(pattern=r"^[\w.-]{1,200}$")]


@dataclass(frozen=True)
class _Preprocessing:
    """As colour.py's ColourStatistics: `mean` and `divisor` of pixels from 0 to 255; eigenvalues and eigenvectors of
    three colours, or none."""

    mean: Triple
    divisor: Divisors
    eigenvalues: Triple | tuple[()]
    eigenvectors: tuple[Triple, Triple, Triple] | tuple[()]
    __pydantic_config__ = RECORD

    def __post_init__(self) -> None:
        if len(self.eigenvalues) != len(self.eigenvectors):
            raise ValueError("a preprocessing whose eigenvalues and eigenvectors do not go together")


@dataclass(frozen=True)
class _Training:
    """How a checkpoint came to be, as far as anything that reads it relies on: fields of a run, and those of another
    framework's file. Others may stand beside them."""

    recipe: dict[str, Any] | None = None
    seed: int | None = None
    data: str | None = None
    data_sha256: Sha256 | None = None
    finetuned: dict[str, Any] | None = None
    epoch: Count = 0
    step: Count = 0
    top1_error: Percent = 0.0
    top5_error: Percent = 0.0
    state: dict[str, Any] | None = None
    resume: FileName | None = None
    resume_sha256: Sha256 | None = None
    framework: str | None = None
    source: str | None = None
    pixels: str | None = None
    channels: str | None = None
    operations: str | None = None
    __pydantic_config__ = OPEN


def check_preprocessing(fields: dict[str, Any]) -> None:
    """Raises ValueError unless pixels can be brought to the network with them."""
    _within("preprocessing", _Preprocessing, fields)


def check_training(fields: dict[str, Any]) -> None:
    """Raises ValueError where a field is not what a run, or the reader of another framework's file, writes."""
    _within("training", _Training, fields)


def _within(name: str, kind: type[Any], fields: dict[str, Any]) -> None:
    try:
        read_record(kind, fields, partly=kind is _Training)
    except ValueError as error:
        raise ValueError(f"its {name}: {error}") from error
