"""`--decode gpu`: refused where there is no GPU, recorded where there is one, and otherwise the same figures."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from vggcli.cli.app import run

WITHOUT_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")


@pytest.fixture
def decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any device counts as one that decodes, so that a CPU takes the path of a GPU."""
    for file in ("evaluation.options", "features.bulk", "training.start", "training.data", "training.resume"):
        monkeypatch.setattr(f"vggcli.{file}.need_decoder", lambda decode, device: None)


@WITHOUT_GPU
@pytest.mark.parametrize(
    "command",
    [
        "train --arch A --data ../photos",
        "finetune --weights runs/A-1 --data ../photos",
        "eval --weights runs/A-1 --data ../photos --device cpu",
        "ensemble runs/A-1 runs/A-1/last.safetensors --data ../photos",
        "predict ../photos --weights runs/A-1",
        "features ../photos --gap --weights runs/A-1 --out f.npz",
    ],
)
def test_without_a_gpu_it_is_refused_before_any_work(
    photos: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    before = sorted(Path.cwd().rglob("*"))
    assert run([*shlex.split(command), "--decode", "gpu", "-j", "0", "-q"]) == 5
    said = capsys.readouterr()
    assert said.err == "vgg: this machine has no CUDA device to decode JPEGs on; decode on the CPU (--decode)\n"
    assert said.out == ""
    assert sorted(Path.cwd().rglob("*")) == before


@WITHOUT_GPU
def test_a_config_that_decodes_on_the_gpu_needs_one_too(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = json.loads(Path("runs/A-1/config.json").read_text())
    assert config["decode"] == "cpu"
    Path("gpu.json").write_text(json.dumps({**config, "decode": "gpu"}))
    command = ["train", "--config", "gpu.json", "--max-steps", "1", "-j", "0", "-q", "--out", "run"]
    assert run(command) == 5
    assert "no CUDA device" in capsys.readouterr().err
    assert not Path("run").exists()
    assert run([*command, "--decode", "cpu"]) == 0


def figures(capsys: pytest.CaptureFixture[str], command: str, decode: str) -> dict[str, Any]:
    capsys.readouterr()
    words = [*shlex.split(command), "--decode", decode, "--device", "cpu", "-j", "0", "-q", "--json"]
    assert run(words) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[0])
    return found


def test_evaluations_are_recorded_with_where_images_were_decoded(
    photos: Path, decoding: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (
        "eval --weights runs/A-1 --data ../photos --dense --save-scores s-cpu.safetensors",
        "ensemble runs/A-1 runs/A-1/last.safetensors --data ../photos",
    ):
        cpu = figures(capsys, command, "cpu")
        gpu = figures(capsys, command.replace("s-cpu", "s-gpu"), "gpu")
        assert (gpu["correct_top1"], gpu["images"]) == (cpu["correct_top1"], cpu["images"])
        assert [(one.get("members") or [one])[0]["decode"] for one in (cpu, gpu)] == ["cpu", "gpu"]
    assert (
        run(["eval", "--weights", "runs/A-1", "--data", "../photos", "--decode", "gpu", "--device", "cpu", "-q"]) == 0
    )
    assert "JPEGs decoded on the GPU" in capsys.readouterr().out
    record = json.loads(Path("runs/A-1/evaluations.jsonl").read_text().splitlines()[-1])
    assert record["decode"] == "gpu"
    fused = figures(capsys, "ensemble s-gpu.safetensors runs/A-1 --data ../photos", "cpu")
    assert [one["decode"] for one in fused["members"]] == ["gpu", "cpu"]


def test_predictions_and_descriptors_differ_little(
    photos: Path, decoding: None, capsys: pytest.CaptureFixture[str]
) -> None:
    predicted = [
        figures(capsys, "predict ../photos/val/class0/0.jpg --weights runs/A-1", one) for one in ("cpu", "gpu")
    ]
    (label, posterior), (other, value) = (one["predictions"][0].values() for one in predicted)
    assert (label, posterior) == (other, pytest.approx(value, abs=0.02))
    for one in ("cpu", "gpu"):
        figures(capsys, f"features ../photos --gap --weights runs/A-1 --out {one}.safetensors", one)
    cpu, gpu = (load_file(f"{one}.safetensors")["features"] for one in ("cpu", "gpu"))
    assert cpu.shape == gpu.shape
    assert np.abs(cpu - gpu).max() < 0.02


def test_a_run_keeps_where_it_decodes(photos: Path, decoding: None, capsys: pytest.CaptureFixture[str]) -> None:
    train = [
        "train",
        "--arch",
        "A",
        "--data",
        "../photos",
        "--config",
        "runs/A-1/config.json",
        "--out",
        "run",
        "-j",
        "0",
    ]
    assert run([*train, "--decode", "gpu", "--device", "cpu", "--max-steps", "1", "-q"]) == 0
    assert json.loads(Path("run/config.json").read_text())["decode"] == "gpu"
    resume = ["train", "--resume", "run", "--max-steps", "2", "--device", "cpu", "-j", "0", "-q"]
    assert run([*resume, "--decode", "cpu"]) == 2
    assert "keeps its own settings" in capsys.readouterr().err
    assert run(resume) == 0
