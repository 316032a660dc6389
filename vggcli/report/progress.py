"""Live progress on a terminal, plain lines at a decent pace on a pipe, nothing when quiet."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from vggcli.training.state import EpochRecord, StepRecord

PLAIN_SECONDS = 20.0  # between two lines inside an epoch, on a pipe


class Bar:
    """A single bar that counts to `total`; use it as a context manager and call it with how many more are done."""

    def __init__(self, console: Console, title: str, total: int, unit: str, quiet: bool) -> None:
        self.console, self.title, self.total, self.unit, self.quiet = console, title, total, unit, quiet
        self.done, self.started = 0, time.monotonic()
        self.said = self.started
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True)
        self.task = self.progress.add_task(title, total=total, rate="")

    def __enter__(self) -> "Bar":
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.progress.disable:  # some versions of rich leave an empty line even then
            self.progress.stop()

    def __call__(self, more: int) -> None:
        self.done += more
        now = time.monotonic()
        rate = f"{self.done / max(now - self.started, 1e-9):.1f} {self.unit}/s"
        self.progress.update(self.task, completed=self.done, rate=rate)
        if not self.console.is_terminal and not self.quiet and now - self.said > PLAIN_SECONDS:
            self.said = now
            self.console.print(f"{self.title}: {self.done}/{self.total}, {rate}", markup=False, highlight=False)


class TrainingDisplay:
    """Epoch and step bars with images/s, loss, error and learning rate; a line is left behind for every epoch."""

    def __init__(self, console: Console, quiet: bool) -> None:
        self.console, self.quiet = console, quiet
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
        )
        self.progress = Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True)
        self.tasks: tuple[TaskID, TaskID] | None = None
        self.said = self.clock = time.monotonic()
        self.rate, self.done_before, self.epoch = 0.0, 0, 0

    def __enter__(self) -> "TrainingDisplay":
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.progress.disable:  # some versions of rich leave an empty line even then
            self.progress.stop()

    def step(self, record: StepRecord) -> None:
        """Show a micro-batch."""
        now = time.monotonic()
        if record.epoch != self.epoch:
            self.epoch, self.done_before = record.epoch, 0
        speed = (record.done - self.done_before) / max(now - self.clock, 1e-9)
        if self.done_before:  # the first interval of an epoch holds validation or start-up
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
        if not self.console.is_terminal and now - self.said > PLAIN_SECONDS:
            self._say(f"epoch {record.epoch}: {record.done}/{record.images} images, {note}")

    def epoch_end(self, record: EpochRecord) -> None:
        """Leave a line for a finished epoch."""
        self._say(
            f"epoch {record.epoch:>3}: loss {record.loss:.3f}, validation loss {record.val_loss:.3f}, top-1 error "
            f"{record.top1_error:.2f} %, top-5 {record.top5_error:.2f} %, lr {record.learning_rate:g}, "
            f"{record.images_per_second:.0f} images/s, {record.seconds:.1f} s"
        )

    def _say(self, line: str) -> None:
        self.said = time.monotonic()
        if not self.quiet:
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)
