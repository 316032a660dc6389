"""`vgg convert`: weights between this program's checkpoints, torchvision and timm."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from vggcli.cli import options


class Layout(str, Enum):
    """Choices of --to."""

    vgg = "vgg"
    torchvision = "torchvision"
    timm = "timm"


def convert(
    source: Annotated[
        Path, typer.Argument(metavar="SRC", help="Run folder, checkpoint, or weights of torchvision or timm.")
    ],
    target: Annotated[
        Path, typer.Argument(metavar="DST", help="New file: .safetensors, or .pth for torchvision or timm.")
    ],
    to: Annotated[
        Layout | None, typer.Option("--to", help="Layout of DST. (default: torchvision for .pth, vgg for .safetensors)")
    ] = None,
    json: options.Json = False,
) -> None:
    """Convert weights by content and suffix. Tensors are renamed and reshaped, never computed with, so a round trip gives
    the same bits; a checkpoint keeps its classes and preprocessing, other layouts have no place for them."""
    from json import dumps

    from vggcli.errors import UsageError
    from vggcli.report.tables import facts_table
    from vggcli.zoo.checkpoint import PICKLES, load_checkpoint, save_checkpoint, save_foreign, weights_file

    if target.suffix not in (".safetensors", *PICKLES):
        raise UsageError(f"DST {target} must end in .safetensors, .pth or .pt")
    layout = to or (Layout.torchvision if target.suffix in PICKLES else Layout.vgg)
    if layout is Layout.vgg and target.suffix in PICKLES:
        raise UsageError(f"DST {target}: a checkpoint is never pickled; give a name that ends in .safetensors")
    options.writable_output(target, "DST")
    network, checkpoint = load_checkpoint(weights_file(source.expanduser()))
    if layout is Layout.vgg:
        save_checkpoint(target, network, checkpoint)
    else:
        save_foreign(target, network, checkpoint, layout.value)
    facts = {
        "written": str(target),
        "layout": layout.value,
        "network": checkpoint.config.arch,
        "crop": checkpoint.config.crop,
        "width": checkpoint.config.width,
        "classes": checkpoint.config.classes,
        "class_names": bool(checkpoint.classes),
        "mean": list(checkpoint.preprocessing["mean"]),
        "divisor": checkpoint.preprocessing["divisor"],
    }
    if json:
        print(dumps(facts))
        return
    shown = {name.replace("_", " "): str(value) for name, value in facts.items()}
    options.stdout_console().print(facts_table("Converted; mean and divisor are of pixels from 0 to 255, RGB", shown))
