"""The front door: help, versions, greedy options, `vgg models`, exit codes."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter
from typer.main import get_command

from tests.conftest import MakeFolder
from vggcli.cli import options, signals
from vggcli.cli.app import _fail, _tell, app, run
from vggcli.cli.greedy import expanded
from vggcli.cli.help import PANELS
from vggcli.cli.signals import Terminated, asked_to_stop, ignore_signals, prepare_signals
from vggcli.data.workers import loaded
from vggcli.errors import ExitCode, UsageError, command_or_python
from vggcli.training import timing
from vggcli.zoo.compiled import kernel_sets


@pytest.mark.parametrize("command", [info.name for info in app.registered_commands])
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Example: vgg" in shown
    for info in app.registered_commands:
        assert info.callback is not None
        assert info.callback.__doc__


def test_version_and_usage(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(["--version"]) == 0
    version, convolution = capsys.readouterr().out.splitlines()
    assert version.startswith("vgg 0.")
    names = [f"compiled, {kernels.name}" for kernels in kernel_sets()] or ["by PyTorch"]
    assert convolution == f"3x3 convolution on a CPU: {names[0]}"
    monkeypatch.setenv("VGG_CONVOLUTION", "torch")
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.endswith("by PyTorch\n")
    monkeypatch.setenv("VGG_CONVOLUTION", "fast")
    assert run(["--version"]) == 2
    assert capsys.readouterr().err == "vgg: VGG_CONVOLUTION is 'fast'; give compiled or torch, or leave it out\n"
    monkeypatch.delenv("VGG_CONVOLUTION")
    assert run(["nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("--scales 256 384 512 --dense", "--scales 256 --scales 384 --scales 512 --dense"),
        ("--scales 256 384 img.jpg --gap", "--scales 256 --scales 384 img.jpg --gap"),
        ("img.jpg --scales 256", "img.jpg --scales 256"),
        ("--scales", "--scales"),
        ("--scales big 3", "--scales big --scales 3"),
        ("--resume --epochs 3", "--resume= --epochs 3"),
        ("--resume", "--resume="),
        ("--resume runs/A-1", "--resume runs/A-1"),
        ("-- --scales 1 2", "-- --scales 1 2"),
        ("--other 1 2", "--other 1 2"),
        ("--layer conv3_3 fc7:pre pool5 a/fc7 --gap", "--layer conv3_3 --layer fc7:pre --layer pool5 a/fc7 --gap"),
        ("--layer fc7 img.jpg", "--layer fc7 img.jpg"),
    ],
)
def test_greedy_options(given: str, wanted: str) -> None:
    assert expanded(given.split(), {"--scales", "--resume", "--layer"}) == wanted.split()


def test_models_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "--json"]) == 0
    models = {entry["arch"]: entry for entry in json.loads(capsys.readouterr().out)["models"]}
    assert models["D"]["parameters"] == 138_357_544
    assert models["E"]["gmacs"] == 19.632
    assert models["E"]["top5_error"] == 8.0
    assert models["B-5x5"]["top1_error"] is None


def test_a_network_layer_by_layer_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "vgg16", "--json", "--crop", "64", "--width", "0.25", "--classes", "10"]) == 0
    layers = {layer["name"]: layer for layer in json.loads(capsys.readouterr().out)["layers"]}
    assert layers["pool5"]["output"] == [128, 2, 2]
    assert layers["fc8"]["parameters"] == 10_250
    assert set(layers["conv1_1"]) >= {"name", "output", "receptive_field", "parameters", "macs"}


def test_models_show_the_argument_for_small_filters(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "D"]) == 0
    shown = capsys.readouterr().out
    for words in ("conv5_3", "27C²", "49C²", "81 %", "138,357,544", "212x212"):
        assert words in shown


def test_models_say_what_training_costs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, make_folder: MakeFolder
) -> None:
    """Of the data's images, on one device, the paper's four and as many as are asked for."""
    monkeypatch.setattr(timing, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(timing, "VIEW_SECONDS", 0.0)
    words = ["models", "A", "--width", "0.0625", "--crop", "32", "--training", "-b", "8", "--data", str(make_folder())]
    assert run([*words, "--devices", "2", "--micro-batch", "2", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    training = shown["training"]
    assert shown["layers"][-1]["output"] == [3, 1, 1]  # the classes of the data
    assert (training["batch_size"], training["micro_batch"], training["epochs"]) == (8, 2, 74)
    assert (training["images"], training["val_images"]) == (24, 12)
    assert [one["devices"] for one in training["devices"]] == [1, 2, 4]
    weights = sum(layer["parameters"] for layer in shown["layers"])
    for one in training["devices"]:
        assert one["exchanged"] == round(2 * (one["devices"] - 1) / one["devices"] * 4 * weights)
        assert one["memory"]["whole"] > 3 * 4 * weights
        assert one["seconds"] == pytest.approx(74 * one["epoch_seconds"])
    assert run([*words, "--quiet"]) == 0
    shown_table = capsys.readouterr()
    assert not shown_table.err
    for title in ("4 devices", "momentum", "a step", "images a second", "74 epochs", "a training view"):
        assert title in shown_table.out


@pytest.mark.parametrize(
    ("words", "left"),
    [
        ("models D --devices 4", "--devices has no effect without --training"),
        ("models D -b 16", "--batch-size has no effect without --training"),
        ("models D --data photos", "--data has no effect without --training"),
        ("models D --training --workers 2", "--workers has no effect without --data"),
        ("models --training", "--training is about one network"),
        ("models D --training -b 2 --devices 3", "3 devices cannot divide 2 images"),
    ],
)
def test_flags_of_the_cost_of_training_need_each_other(
    words: str, left: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words.split()) == 2
    assert left in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["models", "F"], ["models", "D", "--head", "x"], ["models", "--crop", "16"]])
def test_models_held_wrong(flags: list[str]) -> None:
    assert run(flags) == 2


def test_exit_codes_are_the_interfaces() -> None:
    codes = {code.name: code.value for code in ExitCode}
    assert codes == {
        "OK": 0, "BUG": 1, "USAGE": 2, "DATA": 3, "WEIGHTS": 4, "MACHINE": 5, "INTERRUPTED": 130, "TERMINATED": 143
    }  # fmt: skip
    assert _fail("x", ExitCode.DATA) == 3


def test_a_reader_that_has_gone_is_no_error() -> None:
    command = f"{sys.executable} -m vggcli models D | head -1"
    result = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert result.returncode == 0
    assert result.stderr == ""


def test_python_m_is_the_same_program() -> None:
    result = subprocess.run([sys.executable, "-m", "vggcli", "--version"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("vgg 0.")


@pytest.mark.parametrize(
    "command",
    [
        "data {}", "eval --weights {}", "convert {} a.pth", "train --resume {}", "train --config {}",
        "train --data {}", "probe {}.safetensors", "features --search {} {}", "finetune --weights {}", "ensemble {} {}b",
    ],
)  # fmt: skip
def test_a_name_longer_than_a_file_can_have_is_one_sentence(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(command.replace("{}", "n" * 300).split()) in (2, 3, 4, 5)
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert error.count("\nvgg: ") + error.startswith("vgg: ") == 1


@pytest.mark.parametrize("command", ["train --data", "eval --weights", "data", "predict", "train --out"])
def test_an_empty_argument_is_refused(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*command.split(), ""]) == 2
    assert "empty" in capsys.readouterr().err


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Signals as the program has them, with little patience."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    before = {number: signal.getsignal(number) for number in numbers}
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(signals, "AGAIN", 0.05)
    yield
    ignore_signals()
    for number, handler in before.items():
        signal.signal(number, handler)
    signals._received.clear()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 143), (signal.SIGINT, 130)])
@pytest.mark.usefixtures("prepared")
def test_a_signal_ends_any_command_through_what_cleans_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    cleaned = []

    def slow(*_: object, **more: object) -> None:
        try:
            signal.raise_signal(number)
        except Exception:  # no signal is an error of what it interrupts
            cleaned.append("taken for an error")
        finally:
            cleaned.append("cleaned up")

    monkeypatch.setattr("vggcli.data.sources.load_both", slow)
    prepare_signals()
    assert run(["data", "x"]) == code
    assert cleaned == ["cleaned up"]
    assert capsys.readouterr().err.strip() in ("vgg: interrupted", "vgg: stopped by a signal")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.usefixtures("prepared")
def test_a_signal_that_a_library_catches_is_raised_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    def deaf(*_: object, **more: object) -> None:
        with suppress(BaseException):
            signal.raise_signal(number)
        time.sleep(20)

    monkeypatch.setattr("vggcli.data.sources.load_both", deaf)
    prepare_signals()
    started = time.monotonic()
    assert run(["data", "x"]) == code
    assert time.monotonic() - started < 10

    def broken(*_: object, **more: object) -> None:
        with suppress(BaseException):
            signal.raise_signal(number)
        raise AttributeError("half imported")

    monkeypatch.setattr("vggcli.data.sources.load_both", broken)
    assert run(["data", "x"]) == code
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.usefixtures("prepared")
def test_a_signal_waits_for_the_end_of_an_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_module.py").write_text(
        "import signal, time\nsignal.raise_signal(signal.SIGTERM)\ntime.sleep(0.3)\nended = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    prepare_signals()
    with pytest.raises(Terminated):
        module = importlib.import_module("slow_module")
        assert module.ended
        time.sleep(20)
    assert sys.modules["slow_module"].ended


@pytest.mark.usefixtures("prepared")
def test_a_signal_waits_for_the_end_of_a_fork() -> None:
    coming = [signal.SIGTERM]
    os.register_at_fork(after_in_parent=lambda: signal.raise_signal(coming.pop()) if coming else None)
    prepare_signals()
    with pytest.raises(Terminated), closing(loaded(abs, [-1, -2], 1)) as answers:
        assert next(answers) == 1
        time.sleep(20)


@pytest.mark.usefixtures("prepared")
def test_a_signal_waits_for_a_library_that_would_swallow_it() -> None:
    class Slow:
        @classmethod
        def __get_pydantic_core_schema__(cls, source: object, handler: Any) -> Any:
            signal.raise_signal(signal.SIGTERM)
            return handler(int)

    prepare_signals()
    with pytest.raises(Terminated):
        assert int(TypeAdapter(Slow).validate_python(3)) == 3  # type: ignore[call-overload]
        time.sleep(20)


@pytest.mark.usefixtures("prepared")
def test_a_hangup_that_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup has it
    prepare_signals()
    signal.raise_signal(signal.SIGHUP)
    told: list[str] = []
    with asked_to_stop(lambda: told.append("stopping")) as asked:
        signal.raise_signal(signal.SIGHUP)
        assert not asked
        signal.raise_signal(signal.SIGTERM)
        assert (asked, told) == ([143], ["stopping"])


@pytest.mark.parametrize("command", [info.name for info in app.registered_commands])
def test_help_has_panels_and_no_word_is_broken_at_80_columns(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("rich.console.Console.is_terminal", False)
    assert run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert not re.search(r"[<>…]|list\[|\[x", shown.replace("voc2007, …", ""))
    headings = [heading for heading in re.findall(r"─ (\w+) ─", shown) if heading != "Arguments"]
    assert headings == [panel for panel in PANELS if panel in headings]
    assert "Output" in headings
    parsed = get_command(app).commands[command]  # type: ignore[attr-defined]
    words = " ".join(shown.replace("│", " ").split())
    for parameter in parsed.params:
        for text in (parameter.help, *parameter.opts, *parameter.secondary_opts):
            described = parameter.param_type_name == "argument" or " ".join(text.split()) in words
            assert described or _wrapped(parameter.help, shown), text


def _wrapped(text: str, shown: str) -> bool:
    """Whether all words of `text` are in `shown` as they are."""
    return set(text.split()) <= set(shown.replace("│", " ").split())


def test_the_help_of_all_has_one_line_a_command_and_fits_a_screen(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert not any("<" in line for line in lines)
    for info in app.registered_commands:
        assert info.short_help is not None
        assert len(info.short_help) <= 58
        assert info.hidden or any(f" {info.name} " in line and info.short_help in line for line in lines)


@pytest.mark.parametrize(
    ("words", "suggestion"),
    [
        ("evalate", "evaluate"), ("eval --dens", "--dense"), ("eval --scale 3", "--scales"), ("models vgg166", "vgg16"),
        ("models d-bm", "D-BN"), ("data cifar1O", "cifar10"), ("eval --weights imagnet", "imagenet"),
    ],
)  # fmt: skip
def test_what_is_mistyped_is_suggested(words: str, suggestion: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words.split()) in (2, 3, 4)
    assert f"did you mean {suggestion}?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    ["train --data", "eval --weights", "predict", "features", "convert {} b.pth", "data", "probe", "train --init-from"],
)
@pytest.mark.parametrize("url", ["https://example.org/a.tar", "s3://bucket/a"])
def test_urls_are_refused_whole(words: str, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = words.replace("{}", url).split()
    assert run(line if "{}" in words else [*line, url]) in (2, 3, 4)
    said = capsys.readouterr().err
    assert f"{url} is a URL, and those are not read" in said
    assert "download it" in said
    assert "https:/e" not in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("train --epochs 1.5", "'--epochs': give a whole number"), ("train --lr x", "'--lr': give a number"),
        ("eval --scales 0", "'--scales': give at least 1"), ("train -j 9999", "give at most 512"),
        ("models D --classes 0", "give at least 1"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused_in_plain_words(
    words: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words.split()) == 2
    error = capsys.readouterr().err
    assert said in error
    assert not re.search("Input should|Value error|parse", error)


@pytest.mark.parametrize(
    "words", ["eval --scales", "train --arch", "features a.jpg --layer", "predict -b", "train --skip-bad=3", "convert",
     "eval --scales --dense", "train --arch --epochs 3", "features a.jpg --layer --gap", "predict a.jpg -o -b 3",
     "eval --weights --no-flip"],
)  # fmt: skip
def test_an_option_without_a_value_leads_to_the_help_of_its_command(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words.split()) == 2
    assert capsys.readouterr().err.endswith(f"; see `vgg {words.split(maxsplit=1)[0]} --help`\n")


def test_what_is_meant_for_python_is_left_out_or_becomes_a_flag(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(arguments: list[str]) -> None:
        train = command_or_python("vgg train", "vggcli.train()")
        raise UsageError(f"no run; use {train}, or skip_bad=True", "skip_bad", "arch")

    monkeypatch.setattr(sys.modules["vggcli.cli.app"], "_dispatch", fails)
    assert run([]) == 2
    assert capsys.readouterr().err == "vgg: no run; use `vgg train`, or --skip-bad (--arch)\n"
    with pytest.raises(UsageError, match=r"use `vgg train` \(in Python: `vggcli\.train\(\)`\), or skip_bad=True"):
        fails([])


def test_quiet_leaves_out_notes_of_progress_and_keeps_what_is_odd(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet, shown in ((False, "written: a.png\nthe data: odd\n"), (True, "the data: odd\n")):
        run(["--version"])  # sets the notes up
        options.progress(quiet)
        options.written("a.png")
        options.note("the data: odd")
        assert capsys.readouterr().err == shown


def test_a_terminal_keeps_commands_and_numbers_with_their_units_on_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "40")
    _tell("stopped and saved in runs/A-1; go on with `vgg train --resume runs/A-1`, at an error of 12.5 %")
    lines = capsys.readouterr().err.splitlines()
    assert any("`vgg train --resume runs/A-1`" in line for line in lines)
    assert any("12.5 %" in line for line in lines)
    assert all(len(line) <= 40 for line in lines)
