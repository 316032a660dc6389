"""TensorBoard's own reader finds in a run's events what log.jsonl says, also after a resume."""

import json
from importlib import util
from pathlib import Path

import pytest

from tests.cli.test_train import train
from tests.conftest import MakeFolder
from vggcli.cli.app import run
from vggcli.training.tensorboard import TITLES

pytest.importorskip("tensorboard")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(one.step, one.value) for one in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def logged(run_folder: Path) -> dict[str, list[tuple[int, float]]]:
    lines = [json.loads(line) for line in (run_folder / "log.jsonl").read_text().splitlines()]
    titles = {
        key: title for key, title in TITLES.items() if key in lines[0] and key != "top5_error"
    }  # of three classes
    return {title: [(line["epoch"], line[key]) for line in lines] for key, title in titles.items()}


def test_events_say_what_the_log_says_and_go_on_with_the_run(make_folder: MakeFolder, here: Path) -> None:
    assert train(make_folder(), "--out", "run", "--epochs", "1", "--tensorboard") == 0
    first = events(here / "run" / "tensorboard")
    assert {tag: [step for step, _ in found] for tag, found in first.items()} == {
        tag: [1] for tag in logged(here / "run")
    }
    (here / "run" / "tensorboard" / "notes.txt").write_text("mine")
    assert run(["train", "--resume", "run", "--epochs", "2", "-q"]) == 0
    assert (here / "run" / "tensorboard" / "notes.txt").read_text() == "mine"
    found, wanted = events(here / "run" / "tensorboard"), logged(here / "run")
    assert found.keys() == wanted.keys()
    for tag, pairs in wanted.items():
        assert [epoch for epoch, _ in found[tag]] == [epoch for epoch, _ in pairs]
        assert [value for _, value in found[tag]] == pytest.approx([value for _, value in pairs], rel=1e-6)


def test_a_package_that_is_missing_is_named_before_any_work(
    make_folder: MakeFolder, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = make_folder()
    assert train(photos, "--out", "run", "--epochs", "1", "--tensorboard") == 0
    monkeypatch.setattr("vggcli.training.tensorboard.find_spec", lambda name: None)
    capsys.readouterr()
    assert train(photos, "--out", "other", "--tensorboard") == 5
    assert "pip install 'vggcli[tensorboard]' (--tensorboard)" in capsys.readouterr().err
    assert not (here / "other").exists()
    assert util.find_spec("tensorboard") is not None
    assert run(["train", "--resume", "run", "--epochs", "2", "-q"]) == 0
    assert "is not continued, because the package tensorboard is not installed" in capsys.readouterr().err
