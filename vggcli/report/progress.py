"""Live progress on a terminal, a plain line now and then on a pipe, nothing when quiet."""

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from vggcli.training.state import EpochRecord, StepRecord

if TYPE_CHECKING:
    from typing_extensions import Self

PLAIN_SECONDS = 20.0  # between two lines inside an epoch, on a pipe


class _Live:
    """A context manager that shows the `columns` of its tasks on a terminal, and lines also on a pipe."""

    def __init__(self, console: Console, quiet: bool, *columns: ProgressColumn) -> None:
        self.console, self.quiet = console, quiet
        self.progress = Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True)
        self.said = time.monotonic()

    def __enter__(self) -> "Self":
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        if not self.progress.disable:  # some versions of rich leave an empty line even then
            self.progress.stop()

    def say(self, line: str) -> None:
        """A line that stays, unless quiet."""
        self.said = time.monotonic()
        if not self.quiet:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def say_now_and_then(self, line: str) -> None:
        """A line on a pipe, if the last one is PLAIN_SECONDS old."""
        if not self.console.is_terminal and time.monotonic() - self.said > PLAIN_SECONDS:
            self.say(line)


class Bar(_Live):
    """A single bar that counts to `total`; use it as a context manager and call it with how many more are done."""

    def __init__(self, console: Console, title: str, total: int, unit: str, quiet: bool) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        super().__init__(console, quiet, *columns, TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
        self.title, self.total, self.unit = title, total, unit
        self.done, self.started = 0, self.said
        self.task = self.progress.add_task(title, total=total, rate="")

    def __call__(self, more: int) -> None:
        self.done += more
        rate = f"{self.done / max(time.monotonic() - self.started, 1e-9):.1f} {self.unit}/s"
        self.progress.update(self.task, completed=self.done, rate=rate)
        self.say_now_and_then(f"{self.title}: {self.done}/{self.total}, {rate}")


class TrainingDisplay(_Live):
    """Epoch and step bars with images/s, loss, error and learning rate; a line stays for every epoch."""

    def __init__(self, console: Console, quiet: bool) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
        super().__init__(console, quiet, *columns, TextColumn("{task.fields[note]}"), TimeRemainingColumn())
        self.tasks: tuple[TaskID, TaskID] | None = None
        self.clock = self.said
        self.rate, self.done_before, self.epoch = 0.0, 0, 0

    def step(self, record: StepRecord) -> None:
        """Show a micro-batch."""
        now = time.monotonic()
        if record.epoch != self.epoch:
            self.epoch, self.done_before = record.epoch, 0
        speed = (record.done - self.done_before) / max(now - self.clock, 1e-9)
        if self.done_before:  # the first interval of an epoch includes validation or start-up
            self.rate = speed if not self.rate else 0.9 * self.rate + 0.1 * speed
        self.clock, self.done_before = now, record.done
        numbers = f"{self.rate:.0f} images/s  loss {record.loss:.3f}  error {record.error:.1f} %"
        note = f"{numbers}  lr {record.learning_rate:g}"
        if self.tasks is None:
            whole = self.progress.add_task("run", total=record.epochs * record.images, note="")
            self.tasks = (whole, self.progress.add_task("epoch", total=record.images, note=note))
        whole, epoch = self.tasks
        overall = f"epoch {record.epoch} of {record.epochs}, step {record.step} of {record.steps}"
        self.progress.update(whole, completed=(record.epoch - 1) * record.images + record.done, note=overall)
        self.progress.update(epoch, completed=record.done, note=note)
        self.say_now_and_then(f"epoch {record.epoch}: {record.done}/{record.images} images, {note}")

    def epoch_end(self, record: EpochRecord) -> None:
        """Leave a line for a finished epoch."""
        self.say(
            f"epoch {record.epoch:>3}: loss {record.loss:.3f}, validation loss {record.val_loss:.3f}, top-1 error "
            f"{record.top1_error:.2f} %, top-5 {record.top5_error:.2f} %, lr {record.learning_rate:g}, "
            f"{record.images_per_second:.0f} images/s, {record.seconds:.1f} s"
        )
