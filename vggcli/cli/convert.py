"""`vgg convert`: weights between this program's checkpoints and other frameworks."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from vggcli import choices
from vggcli.cli import options
from vggcli.defaults import user_places


@options.with_groups
def convert(
    source: Annotated[
        Path,
        Argument(metavar="SRC", help="Run folder, checkpoint, another framework's file, or imagenet, features."),
    ],
    target: Annotated[
        Path,
        Argument(
            metavar="DST", help="New file: .safetensors, .pth, .pt, .h5, .weights.h5, .keras, .caffemodel or .onnx."
        ),
    ],
    to: Annotated[
        choices.Layout | None,
        Option(
            metavar="LAYOUT",
            help="Layout of DST: vgg, torchvision, timm, keras, caffe, onnx. (default: by its suffix; .pth: torchvision)",
        ),
    ] = None,
    arch: Annotated[
        str | None,
        Option(metavar="NAME", help="The network to take from published weights; of a file, a check. (default: D)"),
    ] = None,
    preprocessing: options.Preprocessing = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Convert weights between frameworks, or export to ONNX. Content and suffix tell checkpoints, torchvision (.pth),
    timm (.safetensors, .pth), Keras (.h5, .weights.h5, .keras) and Caffe (.caffemodel with its .prototxt) apart.
    Tensors are renamed and reordered, never computed with, so a round trip gives the same bits. Where one side expects
    BGR and the other RGB, the input channels of the first layer are exchanged. The preprocessing that the network expects
    is printed, and Python code that uses the new file in the other framework."""
    from json import dumps

    from vggcli.report.tables import converted_table
    from vggcli.weights.convert import convert

    places, progress = user_places(), options.progress(quiet)
    converted = convert(places, source, target, to=to, arch=arch, preprocessing=preprocessing, progress=progress)
    if json:
        print(dumps(converted.to_json()))
    else:
        options.stdout_console().print(converted_table(converted))
        print(converted.usage)  # as it is, in lines of any length, to be pasted
