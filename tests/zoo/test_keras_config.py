"""What a Keras file says of its own operations, against Keras' own layers and savers; and writing on a full disk."""

import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.peer import import_keras
from tests.zoo.nets import about, small
from tests.zoo.test_keras import keras_network
from vggcli.errors import WeightsError
from vggcli.zoo.checkpoint import load_checkpoint
from vggcli.zoo.keras_write import _write_weights

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
