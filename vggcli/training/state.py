"""How far a run has come: all that resuming needs beside weights and momentum, as plain JSON."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

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
    """One line of log.jsonl: `loss` over the training views, the others on the validation split by centre crop; errors
    in per cent; `step` counts from the start of the run; `seconds` of training and validation together."""

    epoch: int
    step: int
    loss: float
    top1_error: float
    top5_error: float
    val_loss: float
    learning_rate: float
    images_per_second: float
    seconds: float


@dataclass(frozen=True)
class RunState:
    """`epoch` and `step` (within it) come next; `loss_sum`, `correct`, `seen` and `seconds` are of the epoch so far."""

    epoch: int = 0
    step: int = 0
    total_steps: int = 0
    plateau: Plateau = field(default_factory=Plateau)
    history: tuple[EpochRecord, ...] = ()
    loss_sum: float = 0.0
    correct: int = 0
    seen: int = 0
    seconds: float = 0.0
    scaler: dict[str, Any] = field(default_factory=dict)
    partial: EpochRecord | None = None  # where --max-steps ended a run inside an epoch; going on discards it

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "RunState":
        history = tuple(EpochRecord(**record) for record in fields["history"])
        partial = EpochRecord(**fields["partial"]) if fields["partial"] else None
        return cls(**{**fields, "plateau": Plateau(**fields["plateau"]), "history": history, "partial": partial})

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
