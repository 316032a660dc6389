"""Keras networks put together by their users: without a classifier, with another one, inside one another, renamed."""

import zipfile
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from torch import Tensor

from tests.peer import import_keras
from tests.rounding import depth, relative, rounding
from tests.weights.keras_nets import CLASSES, CROP, base, classifier, layers, network, outputs, saved
from vggcli.errors import WeightsError
from vggcli.weights.checkpoint import load_checkpoint, need_classifier, read_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
SUFFIXES = (".h5", ".keras", ".weights.h5")


def images(count: int = 2) -> Tensor:
    """BGR, less the mean, as the networks take them: [N, H, W, 3]."""
    return 60 * torch.randn(count, CROP, CROP, 3, generator=torch.Generator().manual_seed(7))


def rgb(images_NHWC: Tensor) -> Tensor:
    return images_NHWC.permute(0, 3, 1, 2).flip(1)


def assert_same_posteriors(path: Path, model: Any) -> None:
    mine, expected = load_checkpoint(path)[0], outputs(model, images())
    assert expected.std() > 0.01  # the posteriors are no constant
    assert relative(mine(rgb(images())).softmax(1), expected) < rounding(depth(mine))


@pytest.mark.parametrize("suffix", SUFFIXES)
@torch.inference_mode()
def test_weights_without_the_top_are_convolutions_alone(suffix: str, tmp_path: Path) -> None:
    model = base()
    mine, checkpoint = load_checkpoint(saved(model, tmp_path / f"notop{suffix}"))
    config = checkpoint.config
    assert (config.arch, config.head, config.width, checkpoint.classes) == ("A", "none", 0.125, ())
    assert config.crop == (224 if suffix == ".weights.h5" else CROP)
    maps = outputs(model, images()).permute(0, 3, 1, 2)
    assert relative(mine.convolve(rgb(images())), maps) < rounding(depth(mine))
    with pytest.raises(WeightsError, match="without a classifier"):
        need_classifier(tmp_path / "notop", checkpoint)
    pooled = import_keras().Model(model.inputs, layers().GlobalAveragePooling2D()(model.outputs[0]))
    assert read_checkpoint(saved(pooled, tmp_path / f"pooled{suffix}")).config == config  # as pooling="avg" has it


def nested(inside: Any, kind: str) -> Any:
    """A classifier on the model `inside`."""
    keras = import_keras()
    keras.utils.set_random_seed(2)
    inputs = keras.Input((CROP, CROP, 3))
    if kind == "functional":
        return keras.Model(inputs, classifier(inside(layers().RandomFlip()(inputs)), last="flowers"))
    head = [layers().Dense(512, "relu"), layers().Dropout(0.5), layers().Dense(512, "relu")]
    head += [layers().Dense(CLASSES, "softmax")]
    if kind == "sequential":
        return keras.Sequential([inputs, inside, layers().Flatten(), *head])
    return keras.Sequential([inputs, keras.Sequential([inputs, inside, layers().Flatten()]), *head])


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["sequential", "functional", "twice"])
@torch.inference_mode()
def test_a_network_inside_another_is_read(kind: str, suffix: str, tmp_path: Path) -> None:
    model = nested(base(), kind)
    assert_same_posteriors(saved(model, tmp_path / f"net{suffix}"), model)


@pytest.mark.parametrize("suffix", SUFFIXES)
@torch.inference_mode()
def test_a_network_inside_another_of_which_the_last_block_learns_is_read(suffix: str, tmp_path: Path) -> None:
    inside = base()
    for layer in inside.layers:
        layer.trainable = layer.name.startswith("block5")  # .h5 then lists that block first
    model = nested(inside, "sequential")
    assert_same_posteriors(saved(model, tmp_path / f"net{suffix}"), model)


@torch.inference_mode()
def test_convolutions_in_two_models_need_the_description(tmp_path: Path) -> None:
    keras = import_keras()
    whole = base()
    half = keras.Model(whole.input, whole.get_layer("block4_conv1").output, name="front")
    value = half.output
    for layer in whole.layers[[one.name for one in whole.layers].index("block4_conv1") + 1 :]:
        value = layer(value)
    inputs = keras.Input((CROP, CROP, 3))
    value = half(inputs)
    for layer in whole.layers[[one.name for one in whole.layers].index("block4_conv1") + 1 :]:
        value = type(layer).from_config(layer.get_config())(value)
    model = keras.Model(inputs, classifier(value))
    for suffix in (".h5", ".keras"):
        assert_same_posteriors(saved(model, tmp_path / f"net{suffix}"), model)
    with pytest.raises(WeightsError, match="convolutions in 2 nested models"):
        read_checkpoint(saved(model, tmp_path / "net.weights.h5"))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["nested", "flat"])
@torch.inference_mode()
def test_one_layer_behind_the_mean_of_each_map_is_the_head_gap(kind: str, suffix: str, tmp_path: Path) -> None:
    keras, inside = import_keras(), base()
    inputs = keras.Input((CROP, CROP, 3))
    start = inputs if kind == "nested" else inside.input
    value = inside(inputs) if kind == "nested" else inside.output
    value = layers().GlobalAveragePooling2D()(value)
    model = keras.Model(start, layers().Dense(CLASSES, "softmax")(value))
    path = saved(model, tmp_path / f"net{suffix}")
    if suffix == ".weights.h5":
        with pytest.raises(WeightsError, match="one dense layer, dense, .* average or max pooling"):
            read_checkpoint(path)
        return
    assert read_checkpoint(path).config.head == "gap"
    assert_same_posteriors(path, model)


@pytest.mark.parametrize(
    ("pool", "hidden", "message"),
    [
        ("GlobalMaxPooling2D", (), "GlobalMaxPooling2D. is in no VGG"),
        ("GlobalAveragePooling2D", (256,), "2 dense layers after global average pooling"),
        ("Flatten", (), "1 dense layer .dense"),
        ("Flatten", (256,), "2 dense layers .dense, dense_1"),
        ("Dropout", (256, 256), "dense .Dense. is applied at every position of a map"),
    ],
)
def test_another_classifier_is_named(pool: str, hidden: tuple[int, ...], message: str, tmp_path: Path) -> None:
    keras, inside = import_keras(), base()
    settings = {"rate": 0.5} if pool == "Dropout" else {}
    value = getattr(layers(), pool)(**settings)(inside.output)
    keras.backend.clear_session()
    for size in hidden:
        value = layers().Dense(size, "relu")(value)
    model = keras.Model(inside.input, layers().Dense(CLASSES, "softmax")(value))
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(saved(model, tmp_path / "net.keras"))


@pytest.mark.parametrize("suffix", SUFFIXES)
@torch.inference_mode()
def test_a_last_layer_of_another_name_is_read(suffix: str, tmp_path: Path) -> None:
    keras, inside = import_keras(), base()
    keras.utils.set_random_seed(3)
    model = keras.Model(inside.input, classifier(inside.output, last="a_flowers"))
    assert_same_posteriors(saved(model, tmp_path / f"net{suffix}"), model)


def as_keras_2_12(old: Any, new: Any) -> None:
    """Copies the layers of a model, counted in twos as where each was listed twice."""
    for name in old.get("layers", ()):
        kind, _, number = name.rpartition("_") if name[-1].isdecimal() and "_" in name else (name, "", "0")
        into = new.require_group("_layer_checkpoint_dependencies")
        layer = into.create_group(f"{kind}_{2 * int(number)}" if int(number) else kind)
        if "vars" in old["layers"][name]:
            old["layers"][name].copy("vars", layer)
        as_keras_2_12(old["layers"][name], layer)


@pytest.mark.parametrize("described", [True, False])
@torch.inference_mode()
def test_the_layout_of_keras_2_12_is_read(described: bool, tmp_path: Path) -> None:
    model = nested(base(), "sequential")
    saved(model, tmp_path / "net.keras")
    saved(model, tmp_path / "net.weights.h5")
    with h5py.File(tmp_path / "net.weights.h5") as old, h5py.File(tmp_path / "old.weights.h5", "w") as new:
        as_keras_2_12(old, new)
    with h5py.File(tmp_path / "old.weights.h5") as new:
        assert "conv2d_14" in new["_layer_checkpoint_dependencies/functional/_layer_checkpoint_dependencies"]
    path = tmp_path / "old.weights.h5"
    if described:
        path = tmp_path / "old.keras"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", zipfile.ZipFile(tmp_path / "net.keras").read("config.json"))
            archive.write(tmp_path / "old.weights.h5", "model.weights.h5")
    assert_same_posteriors(path, model)


def test_layouts_of_other_times_are_named(tmp_path: Path) -> None:
    path = saved(network(), tmp_path / "net.h5")
    with h5py.File(path, "a") as root:
        del root.attrs["model_config"]
        for layer in root["model_weights"].values():
            for name in layer.attrs["weight_names"]:
                if layer[name].ndim == 4:
                    values = layer[name][...].transpose(3, 2, 0, 1)
                    del layer[name]
                    layer[name] = values
    with pytest.raises(WeightsError, match=r"order of Theano \(th_kernels\)"):
        read_checkpoint(path)
    with h5py.File(tmp_path / "old.h5", "w") as root:
        root.attrs["nb_layers"] = 37
        root["layer_1/param_0"] = torch.zeros(8, 3, 3, 3).numpy()
    with pytest.raises(WeightsError, match="until 2015"):
        read_checkpoint(tmp_path / "old.h5")


def test_weights_that_the_description_does_not_use_or_that_are_missing_are_named(tmp_path: Path) -> None:
    path = saved(network(), tmp_path / "net.h5")
    with h5py.File(path, "a") as root:
        weights = root["model_weights"]
        weights.attrs["layer_names"] = [name for name in weights.attrs["layer_names"] if name not in ("fc2", b"fc2")]
    with pytest.raises(WeightsError, match="no weights for its layer fc2"):
        read_checkpoint(path)
    with h5py.File(path, "a") as root:
        weights = root["model_weights"]
        weights.attrs["layer_names"] = [*weights.attrs["layer_names"], "fc2", "extra"]
        weights.create_group("extra").attrs["weight_names"] = ["kernel"]
        weights["extra"]["kernel"] = torch.zeros(4, 4).numpy()
    with pytest.raises(WeightsError, match="the layer extra, which its description does not use"):
        read_checkpoint(path)
