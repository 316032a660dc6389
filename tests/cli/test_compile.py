"""`--compile` in each command: the same figures as without, recorded where settings are, refused where nothing compiles."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import vggcli
from tests.cli.test_evaluate import evaluated
from tests.cli.test_train import train
from tests.conftest import MakeFolder
from tests.localisation.nets import saved_pair
from vggcli.cli.app import run
from vggcli.weights.checkpoint import read_checkpoint
from vggcli.zoo.inductor import need_compiler


@pytest.fixture(autouse=True)
def looks_for_a_compiler_anew() -> None:
    need_compiler.cache_clear()


def test_an_evaluation_is_the_same(photos: Path, capsys: pytest.CaptureFixture[str], traced: Any) -> None:
    plain = evaluated(capsys, "--weights", "runs/A-1", "--save-scores", "plain.safetensors")
    before = traced.frame_count
    found = evaluated(capsys, "--weights", "runs/A-1", "--save-scores", "compiled.safetensors", "--compile")
    assert traced.frame_count == before + 2  # the search for a compiler, and the network
    timed = ("seconds", "images_per_second")
    same = {name: value for name, value in plain.items() if name not in timed and "error" not in name}
    assert {name: found[name] for name in same} == same
    rows = [load_file(f"{name}.safetensors")["posteriors"] for name in ("plain", "compiled")]
    np.testing.assert_allclose(rows[1], rows[0], rtol=1e-4, atol=1e-6)


def test_a_run_keeps_it_and_may_go_on_without(
    make_folder: MakeFolder,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    traced: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert train(make_folder(train=4), "--out", "run", "--max-steps", "1", "--compile") == 0
    assert json.loads(Path("run/config.json").read_text())["compile"] is True
    assert read_checkpoint(Path("run/last.safetensors")).training["compile"] is True
    compilations = traced.frame_count
    assert compilations > 0
    capsys.readouterr()
    assert run(["train", "--resume", "run", "--max-steps", "2", "--no-compile", "-j", "0"]) == 0
    assert "run goes on without torch.compile, which changes the last bit of a sum" in capsys.readouterr().err
    assert traced.frame_count == compilations
    assert json.loads(Path("run/config.json").read_text())["compile"] is False
    assert "compile" not in read_checkpoint(Path("run/last.safetensors")).training


def test_descriptors_are_the_same_and_say_it(photos: Path, traced: Any) -> None:
    words = ["features", str(photos / "val" / "class0"), "--weights", "runs/A-1", "--gap", "-q", "-j", "0"]
    assert run([*words, "--out", "plain.npz"]) == 0
    before = traced.frame_count
    assert run([*words, "--out", "compiled.npz", "--compile"]) == 0
    assert traced.frame_count > before
    plain, found = (np.load(f"{name}.npz") for name in ("plain", "compiled"))
    np.testing.assert_allclose(found["features"], plain["features"], rtol=1e-4, atol=1e-6)
    assert '"compile": "true"' in str(found["metadata"])
    assert "compile" not in str(plain["metadata"])


@pytest.mark.slow
def test_predictions_of_classes_and_boxes_and_ensembles_are_the_same(
    photos: Path, capsys: pytest.CaptureFixture[str], traced: Any
) -> None:
    boxes, classes = saved_pair(Path())
    image = str(photos / "val" / "class0" / "0.jpg")
    found: dict[bool, list[Any]] = {}
    for compile in (False, True):
        torch.compiler.reset()
        by_boxes = vggcli.predict(image, boxes=boxes, classifier=classes, compile=compile)
        by_classes = vggcli.predict(image, classes, dense=True, scales=(40, 64), compile=compile)
        both = vggcli.ensemble(["runs/A-1", str(classes)], photos, compile=compile).to_json()
        found[compile] = [
            [value for box in by_boxes.images[0].boxes for value in (box.score, *box.box)],
            [posterior for _, posterior in sorted(by_classes.images[0].top)],
            [float(both["calibration_error"])],
        ]
    for plain, one in zip(found[False], found[True], strict=True):
        assert one == pytest.approx(plain, rel=1e-3, abs=1e-5)
    assert traced.frame_count >= 5


@pytest.mark.parametrize(
    "words",
    ["eval", "predict {photos}", "ensemble runs/A-1 runs/A-1/last.safetensors", "features {photos} --gap --out f.csv"],
)
def test_a_machine_where_nothing_compiles_is_told_so(
    photos: Path, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(function: object, **how: object) -> None:
        raise RuntimeError("no Triton.\nMore")

    monkeypatch.setattr(torch, "compile", refuse)
    weights = [] if words.startswith("ensemble") else ["--weights", "runs/A-1"]
    assert run([*words.format(photos=photos / "val").split(), "--compile", "-q", "--device", "cpu", *weights]) == 5
    said = capsys.readouterr().err.strip().splitlines()
    what = "torch.compile cannot make code for cpu here (no Triton); install a C++ compiler, or run without it"
    assert said[-1] == f"vgg: {what} (--compile)"
    assert train(photos, "--out", "refused", "--compile") == 5
    assert not Path("refused").exists()


@pytest.mark.slow
def test_a_search_path_without_a_compiler_is_such_a_machine(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config: Any = __import__("torch._inductor.config", fromlist=["cpp"])
    monkeypatch.setattr(config.cpp, "cxx", (None, "no-such-compiler"))
    assert run(["eval", "--compile", "-q", "--device", "cpu", "--weights", "runs/A-1"]) == 5
    assert "No working C++ compiler found" in capsys.readouterr().err
