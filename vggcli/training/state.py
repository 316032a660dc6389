"""How far a run has come: all that resuming needs beside weights and momentum, as plain JSON."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

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


@dataclass(frozen=True)
class EpochRecord:
    """One line of log.jsonl: `loss` and `training_error` over the training views (with dropout, as they are learnt from),
    the others on the validation split by centre crop; errors in per cent; `step` counts from the start of the run;
    `seconds` of training and validation together. Older runs do not say their `training_error`."""

    epoch: Ordinal
    step: Count
    loss: Amount
    top1_error: Percent
    top5_error: Percent
    val_loss: Amount
    learning_rate: Positive
    images_per_second: Amount
    seconds: Amount
    training_error: Percent | None = field(default=None, metadata=LATER)
    __pydantic_config__ = RECORD


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
    partial: EpochRecord | None = None  # where max_steps ended a run inside an epoch; going on discards it
    __pydantic_config__ = RECORD

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "RunState":
        """Raises ValueError where the fields are not what `to_json` writes, or no run can have come to them."""
        state = read_record(cls, fields)
        state._check_counts()
        return state

    def _check_counts(self) -> None:
        before = self.history[-1].step if self.history else 0
        epochs, steps = [one.epoch for one in self.history], [one.step for one in self.history]
        if epochs != list(range(1, len(epochs) + 1)) or self.epoch != len(epochs) or steps != sorted(set(steps)):
            raise ValueError(f"epoch is {self.epoch}, and its history is of other epochs")
        if self.total_steps != before + self.step:
            raise ValueError(
                f"total_steps is {self.total_steps}, and its history ends at {before} with {self.step} more"
            )
        if self.correct > self.seen or (self.seen and not self.step):
            raise ValueError(
                f"it has {self.correct} of {self.seen} images right after {self.step} steps, which cannot be"
            )
        if self.partial and (self.partial.epoch, self.partial.step) != (self.epoch + 1, self.total_steps):
            raise ValueError(f"partial is of epoch {self.partial.epoch} and step {self.partial.step}")

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
            plateau=self.plateau.after(record.top1_error, patience),
            history=(*self.history, record),
            scaler=self.scaler,
        )
