"""The learning-rate rule of section 3.1: divided by 10 when the validation accuracy stalls, three times, then stop."""

from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import Field

from vggcli import paper
from vggcli.records import RECORD, Count

MOST_DROPS = paper.LEARNING_RATE_DROPS + 1  # after the last, training ends


@dataclass(frozen=True)
class Plateau:
    """The lowest error so far (per cent), `stalled` epochs since the last improvement or drop, and the `drops` made."""

    best_error: Annotated[float, Field(ge=0, allow_inf_nan=True)] = float("inf")
    stalled: Count = 0
    drops: Annotated[int, Field(ge=0, le=MOST_DROPS)] = 0
    __pydantic_config__ = RECORD

    def after(self, error: float, patience: int) -> "Plateau":
        """The state after one more epoch with validation error `error`. What counts as a stall is not in the paper:
        here it is `patience` epochs in a row without a lower error."""
        if error < self.best_error:
            return replace(self, best_error=error, stalled=0)
        if self.stalled + 1 < patience:
            return replace(self, stalled=self.stalled + 1)
        return replace(self, stalled=0, drops=self.drops + 1)

    @property
    def finished(self) -> bool:
        """Whether the accuracy has stalled once more after the last drop."""
        return self.drops > paper.LEARNING_RATE_DROPS

    def learning_rate(self, first: float) -> float:
        return float(first / 10**self.drops)
