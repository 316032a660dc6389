"""Narrow networks of Keras' own layers, put together in the ways that its users do, for tests of its files."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.peer import import_keras

CROP, WIDTH, CLASSES = 32, 8, 4  # WIDTH: channels of the first block
BLOCKS = ((0,), (1,), (2, 2), (3, 3), (3, 3))  # of network A, as powers of two of WIDTH


def layers() -> Any:
    return import_keras().layers


def random() -> dict[str, Any]:
    """Initial weights of which none is zero."""
    return {"kernel_initializer": "he_normal", "bias_initializer": import_keras().initializers.RandomNormal(0, 0.1)}


def convolutions(value: Any, without: tuple[int, ...] = (), twice: tuple[int, ...] = (), first: int = 1) -> Any:
    """Network A's convolutions and poolings on `value`, the pools of some blocks left out or doubled; from the pooling in
    front of block `first` on."""
    if first > 1:
        value = layers().MaxPooling2D(2)(value)
    for block, powers in list(enumerate(BLOCKS, start=1))[first - 1 :]:
        for number, power in enumerate(powers, start=1):
            name = f"block{block}_conv{number}"
            value = layers().Conv2D(WIDTH << power, 3, padding="same", activation="relu", name=name, **random())(value)
        for time in range(0 if block in without else 2 if block in twice else 1):
            value = layers().MaxPooling2D(2, name=f"block{block}_pool{'_again' * time}")(value)
    return value


def classifier(value: Any, last: str = "predictions", hidden: int = 512) -> Any:
    """Flatten and three dense layers on `value`."""
    value = layers().Flatten(name="flatten")(value)
    for name in ("fc1", "fc2"):
        value = layers().Dense(hidden, "relu", name=name, **random())(value)
    return layers().Dense(CLASSES, "softmax", name=last, **random())(value)


def network(change: Callable[[Any], Any] = lambda value: value, side: int = CROP, **settings: Any) -> Any:
    """Network A with what `change` puts in front of it."""
    keras = import_keras()
    keras.utils.set_random_seed(1)
    inputs = keras.Input((side, side, 3))
    return keras.Model(inputs, classifier(convolutions(change(inputs), **settings)))


def base(**settings: Any) -> Any:
    """Network A's convolutions alone, as include_top=False gives them."""
    keras = import_keras()
    keras.utils.set_random_seed(1)
    inputs = keras.Input((CROP, CROP, 3))
    return keras.Model(inputs, convolutions(inputs, **settings), name="vgg11")


def saved(model: Any, path: Path) -> Path:
    """The model, or by the suffix .weights.h5 its weights, in a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras on its older format
        model.save_weights(path) if path.name.endswith(".weights.h5") else model.save(path)
    return path


def outputs(model: Any, images_NHWC: Tensor) -> Tensor:
    """What Keras computes of images [N, H, W, 3]."""
    with torch.inference_mode():
        return torch.from_numpy(np.array(model(images_NHWC.numpy()).cpu()))
