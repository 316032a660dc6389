"""Commands take shards as they take folders, with the same results."""

import json
from pathlib import Path

import pytest

from tests.cli.test_train import train
from tests.conftest import MakeFolder
from tests.data.test_shards import in_shards
from vggcli.cli.app import run


def log(run: Path) -> list[dict[str, float]]:
    """What a run measured."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if "second" not in key} for line in lines]


def test_commands_give_the_same_from_shards_as_from_folders(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    photos, quick = make_folder(train=6, val=3), ["-j", "0", "-q"]
    assert run(["data", "pack", str(photos), "packed", "-q"]) == 0
    in_shards(tmp_path / "tars", photos, 1)
    errors = []
    for number, source in enumerate((photos, tmp_path / "packed"), 1):
        assert train(source, "--max-steps", "3") == 0
        assert log(Path(f"runs/A-{number}")) == log(Path("runs/A-1"))
    assert len(list((tmp_path / "cache" / "vgg" / "shards").glob("*.npz"))) == 1
    weights = ["--weights", "runs/A-1"]
    for source in (photos, tmp_path / "tars"):
        capsys.readouterr()
        assert run(["eval", "--data", str(source), *weights, "--json", *quick]) == 0
        errors.append(json.loads(capsys.readouterr().out)["top1_error"])
    assert errors[0] == errors[1]
    assert run(["eval", "--data", "tars", *weights, "--worst", "2", *quick]) == 0
    assert Path("runs/A-1/worst.png").is_file()
    cached = ["--layers", "last", "--cache-features", "--max-steps", "2"]
    assert run(["finetune", "--data", "tars", *weights, *cached, *quick]) == 0
    assert run(["features", "--data", "tars", *weights, "--gap", "--out", "f.npz", *quick]) == 0
    assert run(["probe", "f.npz", "--data", "tars", "--costs", "1", "-q"]) == 0
    whole = Path("tars/val-000000.tar").read_bytes()
    Path("tars/val-000000.tar").write_bytes(whole[:5000])
    capsys.readouterr()
    assert run(["eval", "--data", "tars", *weights, *quick]) == 3
    assert "val-000000.tar cannot be read as a tar file: damaged or cut short at byte 5000" in capsys.readouterr().err
