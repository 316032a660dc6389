"""Caffe's .caffemodel, written a few megabytes at a time, and the deploy .prototxt that goes with it.

The prototxt says in comments which preprocessing the network expects; the net's name inside the .caffemodel, free text to
Caffe, carries the whole note, so that reading it back gives the same checkpoint.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vggcli import paper
from vggcli.errors import WeightsError
from vggcli.files import replacing, write_text
from vggcli.weights import caffe_read as caffe
from vggcli.weights.caffe_config import PARAMETERS
from vggcli.weights.checkpoint import Checkpoint
from vggcli.weights.protobuf import number, opening, text, varint, with_tensors
from vggcli.weights.recognise import check_plain
from vggcli.zoo.layers import NetworkConfig, with_relus
from vggcli.zoo.network import VGG


def check_caffe(config: NetworkConfig) -> None:
    """Raises WeightsError for a network that cannot be written for Caffe."""
    check_plain(config, "Caffe")
    if config.crop % paper.STRIDE:
        raise WeightsError(
            f"Caffe's pooling rounds up, so the crop must be a multiple of {paper.STRIDE}, not {config.crop}"
        )


@dataclass(frozen=True)
class _Layer:
    """A layer as Caffe has it; of each setting its name in the prototxt, its field in the .caffemodel and its value."""

    name: str
    kind: str
    bottom: str
    top: str
    settings: tuple[tuple[str, int, int], ...] = ()


def _layers(config: NetworkConfig) -> Iterator[_Layer]:
    """The layers of the network in order; ReLUs work in place."""
    bottom = "data"
    for layer in with_relus(config):
        name, side, outputs = layer.name, layer.kernel, ("num_output", 1, layer.channels)
        if layer.kind == "relu":
            yield _Layer(name, "ReLU", bottom, bottom)
            continue
        if layer.kind == "pool":
            yield _Layer(name, "Pooling", bottom, name, (("kernel_size", 2, side), ("stride", 3, 2)))
        elif layer.kind == "conv":
            sizes = (outputs, ("pad", 3, side // 2), ("kernel_size", 4, side))
            yield _Layer(name, "Convolution", bottom, name, sizes)
        else:
            yield _Layer(name, "InnerProduct", bottom, name, (outputs,))
        bottom = name


def save_caffe(path: Path, network: VGG, checkpoint: Checkpoint) -> Path:
    """Write the .caffemodel at `path` and its .prototxt beside it, both whole or neither; returns the latter's path.

    Raises WeightsError for a network that has no such form, MachineError where the disk refuses.
    """
    check_caffe(checkpoint.config)
    prototxt = path.with_suffix(".prototxt")
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(text(caffe.NET_NAME, caffe.NET_NOTE + checkpoint.to_json()))
        for layer in _layers(checkpoint.config):
            file.writelines(_layer_message(layer, network))
    try:
        write_text(prototxt, deploy_prototxt(checkpoint))
    except BaseException:
        path.unlink()  # useless without the .prototxt
        raise
    return prototxt


def _layer_message(layer: _Layer, network: VGG) -> Iterator[bytes]:
    """The layer as a LayerParameter, in pieces."""
    head = text(caffe.NAME, layer.name) + text(caffe.TYPE, layer.kind)
    head += text(caffe.BOTTOM, layer.bottom) + text(caffe.TOP, layer.top)
    settings = b"".join(number(field, value) for _, field, value in layer.settings)
    head += b"".join(text(field, settings) for field, kind in PARAMETERS.items() if settings and kind == layer.kind)
    tensors = []
    if layer.kind in ("Convolution", "InnerProduct"):
        weight, bias = (network.get_parameter(f"{layer.name}.{part}").detach() for part in ("weight", "bias"))
        weight = weight.flip(1) if layer.name == "conv1_1" else weight
        shape = (len(weight), weight[0].numel()) if layer.kind == "InnerProduct" else weight.shape
        for sizes, tensor in ((shape, weight), (bias.shape, bias)):
            message = text(caffe.SHAPE_SIZES, b"".join(map(varint, sizes)))
            blob = text(caffe.BLOB_SHAPE, message) + opening(caffe.BLOB_DATA, 4 * tensor.numel())
            tensors.append((blob, tensor))
    return with_tensors(caffe.NET_LAYERS, head, caffe.BLOBS, tensors)


def deploy_prototxt(checkpoint: Checkpoint) -> str:
    """The network in Caffe's text format, from one BGR image of the training crop to posteriors."""
    config, colour = checkpoint.config, checkpoint.preprocessing
    divisors = colour.divisor if isinstance(colour.divisor, tuple) else (colour.divisor,) * 3
    lines = [
        f"# Network {config.arch} of Simonyan and Zisserman (ICLR 2015), for the .caffemodel of the same name.",
        "# Input: (pixels - mean) / divisor, pixels from 0 to 255 in the order BGR:",
        f"#   mean (BGR) {', '.join(map(repr, colour.mean[::-1]))}",
        f"#   divisor (BGR) {', '.join(map(repr, divisors[::-1]))}",
        f"# Trained on images with a shorter side of {checkpoint.scale[0]} to {checkpoint.scale[1]} pixels.",
        f'name: "VGG-{config.arch}"',
        'input: "data"',
        f"input_shape {{ dim: 1 dim: 3 dim: {config.crop} dim: {config.crop} }}",
    ]
    for layer in _layers(config):
        parts = ["pool: MAX"] if layer.kind == "Pooling" else []
        parts += [f"{name}: {value}" for name, _, value in layer.settings]
        message = "inner_product" if layer.kind == "InnerProduct" else layer.kind.lower()
        settings = f" {message}_param {{ {' '.join(parts)} }}" if parts else ""
        lines.append(_prototxt_layer(layer.name, layer.kind, layer.bottom, layer.top, settings))
        if layer.name in ("relu6", "relu7"):
            dropout = f" dropout_param {{ dropout_ratio: {paper.DROPOUT} }}"
            lines.append(_prototxt_layer(f"drop{layer.name[-1]}", "Dropout", layer.top, layer.top, dropout))
    lines.append(_prototxt_layer("prob", "Softmax", "fc8", "prob"))
    return "\n".join(lines) + "\n"


def _prototxt_layer(name: str, kind: str, bottom: str, top: str, settings: str = "") -> str:
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}"{settings} }}'
