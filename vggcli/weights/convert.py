"""Weights from any layout that can be read to any that can be written: a file becomes a network, the network a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from vggcli.choices import Layout
from vggcli.errors import UsageError, WeightsError
from vggcli.files import writable_output
from vggcli.places import Places
from vggcli.progress import Progress, silent
from vggcli.results import Result
from vggcli.weights.assumed import say_what_is_assumed
from vggcli.weights.caffe_write import check_caffe, save_caffe
from vggcli.weights.checkpoint import Checkpoint, load_checkpoint, read_checkpoint, save_checkpoint
from vggcli.weights.find import fetched, find_weights
from vggcli.weights.keras_write import check_keras, save_keras
from vggcli.weights.onnx_write import Exported, need_onnx, save_onnx
from vggcli.weights.preprocessing import Channels, ExpectedPixels, read_pixels
from vggcli.weights.torch_names import Framework, framework_names
from vggcli.weights.torch_write import save_foreign
from vggcli.weights.usage import usage_lines
from vggcli.zoo.network import VGG

LAYOUTS: dict[str, tuple[Layout, ...]] = {  # by suffix, the default first
    ".safetensors": ("vgg", "torchvision", "timm"),
    ".pth": ("torchvision", "timm"),
    ".pt": ("torchvision", "timm"),
    ".h5": ("keras",),
    ".keras": ("keras",),
    ".caffemodel": ("caffe",),
    ".onnx": ("onnx",),
}


@dataclass(frozen=True)
class Converted(Result):
    """What was written, and what a user of the network must know. `prototxt` is the second file of Caffe;
    `exported` says how an ONNX model compares with the network itself."""

    written: Path
    layout: Layout
    checkpoint: Checkpoint
    prototxt: Path | None = None
    exported: Exported | None = None

    @property
    def channels(self) -> Channels:
        """The order of channels that the written network expects."""
        return "BGR" if self.layout in ("keras", "caffe") else "RGB"

    @property
    def usage(self) -> str:
        """Python code that uses the written file in the other framework: the posteriors of an image photo.jpg."""
        return usage_lines(self.layout, self.written, self.channels, self.checkpoint)

    def table(self) -> list[dict[str, Any]]:
        """One row, without the code."""
        return [{name: value for name, value in super().table()[0].items() if name != "usage"}]

    def to_json(self) -> dict[str, Any]:
        """Mean and divisor are of pixels from 0 to 255, in the order of the layout's `channels`."""
        config, colour = self.checkpoint.config, self.checkpoint.preprocessing
        expected = ExpectedPixels(self.channels, colour.mean, colour.divisor)
        more: dict[str, Any] = {} if self.prototxt is None else {"prototxt": str(self.prototxt)}
        if one := self.exported:
            more = {"checked_with_onnx_runtime": one.runtime, "largest_difference": one.difference}
        return {
            "written": str(self.written),
            "layout": self.layout,
            **more,
            "network": config.arch,
            "crop": config.crop,
            "width": config.width,
            "classes": config.classes,
            "class_names": bool(self.checkpoint.classes),
            **expected.to_json(),
            "scale": list(self.checkpoint.scale),
            "usage": self.usage,
        }


def convert(
    places: Places,
    source: str | Path,
    target: str | Path,
    *,
    to: Layout | None = None,
    arch: str | None = None,
    preprocessing: str | None = None,
    progress: Progress = silent,
) -> Converted:
    """Write the weights of `source` (a run folder, a file, a published name with its network `arch`) to the new file
    `target`, in the layout `to` or the usual one of its suffix. `preprocessing` is for a source without its own.

    Raises UsageError before any work where `to` and the suffix do not go together or a file would be overwritten;
    WeightsError where the weights cannot be read, or not written in that layout; MachineError where a package is missing
    or the disk refuses.

    >>> vggcli.convert("runs/A-1", "vgg11.pth").layout
    'torchvision'
    """
    target = Path(target)
    layout = _layout(target, to)
    writable_output(target)
    if layout == "caffe":
        writable_output(target.with_suffix(".prototxt"))
    pixels = None if preprocessing is None else read_pixels(preprocessing)
    path = fetched(find_weights(Path(source), arch, places), places, progress)
    _check(layout, read_checkpoint(path, pixels))
    network, checkpoint = load_checkpoint(path, pixels=pixels)
    say_what_is_assumed(path, checkpoint, places)
    return _written(layout, target, network, checkpoint)


def _layout(target: Path, to: Layout | None) -> Layout:
    if to is not None and to not in get_args(Layout):
        raise UsageError(f"there is no layout {to!r}; give {', '.join(get_args(Layout))}", "to")
    if target.suffix not in LAYOUTS:
        raise UsageError(f"{target} must end in {', '.join(LAYOUTS)}")
    layouts = LAYOUTS[target.suffix]
    if to is None or to in layouts:
        return to or layouts[0]
    if to == "vgg":
        raise UsageError(f"{target}: a checkpoint is never pickled; give a name that ends in .safetensors", "to")
    suffixes = ", ".join(suffix for suffix, some in LAYOUTS.items() if to in some)
    raise UsageError(f"{target} cannot have the layout {to}; give a name that ends in {suffixes}", "to")


def _check(layout: Layout, checkpoint: Checkpoint) -> None:
    """Raises WeightsError or MachineError where the layout cannot be written, before the weights are read."""
    if layout != "vgg" and checkpoint.config.head == "none":
        raise WeightsError("without a classifier, weights can only be written as a checkpoint (.safetensors)")
    if layout != "vgg" and checkpoint.config.boxes is not None:
        raise WeightsError("weights that give boxes can only be written as a checkpoint (.safetensors)")
    if layout in get_args(Framework):
        framework_names(checkpoint.config, cast("Framework", layout))
    elif layout == "keras":
        check_keras(checkpoint.config)
    elif layout == "caffe":
        check_caffe(checkpoint.config)
    elif layout == "onnx":
        need_onnx()


def _written(layout: Layout, target: Path, network: VGG, checkpoint: Checkpoint) -> Converted:
    prototxt, exported = None, None
    if layout in get_args(Framework):
        save_foreign(target, network, checkpoint, cast("Framework", layout))
    elif layout == "keras":
        save_keras(target, network, checkpoint)
    elif layout == "caffe":
        prototxt = save_caffe(target, network, checkpoint)
    elif layout == "onnx":
        exported = save_onnx(target, network, checkpoint)
    else:
        save_checkpoint(target, network, checkpoint)
    return Converted(target, layout, checkpoint, prototxt, exported)
