"""`vgg runs` lists what training left: every run by its own files, also a damaged one."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from vggcli.cli.app import run
from vggcli.locks import let_go, lock
from vggcli.training.list_runs import list_runs, recipe_name
from vggcli.training.recipe import RECIPES, Recipe

Capture = pytest.CaptureFixture[str]


def test_a_run_is_listed_with_its_network_data_recipe_and_best_error(photos: Path, capsys: Capture) -> None:
    assert run(["runs", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    (record,) = [json.loads(line) for line in Path("runs/A-1/log.jsonl").read_text().splitlines()]
    wanted = {"run": "runs/A-1", "state": "finished", "arch": "A", "epochs": 1, "planned": 1, "best_epoch": 1}
    assert wanted.items() <= one.items()
    assert Path(one["data"]).name == "photos"
    assert one["top1_error"] == record["top1_error"]
    assert one["recipe"] == "paper, scale 36, crop 32, width 0.0625, batch size 8, epochs 1, init he"
    assert run(["runs"]) == 0
    shown = capsys.readouterr().out
    assert f"{record['top1_error']:.2f} % at 1" in shown
    assert "paper +6     1/1" in shown


def test_the_epochs_of_all_runs_are_given_as_csv(photos: Path, capsys: Capture) -> None:
    shutil.copytree("runs/A-1", "runs/other")
    assert run(["runs", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    record = json.loads(Path("runs/A-1/log.jsonl").read_text())
    assert {row.pop("run") for row in rows} == {"runs/A-1", "runs/other"}
    assert rows == [{name: str(value) for name, value in record.items()}] * 2


def test_states_are_told_apart(photos: Path, capsys: Capture) -> None:
    for name in ("longer", "begun", "damaged", "held"):
        shutil.copytree("runs/A-1", f"runs/{name}")
    config = json.loads(Path("runs/longer/config.json").read_text())
    config["recipe"]["epochs"] = 5
    Path("runs/longer/config.json").write_text(json.dumps(config))
    Path("runs/begun/config.json").write_text(json.dumps(config))
    Path("runs/begun/log.jsonl").unlink()
    Path("runs/damaged/log.jsonl").write_text('{"epoch": "one"}\n')
    assert run(["runs", "--json"]) == 0
    seen = capsys.readouterr()
    found = {Path(one["run"]).name: (one["state"], one["epochs"]) for one in json.loads(seen.out)}
    assert found == {
        "A-1": ("finished", 1),
        "held": ("finished", 1),
        "longer": ("stopped", 1),
        "begun": ("stopped", 0),
        "damaged": ("damaged", 0),
    }
    assert "log.jsonl cannot be read: epoch is 'one', and should be a whole number" in seen.err
    held = lock(Path("runs/held/.lock"), create=True)
    assert {one.state for one in list_runs([Path("runs/held")]).runs} == {"running"}
    let_go(held)


def test_runs_that_are_not_there_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["runs"]) == 0
    assert "there are no runs in runs; `vgg train` makes one" in capsys.readouterr().err
    assert run(["runs", "nowhere"]) == 2
    assert "there is no folder nowhere" in capsys.readouterr().err
    assert run(["runs", "--json", "--csv"]) == 2


def test_a_recipe_is_named_by_the_nearest_one_and_its_changes() -> None:
    assert recipe_name(RECIPES["paper"]) == "paper"
    assert recipe_name(Recipe(scale=(256, 512), epochs=10)) == "paper, scale 256-512, epochs 10"
