"""What the layers of a Keras network do, compared with VGG: weights with VGG's shapes may belong to another network.

Layers that do nothing at evaluation are skipped. Rescaling, Normalization and preprocess_input in front say which
preprocessing the network expects: together they are one mean and one divisor per channel.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vggcli.errors import WeightsError
from vggcli.weights.keras_config import KerasLayer
from vggcli.weights.operations import Does, Operation, no_vgg
from vggcli.weights.preprocessing import Channels, ExpectedPixels

_SILENT = frozenset(
    "InputLayer Flatten Dropout SpatialDropout2D AlphaDropout GaussianDropout GaussianNoise ActivityRegularization "
    "RandomFlip RandomRotation RandomZoom RandomTranslation RandomContrast RandomBrightness RandomShear".split()
)
CONVOLUTION = {"strides": [1, 1], "dilation_rate": [1, 1], "groups": 1, "data_format": "channels_last"}
POOLING = {"pool_size": [2, 2], "strides": [2, 2], "padding": "valid", "data_format": "channels_last"}
_DOES: dict[str, Does] = {
    "Conv2D": "convolution", "Dense": "fully connected layer", "MaxPooling2D": "pooling",
    "GlobalAveragePooling2D": "average",
}  # fmt: skip
_ACTS: dict[str, Does] = {"relu": "ReLU", "softmax": "softmax"}
PIXEL_LAYERS = ("Rescaling", "Normalization", "Stack", "Add")  # the last two of preprocess_input: BGR, less the mean

Vectors = Callable[[KerasLayer], list[list[float]]]  # reads the arrays of a layer
_SMALLEST = 1e-7  # of Normalization's standard deviation, as Keras has it


def operations(layers: Sequence[KerasLayer], path: Path) -> list[Operation]:
    """What the layers do, in order. Raises WeightsError, naming the layer, for an operation that VGG does not have."""
    found: list[Operation] = []
    acting = [layer for layer in layers if layer.kind not in _SILENT]
    last = max((at for at, layer in enumerate(acting) if layer.kind == "Dense"), default=-1)
    nothing = KerasLayer("", {}, "")
    for at, layer in enumerate(acting):
        before, after = (acting[place] if 0 <= place < len(acting) else nothing for place in (at - 1, at + 1))
        odd = _oddity(before, layer, after, at == last, at > last >= 0)
        if not odd and layer.kind in PIXEL_LAYERS and found:
            odd = "comes after the first layer of the network itself"
        if odd:
            raise _no_vgg(path, layer, odd)
        found += [Operation(_DOES[layer.kind], layer.name)] if layer.kind in _DOES else []
        activation = _activation(layer)
        found += [Operation(_ACTS[activation], layer.name)] if activation in _ACTS else []
    first = next((at for at, layer in enumerate(layers) if layer.kind in ("Flatten", "GlobalAveragePooling2D")), None)
    for layer in layers[:first]:
        if layer.kind == "Dense":
            raise _no_vgg(path, layer, "is applied at every position of a map, since no Flatten comes before it")
    return found


def front_layer_pixels(layers: Sequence[KerasLayer], vectors: Vectors, path: Path) -> ExpectedPixels | None:
    """The preprocessing that the layers in front do, or None without such layers.

    Raises WeightsError, naming the layer, where it is not a mean and a divisor per channel.
    """
    factor, offset = [1.0] * 3, [0.0] * 3  # that the layers so far apply to a pixel, in the order of their channels
    channels: Channels = "RGB"
    front = [layer for layer in layers if layer.kind in PIXEL_LAYERS]
    for layer in front:
        if layer.kind == "Stack":
            factor, offset, channels = factor[::-1], offset[::-1], "RGB" if channels == "BGR" else "BGR"
            continue
        try:
            scale, shift = _scale_and_shift(layer, vectors)
        except (TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
            raise _no_vgg(path, layer, "has settings that are no mean and divisor for each channel") from error
        factor = [one * two for one, two in zip(scale, factor, strict=True)]
        offset = [one * two + three for one, two, three in zip(scale, offset, shift, strict=True)]
    if not front:
        return None
    step = -1 if channels == "BGR" else 1
    mean = [-shift / scale if scale else math.nan for scale, shift in zip(factor, offset, strict=True)][::step]
    divisor = [1 / scale if scale else math.nan for scale in factor][::step]
    if not all(map(math.isfinite, (*mean, *divisor))) or min(divisor) <= 0:
        raise _no_vgg(path, front[-1], "has settings that are no mean and divisor for each channel")
    if max(divisor) < 1 and max(map(abs, mean)) <= 1:
        raise _no_vgg(path, front[-1], "expects pixels from 0 to 1, but no layer of the file scales them to that range")
    return ExpectedPixels(channels, (mean[0], mean[1], mean[2]), (divisor[0], divisor[1], divisor[2]))


def _no_vgg(path: Path, layer: KerasLayer, odd: str) -> WeightsError:
    return no_vgg(path, f"its layer {layer.name} ({layer.kind}) {odd}")


def _oddity(before: KerasLayer, layer: KerasLayer, after: KerasLayer, last: bool, behind: bool) -> str | None:
    """What a layer does that VGG does not, or None; `last`: it is the last Dense layer; `behind`: it comes after that."""
    if layer.kind in ("Activation", "ReLU", "Softmax"):
        wanted, given = "softmax" if behind else "relu", _activation(layer)
        return None if given in (wanted, "linear") else f"has the activation {given} where {wanted} is expected"
    if layer.kind == "MaxPooling2D":
        return _difference(layer.settings, POOLING)
    if layer.kind == "GlobalAveragePooling2D":
        return _difference(layer.settings, {"data_format": "channels_last"})
    if layer.kind == "ZeroPadding2D":
        return None if after.kind == "Conv2D" else "does not come before a convolution"
    if layer.kind in PIXEL_LAYERS and (layer.kind != "Stack" or layer.settings.get("axis") == -1):
        return None
    if layer.kind not in ("Conv2D", "Dense"):
        return "is in no VGG network"
    given, wanted = _activation(layer), "softmax" if last else "relu"
    fits = given == wanted or (given == "linear" and (last or after.kind in ("Activation", "ReLU")))
    odd = None if fits else f"has the activation {given} where {wanted} is expected"
    if layer.kind == "Conv2D" and odd is None:
        return _difference(layer.settings, CONVOLUTION) or _padding(before, layer)
    return odd


def _padding(before: KerasLayer, layer: KerasLayer) -> str | None:
    """What is wrong with the padding of a convolution: it or the layer before it must keep the size of the map."""
    if before.kind != "ZeroPadding2D":
        return _difference({"padding": "valid", **layer.settings}, {"padding": "same"})
    side = layer.settings["kernel_size"]
    side = side[0] if isinstance(side, list) else side
    amount, wanted = before.settings.get("padding", 1), (side - 1) // 2
    given = _flat(amount)
    if layer.settings.get("padding", "valid") != "valid" or set(given) != {wanted}:
        return f"has padding {layer.settings.get('padding', 'valid')} after {amount} of {before.name}"
    return None


def _activation(layer: KerasLayer) -> str:
    """The activation that a layer is or has: relu, softmax, linear, or the name of another."""
    if layer.kind == "Softmax":
        return "softmax" if layer.settings.get("axis", -1) in (-1, [-1], 1, [1]) else "softmax over another axis"
    if layer.kind == "ReLU":
        changed = any(layer.settings.get(key) for key in ("max_value", "negative_slope", "threshold"))
        return "changed relu" if changed else "relu"
    given = layer.settings.get("activation") or "linear"
    if isinstance(given, dict):  # a layer as an activation
        inner = KerasLayer(str(given["class_name"]), given["config"], "")
        return _activation(inner) if inner.kind in ("ReLU", "Softmax") else inner.kind
    return str(given)


def _difference(settings: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    for key, value in wanted.items():
        given = settings.get(key, value)
        if (list(given) if isinstance(given, list | tuple) else given) != value:
            return f"has {key} {given} where {value} is expected"
    return None


def _scale_and_shift(layer: KerasLayer, vectors: Vectors) -> tuple[list[float], list[float]]:
    """The factor and the offset that a layer of Add, Rescaling or Normalization applies to each channel."""
    if layer.kind == "Add":
        (added,) = layer.settings["added"]
        return [1.0] * 3, _three(added)
    if layer.kind == "Rescaling":
        return _three(layer.settings["scale"]), _three(layer.settings.get("offset", 0.0))
    settings = layer.settings
    if settings.get("invert") or settings.get("axis", -1) not in (-1, 3, [-1], [3], None, []):
        raise ValueError("inverted, or along another axis")
    mean, variance = settings.get("mean"), settings.get("variance")
    if mean is None or variance is None:
        mean, variance = vectors(layer)[:2]
    factor = [1 / max(math.sqrt(value), _SMALLEST) for value in _three(variance)]
    return factor, [-value * scale for value, scale in zip(_three(mean), factor, strict=True)]


def _three(values: Any) -> list[float]:
    """Three numbers, from one for all channels or one per channel."""
    flat = [float(value) for value in _flat(values)]
    if len(flat) not in (1, 3):
        raise ValueError(f"{len(flat)} numbers")
    return flat * (3 // len(flat))


def _flat(values: Any, deepest: int = 5) -> list[Any]:
    if not isinstance(values, list | tuple):
        return [values]
    return [one for value in values for one in _flat(value, deepest - 1)] if deepest else [math.nan]
