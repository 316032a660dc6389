"""The progress of a run: all that resuming needs beside weights and momentum, as plain JSON."""

from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

from pydantic import Field

from vggcli.records import LATER, RECORD, Amount, Count, Ordinal, Percent, Positive, read_record
from vggcli.training.plateau import Plateau


@dataclass(frozen=True)
class StepRecord:
    """After a micro-batch: `done` of the `images` of this epoch, and the mean loss and error (per cent) of the epoch so
    far, over the training views."""

    epoch: int
    epochs: int
    step: int
    steps: int
    done: int
    images: int
    loss: float
    error: float
    learning_rate: float


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One line of log.jsonl: `loss` and `training_error` over the training views (with dropout, as they are learnt from),
    the others on the validation split by centre crop; errors in per cent; `step` counts from the start of the run;
    `seconds` of training and validation together. A run that learns boxes has its localisation error by protocol 1 of
    Appendix A and the mean IoU (0 to 1) in place of the top-1 and top-5 error. Older runs do not say their
    `training_error`."""

    epoch: Ordinal
    step: Count
    loss: Amount
    top1_error: Percent | None = field(default=None, metadata=LATER)
    top5_error: Percent | None = field(default=None, metadata=LATER)
    val_loss: Amount
    learning_rate: Positive
    images_per_second: Amount
    seconds: Amount
    training_error: Percent | None = field(default=None, metadata=LATER)
    localisation_error: Percent | None = field(default=None, metadata=LATER)
    mean_iou: Annotated[float, Field(ge=0, le=1)] | None = field(default=None, metadata=LATER)
    __pydantic_config__ = RECORD

    def __post_init__(self) -> None:
        if (self.top1_error is None) == (self.localisation_error is None):
            raise ValueError("an epoch has either a top-1 error or a localisation error")

    @property
    def validation_error(self) -> float:
        """The error that decides which epoch is best, and when the learning rate drops."""
        error = self.top1_error if self.localisation_error is None else self.localisation_error
        assert error is not None
        return error

    def to_json(self) -> dict[str, Any]:
        """The fields that it has."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class RunState:
    """`epoch` and `step` (within it) come next; `loss_sum`, `correct`, `seen` and `seconds` are of the epoch so far."""

    epoch: Count = 0
    step: Count = 0
    total_steps: Count = 0
    plateau: Plateau = field(default_factory=Plateau)
    history: tuple[EpochRecord, ...] = ()
    loss_sum: Amount = 0.0
    correct: Count = 0
    seen: Count = 0
    seconds: Amount = 0.0
    scaler: dict[str, int | float] = field(default_factory=dict)
    partial: EpochRecord | None = None  # of an epoch that max_steps cut short; resuming discards it
    __pydantic_config__ = RECORD

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "RunState":
        """Raises ValueError for fields that `to_json` cannot have written, or that contradict each other."""
        one = read_record(cls, fields)
        before = one.history[-1].step if one.history else 0
        epochs, steps = [record.epoch for record in one.history], [record.step for record in one.history]
        if one.epoch != len(epochs) or epochs != list(range(1, len(epochs) + 1)) or steps != sorted(set(steps)):
            raise ValueError(f"epoch is {one.epoch}, and its history is of other epochs")
        if one.total_steps != before + one.step:
            raise ValueError(f"total_steps is {one.total_steps}, and its history ends at {before} with {one.step} more")
        if one.correct > one.seen or (one.seen and not one.step):
            raise ValueError(f"{one.correct} of {one.seen} images right after {one.step} steps, which is impossible")
        if one.partial and (one.partial.epoch, one.partial.step) != (one.epoch + 1, one.total_steps):
            raise ValueError(f"partial is of epoch {one.partial.epoch} and step {one.partial.step}")
        return one

    @property
    def records(self) -> tuple[EpochRecord, ...]:
        """What log.jsonl holds."""
        return self.history if self.partial is None else (*self.history, self.partial)

    def after_step(self, loss_sum: float, correct: int, images: int, seconds: float) -> "RunState":
        return replace(
            self,
            step=self.step + 1,
            total_steps=self.total_steps + 1,
            loss_sum=self.loss_sum + loss_sum,
            correct=self.correct + correct,
            seen=self.seen + images,
            seconds=self.seconds + seconds,
            partial=None,
        )

    def after_epoch(self, record: EpochRecord, patience: int) -> "RunState":
        return RunState(
            epoch=self.epoch + 1,
            total_steps=self.total_steps,
            plateau=self.plateau.after(record.validation_error, patience),
            history=(*self.history, record),
            scaler=self.scaler,
        )
