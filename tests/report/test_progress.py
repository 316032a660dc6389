"""Progress: bars on a terminal from the first moment, plain lines on a pipe, silence when quiet."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from vggcli.report import progress
from vggcli.report.progress import Bar, TrainingDisplay, duration
from vggcli.training.state import EpochRecord, StepRecord

STEP = StepRecord(1, 3, 1, 4, 8, 32, 2.25, 87.5, 0.01)
EPOCH = EpochRecord(
    epoch=1,
    step=4,
    loss=2.0,
    top1_error=50.0,
    top5_error=10.0,
    val_loss=1.9,
    learning_rate=0.01,
    images_per_second=123.0,
    seconds=4.5,
    training_error=62.5,
)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def shown(terminal: bool, quiet: bool, epoch: EpochRecord = EPOCH, classes: int = 10, width: int = 150) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width)
    with TrainingDisplay(console, quiet, classes, best=60.0) as display:
        display.phase("the first micro-batch")
        display.bars.refresh()
        display.step(STEP)
        display.bars.refresh()
        display.epoch_end(epoch)
    return text_of(console)


def test_a_terminal_shows_what_is_done_from_the_first_moment() -> None:
    text = shown(terminal=True, quiet=False)
    for words in ("the first micro-batch", "epoch 1 of 3", "8/32 images", "step 1/12"):
        assert words in text
    assert "training loss 2.250, training error 87.5 %, lr 0.01" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_moving_line_fills_a_terminal_or_breaks_a_number(width: int) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    with TrainingDisplay(console, False, 10, 60.0) as display, Bar(console, "a" * 90, 123_456, "images", False) as bar:
        display.step(replace(STEP, images=1_281_167, done=640_000, epochs=74, steps=5005))
        bar(100_000)
        for one in (display.bars, bar.bars):
            lines = Console(width=width, color_system=None)
            with lines.capture() as captured:
                lines.print(one.get_renderable())
            drawn = captured.get()
            assert max(len(line.rstrip()) for line in drawn.splitlines()) <= min(78, width - 2)
            assert ("640,000/1,281,167" if one is display.bars else "100,000/123,456") in drawn


def test_a_pipe_gets_a_line_an_epoch_that_names_its_numbers() -> None:
    (line,) = shown(terminal=False, quiet=False).splitlines()
    assert line == (
        "epoch  1: training loss 2.000, training error 62.50 %, validation loss 1.900, validation error 50.00 % "
        "(top-5 10.00 %), best so far; lr 0.01, 4.5 s"
    )
    assert "top-5" not in shown(terminal=False, quiet=False, classes=5)
    assert "best" not in shown(terminal=False, quiet=False, epoch=replace(EPOCH, top1_error=61.0))
    assert "training error" not in shown(terminal=False, quiet=False, epoch=replace(EPOCH, training_error=None))
    assert "validation error 90.00 % (top-5 10.00 %), which is chance (90 %)" in shown(
        terminal=False, quiet=False, epoch=replace(EPOCH, top1_error=90.0)
    )


def test_a_terminal_breaks_the_line_of_an_epoch_between_words() -> None:
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown(terminal=True, quiet=False, width=80))
    assert (
        "validation loss 1.900,\n          validation error 50.00 % (top-5 10.00 %), best so far; lr 0.01, 4.5 s\n"
        in text
    )


def test_a_pipe_gets_a_line_now_and_then_inside_a_long_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    assert "epoch 1: 8/32 images" in shown(terminal=False, quiet=False)


def test_quiet_is_silent() -> None:
    assert shown(terminal=False, quiet=True) == ""


def test_a_run_of_hours_says_how_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("vggcli.report.progress.time.monotonic", lambda: now)
    console = Console(file=io.StringIO(), width=150)
    with TrainingDisplay(console, False, 10, 60.0, "; there is a shorter way") as display:
        display.step(replace(STEP, images=3200, epochs=74))
        now += 2.0  # 8 images more
        display.step(replace(STEP, images=3200, epochs=74, done=16))
    assert "the whole run takes about 16 h 26 min on this machine; there is a shorter way" in text_of(console)


def test_a_bar_counts_and_says_so_on_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("vggcli.report.progress.time.monotonic", lambda: now)
    console = Console(file=io.StringIO(), width=150)
    with Bar(console, "evaluating", 1000, "views", quiet=False) as bar:
        now += 3.0
        bar(4)
        now += 21.0
        bar(6)
    assert text_of(console).splitlines() == [
        "evaluating: 1,000 views take about 12 min",
        "evaluating: 10/1,000 views, 0.4 views/s",
    ]


def test_durations_are_said_as_people_do() -> None:
    said = {12.4: "12 s", 185.0: "3 min 5 s", 1500.0: "25 min", 7800.0: "2 h 10 min", 41.2 * 86400: "41 days"}
    assert {duration(seconds): words for seconds, words in said.items()} == {words: words for words in said.values()}


def test_a_terminal_that_was_made_narrower_keeps_no_rows_of_the_bars_that_it_broke() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    with TrainingDisplay(console, False, 10, 60.0) as display:
        display.step(STEP)
        display.bars.refresh()
        widths = display.bars.widths
        assert len(widths) == 3
        for width in (80, 60, 30):
            assert isinstance(console.file, io.StringIO)
            console.file.truncate(0)
            console.width = width
            broken = sum(-(-one // width) for one in display.bars.widths)  # rows that the terminal made of the lines
            display.bars.refresh()
            assert console.file.getvalue().count("\x1b[1A") == broken - 1
            assert max(display.bars.widths) <= width - 2
