"""Other runtimes, each with its forward pass of a batch of images, to be compared with where it is installed."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
import torchvision
from torch import Tensor

from vggcli import paper
from vggcli.colour import ColourStatistics
from vggcli.weights.checkpoint import Checkpoint
from vggcli.weights.onnx_write import save_onnx
from vggcli.zoo.initialise import initialise
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG

Forward = Callable[[Tensor], object]


def torchvision_network(arch: str) -> torch.nn.Module:
    network: torch.nn.Module = getattr(torchvision.models, paper.NETWORKS[arch].alias or "")(weights=None)
    return network.eval()


def channels_last(arch: str, folder: Path) -> Forward:
    """torchvision's network in the layout that its documentation recommends for CPUs."""
    network = torchvision_network(arch).to(memory_format=torch.channels_last)
    return lambda images: network(images.contiguous(memory_format=torch.channels_last))


def compiled(arch: str, folder: Path) -> Forward:
    """The same through torch.compile."""
    network = torch.compile(torchvision_network(arch).to(memory_format=torch.channels_last))
    return lambda images: network(images.contiguous(memory_format=torch.channels_last))


def onnx_runtime(arch: str, folder: Path) -> Forward:
    """ONNX Runtime, on as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    model = str(_exported(arch, folder))
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images.numpy()})


def openvino(arch: str, folder: Path) -> Forward:
    """OpenVINO's plugin for CPUs, in float32."""
    from openvino import Core

    settings = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    core = Core()
    model = core.read_model(str(_exported(arch, folder)))
    model.reshape([8, 3, paper.CROP, paper.CROP])
    compiled_model = core.compile_model(model, "CPU", settings)
    return lambda images: compiled_model(images.numpy())


def mnn(arch: str, folder: Path) -> Forward:
    """MNN, in float32. Its converter is called directly: the module around it installs packages, and reports its use."""
    import _tools  # of MNN
    import MNN

    source, model = _exported(arch, folder), folder / "network.mnn"
    _tools.mnnconvert(["mnnconvert", "-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(model)])
    settings = ({"backend": "CPU", "precision": "high", "numThread": torch.get_num_threads()},)
    manager = MNN.nn.create_runtime_manager(settings)
    network = MNN.nn.load_module_from_file(str(model), [], [], runtime_manager=manager)

    def forward(images: Tensor) -> object:
        inputs = MNN.expr.placeholder(list(images.shape), MNN.expr.NCHW)
        inputs.write(images.numpy())
        return network.forward([inputs])[0].read()

    return forward


RUNTIMES: dict[str, tuple[str, Callable[[str, Path], Forward]]] = {  # what it is called, the package it needs, itself
    "torchvision, channels_last": ("torchvision", channels_last),
    "torch.compile, channels_last": ("torch", compiled),
    "ONNX Runtime": ("onnxruntime", onnx_runtime),
    "OpenVINO": ("openvino", openvino),
    "MNN": ("MNN", mnn),
}


def installed() -> list[str]:
    """The names of the runtimes that are here."""
    return [name for name, (package, _) in RUNTIMES.items() if find_spec(package) is not None]


def _exported(arch: str, folder: Path) -> Path:
    """The network as an ONNX model."""
    path = folder / "network.onnx"
    if not path.exists():
        network = VGG(NetworkConfig(arch, paper.IMAGENET_CLASSES)).eval()
        initialise(network, "he", 0)
        names = tuple(f"class{index}" for index in range(paper.IMAGENET_CLASSES))
        save_onnx(
            path,
            network,
            Checkpoint(network.config, names, ColourStatistics((124.0, 117.0, 104.0), 1.0), (256, 256), {}),
        )
    return path
