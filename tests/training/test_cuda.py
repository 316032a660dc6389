"""Training on CUDA: a step is that of a CPU as far as rounding lets it, compiled or not, and a stop changes no bit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import MakeFolder
from tests.training.sessions import RECIPE, Session, assert_same_bits, outcome
from vggcli.cli.app import run
from vggcli.training.options import Stopped

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.filterwarnings("default"),  # compilers advise TF32, and more
]
CUDA = torch.device("cuda", 0)
ONE_STEP = replace(RECIPE, epochs=1, batch_size=24, learning_rate=0.01)


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize(("precision", "error"), [("fp32", 1e-4), ("tf32", 1e-2), ("bf16", 5e-2)])
def test_a_step_is_that_of_a_cpu(
    make_folder: MakeFolder, tmp_path: Path, precision: Any, error: float, compile: bool
) -> None:
    """The loss before it, and that of the validation split after it; of four whole micro-batches and a smaller one."""
    torch.compiler.reset()
    photos, there = make_folder(train=8), {"device": CUDA, "precision": precision, "compile": compile, "workers": 2}
    (cpu,) = Session(photos, tmp_path / "cpu", ONE_STEP, micro_batch=5).run()
    (cuda,) = Session(photos, tmp_path / "cuda", ONE_STEP, micro_batch=5, **there).run()
    assert cuda.loss == pytest.approx(cpu.loss, rel=error)
    assert cuda.val_loss == pytest.approx(cpu.val_loss, rel=error)


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_it_learns(make_folder: MakeFolder, tmp_path: Path, precision: Any, compile: bool) -> None:
    """With fp16 too, whose first steps are left out where the scaled gradients are not finite."""
    torch.compiler.reset()
    there = {"device": CUDA, "precision": precision, "compile": compile, "workers": 2}
    assert Session(make_folder(train=8), tmp_path / "run", **there).run()[-1].loss < 2


@pytest.mark.parametrize("compile", [False, True])
def test_the_weights_of_three_epochs_in_fp32_are_those_of_a_cpu(
    make_folder: MakeFolder, tmp_path: Path, compile: bool
) -> None:
    torch.compiler.reset()
    photos, recipe = make_folder(train=8), replace(RECIPE, learning_rate=1e-3)
    Session(photos, tmp_path / "cpu", recipe).run()
    Session(photos, tmp_path / "cuda", recipe, device=CUDA, compile=compile).run()
    (cpu, _, _), (cuda, _, _) = outcome(tmp_path / "cpu"), outcome(tmp_path / "cuda")
    assert cpu.keys() == cuda.keys()
    for name, wanted in cpu.items():
        assert float((cuda[name] - wanted).norm()) < 1e-3 * float(wanted.norm()) + 1e-6, name


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
@pytest.mark.parametrize(("arch", "compile"), [("A", False), ("A-BN", False), ("A", True)])
def test_a_stopped_run_ends_in_the_same_bits(
    make_folder: MakeFolder, tmp_path: Path, precision: Any, arch: str, compile: bool
) -> None:
    torch.compiler.reset()
    photos, there = make_folder(train=8), {"device": CUDA, "precision": precision, "compile": compile}
    Session(photos, tmp_path / "straight", arch=arch, **there).run()
    with pytest.raises(Stopped):
        Session(photos, tmp_path / "stopped", arch=arch, **there).run(stop_after=3)
    Session(photos, tmp_path / "stopped", arch=arch, **there).run()
    assert_same_bits(tmp_path / "straight", tmp_path / "stopped")


@pytest.mark.parametrize("layers", ["fc", "last"])
def test_frozen_layers_run_compiled(make_folder: MakeFolder, tmp_path: Path, layers: Any) -> None:
    torch.compiler.reset()
    photos = make_folder(train=8)
    (cpu,) = Session(photos, tmp_path / "cpu", ONE_STEP, layers=layers).run()
    (cuda,) = Session(photos, tmp_path / "cuda", ONE_STEP, layers=layers, device=CUDA, compile=True).run()
    assert (cuda.loss, cuda.val_loss) == pytest.approx((cpu.loss, cpu.val_loss), rel=1e-4)


def test_too_little_memory_is_an_error_of_the_machine(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vggcli.training.loop.augment", lambda *given: torch.empty(1 << 50, device=CUDA))
    words = ["train", "--data", str(make_folder()), "--arch", "A", "--recipe", "tiny", "--width", "0.0625", "-j", "0"]
    assert run([*words, "--device", "cuda", "--quiet"]) == 5
    assert "out of memory; try a smaller --micro-batch" in capsys.readouterr().err
