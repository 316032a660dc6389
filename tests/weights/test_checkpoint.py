"""Checkpoints rebuild their network bit by bit, appear whole or not at all, and say what is wrong with them."""

import json
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vggcli.colour import ColourStatistics
from vggcli.errors import MachineError, UsageError, WeightsError
from vggcli.places import Places
from vggcli.weights import checkpoint
from vggcli.weights.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vggcli.weights.find import data_of, find_weights, newest_run, weights_file
from vggcli.weights.unread import filled_network
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


@pytest.mark.parametrize("how", ["written to", "replaced", "removed"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "w.safetensors", tmp_path / "other.safetensors"
    save_checkpoint(path, network(), ABOUT)
    save_checkpoint(other, network(), replace(ABOUT, scale=(33, 48)))

    def filled(*given: Any) -> VGG:
        result = filled_network(*given)
        if how == "written to":
            with path.open("r+b") as file:
                file.seek(-4, os.SEEK_END)
                file.write(b"\0\0\0\0")
        elif how == "replaced":
            other.replace(path)
        else:
            path.unlink()
        return result

    monkeypatch.setattr(checkpoint, "filled_network", filled)
    with pytest.raises(WeightsError, match="has changed|is damaged"):
        load_checkpoint(path)


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


def test_the_weights_of_a_network_are_those_of_its_newest_run_that_has_learnt_something(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "vggcli")
    three = replace(ABOUT, config=network().config)
    chance = 100 * (1 - 1 / three.config.classes)
    places = Places(tmp_path, tmp_path / "cache")
    for number, error in enumerate((12.5, chance, None), start=1):
        run = tmp_path / f"A-{number}"
        run.mkdir()
        training: dict[str, Any] = {"step": 0} if error is None else {"step": 3, "epoch": 1, "top1_error": error}
        name = "last" if error is None else "best"
        for file in {"last", name}:
            save_checkpoint(run / f"{file}.safetensors", network(), replace(three, training=training))
        os.utime(run / "last.safetensors", (number, number))
    assert find_weights(None, "A", places) == tmp_path / "A-1" / "best.safetensors"
    stopped, found, *passed = caplog.messages
    assert stopped == f"passed over: {tmp_path / 'A-3'} was stopped before its first step"
    assert found.endswith("A-1/best.safetensors (the newest run of A: validation error 12.50 %, epoch 1)")
    assert passed == [f"passed over: {tmp_path / 'A-2'} is no better than chance (validation error {chance:.2f} %)"]
    (tmp_path / "A-4").mkdir()
    boxes = replace(three.config, boxes="scr")
    save_checkpoint(tmp_path / "A-4" / "last.safetensors", VGG(boxes), replace(three, config=boxes))
    assert find_weights(None, "A", places) == tmp_path / "A-1" / "best.safetensors"
    assert f"passed over: {tmp_path / 'A-4'} gives boxes, not classes" in caplog.messages
    shutil.rmtree(tmp_path / "A-1")
    assert find_weights(None, "A", places) == tmp_path / "A-2" / "best.safetensors"
    assert caplog.messages[-1].endswith(f"is no better than chance (validation error {chance:.2f} %))")
    shutil.rmtree(tmp_path / "A-2")  # then only a run that learnt nothing is left, which is no run
    assert find_weights(None, "A", places).parent == places.weights
    assert f"(no run of A under {tmp_path})" in caplog.messages[-1]
    assert find_weights(None, "B", places).parent == places.weights


def test_data_that_are_not_named_are_those_of_the_weights(tmp_path: Path) -> None:
    places = Places(tmp_path, tmp_path / "cache")
    names = {"a": "/photos", "b": "/photos", "c": "/more", "d": None}
    paths = {name: tmp_path / f"{name}.safetensors" for name in names}
    for name, data in names.items():
        save_checkpoint(paths[name], network(), replace(ABOUT, training={"data": data} if data else {}))
    assert data_of([paths["a"], paths["b"], paths["d"]], places) == "/photos"
    assert data_of([paths["d"]], places) is None
    assert data_of([paths["a"]], replace(places, data="mine")) is None
    with pytest.raises(UsageError, match="trained on different data, /photos and /more; name one"):
        data_of([paths["a"], paths["c"]], places)


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
