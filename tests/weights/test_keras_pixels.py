"""Layers in front of a Keras network that say which pixels it expects, against what Keras itself makes of pixels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.peer import import_keras
from tests.rounding import depth, relative, rounding
from tests.weights.keras_nets import CROP, layers, network, outputs, saved
from vggcli.errors import UsageError, WeightsError
from vggcli.weights.checkpoint import load_checkpoint, read_checkpoint
from vggcli.weights.keras_config import KerasLayer
from vggcli.weights.keras_operations import front_layer_pixels
from vggcli.weights.preprocessing import PIXELS

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def adapted() -> Any:
    """Normalization that has learned its numbers, which then lie among the weights."""
    layer = layers().Normalization(axis=-1)
    layer.adapt(np.random.default_rng(3).uniform([10, 60, 20], [90, 200, 255], (4, 8, 8, 3)).astype(np.float32))
    return layer


FRONTS: dict[str, Callable[[], list[Any]]] = {
    "0 to 1": lambda: [layers().Rescaling(1 / 255)],
    "-1 to 1": lambda: [layers().Rescaling(1 / 127.5, offset=-1)],
    "by channel": lambda: [layers().Rescaling([1 / 58, 1 / 57, 1 / 59], offset=[-2.1, -2.0, -1.8])],
    "given": lambda: [layers().Normalization(mean=[123.0, 117.0, 104.0], variance=[3400.0, 3300.0, 3500.0])],
    "one for all": lambda: [layers().Normalization(axis=None, mean=120.0, variance=3000.0)],
    "both": lambda: [
        layers().RandomFlip(),
        layers().Rescaling(1 / 255),
        layers().Normalization(mean=[0.485, 0.456, 0.406], variance=[0.0524, 0.0502, 0.0506]),
    ],
    "adapted": lambda: [adapted()],
    "rescaled and adapted": lambda: [layers().Rescaling(1 / 4, offset=3), adapted()],
}


def preprocessed(value: Any) -> Any:
    return import_keras().applications.vgg16.preprocess_input(value)


def behind(front: list[Any]) -> Callable[[Any], Any]:
    def change(value: Any) -> Any:
        for layer in front:
            value = layer(value)
        return value

    return change


def pixels() -> Tensor:
    """RGB from 0 to 255, [N, H, W, 3], whose channels differ."""
    generator = torch.Generator().manual_seed(5)
    return torch.rand(2, CROP, CROP, 3, generator=generator) * torch.tensor([255.0, 180.0, 90.0])


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("front", FRONTS)
@torch.inference_mode()
def test_the_pixels_that_the_layers_in_front_make_are_used(front: str, suffix: str, tmp_path: Path) -> None:
    model = network(behind(FRONTS[front]()))
    path = saved(model, tmp_path / f"net{suffix}")
    mine, checkpoint = load_checkpoint(path)
    mean, divisor = (torch.tensor(getattr(checkpoint.preprocessing, name)) for name in ("mean", "divisor"))
    expected = outputs(model, pixels())
    ready = ((pixels() - mean) / divisor).permute(0, 3, 1, 2)
    assert relative(mine(ready).softmax(1), expected) < rounding(depth(mine))
    assert relative(mine(ready.flip(1)).softmax(1), expected) > 1e-3  # BGR for RGB would be seen
    assert checkpoint.training["pixels"] == "RGB"
    with pytest.raises(UsageError, match="says its own"):
        read_checkpoint(path, PIXELS["caffe"])


@pytest.mark.parametrize(
    ("front", "message"),
    [
        (lambda: [layers().Rescaling(-1.0)], "rescaling.* no mean and divisor"),
        (lambda: [layers().Rescaling(0.0)], "rescaling.* no mean and divisor"),
        (lambda: [layers().Rescaling(1e-320)], "rescaling.* no mean and divisor"),
        (lambda: [layers().Rescaling([0.5, 0.5, float("inf")])], "rescaling.* no mean and divisor"),
        (lambda: [layers().Normalization(mean=[0.5] * 3, variance=[0.05] * 3)], "pixels from 0 to 1"),
        (lambda: [layers().Normalization(mean=[99.0] * 3, variance=[9.0] * 3, invert=True)], "no mean and divisor"),
        (lambda: [layers().Normalization(axis=1, mean=[9.0] * CROP, variance=[9.0] * CROP)], "no mean and divisor"),
        (lambda: [layers().Rescaling(1 / 255), layers().Resizing(CROP, CROP)], "Resizing. is in no VGG"),
        (lambda: [layers().CenterCrop(CROP, CROP)], "CenterCrop. is in no VGG"),
        (lambda: [layers().BatchNormalization()], "BatchNormalization. is in no VGG"),
    ],
)
def test_what_is_no_mean_and_divisor_is_named(front: Callable[[], list[Any]], message: str, tmp_path: Path) -> None:
    import_keras().backend.clear_session()
    with pytest.raises(WeightsError, match=message):
        load_checkpoint(saved(network(behind(front())), tmp_path / "net.keras"))


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@torch.inference_mode()
def test_preprocess_input_in_front_is_used(suffix: str, tmp_path: Path) -> None:
    keras, inside = import_keras(), network()
    inputs = keras.Input((CROP, CROP, 3))
    model = keras.Model(inputs, inside(preprocessed(inputs)))
    mine, checkpoint = load_checkpoint(saved(model, tmp_path / f"net{suffix}"))
    assert checkpoint.preprocessing.mean == pytest.approx((123.68, 116.779, 103.939))
    assert (checkpoint.preprocessing.divisor, checkpoint.training["pixels"]) == ((1, 1, 1), "BGR")
    mean = torch.tensor(checkpoint.preprocessing.mean)
    ready = (pixels() - mean).permute(0, 3, 1, 2)
    assert relative(mine(ready).softmax(1), outputs(model, pixels())) < rounding(depth(mine))


def test_channels_in_another_order_are_refused(tmp_path: Path) -> None:
    def mixed(value: Any) -> Any:
        return import_keras().ops.stack([value[..., 1], value[..., 0], value[..., 2]], axis=-1)

    with pytest.raises(WeightsError, match=r"stack\S* takes the outputs of 3 layers"):
        load_checkpoint(saved(network(mixed), tmp_path / "net.keras"))


@pytest.mark.parametrize("scale", [None, "x", [1, 2], {}, [[[[[[[1]]]]]]], 10**400])
def test_settings_that_are_no_numbers_are_named(scale: Any, tmp_path: Path) -> None:
    layer = KerasLayer("Rescaling", {"name": "front", "scale": scale}, "rescaling")
    with pytest.raises(WeightsError, match="front .Rescaling. has settings that are no mean"):
        front_layer_pixels([layer], lambda layer: [], tmp_path)
    with pytest.raises(WeightsError, match="front"):
        front_layer_pixels([KerasLayer("Rescaling", {"name": "front"}, "rescaling")], lambda layer: [], tmp_path)


def test_pixels_rescaled_inside_the_network_are_refused(tmp_path: Path) -> None:
    keras, model = import_keras(), network()
    value = layers().Rescaling(0.5)(model.get_layer("block1_pool").output)
    start = [layer.name for layer in model.layers].index("block2_conv1")
    for layer in model.layers[start:]:
        value = type(layer).from_config(layer.get_config())(value)
    with pytest.raises(WeightsError, match="Rescaling. comes after the first layer of the network"):
        load_checkpoint(saved(keras.Model(model.input, value), tmp_path / "net.keras"))
