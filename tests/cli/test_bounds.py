"""A number that no run can mean is one sentence and exit code 2, at once, wherever it stands."""

import json
import re
from pathlib import Path

import pytest

from vggcli.cli.app import run
from vggcli.errors import UsageError
from vggcli.training.plan import Plan
from vggcli.training.recipe import RECIPES
from vggcli.zoo.layers import MOST_PARAMETERS, NetworkConfig

HUGE = str(10**23)
TRAINING = (
    "epochs max-steps batch-size lr momentum weight-decay dropout width micro-batch seed workers scale crop".split()
)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence that a command line is refused with."""
    assert run(list(arguments)) == 2, arguments
    (sentence,) = capsys.readouterr().err.splitlines()
    return sentence


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400", "-1"])
@pytest.mark.parametrize("flag", TRAINING)
def test_training_refuses_what_is_no_number(
    flag: str, value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    refusal(capsys, "train", "--data", "none", f"--{flag}={value}")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            f"train --data none --{flag} {HUGE}"
            for flag in TRAINING
            if flag not in ("micro-batch", "lr", "weight-decay")
        ),
        "train --data none --lr 1e39",
        "train --data none --weight-decay 1e39",
        "train --data none --scale 1000000",
        "train --data none --crop 100000 --scale 100000",
        "train --data none --crop 5000 --scale 5000",
        "train --data none --head gap --crop 9000 --scale 9000",
        "train --data none --width 16",
        "train --data none --width 1e9",
        "train --data none --init gaussian --init-std inf",
        f"finetune --data none --weights w --seed {HUGE}",
        "eval --weights w --multi-crop --grid 300",
        "predict a.png --weights w --multi-crop --grid 300",
        "eval --weights w --dense --scales 100000000",
        "features a.png --weights w --scales 100000000",
        "eval --weights w --worst 1000000000",
        "eval --weights w --workers 100000",
        "probe a.safetensors --costs inf",
        "probe a.safetensors --protocol caltech --splits 1000000",
        "models D --crop 100000",
        f"models D --classes {HUGE}",
        "models D --classes 1" + 400 * "0",
    ],
)
def test_what_would_fill_memory_or_never_end_is_refused_before_work(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    flag, value = arguments.split()[-2:]
    sentence = refusal(capsys, *arguments.split())
    assert flag.lstrip("-") in sentence or value in sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "value"), [("epochs", 10**23), ("width", 1e9), ("learning_rate", float("nan"))])
def test_the_numbers_of_a_config_are_held_to_the_same(name: str, value: float, tmp_path: Path) -> None:
    plan = json.loads(Plan(recipe=RECIPES["tiny"]).to_text())
    (tmp_path / "c.json").write_text(json.dumps({**plan, "recipe": {**plan["recipe"], name: value}}))
    with pytest.raises(UsageError):
        Plan.from_file(tmp_path / "c.json")
    (tmp_path / "c.json").write_text(json.dumps({**plan, "seed": -1}))
    with pytest.raises(UsageError, match="seed"):
        Plan.from_file(tmp_path / "c.json")


def test_a_network_has_no_more_parameters_than_can_be_meant() -> None:
    NetworkConfig("E", width=5)
    with pytest.raises(UsageError, match=re.escape(f"at most {MOST_PARAMETERS:.3g}")):
        NetworkConfig("E", width=6)
