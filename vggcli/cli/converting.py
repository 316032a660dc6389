"""What `vgg convert` does behind its flags: a file becomes a network, the network a file of another layout."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vggcli.cli import options
from vggcli.errors import UsageError, WeightsError
from vggcli.files import writable_output
from vggcli.report.tables import facts_table
from vggcli.weights.assumed import say_what_is_assumed
from vggcli.weights.caffe_write import check_caffe, save_caffe
from vggcli.weights.checkpoint import Checkpoint, load_checkpoint, read_checkpoint, save_checkpoint
from vggcli.weights.find import fetched, find_weights
from vggcli.weights.keras_write import check_keras, save_keras
from vggcli.weights.onnx_write import need_onnx, save_onnx
from vggcli.weights.torch_names import Framework, layer_names
from vggcli.weights.torch_write import save_foreign
from vggcli.zoo.network import VGG

LAYOUTS = {  # by suffix, the default first
    ".safetensors": ("vgg", "torchvision", "timm"),
    ".pth": ("torchvision", "timm"),
    ".pt": ("torchvision", "timm"),
    ".h5": ("keras",),
    ".keras": ("keras",),
    ".caffemodel": ("caffe",),
    ".onnx": ("onnx",),
}
FRAMEWORKS: dict[str, Framework] = {"torchvision": "torchvision", "timm": "timm"}
BGR = ("keras", "caffe")


def convert_weights(
    source: Path, arch: str | None, target: Path, to: str | None, preprocessing: str | None, quiet: bool
) -> dict[str, Any]:
    """Write the weights of `source` (published ones of network `arch`) to `target` and return what was done;
    `preprocessing` is for a source that does not say it.

    Raises UsageError before any work where `to` and the suffix of `target` do not go together or a file would be
    overwritten.
    """
    layout = _layout(target, to)
    writable_output(target)
    if layout == "caffe":
        writable_output(target.with_suffix(".prototxt"))
    pixels = options.pixels_of(preprocessing)
    path = fetched(find_weights(source, arch, options.places()), options.places(), options.progress(quiet))
    _check(layout, read_checkpoint(path, pixels))
    network, checkpoint = load_checkpoint(path, pixels=pixels)
    say_what_is_assumed(path, checkpoint, options.places())
    about = _write(layout, target, network, checkpoint)
    config, colour = checkpoint.config, checkpoint.preprocessing
    return {
        "written": str(target),
        "layout": layout,
        **about,
        "network": config.arch,
        "crop": config.crop,
        "width": config.width,
        "classes": config.classes,
        "class_names": bool(checkpoint.classes),
        "channels": "BGR" if layout in BGR else "RGB",
        "mean": _in_order(colour["mean"], layout),
        "divisor": _in_order(colour["divisor"], layout),
        "scale": list(checkpoint.scale),
    }


def _in_order(values: float | Sequence[float], layout: str) -> float | list[float]:
    """Values that are stored in the order RGB, in the order of the layout's channels."""
    if isinstance(values, int | float):
        return values
    return list(values)[::-1] if layout in BGR else list(values)


def _layout(target: Path, to: str | None) -> str:
    if target.suffix not in LAYOUTS:
        raise UsageError(f"DST {target} must end in {', '.join(LAYOUTS)}")
    layouts = LAYOUTS[target.suffix]
    if to == "vgg" and to not in layouts:
        raise UsageError(f"DST {target}: a checkpoint is a .safetensors file, never pickled; give a name that ends so")
    if to is not None and to not in layouts:
        suffixes = ", ".join(suffix for suffix, some in LAYOUTS.items() if to in some)
        raise UsageError(f"--to {to} does not go with DST {target}; give a name that ends in {suffixes}")
    return to or layouts[0]


def _check(layout: str, checkpoint: Checkpoint) -> None:
    """Raises WeightsError or MachineError where the layout cannot be written, before the weights are read."""
    if layout != "vgg" and checkpoint.config.head == "none":
        raise WeightsError(
            "these are convolutions without a classifier, which only a checkpoint (.safetensors) can hold"
        )
    if framework := FRAMEWORKS.get(layout):
        layer_names(checkpoint.config, framework)
    elif layout == "keras":
        check_keras(checkpoint.config)
    elif layout == "caffe":
        check_caffe(checkpoint.config)
    elif layout == "onnx":
        need_onnx()


def _write(layout: str, target: Path, network: VGG, checkpoint: Checkpoint) -> dict[str, Any]:
    """Write the file; returns what there is to say beside what every conversion says."""
    if framework := FRAMEWORKS.get(layout):
        save_foreign(target, network, checkpoint, framework)
    elif layout == "keras":
        save_keras(target, network, checkpoint)
    elif layout == "caffe":
        return {"prototxt": str(save_caffe(target, network, checkpoint))}
    elif layout == "onnx":
        exported = save_onnx(target, network, checkpoint)
        return {"checked_with_onnx_runtime": exported.runtime, "largest_difference": exported.difference}
    else:
        save_checkpoint(target, network, checkpoint)
    return {}


def show(facts: dict[str, Any], as_json: bool) -> None:
    """One JSON object, or a table, on stdout."""
    if as_json:
        print(json.dumps(facts))
        return
    shown = {name.replace("_", " "): str(value) for name, value in facts.items()}
    if "largest_difference" in facts:
        shown["largest difference"] = _difference(facts["largest_difference"])
    shown["class names"] = "kept" if facts["class_names"] else "none"
    title = "Converted; mean and divisor are of pixels from 0 to 255, in the order of the channels"
    options.stdout_console().print(facts_table(title, shown))


def _difference(difference: float | None) -> str:
    if difference is None:
        return "not measured: onnxruntime is not installed (pip install 'vggcli[onnx]')"
    return f"{difference:.1e} of the largest output, against the network itself"
