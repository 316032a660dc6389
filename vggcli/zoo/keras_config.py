"""What Keras' own description of a network says of its operations: weights of VGG's shapes need not be VGG's.

The description is JSON, `config.json` of a .keras archive or the attribute `model_config` of an .h5; nothing in it is run.
"""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from vggcli.errors import WeightsError

SILENT = frozenset({"InputLayer", "Flatten", "Dropout"})  # nothing happens in these at evaluation
CONVOLUTION = {
    "padding": "same", "strides": [1, 1], "dilation_rate": [1, 1], "groups": 1, "data_format": "channels_last",
}  # fmt: skip
POOLING = {"pool_size": [2, 2], "strides": [2, 2], "padding": "valid", "data_format": "channels_last"}


def check_operations(text: str, path: Path) -> None:
    """Raises WeightsError, which names the layer, where the description `text` ("" for none) is not of a plain VGG."""
    if not text:
        return
    try:
        layers = _layers(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"{path} is damaged: its description of the network cannot be read") from error
    last = max((at for at, (kind, _) in enumerate(layers) if kind == "Dense"), default=-1)
    followed = [after for _, after in pairwise([*layers, ("", {})])]
    for at, ((kind, settings), after) in enumerate(zip(layers, followed, strict=True)):
        odd = _oddity(kind, settings, after, at == last, at > last >= 0)
        if odd:
            name = settings.get("name", kind)
            raise WeightsError(
                f"{path} is no VGG network: its layer {name} ({kind}) {odd}; give weights of a plain VGG"
            )


def _layers(described: Any) -> list[tuple[str, dict[str, Any]]]:
    found = described.get("config", {}).get("layers", [])
    return [(str(layer["class_name"]), dict(layer["config"])) for layer in found]


def _oddity(
    kind: str, settings: dict[str, Any], after: tuple[str, dict[str, Any]], last: bool, behind: bool
) -> str | None:
    """What a layer does that VGG does not, or None."""
    if kind in SILENT:
        return None
    if kind in ("Activation", "ReLU", "Softmax"):
        wanted = "softmax" if behind else "relu"
        given = _activation(kind, settings)
        return None if given == wanted else f"has the activation {given} where {wanted} is expected"
    if kind == "MaxPooling2D":
        return _difference(settings, POOLING)
    if kind not in ("Conv2D", "Dense"):
        return "is in no VGG network"
    given = str(settings.get("activation", "linear"))
    if last:
        odd = None if given in ("linear", "softmax") else f"has the activation {given} where softmax is expected"
    elif given == "linear" and after[0] in ("Activation", "ReLU"):
        odd = None
    else:
        odd = None if given == "relu" else f"has the activation {given} where relu is expected"
    return odd or (_difference(settings, CONVOLUTION) if kind == "Conv2D" else None)


def _activation(kind: str, settings: dict[str, Any]) -> str:
    if kind == "Activation":
        return str(settings.get("activation", "linear"))
    changed = any(settings.get(key) for key in ("max_value", "negative_slope", "threshold"))
    return "changed relu" if changed else kind.lower()


def _difference(settings: dict[str, Any], wanted: dict[str, Any]) -> str | None:
    for key, value in wanted.items():
        given = settings.get(key, value)
        if (list(given) if isinstance(given, list | tuple) else given) != value:
            return f"has {key} {given} where {value} is expected"
    return None
