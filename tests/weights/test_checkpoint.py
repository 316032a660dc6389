"""Checkpoints rebuild their network bit by bit, appear whole or not at all, and say what is wrong with them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vggcli.colour import ColourStatistics
from vggcli.errors import MachineError, WeightsError
from vggcli.weights.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vggcli.weights.find import newest_run, weights_file
from vggcli.zoo.initialise import initialise
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG

CONFIG = NetworkConfig("A-BN", classes=3, crop=32, width=0.0625)
ABOUT = Checkpoint(
    CONFIG,
    ("a", "é\n", "c"),
    ColourStatistics((1.0, 2.0, 3.0), 60.0),
    (32, 48),
    {"epoch": 4},
)


def network() -> VGG:
    net = VGG(CONFIG)
    initialise(net, "he", seed=0)
    return net


def test_a_checkpoint_rebuilds_its_network(tmp_path: Path) -> None:
    net = network()
    save_checkpoint(tmp_path / "w.safetensors", net, ABOUT)
    loaded, about = load_checkpoint(tmp_path / "w.safetensors")
    assert about == ABOUT
    assert not loaded.training
    for name, value in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    images = torch.randn(1, 3, 40, 48)
    assert torch.equal(loaded(images), net.eval()(images))


def test_equal_checkpoints_are_equal_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_checkpoint(tmp_path / name, network(), ABOUT)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_failed_write_leaves_the_file_before_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    path.write_text("before")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(MachineError, match="no space left"):
        save_checkpoint(path, network(), ABOUT)
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.safetensors"]
    assert path.read_text() == "before"


def rewritten(path: Path, change: str) -> None:
    """Damage a good checkpoint in one way."""
    tensors, metadata = load_file(path), json.loads(ABOUT.to_json())
    if change == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
        return
    if change == "pickle":
        torch.save({"a": torch.zeros(1)}, path)
        return
    if change == "missing layer":
        del tensors["fc7.weight"]
    if change == "shape":
        tensors["fc8.weight"] = torch.zeros(4, 256, 1, 1)
    if change == "extra":
        tensors["fc9.weight"] = torch.zeros(1)
    if change == "not finite":
        tensors["conv1_1.bias"][0] = float("nan")
    if change == "format":
        metadata["format"] = 99
    if change == "classes":
        metadata["classes"] = ["a"]
    save_file(tensors, path, {"vgg": json.dumps(metadata)} if change != "no metadata" else None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("truncated", "damaged or cut short"),
        ("pickle", "not what its suffix .safetensors says"),
        ("no metadata", "no VGG network of torchvision or timm"),
        ("missing layer", "fc7.weight"),
        ("shape", "fc8.weight"),
        ("extra", "fc9.weight"),
        ("not finite", "conv1_1.bias"),
        ("format", "format 99"),
        ("classes", "1 class names for 3"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "w.safetensors"
    save_checkpoint(path, network(), ABOUT)
    rewritten(path, change)
    with pytest.raises(WeightsError, match=message):
        load_checkpoint(path)


def test_the_newest_run_is_that_of_the_very_network(tmp_path: Path) -> None:
    for number, name in enumerate(("A-1", "A-2", "A-LRN-3", "B-9", "A-10")):
        (tmp_path / name).mkdir()
        if name != "A-10":  # begun, nothing saved
            save_checkpoint(tmp_path / name / "last.safetensors", network(), replace(ABOUT, training={"n": number}))
    assert newest_run(tmp_path, "A") == tmp_path / "A-2"
    assert newest_run(tmp_path, "A-LRN") == tmp_path / "A-LRN-3"
    assert newest_run(tmp_path) == tmp_path / "B-9"
    assert newest_run(tmp_path, "E") is None
    mine = VGG(NetworkConfig("E", 3, 32, 1 / 64))
    initialise(mine, "he", 0)
    (tmp_path / "mine").mkdir()
    save_checkpoint(tmp_path / "mine" / "last.safetensors", mine, replace(ABOUT, config=mine.config))
    assert newest_run(tmp_path, "E") == newest_run(tmp_path) == tmp_path / "mine"


def test_a_run_folder_means_its_best_weights_else_its_last(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="best.safetensors"):
        weights_file(tmp_path)
    (tmp_path / "last.safetensors").touch()
    assert weights_file(tmp_path).name == "last.safetensors"
    (tmp_path / "best.safetensors").touch()
    assert weights_file(tmp_path).name == "best.safetensors"


def test_weights_that_were_never_trained_are_loaded_to_go_on_alone(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_checkpoint(path, network(), replace(ABOUT, training={"epoch": 0, "step": 0}))
    with pytest.raises(WeightsError, match=r"w\.safetensors holds untrained weights.*resume that run"):
        load_checkpoint(path)
    assert load_checkpoint(path, untrained=True)[1].training["step"] == 0
    save_checkpoint(path, network(), replace(ABOUT, training={"epoch": 0, "step": 1}))
    assert load_checkpoint(path)[1].training["step"] == 1
