"""The functions of Python measure, record and average as the commands do, by the same options."""

import inspect
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeFolder
from tests.zoo.nets import about, small
from vggcli.errors import MachineError, UsageError
from vggcli.evaluation import measure
from vggcli.evaluation.ensemble import Fusion
from vggcli.evaluation.measure import Measured
from vggcli.evaluation.options import Asked, MeasureOptions
from vggcli.evaluation.predict import predict
from vggcli.evaluation.protocol import image_posteriors
from vggcli.evaluation.result import EvaluationRecord, keep_record
from vggcli.evaluation.scores_file import save_scores
from vggcli.files import file_sha256
from vggcli.localisation.evaluate import ensemble, evaluate
from vggcli.places import Places
from vggcli.records import read_record
from vggcli.weights.checkpoint import Checkpoint, save_checkpoint


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "runs", tmp_path / "cache")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """The weights of a run of a network that knows the photos' classes."""
    network = small(classes=3)
    known = Checkpoint(network.config, ("class0", "class1", "class2"), about(network).preprocessing, (70, 90))
    (tmp_path / "runs" / "A-1").mkdir(parents=True)
    (tmp_path / "runs" / "A-1" / "config.json").write_text("{}")
    save_checkpoint(tmp_path / "runs" / "A-1" / "last.safetensors", network, known)
    return tmp_path / "runs" / "A-1" / "last.safetensors"


def test_an_evaluation_is_recorded_and_its_record_is_read_back(
    make_folder: MakeFolder, weights: Path, places: Places
) -> None:
    measured = evaluate(places, None, make_folder(), arch="A", device="cpu", dense=True, scales=[64, 70])
    one = measured.evaluation
    assert (one.images, one.protocol, one.scales, one.flip) == (12, "dense", (64, 70), True)
    text = (weights.parent / "evaluations.jsonl").read_text()
    line = json.loads(text)
    assert {**measured.to_json(), "date": line["date"], "version": line["version"]} == line
    record = read_record(EvaluationRecord, text)
    assert record == EvaluationRecord(**vars(one), date=line["date"], version=line["version"])
    assert record.top1_error == line["top1_error"]


def test_the_hash_is_that_of_the_weights_that_were_measured(
    make_folder: MakeFolder, weights: Path, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured_file, other = file_sha256(weights), weights.with_name("other")
    other.write_bytes(weights.read_bytes() + b" ")

    def replaced_meanwhile(*given: Any) -> Any:
        other.replace(weights)
        return image_posteriors(*given)

    monkeypatch.setattr(measure, "image_posteriors", replaced_meanwhile)
    assert evaluate(places, weights, make_folder(), device="cpu").evaluation.weights_sha256 == measured_file


def test_a_record_that_cannot_be_written_is_noted(
    make_folder: MakeFolder, weights: Path, places: Places, caplog: pytest.LogCaptureFixture
) -> None:
    (weights.parent / "evaluations.jsonl").mkdir()
    caplog.set_level("INFO", "vggcli")
    measured = evaluate(places, weights, make_folder(), device="cpu")
    assert "not recorded: " in caplog.text
    keep_record(measured.evaluation, None)  # of weights outside a run: nothing to do


def test_an_ensemble_of_a_network_and_its_own_scores_is_that_network(
    make_folder: MakeFolder, weights: Path, places: Places, tmp_path: Path
) -> None:
    folder, file = make_folder(), tmp_path / "s.safetensors"
    measured = evaluate(places, weights, folder, device="cpu")
    assert isinstance(measured, Measured)
    save_scores(file, measured.scores, measured.to_json())
    fusion = ensemble(places, [weights, file], folder, device="cpu")
    assert isinstance(fusion, Fusion)
    assert fusion.whole.posteriors_NK.equal(measured.scores.posteriors_NK)
    assert fusion.to_json()["correct_top1"] == measured.evaluation.correct_top1
    again = tmp_path / "again.safetensors"
    again.write_bytes(file.read_bytes())
    assert ensemble(places, [file, again]).to_json()["data"] is None
    with pytest.raises(UsageError, match="has no effect where every member is a file of saved scores") as caught:
        ensemble(places, [file, again], dense=True)
    assert caught.value.options == ("dense",)
    with pytest.raises(UsageError, match="two members"):
        ensemble(places, [weights], folder)


@pytest.mark.parametrize(
    ("asked", "message", "options"),
    [
        ({"grid": 3}, "without multi-crop evaluation", ("grid", "multi_crop")),
        ({"multi_crop": True, "grid": 51}, "at most 50", ("grid",)),
        ({"scales": [64], "multi_scale": True}, "contradict", ("scales", "multi_scale")),
        ({"precision": "fp8"}, "precision is 'fp8', and should be 'auto'", ("precision",)),
    ],
)
def test_options_that_cannot_be_meant(asked: Any, message: str, options: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        MeasureOptions(**asked)
    assert caught.value.options == options


def test_scales_that_do_not_suit_the_network_are_named(make_folder: MakeFolder, weights: Path, places: Places) -> None:
    with pytest.raises(UsageError, match="the scale 63 is below") as caught:
        evaluate(places, weights, make_folder(), scales=[63], device="cpu")
    assert caught.value.options == ("scales",)
    with pytest.raises(MachineError, match="no device"):
        evaluate(places, weights, make_folder("other"), device="cuda:99")


@pytest.mark.parametrize("function", [evaluate, ensemble, predict])
def test_help_lists_the_options_with_their_defaults(function: Any) -> None:
    names = [one.name for one in fields(MeasureOptions)]
    assert list(Asked.__annotations__) == names
    parameters = inspect.signature(function).parameters
    assert list(parameters)[-len(names) :] == names
    assert parameters["workers"].default == 0


def test_a_result_says_what_the_command_prints(make_folder: MakeFolder, weights: Path, places: Places) -> None:
    measured = evaluate(places, weights, make_folder(), split="train", device="cpu")
    assert isinstance(measured, Measured)
    assert measured.run == weights.parent
    assert json.loads(json.dumps(measured.to_json()))["images"] == 24
