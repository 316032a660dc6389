"""Weights written in torchvision's and timm's layouts, as safetensors or as torch saves a state dict."""

from pathlib import Path

from vggcli.weights.checkpoint import Checkpoint, save_tensors
from vggcli.weights.seal import FOREIGN_NOTE
from vggcli.weights.torch_names import Framework, to_framework
from vggcli.weights.torch_read import save_pickle
from vggcli.zoo.network import VGG

PICKLES = (".pth", ".pt")


def save_foreign(path: Path, network: VGG, checkpoint: Checkpoint, framework: Framework) -> None:
    """Write the weights as the framework names and shapes them, as safetensors or, by the suffix of `path`, as torch saves
    a state dict. Both hold a note of classes and preprocessing, which is read back.

    Raises WeightsError for a network that the framework does not have, MachineError where the disk refuses.
    """
    tensors = to_framework(network.state_dict(), checkpoint.config, framework)
    if path.suffix in PICKLES:
        save_pickle(path, tensors, checkpoint.to_json())
        return
    save_tensors(path, tensors, {FOREIGN_NOTE: checkpoint.to_json()})
