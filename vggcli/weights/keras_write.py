"""Keras' weights, written with h5py alone: `.h5` by the layer names of keras.applications, Keras 3's `.weights.h5`, or a
`.keras` archive, which holds the network too.

An attribute of the file holds what this program knows about the network, so that reading it gives the same checkpoint.
"""

import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vggcli.errors import MachineError
from vggcli.files import replacing
from vggcli.weights.checkpoint import Checkpoint
from vggcli.weights.keras_config import numbered
from vggcli.weights.keras_index import NOTE_ATTRIBUTE, need_h5py
from vggcli.weights.keras_read import WEIGHTS, dense_pieces, keras_names
from vggcli.weights.recognise import check_plain
from vggcli.zoo.layers import NetworkConfig, network_layers
from vggcli.zoo.network import VGG

_VERSION = "3.0.0"  # of Keras, whose archives these are


def check_keras(config: NetworkConfig) -> None:
    """Raises WeightsError for a network that cannot be written for Keras, MachineError where h5py is not installed."""
    check_plain(config, "Keras")
    need_h5py()


def save_keras(path: Path, network: VGG, checkpoint: Checkpoint) -> None:
    """Write the weights at `path`, in the layout that its suffix names, whole or not at all.

    Raises WeightsError for a network that has no such form, MachineError where the disk refuses.
    """
    check_keras(checkpoint.config)
    with replacing(path) as temporary:
        if path.suffix != ".keras":
            _write_weights(temporary, network, checkpoint, by_name=not path.name.endswith(".weights.h5"))
            return
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            weights = Path(folder) / WEIGHTS
            _write_weights(weights, network, checkpoint, by_name=False)
            with zipfile.ZipFile(temporary, "w") as archive:
                texts = {"metadata.json": {"keras_version": _VERSION}, "config.json": sequential(checkpoint.config)}
                for name, fields in texts.items():
                    archive.writestr(zipfile.ZipInfo(name), json.dumps(fields))  # ZipInfo: the same date always
                with (
                    weights.open("rb") as file,
                    archive.open(zipfile.ZipInfo(WEIGHTS), "w", force_zip64=True) as member,
                ):
                    shutil.copyfileobj(file, member, 1 << 20)


def _write_weights(path: Path, network: VGG, checkpoint: Checkpoint, by_name: bool) -> None:
    import h5py

    names = keras_names(checkpoint.config)
    whole = io.BytesIO()  # the HDF5 library crashes where a disk is full; Python reports it
    try:
        with h5py.File(whole, "w") as root:
            root.attrs[NOTE_ATTRIBUTE] = checkpoint.to_json()
            root.attrs["classes"] = json.dumps(checkpoint.classes)
            if by_name:
                root.attrs["layer_names"] = [name.encode() for name in names.values()]
                root.attrs["backend"], root.attrs["keras_version"] = b"tensorflow", _VERSION.encode()
            for ours, group, parts in _groups(root, names, by_name):
                weight, bias = (network.get_parameter(f"{ours}.{part}").detach() for part in ("weight", "bias"))
                if ours.startswith("conv"):
                    weight = weight.flip(1) if ours == "conv1_1" else weight
                    group.create_dataset(parts[0], data=weight.permute(2, 3, 1, 0).contiguous().cpu().numpy())
                else:
                    kernel = group.create_dataset(parts[0], (weight[0].numel(), len(weight)), dtype="<f4")
                    for place, part in dense_pieces(weight):
                        kernel[place] = part.T.contiguous().cpu().numpy()
                group.create_dataset(parts[1], data=bias.cpu().numpy())
    except (ValueError, RuntimeError, OSError) as error:  # h5py raises any of these when memory runs out
        raise MachineError(f"out of memory for HDF5 ({error}); free some, or write a .safetensors file") from error
    path.write_bytes(whole.getbuffer())


def _groups(root: Any, names: dict[str, str], by_name: bool) -> Iterator[tuple[str, Any, tuple[str, str]]]:
    """Every layer with the group of the file that its arrays go into and their names there."""

    counted = numbered(["Dense" if ours.startswith("fc") else "Conv2D" for ours in names])
    for (ours, theirs), by_count in zip(names.items(), counted, strict=True):
        if by_name:
            group = root.create_group(theirs)
            parts = (f"{theirs}/kernel:0", f"{theirs}/bias:0")
            group.attrs["weight_names"] = [part.encode() for part in parts]
        else:
            group = root.create_group(f"layers/{by_count}/vars")
            group.attrs["name"] = theirs
            parts = ("0", "1")
        yield ours, group, parts


def sequential(config: NetworkConfig) -> dict[str, Any]:
    """The network in Keras' own description of a sequential model, from BGR images of the training crop to posteriors."""
    names, shape = keras_names(config), [None, config.crop, config.crop, 3]
    layers = [_layer("InputLayer", "input", {"batch_shape": shape, "dtype": "float32"})]
    for layer in network_layers(config):
        if layer.kind == "conv":
            sizes = {"filters": layer.channels, "kernel_size": [layer.kernel] * 2, "padding": "same"}
            layers.append(_layer("Conv2D", names[layer.name], {**sizes, "activation": "relu"}))
        elif layer.kind == "pool":
            sizes = {"pool_size": [layer.kernel] * 2, "strides": [2, 2]}
            layers.append(_layer("MaxPooling2D", f"block{layer.name.removeprefix('pool')}_pool", sizes))
        else:
            if layer.name == "fc6":
                layers.append(_layer("Flatten", "flatten", {}))
            activation = "softmax" if layer.name == "fc8" else "relu"
            layers.append(_layer("Dense", names[layer.name], {"units": layer.channels, "activation": activation}))
    model = {"name": f"vgg_{config.arch.lower().replace('-', '_')}", "layers": layers, "trainable": True}
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": model,
        "registered_name": None,
        "build_config": {"input_shape": shape},
    }


def _layer(kind: str, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    config = {"name": name, **settings}
    return {"module": "keras.layers", "class_name": kind, "config": config, "registered_name": None}
