"""A network as an ONNX model, written from its list of layers: any batch, height and width in, posteriors and the mean fc7
descriptor out. Nothing is traced.

The weights are streamed into the message after the graph, so they are not held in memory twice. The preprocessing is in the
model's metadata. ONNX Runtime, where it is installed, must give the network's own posteriors.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vggcli import paper
from vggcli.errors import MachineError, WeightsError
from vggcli.files import replacing
from vggcli.weights.checkpoint import Checkpoint
from vggcli.weights.protobuf import number, opening, text, varint, with_tensors
from vggcli.zoo.layers import Layer, with_relus
from vggcli.zoo.network import VGG

OPSET, IR_VERSION = 17, 8  # of 2022, which every runtime reads
_LARGEST = 2**31 - 1  # bytes of a protocol buffer
TOLERANCE = 1e-4  # of the largest posterior or descriptor entry, between ONNX Runtime and torch
BATCH_NORM_EPSILON = 1e-5  # torch's
# onnx.proto: ModelProto and GraphProto; TensorProto
MODEL_GRAPH, GRAPH_INITIALIZER = 7, 5
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW, FLOAT = 1, 2, 8, 9, 1


@dataclass(frozen=True)
class Exported:
    """The result of an export: the version of ONNX Runtime that checked it (None where it is not installed), and the
    largest difference from the network's own outputs, relative to the largest of them."""

    runtime: str | None
    difference: float | None


def need_onnx() -> Any:
    """The onnx module. Raises MachineError where it is not installed."""
    try:
        import onnx
        import onnx.helper
    except ImportError as error:
        raise MachineError("ONNX models need the package onnx: pip install 'vggcli[onnx]'") from error
    return onnx


def save_onnx(path: Path, network: VGG, checkpoint: Checkpoint) -> Exported:
    """Write `network` (in evaluation mode, on the CPU) as an ONNX model, whole or not at all, and check it.

    Raises WeightsError where the model is over 2 GB or ONNX Runtime computes something else, MachineError where onnx is not
    installed or the disk refuses.
    """
    need_onnx()
    weights = [(name, tensor) for name, tensor in network.state_dict().items() if tensor.is_floating_point()]
    if sum(4 * tensor.numel() for _, tensor in weights) > _LARGEST - (1 << 20):
        raise WeightsError(f"the network has over 2 GB of weights (width {network.config.width:g}), too many for ONNX")
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            file.writelines(_model(network, checkpoint, weights))
        return checked(temporary, network)


@torch.inference_mode()
def checked(path: Path, network: VGG) -> Exported:
    """Run the model at `path` on two random images that are not square. Raises WeightsError where its outputs differ."""
    try:
        import onnxruntime
    except ImportError:
        return Exported(None, None)
    crop = network.config.crop
    images = torch.randn(2, 3, crop, crop + paper.STRIDE, generator=torch.Generator().manual_seed(0))
    settings = onnxruntime.SessionOptions()  # runs the model unchanged, in a third of the memory
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.add_session_config_entry("session.disable_prepacking", "1")
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    posteriors, descriptor = session.run(["posteriors", "descriptor"], {"images": images.numpy()})
    expected_descriptor = network.descriptor(network.convolve(images))
    expected = network.classify(expected_descriptor).softmax(1)
    pairs = ((posteriors, expected), (descriptor, expected_descriptor))
    gaps = [((torch.from_numpy(found) - wanted).abs().max(), wanted.abs().max()) for found, wanted in pairs]
    difference = max(float(gap / largest.clamp(min=1e-12)) for gap, largest in gaps)

    if not difference <= TOLERANCE:
        raise WeightsError(
            f"ONNX Runtime {onnxruntime.__version__} gives other outputs than the network (relative difference "
            f"{difference:.1e}); nothing was written"
        )
    return Exported(onnxruntime.__version__, difference)


def _model(network: VGG, checkpoint: Checkpoint, weights: Sequence[tuple[str, Tensor]]) -> Iterator[bytes]:
    """The bytes of the model: its head, and the graph as one field whose weights come last."""
    onnx = need_onnx()
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="vgg", opset_import=opsets)
    onnx.helper.set_model_props(model, metadata(checkpoint))
    yield model.SerializeToString()
    tensors = []
    for name, tensor in weights:
        shape = (len(tensor), tensor[0].numel()) if name == "fc8.weight" else tuple(tensor.shape)
        head = text(TENSOR_DIMS, b"".join(map(varint, shape))) + number(TENSOR_TYPE, FLOAT) + text(TENSOR_NAME, name)
        tensors.append((head + opening(TENSOR_RAW, 4 * tensor.numel()), tensor))
    yield from with_tensors(MODEL_GRAPH, _graph(network, checkpoint).SerializeToString(), GRAPH_INITIALIZER, tensors)


def metadata(checkpoint: Checkpoint) -> dict[str, str]:
    """What a program that runs the model needs to know, as texts: JSON for anything longer than a word."""
    colour = checkpoint.preprocessing
    return {
        "arch": checkpoint.config.arch,
        "crop": str(checkpoint.config.crop),
        "width": f"{checkpoint.config.width:g}",
        "classes": json.dumps(checkpoint.classes),
        "channel_order": "RGB",
        "input_range": "[0, 255]",
        "mean": json.dumps(colour.mean),
        "divisor": json.dumps(colour.divisor),
        "preprocessing": "images = (pixels - mean) / divisor, pixels RGB from 0 to 255, by channel",
        "scale": json.dumps(checkpoint.scale),
        "vgg": checkpoint.to_json(),
    }


def _graph(network: VGG, checkpoint: Checkpoint) -> Any:
    helper = need_onnx().helper
    nodes, value = [], "images"
    for layer in with_relus(network.config):
        if layer.name == "fc8":
            break
        nodes.append(_node(helper, layer, value))
        value = layer.name
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["mean"], "mean"))
    nodes.append(helper.make_node("Flatten", ["mean"], ["descriptor"], "flatten"))
    inputs = ["descriptor", "fc8.weight", "fc8.bias"]
    nodes.append(helper.make_node("Gemm", inputs, ["scores"], "fc8", transB=1))
    nodes.append(helper.make_node("Softmax", ["scores"], ["posteriors"], "prob", axis=1))
    size = network.get_parameter("fc8.weight").shape[1]
    images = helper.make_tensor_value_info("images", FLOAT, ["batch", 3, "height", "width"])
    posteriors = helper.make_tensor_value_info("posteriors", FLOAT, ["batch", network.config.classes])
    descriptor = helper.make_tensor_value_info("descriptor", FLOAT, ["batch", size])
    return helper.make_graph(nodes, f"VGG-{checkpoint.config.arch}", [images], [posteriors, descriptor])


def _node(helper: Any, layer: Layer, value: str) -> Any:
    name, side = layer.name, layer.kernel
    if layer.kind == "relu":
        return helper.make_node("Relu", [value], [name], name)
    if layer.kind == "pool":
        return helper.make_node("MaxPool", [value], [name], name, kernel_shape=[side] * 2, strides=[2, 2])
    if layer.kind == "lrn":  # like torch, ONNX divides alpha by the window's size
        settings = {"size": paper.LRN_SIZE, "alpha": paper.LRN_ALPHA * paper.LRN_SIZE}
        return helper.make_node("LRN", [value], [name], name, beta=paper.LRN_BETA, bias=float(paper.LRN_K), **settings)
    if layer.kind == "bn":
        parts = [f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        return helper.make_node("BatchNormalization", [value, *parts], [name], name, epsilon=BATCH_NORM_EPSILON)
    pad = side // 2 if layer.kind == "conv" else 0  # fc6 and fc7 slide over the map without padding
    inputs = [value, f"{name}.weight", f"{name}.bias"]
    return helper.make_node("Conv", inputs, [name], name, kernel_shape=[side] * 2, pads=[pad] * 4)
