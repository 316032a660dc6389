"""What a Keras file says of its own operations, against Keras' own layers and savers; and writing on a full disk."""

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.peer import import_keras
from tests.rounding import depth, relative, rounding
from tests.weights.keras_nets import CROP, classifier, convolutions, network, outputs, random, saved
from tests.weights.test_keras import keras_network
from tests.zoo.nets import about, small
from vggcli.errors import WeightsError
from vggcli.weights.checkpoint import load_checkpoint
from vggcli.weights.keras_config import described_layers
from vggcli.weights.keras_write import _write_weights

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture(scope="module")
def model() -> Any:
    """Network A."""
    return keras_network("A")


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("MaxPooling2D", {"padding": "same"}, "block1_pool .* padding same"),
        ("Conv2D", {"activation": "tanh"}, "block1_conv1 .* tanh where relu"),
        ("Conv2D", {"dilation_rate": [2, 2]}, "block1_conv1 .* dilation_rate"),
        ("Dense", {"activation": "sigmoid"}, "fc1 .* sigmoid where relu"),
        ("MaxPooling2D", {"class_name": "AveragePooling2D"}, "block1_pool .AveragePooling2D. is in no VGG"),
    ],
)
def test_operations_that_are_not_vggs_are_refused(
    suffix: str, kind: str, change: dict[str, Any], message: str, model: Any, tmp_path: Path
) -> None:
    keras, path = import_keras(), tmp_path / f"net{suffix}"
    done: list[str] = []

    def changed(layer: Any) -> Any:
        settings = layer.get_config()
        if type(layer).__name__ != kind or done:
            return type(layer).from_config(settings)
        done.append(layer.name)
        other = getattr(keras.layers, change.get("class_name", kind))
        return other.from_config({**settings, **{key: value for key, value in change.items() if key != "class_name"}})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        keras.models.clone_model(model, clone_function=changed).save(path)
    with pytest.raises(WeightsError, match=message):
        load_checkpoint(path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_an_error_and_no_crash() -> None:
    network = small("A", width=1 / 64)
    with pytest.raises(OSError, match="No space left"):
        _write_weights(Path("/dev/full"), network, about(network), by_name=True)


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"without": (2,)}, "block2_conv1 is followed by the convolution of block3_conv1 where .* pooling of pool2"),
        (
            {"twice": (3,)},
            "block3_pool is followed by the pooling of block3_pool_again where .* convolution of conv4_1",
        ),
        ({"without": (2,), "twice": (3,)}, "block2_conv1 is followed by the convolution of block3_conv1"),
        ({"without": (5,), "twice": (4,)}, "block4_pool is followed by the pooling of block4_pool_again"),
    ],
)
def test_a_pool_that_is_missing_or_moved_is_named(
    suffix: str, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=message):
        load_checkpoint(saved(network(side=64, **change), tmp_path / f"net{suffix}"))


def test_the_way_of_the_image_counts_and_not_the_order_of_the_list(tmp_path: Path) -> None:
    path = saved(network(), tmp_path / "net.keras")
    described = json.loads(zipfile.ZipFile(path).read("config.json"))
    wanted = [layer.key for layer in described_layers(json.dumps(described), path)]
    described["config"]["layers"].reverse()
    assert [layer.key for layer in described_layers(json.dumps(described), path)] == wanted
    assert wanted[1:4] == ["block1_conv1", "block1_pool", "block2_conv1"]
    old = {"class_name": "Model", "config": {"output_layers": [["b", 0, 0]], "layers": []}}
    for name, source in (("b", [[["a", 0, 0, {}]]]), ("a", [[["in", 0, 0, {}]]]), ("in", [])):
        layer = {"class_name": "Dense", "name": name, "config": {"name": name}, "inbound_nodes": source}
        old["config"]["layers"].append(layer)  # type: ignore[index]
    assert [layer.name for layer in described_layers(json.dumps(old), path)] == ["in", "a", "b"]  # as Keras 2 writes it
    old["config"]["layers"][2]["inbound_nodes"] = [[["b", 0, 0, {}]]]  # type: ignore[index]
    with pytest.raises(WeightsError, match="description of the network cannot be read"):
        described_layers(json.dumps(old), path)


@pytest.mark.parametrize("kind", ["merged", "two outputs", "shared"])
def test_what_is_no_single_row_is_refused(kind: str, tmp_path: Path) -> None:
    keras = import_keras()
    layers: Any = keras.layers
    inputs = keras.Input((CROP, CROP, 3))
    maps = convolutions(inputs)
    if kind == "merged":
        model = keras.Model(inputs, classifier(layers.Add()([maps, maps])))
    elif kind == "two outputs":
        model = keras.Model(inputs, [classifier(maps), layers.GlobalAveragePooling2D()(maps)])
    else:
        again = layers.Conv2D(64, 3, padding="same", activation="relu")
        model = keras.Model(inputs, classifier(again(again(maps))))
    with pytest.raises(WeightsError, match="the outputs of 2 layers|outputs .* where one is expected"):
        load_checkpoint(saved(model, tmp_path / "net.keras"))


def padded(value: Any) -> Any:
    """Network A's first convolution with its padding in a layer of its own, as networks of 2015 have it, and ReLU too."""
    layers: Any = import_keras().layers
    value = layers.ZeroPadding2D(1)(value)
    return layers.ReLU()(layers.Conv2D(8, 3, name="block1_conv1", **random())(value))


@torch.inference_mode()
def test_padding_and_relu_in_layers_of_their_own_are_the_same(tmp_path: Path) -> None:
    keras = import_keras()
    keras.utils.set_random_seed(1)
    inputs = keras.Input((CROP, CROP, 3))
    whole = convolutions(padded(inputs), first=2)
    model = keras.Model(inputs, classifier(whole))
    mine = load_checkpoint(saved(model, tmp_path / "net.keras"))[0]
    batch = 60 * torch.randn(2, CROP, CROP, 3, generator=torch.Generator().manual_seed(7))
    expected = outputs(model, batch)
    assert relative(mine(batch.permute(0, 3, 1, 2).flip(1)).softmax(1), expected) < rounding(depth(mine))


@torch.inference_mode()
def test_an_activation_that_is_a_layer_is_that_layer(tmp_path: Path) -> None:
    keras = import_keras()
    inputs = keras.Input((CROP, CROP, 3))
    value = keras.layers.Flatten()(convolutions(inputs))
    value = keras.layers.Dense(512, activation=keras.layers.ReLU())(value)
    for other, message in (
        (keras.layers.ReLU(), None),
        (keras.layers.LeakyReLU(0.1), "odd.* activation LeakyReLU"),
    ):
        last = keras.layers.Dense(4)(keras.layers.Dense(512, activation=other, name="odd")(value))
        path = saved(keras.Model(inputs, last), tmp_path / "net.keras")
        if message:
            with pytest.raises(WeightsError, match=message):
                load_checkpoint(path)
        else:
            assert load_checkpoint(path)[1].config.arch == "A"


def test_other_convolutions_are_named_before_the_classifier(tmp_path: Path) -> None:
    keras = import_keras()
    inputs = keras.Input((CROP, CROP, 3))
    value = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(value)))
    with pytest.raises(WeightsError, match="convolutions 3x3-8, which no network"):
        load_checkpoint(saved(model, tmp_path / "net.keras"))


@pytest.mark.parametrize("amount", [2, ((1, 0), (1, 0))])
def test_other_padding_is_named(amount: Any, tmp_path: Path) -> None:
    keras = import_keras()
    layers: Any = keras.layers
    inputs = keras.Input((64, 64, 3))
    value = layers.Conv2D(8, 3, activation="relu", name="block1_conv1")(layers.ZeroPadding2D(amount)(inputs))
    model = keras.Model(inputs, classifier(convolutions(value, first=2)))
    with pytest.raises(WeightsError, match="block1_conv1 .Conv2D. has padding valid after"):
        load_checkpoint(saved(model, tmp_path / "net.keras"))
    model = keras.Model(inputs, classifier(convolutions(layers.Conv2D(8, 3, activation="relu")(inputs), first=2)))
    with pytest.raises(WeightsError, match="padding valid where same"):
        load_checkpoint(saved(model, tmp_path / "net.keras"))
