"""`vgg finetune` from the command line: new classes, the paper's curriculum, what learns, caches, and each way to hold it
wrong."""

import json
from pathlib import Path

import h5py
import pytest
import torch

from tests.conftest import MakeFolder
from tests.training.sessions import assert_same_bits
from vggcli.cli.app import run
from vggcli.weights.checkpoint import load_checkpoint

SMALL = "--arch A --crop 32 --scale 36 --width 0.0625 -b 8 --epochs 1 --init he --lr 0.01 -j 0".split()


@pytest.fixture
def source(make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trained run A-1 of three classes in the current folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert run(["train", "--data", str(make_folder()), *SMALL, "-q"]) == 0
    return tmp_path / "photos"


def finetune(*words: str) -> int:
    return run(["finetune", "-q", "-j", "0", *words])


def tensors(run_folder: str) -> dict[str, torch.Tensor]:
    return load_checkpoint(Path(run_folder) / "last.safetensors")[0].state_dict()


def test_new_classes_get_a_new_last_layer_and_the_rest_is_kept(
    source: Path, make_folder: MakeFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    more = make_folder("more", classes=4)
    assert finetune("--weights", "runs/A-1", "--data", str(more), "--layers", "last", "--epochs", "1") == 0
    said = capsys.readouterr().err
    assert "fc8 is new: 4 classes of the data in place of 3" in said
    assert "the last layer learns" in said
    before, after = tensors("runs/A-1"), tensors("runs/A-2")
    assert after["fc8.weight"].shape[0] == 4
    assert all(torch.equal(before[name], after[name]) for name in before if not name.startswith("fc8"))
    start, end = (load_checkpoint(Path(folder) / "last.safetensors")[1] for folder in ("runs/A-1", "runs/A-2"))
    assert end.preprocessing == start.preprocessing
    assert end.classes == ("class0", "class1", "class2", "class3")
    assert end.training["finetuned"]["layers"] == "last"
    assert run(["eval", "runs/A-2", "--data", str(more), "-q", "--json"]) == 0


def test_the_same_classes_keep_the_last_layer_at_a_tenth_of_the_rate(source: Path) -> None:
    assert finetune("--weights", "runs/A-1", "--data", str(source), "--max-steps", "1") == 0
    config = json.loads(Path("runs/A-2/config.json").read_text())
    assert config["recipe"]["learning_rate"] == pytest.approx(0.001)
    assert config["recipe"]["scale"] == [36, 36]
    before, after = tensors("runs/A-1"), tensors("runs/A-2")
    assert (before["fc8.weight"] - after["fc8.weight"]).abs().max() < 0.01
    assert not torch.equal(before["conv1_1.weight"], after["conv1_1.weight"])
    assert finetune("--weights", "runs/A-2", "--data", str(source), "--max-steps", "1") == 0
    again = json.loads(Path("runs/A-3/config.json").read_text())
    assert again["recipe"]["learning_rate"] == pytest.approx(0.001)  # slowed down once, not each time


def test_the_papers_curriculum_of_scales(source: Path) -> None:
    """Section 3.1: S=384 from the S=256 weights at a rate of 1e-3, scale jitter from those of S=384."""
    tiny = "--arch A --width 0.015625 -b 2 --max-steps 1 --data".split()
    assert run(["train", *tiny, str(source), "-q", "-j", "0", "--out", "first"]) == 0
    for before, after, scale in (("first", "second", [384, 384]), ("second", "third", [256, 512])):
        assert finetune("--weights", before, "--data", str(source), "--max-steps", "1", "--out", after) == 0
        recipe = json.loads((Path(after) / "config.json").read_text())["recipe"]
        assert (recipe["scale"], recipe["learning_rate"]) == (scale, pytest.approx(1e-3))


def test_net_a_goes_into_a_deeper_network(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert finetune("--weights", "runs/A-1", "--arch", "B", "--data", str(source), "--max-steps", "1") == 0
    assert "new too: conv1_2, conv2_2, conv4_1, conv4_2, conv5_1, conv5_2" in capsys.readouterr().err
    moved = (tensors("runs/A-1")["conv3_2.weight"] - tensors("runs/B-1")["conv3_2.weight"]).abs().max()
    assert moved < 0.05


def test_torchvisions_weights_to_new_classes(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", "runs/A-1", "a.pth"]) == 0
    theirs = torch.load("a.pth", weights_only=True)
    theirs["classifier.6.weight"], theirs["classifier.6.bias"] = torch.randn(7, 256) / 16, torch.zeros(7)
    torch.save(theirs, "seven.pth")
    words = "--scale 36 --epochs 1 -b 8 --layers fc".split()
    assert finetune("--weights", "seven.pth", "--data", str(source), *words) == 0
    assert "fc8 is new: 3 classes of the data in place of 7" in capsys.readouterr().err
    _, about = load_checkpoint(Path("runs/A-2/last.safetensors"))
    assert about.preprocessing.mean == pytest.approx([123.675, 116.28, 103.53])
    assert len(about.preprocessing.eigenvalues) == 3


def test_convolutions_alone_are_started_from_but_not_evaluated(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As torchvision publishes Oxford's: with a classifier of NaN."""
    assert run(["convert", "runs/A-1", "a.pth"]) == 0
    theirs = torch.load("a.pth", weights_only=True)
    for name in theirs:
        if name.startswith("classifier"):
            theirs[name].fill_(float("nan"))
    torch.save(theirs, "features.pth")
    capsys.readouterr()
    assert run(["eval", "features.pth", "--data", str(source), "--scales", "36"]) == 4
    assert "without a classifier" in capsys.readouterr().err
    assert run(["convert", "features.pth", "d.onnx"]) == 4
    assert "can only be written as a checkpoint" in capsys.readouterr().err
    assert run(["convert", "features.pth", "features.safetensors"]) == 0
    assert run(["features", str(source), "--weights", "features.safetensors", "--gap", "--out", "x.npy"]) == 4
    assert "have no layer fc7" in capsys.readouterr().err
    words = "--weights features.pth --scale 36 --max-steps 2 -b 8 --data".split()
    assert finetune(*words, str(source), "--layers", "last") == 2
    assert "has no weights for fc6" in capsys.readouterr().err
    assert finetune(*words, str(source), "--layers", "fc") == 0
    assert torch.equal(tensors("runs/A-2")["conv1_1.weight"], theirs["features.0.weight"])
    _, about = load_checkpoint(Path("runs/A-2/last.safetensors"))
    assert about.preprocessing.divisor == 1.0


def test_keras_weights_without_their_top_are_started_from_and_described_by(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["convert", "runs/A-1", "whole.h5"]) == 0
    with h5py.File("whole.h5") as whole, h5py.File("notop.h5", "w") as root:
        names = [name for name in map(str, whole.attrs["layer_names"]) if name.startswith("block")]
        root.attrs["layer_names"] = names
        for name in names:
            whole.copy(name, root)
    capsys.readouterr()
    words = ["notop.h5", "--data", str(source), "--scales", "224"]
    assert run(["eval", *words]) == run(["predict", str(source), "--weights", "notop.h5"]) == 4
    assert "without a classifier" in capsys.readouterr().err
    one = next(path for path in sorted(source.rglob("*")) if path.is_file())
    asked = ["features", str(one), "--layer", "pool5", "--gap", "--scales", "224", "--json", "--weights"]
    assert run([*asked, "notop.h5"]) == 0
    said = capsys.readouterr().err
    assert "notop.h5 does not say which preprocessing it expects; keras's is assumed" in said
    assert "notop.h5 does not list its operations; VGG's are assumed" in said
    assert finetune("--weights", "notop.h5", "--scale", "256", "--max-steps", "1", "-b", "2", "--layers", "fc",
                    "--data", str(source)) == 0  # fmt: skip
    assert "notop.h5; new: fc6, fc7, fc8" in capsys.readouterr().err
    assert torch.equal(tensors("runs/A-2")["conv1_1.weight"], tensors("runs/A-1")["conv1_1.weight"])
    assert load_checkpoint(Path("runs/A-2/last.safetensors"))[1].config.crop == 224


def test_a_cache_gives_the_same_run_again(source: Path, make_folder: MakeFolder, tmp_path: Path) -> None:
    more = str(make_folder("more", classes=4))
    words = ["--weights", "runs/A-1", "--data", more, "--layers", "fc", "--cache-features", "--epochs", "2"]
    assert finetune(*words, "--out", "first") == 0
    kept = sorted((tmp_path / "cache" / "vgg" / "features").iterdir())
    assert len(kept) == 2
    written = [path.stat().st_ctime_ns for path in kept]
    assert finetune(*words, "--out", "second") == 0  # from the cache
    assert sorted((tmp_path / "cache" / "vgg" / "features").iterdir()) == kept
    assert len(written) == 2
    assert_same_bits(Path("first"), Path("second"))
    replay = ["--config", "first/config.json", "--no-cache-features", "--layers", "all", "--max-steps", "1"]
    assert finetune(*replay, "--out", "uncached") == 0
    assert finetune(*words[:-1], "1", "--out", "third") == 0
    for path in kept:
        path.unlink()
    assert finetune("--resume", "third", "--epochs", "2") == 0  # computed anew
    assert_same_bits(Path("first"), Path("third"))


def test_a_run_is_replayed_and_gone_on_with(source: Path, make_folder: MakeFolder) -> None:
    more = str(make_folder("more", classes=4))
    words = ["--weights", "runs/A-1", "--data", more, "--layers", "fc", "--epochs", "2"]
    assert finetune(*words, "--out", "straight") == 0
    assert finetune(*words[:-1], "1", "--out", "short") == 0
    assert finetune("--resume", "short", "--epochs", "2") == 0
    assert_same_bits(Path("straight"), Path("short"))
    assert finetune("--config", "straight/config.json", "--out", "again") == 0
    assert_same_bits(Path("straight"), Path("again"))


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            "--weights runs/A-1 --cache-features",
            2,
            "let only fc or last learn, or cache none (--layers, --cache-features)",
        ),
        (
            "--weights runs/A-1 --layers fc --cache-features --scale-jitter 36 40",
            2,
            "give one scale, not a range (--scale, --scale-jitter, ",
        ),
        ("--weights runs/A-1 --init gaussian", 2, "has weights for every layer (--init)"),
        ("--weights runs/A-1 --scale 20", 2, "below the crop; the smallest usable S is 32 (--scale, --crop)"),
        ("--weights runs/A-1 --arch D --layers fc", 2, "has no weights for conv1_2"),
        ("--weights runs/B-1 --arch A", 4, "first layer that differs is conv1_2 there and pool1 here"),
        ("--weights runs/B-1 --arch D", 4, "first layer that differs is pool3 there and conv3_3 here"),
        ("--weights nowhere", 4, "nowhere"),
        ("--weights features --arch E", 4, "'features' has no published weights of network E"),
        ("--arch C", 4, "no published weights of it"),
        ("--resume runs/A-1 --layers fc", 2, "has no effect; begin a new run with it (--layers)"),
        ("--resume runs/A-1 --weights runs/A-1", 2, "has no effect; begin a new run with it (--weights)"),
        ("--config runs/A-1/config.json", 2, "replay it with `vgg train"),
        ("--config runs/A-1/config.json --recipe tiny", 2, "contradict"),
        ("--weights runs/A-1 --crop 64", 2, "--crop"),
    ],
)
def test_each_wrong_command_line_is_refused(
    source: Path, capsys: pytest.CaptureFixture[str], words: str, code: int, message: str
) -> None:
    if "B-1" in words:
        assert run(["train", "--data", str(source), *SMALL, "--arch", "B", "--max-steps", "1", "-q"]) == 0
    before = sorted(Path("runs").iterdir())
    capsys.readouterr()
    assert run(["finetune", "--data", str(source), *words.split()]) == code
    said = " ".join(capsys.readouterr().err.split())
    assert message in said
    assert sorted(Path("runs").iterdir()) == before


def test_a_fine_tuned_runs_config_is_not_replayed_from_scratch(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetune("--weights", "runs/A-1", "--data", str(source), "--max-steps", "1") == 0
    assert run(["train", "--config", "runs/A-2/config.json", "-q"]) == 2
    assert "vgg finetune --config" in capsys.readouterr().err


def test_a_run_is_fine_tuned_on_its_own_data_unless_told_otherwise(photos: Path) -> None:
    own = json.loads(Path("runs/A-1/config.json").read_text())["data"]
    assert run(["finetune", "--weights", "runs/A-1", "--max-steps", "1", "-q", "-j", "0"]) == 0
    assert json.loads(Path("runs/A-2/config.json").read_text())["data"] == own
