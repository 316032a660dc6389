"""Live progress on a terminal, a plain line now and then on a pipe, nothing when quiet."""

import os
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import (
    Console,
    ConsoleOptions,
    ConsoleRenderable,
    Group,
    RenderableType,
    RenderHook,
    RenderResult,
)
from rich.control import Control
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.segment import ControlType, Segment
from rich.spinner import Spinner
from rich.text import Text

from vggcli.metrics import chance_error, is_chance, shows_top5
from vggcli.report.text import elided
from vggcli.training.state import EpochRecord, StepRecord

if TYPE_CHECKING:
    from typing_extensions import Self

PLAIN_SECONDS = 20.0  # between two lines inside an epoch, on a pipe
_WIDEST = 78  # columns of what moves: a narrower window, or a ^C that the terminal shows, then breaks no line
LONGEST_TITLE = 30  # columns
LONG_WORK, LONG_RUN = 60.0, 3600.0  # seconds from which the time that bars and runs will take is said
FEW = 2.0  # seconds of work that an estimate rests on


def error_words(record: EpochRecord, classes: int) -> str:
    """The validation error of an epoch, named by what it is an error of."""
    if record.mean_iou is not None:
        return f"localisation error {record.validation_error:.2f} % (mean IoU {record.mean_iou:.3f})"
    top5 = f" (top-5 {record.top5_error:.2f} %)" if shows_top5(classes) else ""
    return f"validation error {record.validation_error:.2f} %{top5}"


def duration(seconds: float) -> str:
    """A time as people say it, in at most two units: 12 s, 3 min 5 s, 2 h 10 min, 41 days."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole < 600 else f"{round(whole / 60)} min"
    if whole < 36 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{round(seconds / 86400)} days"


class _Bars(Progress, RenderHook):
    """Bars that leave the end of every line free, with a line under them. A terminal that is made narrower breaks the
    lines on it, which rich does not know: before they are drawn anew, the rows that this added are erased too."""

    under: RenderableType | None = None
    widths: Sequence[int] = ()  # of the lines as they were drawn last

    def get_renderable(self) -> RenderableType:
        parts = [super().get_renderable()] if self.tasks else []
        return _Narrow(Group(*parts, *([self.under] if self.under is not None else [])), self)

    def start(self) -> None:
        self.console.push_render_hook(self)
        super().start()

    def stop(self) -> None:
        super().stop()
        self.console.pop_render_hook()

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Called by rich for all that is printed; what it puts before this goes up by the lines that were drawn."""
        added = sum((width - 1) // self.console.width for width in self.widths if width)
        up = [(ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)] * added
        return [Control(*up), *renderables] if up else renderables


@dataclass(frozen=True)
class _Narrow:
    whole: RenderableType
    bars: _Bars

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(1, min(_WIDEST, options.max_width - 2))
        lines = console.render_lines(self.whole, options.update(width=width), pad=False)
        self.bars.widths = [Segment.get_line_length(line) for line in lines]
        for line in lines:
            yield from (*line, Segment.line())


class _Live:
    """A context manager that shows bars on a terminal, and lines also on a pipe."""

    def __init__(self, console: Console, quiet: bool) -> None:
        self.console, self.quiet = console, quiet
        note = TextColumn("{task.fields[note]}", justify="right")
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(None), note)
        hidden = quiet or not console.is_terminal
        self.bars = _Bars(*columns, console=console, disable=hidden, transient=True, expand=True)
        self.said = time.monotonic()

    def __enter__(self) -> "Self":
        if not self.bars.disable:
            self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        if not self.bars.disable:  # some versions of rich leave an empty line even then
            self.bars.stop()

    def say(self, line: str, indent: int = 0, style: str = "") -> None:
        """A line that stays, unless quiet; a terminal breaks it between words, with what follows indented."""
        self.said = time.monotonic()
        if self.console.is_terminal:
            line = textwrap.fill(line, self.console.width, subsequent_indent=" " * indent, break_on_hyphens=False)
        if not self.quiet:
            self.console.print(line, style=style or None, markup=False, highlight=False, soft_wrap=True)

    def say_now_and_then(self, line: str) -> None:
        """A line on a pipe, if the last one is PLAIN_SECONDS old."""
        if not self.console.is_terminal and time.monotonic() - self.said > PLAIN_SECONDS:
            self.say(line)


class Bar(_Live):
    """A single bar that counts to `total`; use it as a context manager and call it with how many more are done. Work of
    more than a minute is announced once its speed is known."""

    def __init__(self, console: Console, title: str, total: int, unit: str, quiet: bool) -> None:
        super().__init__(console, quiet)
        self.title, self.total, self.unit = title, total, unit
        self.done, self.started, self.announced = 0, self.said, False
        self.task = self.bars.add_task(elided(title, LONGEST_TITLE), total=total, note="")

    def __call__(self, more: int) -> None:
        self.done += more
        seconds = max(time.monotonic() - self.started, 1e-9)
        rate, left = self.done / seconds, seconds * (self.total - self.done) / max(self.done, 1)
        count = f"{self.done:,}/{self.total:,} {self.unit}"
        self.bars.update(self.task, completed=self.done, note=f"{count}, {rate:.1f}/s, {duration(left)} left")
        if not self.announced and seconds > FEW:
            self.announced = True
            if seconds + left > LONG_WORK:
                self.say(f"{self.title}: {self.total:,} {self.unit} take about {duration(seconds + left)}")
        self.say_now_and_then(f"{self.title}: {count}, {rate:.1f} {self.unit}/s")


class TrainingDisplay(_Live):
    """Bars of the epoch and of the whole run, and under them the loss, error and speed, or what the run is busy with; a
    line stays for every epoch. `best` is the lowest top-1 error (per cent) of earlier epochs; `advice` is added to the
    estimate of a run of hours. A second Ctrl-C stops a run that is `alone` at once."""

    def __init__(
        self, console: Console, quiet: bool, classes: int, best: float, advice: str = "", alone: bool = True
    ) -> None:
        super().__init__(console, quiet)
        self.classes, self.best, self.advice, self.alone = classes, best, advice, alone
        self.clock, self.rate, self.done_before, self.epoch = self.said, 0.0, 0, 0
        self.announced = self.stopped = False

    def step(self, record: StepRecord) -> None:
        """Show a micro-batch."""
        now = time.monotonic()
        if record.epoch != self.epoch:
            self.epoch, self.done_before = record.epoch, 0
        if self.done_before:  # the first interval of an epoch includes validation or start-up
            speed = (record.done - self.done_before) / max(now - self.clock, 1e-9)
            self.rate = speed if not self.rate else 0.9 * self.rate + 0.1 * speed
        self.clock, self.done_before = now, record.done
        before = (record.epoch - 1) * record.images
        rest = (record.images - record.done, record.epochs * record.images - before - record.done)
        left = [f", {duration(images / self.rate)} left" if self.rate else "" for images in rest]
        numbers = f"training loss {record.loss:.3f}, training error {record.error:.1f} %, lr {record.learning_rate:g}"
        if self.rate:
            numbers += f", {self.rate:.3g} images/s"
        if not self.stopped:
            self.bars.under = Text(numbers)
        step = (record.epoch - 1) * record.steps + record.step
        counts = f"step {step:,}/{record.epochs * record.steps:,}{left[1]}"
        done = f"{record.done:,}/{record.images:,} images{left[0]}"
        self._bar(0, f"epoch {record.epoch} of {record.epochs}", record.images, record.done, done)
        self._bar(1, "the whole run", record.epochs * record.images, before + record.done, counts)
        if self.rate and not self.announced:
            self.announced = True
            if rest[1] / self.rate > LONG_RUN:
                self.say(f"the whole run takes about {duration(rest[1] / self.rate)} on this machine{self.advice}")
        self.say_now_and_then(f"epoch {record.epoch}: {record.done}/{record.images} images, {numbers}")

    def _bar(self, place: int, title: str, total: int, done: int, note: str) -> None:
        if place == len(self.bars.task_ids):
            self.bars.add_task(title, total=total, completed=done, note=note)
        self.bars.update(self.bars.task_ids[place], description=title, total=total, completed=done, note=note)

    def phase(self, what: str) -> None:
        """Show what the run is busy with until its next micro-batch."""
        if not self.stopped:
            self.bars.under = Spinner("dots", Text(what))
            self.say_now_and_then(what)

    def stopping(self) -> None:
        """Say that the run will stop: a signal handler may call this at any moment, so that nothing is locked for it."""
        again = "; press Ctrl-C again to stop at once" if self.alone else ""
        self.stopped, said = True, f"stopping and saving{again}"
        self.bars.under = Spinner("dots", Text(said))
        if not self.quiet and not self.console.is_terminal:
            os.write(2, f"{said}\n".encode())

    def epoch_end(self, record: EpochRecord) -> None:
        """Leave a line for a finished epoch."""
        training = f", training error {record.training_error:.2f} %" if record.training_error is not None else ""
        error, said = record.validation_error, ""
        if record.mean_iou is None and is_chance(error, self.classes):
            said = f", no better than chance ({chance_error(self.classes):.2f} %)"
        elif error < self.best:
            said = ", best so far"
        self.best = min(self.best, error)
        self.say(
            f"epoch {record.epoch:>2}: training loss {record.loss:.3f}{training}, validation loss {record.val_loss:.3f}, "
            f"{error_words(record, self.classes)}{said}; lr {record.learning_rate:g}, {record.seconds:.1f} s",
            indent=10,
            style="green" if "best" in said else "",
        )
