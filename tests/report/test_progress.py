"""Progress: bars on a terminal from the first micro-batch, plain lines on a pipe, silence when quiet."""

import io

import pytest
from rich.console import Console

from vggcli.report.progress import Bar, TrainingDisplay
from vggcli.training.state import EpochRecord, StepRecord

STEP = StepRecord(1, 3, 1, 4, 8, 32, 2.25, 87.5, 0.01)
EPOCH = EpochRecord(1, 4, 2.0, 50.0, 10.0, 1.9, 0.01, 123.0, 4.5)


def shown(terminal: bool, quiet: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=150)
    with TrainingDisplay(console, quiet) as display:
        display.step(STEP)
        display.progress.refresh()
        display.epoch_end(EPOCH)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_shows_bars_from_the_first_micro_batch() -> None:
    text = shown(terminal=True, quiet=False)
    for words in ("epoch 1 of 3, step 1 of 4", "8/32", "8/96", "loss 2.250", "error 87.5 %", "lr 0.01"):
        assert words in text


def test_a_pipe_gets_a_line_an_epoch() -> None:
    lines = shown(terminal=False, quiet=False).splitlines()
    assert len(lines) == 1
    assert "top-1 error 50.00 %" in lines[0]
    assert "123 images/s" in lines[0]


def test_a_pipe_gets_a_line_now_and_then_inside_a_long_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vggcli.report.progress.PLAIN_SECONDS", 0.0)
    assert "epoch 1: 8/32 images" in shown(terminal=False, quiet=False)


def test_quiet_is_silent() -> None:
    assert shown(terminal=False, quiet=True) == ""


def test_a_bar_counts_and_says_so_on_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vggcli.report.progress.PLAIN_SECONDS", 0.0)
    console = Console(file=io.StringIO(), width=150)
    with Bar(console, "evaluating", 10, "views", quiet=False) as bar:
        bar(4)
        bar(6)
    assert isinstance(console.file, io.StringIO)
    assert "evaluating: 10/10" in console.file.getvalue()
