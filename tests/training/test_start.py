"""Training from Python does what the commands do, in silence; whoever looks on is told of it and may stop it."""

import inspect
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeFolder
from tests.training.sessions import assert_same_bits
from vggcli.cli.app import run
from vggcli.data.survey import Survey
from vggcli.errors import UsageError
from vggcli.places import Places
from vggcli.training.options import FinetuneOptions, Stopped, TrainOptions
from vggcli.training.start import finetune, train
from vggcli.training.state import EpochRecord, StepRecord
from vggcli.training.surroundings import PicturedRun, Pictures, Surroundings, Watch

SMALL: dict[str, Any] = {"crop": 32, "scale": 36, "width": 0.0625, "batch_size": 8, "init": "he", "learning_rate": 0.01}
FLAGS = "--arch A --crop 32 --scale 36 --width 0.0625 -b 8 --init he --lr 0.01 -j 0 -q --json".split()


@pytest.fixture
def around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Surroundings:
    monkeypatch.setattr(logging.getLogger("vggcli"), "handlers", [])  # those of a command line before
    return Surroundings(Places(tmp_path / "runs", tmp_path / "cache"))


def test_python_gives_what_the_command_gives_and_shows_nothing(
    make_folder: MakeFolder, tmp_path: Path, around: Surroundings, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, home = make_folder(), tmp_path / "runs" / "A-1"
    result = train(around, photos, "A", epochs=2, **SMALL)
    assert capsys.readouterr() == ("", "")
    assert (result.run, result.arch, result.data, result.epochs) == (home, "A", str(photos), 2)
    assert {path.suffix for path in home.iterdir()} == {".json", ".jsonl", ".safetensors"}  # no pictures
    records = [json.loads(line) for line in (home / "log.jsonl").read_text().splitlines()]
    best = min(records, key=lambda record: float(record["top1_error"]))
    said = {"run": str(home), "epochs": 2, "seconds": result.seconds, "best": best, "last": records[-1]}
    assert result.to_json() == said
    assert run(["train", "--data", str(photos), *FLAGS, "--epochs", "2", "--out", str(tmp_path / "command")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed.keys() == said.keys()
    assert_same_bits(home, tmp_path / "command")


def test_whoever_looks_on_is_told_of_everything_and_may_stop_the_run(
    make_folder: MakeFolder, tmp_path: Path, around: Surroundings
) -> None:
    photos, seen, surveys, drawn = make_folder(), list[StepRecord | EpochRecord](), list[Survey](), list[str]()

    @contextmanager
    def watching(classes: int, best: float) -> Iterator[Watch]:
        yield Watch(seen.append, lambda: len(seen) == 5)  # three steps, an epoch, and a step of the next

    pictured = list[PicturedRun]()

    def views(views_HWC: Any, names: Sequence[tuple[str, str]], path: Path, run: PicturedRun) -> None:
        drawn.append(path.name)
        pictured.append(run)
        assert all(Path(run.data, "train", label, file).is_file() for label, file in names)

    def curves(log: Path, path: Path, run: PicturedRun) -> None:
        drawn.append(path.name)
        pictured.append(run)

    pictures = Pictures(curves, views)
    told = replace(around, surveyed=surveys.append, watching=watching, pictures=pictures)
    with pytest.raises(Stopped, match=r"stopped and saved; go on with `vgg train --resume .*A-1`"):
        train(told, photos, "A", epochs=2, **SMALL)
    assert [type(one) for one in seen] == [StepRecord] * 3 + [EpochRecord, StepRecord]
    assert surveys[0].train == (8, 8, 8)
    assert drawn == ["views.png", "curves.png"]
    assert [(run.path.name, run.config.classes, run.data) for run in pictured] == [("A-1", 3, str(photos))] * 2
    again = train(around, resume="")
    assert (again.run, again.epochs, again.last.step) == (tmp_path / "runs" / "A-1", 2, 6)
    straight = train(around, photos, "A", epochs=2, **SMALL)
    assert_same_bits(again.run, straight.run)


def test_a_run_that_is_stopped_in_its_first_step_says_that_nothing_is_kept(
    make_folder: MakeFolder, around: Surroundings
) -> None:
    seen = list[object]()

    @contextmanager
    def watching(classes: int, best: float) -> Iterator[Watch]:
        yield Watch(seen.append, lambda: len(seen) == 1)

    with pytest.raises(
        Stopped, match=r"stopped before the end of the first step; begin it again with `vgg train --resume"
    ):
        train(replace(around, watching=watching), make_folder(), "A", epochs=2, micro_batch=2, **SMALL)


def test_fine_tuning_from_python(make_folder: MakeFolder, tmp_path: Path, around: Surroundings) -> None:
    train(around, make_folder(), "A", epochs=1, **SMALL)
    more = make_folder("more", classes=4)
    result = finetune(around, tmp_path / "runs" / "A-1", str(more), layers="fc", cache_features=True, max_steps=2)
    assert (result.run.name, result.last.step) == ("A-2", 2)
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 2
    longer = finetune(around, resume=result.run, max_steps=3)
    assert (longer.run, longer.last.step) == (result.run, 3)


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({"recipe": "large"}, ("recipe",)),
        ({"precision": "fp8"}, ("precision",)),
        ({"scale": 36, "scale_jitter": (36, 40)}, ("scale", "scale_jitter")),
        ({"micro_batch": 0}, ("micro_batch",)),
        ({"layers": "first"}, ("layers",)),
    ],
)
def test_what_no_run_can_mean_is_refused_with_the_names_of_the_options(
    given: dict[str, Any], options: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError) as caught:
        FinetuneOptions(**given)
    assert caught.value.options == options


@pytest.mark.parametrize(("entry", "kind"), [(train, TrainOptions), (finetune, FinetuneOptions)])
def test_the_keywords_are_the_fields_of_the_options(entry: Any, kind: Any, around: Surroundings) -> None:
    names = list(inspect.signature(entry).parameters)
    assert names[0] == "around"
    assert set(names[1:]) == {field.name for field in fields(kind)}
    with pytest.raises(TypeError, match="wdith"):
        entry(around, wdith=1)
