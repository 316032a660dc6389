"""Keras' files, against Keras itself: its own networks write what is read here, and load what is written here."""

import json
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.peer import import_keras
from tests.rounding import depth, relative, rounding
from tests.zoo.nets import about, assert_same_bits, images, small
from vggcli import paper
from vggcli.errors import MachineError, WeightsError
from vggcli.weights.checkpoint import load_checkpoint, read_checkpoint
from vggcli.weights.keras_write import save_keras
from vggcli.zoo.network import VGG

# of NumPy, on how Keras turns torch's tensors into arrays
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
CLASSES, CROP, WIDTH = 5, 64, 0.125


def keras_network(arch: str, seed: int = 1) -> Any:
    """A narrow network of keras.applications' layers and names, with random weights and biases, without its softmax."""
    keras = import_keras()
    keras.utils.set_random_seed(seed)
    layers: Any = keras.layers
    row = paper.NETWORKS[arch]
    inputs = value = keras.Input((CROP, CROP, 3))
    random = {"bias_initializer": keras.initializers.RandomNormal(0, 0.1), "kernel_initializer": "he_normal"}
    for block, (kernels, base) in enumerate(zip(row.blocks, paper.BLOCK_CHANNELS, strict=True), start=1):
        for index, kernel in enumerate(kernels, start=1):
            settings = {"padding": "same", "activation": "relu", "name": f"block{block}_conv{index}", **random}
            value = layers.Conv2D(int(base * WIDTH), kernel, **settings)(value)
        value = layers.MaxPooling2D((2, 2), strides=(2, 2), name=f"block{block}_pool")(value)
    value = layers.Flatten(name="flatten")(value)
    for name in ("fc1", "fc2"):
        value = layers.Dense(int(4096 * WIDTH), activation="relu", name=name, **random)(value)
    return keras.Model(inputs, layers.Dense(CLASSES, name="predictions", **random)(value))


def bgr_last(images_NCHW: Tensor) -> Any:
    """RGB [N, 3, H, W] as Keras takes it: BGR [N, H, W, 3]."""
    return images_NCHW.flip(1).permute(0, 2, 3, 1).contiguous().numpy()


def outputs(model: Any, images_NCHW: Tensor) -> Tensor:
    with torch.inference_mode():
        return torch.from_numpy(np.array(model(bgr_last(images_NCHW)).cpu()))


@pytest.fixture(scope="module")
def model() -> Any:
    """Network D."""
    return keras_network("D")


@pytest.fixture
def files(model: Any, tmp_path: Path) -> dict[str, Path]:
    """Network D in every file that Keras writes of it."""
    found = {name: tmp_path / f"d{name}" for name in (".weights.h5", ".keras", ".h5")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras on its older format
        model.save_weights(found[".weights.h5"])
        model.save(found[".keras"])
        model.save(found[".h5"])
    found["by name"] = tmp_path / "published.h5"
    by_name(model, found["by name"])
    return found


def by_name(model: Any, path: Path) -> None:
    """The layout in which keras.applications' files are published: a group a layer, attributes that name the arrays."""
    with h5py.File(path, "w") as root:
        root.attrs["layer_names"] = [layer.name.encode() for layer in model.layers]
        for layer in model.layers:
            group = root.create_group(layer.name)
            names = [f"{layer.name}_W_1:0", f"{layer.name}_b_1:0"][: len(layer.weights)]
            group.attrs["weight_names"] = [name.encode() for name in names]
            for name, value in zip(names, layer.get_weights(), strict=True):
                group.create_dataset(name, data=value)


@pytest.mark.parametrize("layout", [".weights.h5", ".keras", ".h5", "by name"])
@torch.inference_mode()
def test_kerass_own_files_give_its_logits(layout: str, model: Any, files: dict[str, Path]) -> None:
    network, checkpoint = load_checkpoint(files[layout])
    assert (checkpoint.config.arch, checkpoint.config.crop, checkpoint.config.width) == ("D", CROP, WIDTH)
    assert checkpoint.preprocessing.mean == (123.68, 116.779, 103.939)  # RGB
    assert checkpoint.preprocessing.divisor == 1.0
    expected = outputs(model, images())
    assert relative(network(images()), expected) < rounding(depth(network))
    assert relative(network(images().flip(1)), expected) > 0.01
    assert relative(network(images().mT), expected) > 0.01


@pytest.mark.parametrize("arch", ["A", "B", "C", "D", "E", "B-5x5"])
@pytest.mark.parametrize("suffix", [".weights.h5", ".h5"])
@torch.inference_mode()
def test_keras_loads_what_was_written(arch: str, suffix: str, tmp_path: Path) -> None:
    network = small(arch)
    path = tmp_path / f"net{suffix}"
    save_keras(path, network, about(network))
    theirs = keras_network(arch, seed=2)
    theirs.load_weights(path)
    assert relative(outputs(theirs, images()), network(images())) < rounding(depth(network))


@torch.inference_mode()
def test_keras_opens_a_written_archive_as_a_model(tmp_path: Path) -> None:
    network = small("D")
    save_keras(tmp_path / "net.keras", network, about(network))
    model = import_keras().saving.load_model(tmp_path / "net.keras")
    assert [layer.name for layer in model.layers if layer.weights][::15] == ["block1_conv1", "predictions"]
    assert relative(outputs(model, images()), network(images()).softmax(1)) < rounding(depth(network))


@pytest.mark.parametrize("suffix", [".weights.h5", ".h5", ".keras"])
@pytest.mark.parametrize("arch", ["A", "C", "E"])
def test_a_round_trip_gives_the_same_bits_and_the_same_record(suffix: str, arch: str, tmp_path: Path) -> None:
    network = small(arch, width=0.3, crop=72)
    path = tmp_path / f"net{suffix}"
    save_keras(path, network, about(network))
    assert assert_same_bits(path, network) == about(network)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@torch.inference_mode()
def test_vgg16_of_keras_applications_at_full_width(tmp_path: Path) -> None:
    keras = import_keras()
    keras.utils.set_random_seed(0)
    model = keras.applications.VGG16(weights=None, input_shape=(32, 32, 3), classes=7)
    model.save_weights(tmp_path / "vgg16.weights.h5")
    network, checkpoint = load_checkpoint(tmp_path / "vgg16.weights.h5")
    assert (checkpoint.config.arch, checkpoint.config.width, checkpoint.config.crop) == ("D", 1.0, 32)
    picture = 1000 * images(32, 32, 1)
    expected = outputs(model, picture)
    assert expected.std() > 0.01  # the posteriors are no constant
    assert relative(network(picture).softmax(1), expected) < 1e-4


@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4"])
def test_other_floating_point_becomes_float32(dtype: str, tmp_path: Path) -> None:
    network = small("A")
    path = tmp_path / "net.h5"
    save_keras(path, network, about(network))
    rewrite(path, "fc1", dtype)
    weight, wanted = load_checkpoint(path)[0].get_parameter("fc6.weight"), network.get_parameter("fc6.weight")
    assert torch.equal(weight, wanted.half().float() if dtype == "float16" else wanted)


def rewrite(path: Path, layer: str, dtype: str, **storage: Any) -> None:
    """Store a layer's kernel in another way."""
    with h5py.File(path, "a") as root:
        name = f"{layer}/{layer}/kernel:0"
        values = root[name][...].astype(dtype)
        del root[name]
        root.create_dataset(name, data=values, **storage)


def hostile(path: Path, change: str) -> None:
    """Damage a good .h5 in one way."""
    kernel = "fc2/fc2/kernel:0"
    if change == "integers":
        rewrite(path, "fc2", "int32")
    if change == "compressed":
        rewrite(path, "fc2", "float32", compression="gzip")
    with h5py.File(path, "a") as root:
        if change == "external link":
            del root["fc2"]
            root["fc2"] = h5py.ExternalLink("other.h5", "/fc2")
        if change == "soft link":
            del root["fc2"]
            root["fc2"] = h5py.SoftLink("/fc1")
        if change == "external numbers":
            del root[kernel]
            root.create_dataset(kernel, (512, 512), "f4", external=[("other.raw", 0, 1 << 20)])
        if change == "never written":
            del root[kernel]
            root.create_dataset(kernel, (10**9, 10**9), "f4")
        if change == "not finite":
            root[kernel][3, 4] = np.inf
        if change == "another layer":
            root.attrs["layer_names"] = [b"norm", *(str(name).encode() for name in root.attrs["layer_names"])]
            root.create_group("norm").attrs["weight_names"] = [b"gamma"]
            root["norm"]["gamma"] = np.ones(8, np.float32)
        if change == "group for numbers":
            del root[kernel]
            root.create_group(kernel)
        if change == "absurd note":
            note = json.loads(root.attrs["vgg"])
            note["config"]["crop"] = 10**9
            root.attrs["vgg"] = json.dumps(note)
        if change == "no layers":
            del root.attrs["layer_names"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("integers", "fc2/fc2/kernel:0 holds int32 numbers"),
        ("compressed", "compressed, missing or elsewhere"),
        ("external link", "only a link to another place"),
        ("soft link", "only a link to another place"),
        ("external numbers", "compressed, missing or elsewhere"),
        ("never written", "compressed, missing or elsewhere|no VGG network"),
        ("not finite", "fc7.weight holds values that are not finite"),
        ("another layer", "norm"),
        ("group for numbers", "fc2"),
        ("absurd note", "a crop of 1000000000 takes over"),
        ("no layers", "without Keras' layers"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(change: str, message: str, tmp_path: Path) -> None:
    network = small("A", width=1 / 8)
    path = tmp_path / "net.h5"
    save_keras(path, network, about(network))
    hostile(path, change)
    with pytest.raises(WeightsError, match=message):
        load_checkpoint(path)


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".keras"])
def test_a_file_cut_short_anywhere_is_refused(suffix: str, tmp_path: Path) -> None:
    network = small("A", width=1 / 64)
    path = tmp_path / f"net{suffix}"
    save_keras(path, network, about(network))
    whole = path.read_bytes()
    for length in (20, 100, len(whole) // 3, len(whole) - 5000, len(whole) - 30):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"net\."):
            load_checkpoint(path)


def archive(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)


def test_hostile_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    archive(path, {"model.weights.h5": bytes(50 << 20)}, zipfile.ZIP_DEFLATED)  # a bomb: 50 KB for 50 MB
    with pytest.raises(WeightsError, match="compressed"):
        load_checkpoint(path)
    archive(path, {"readme.txt": b"x"})
    with pytest.raises(WeightsError, match="without model.weights.h5"):
        load_checkpoint(path)
    archive(path, {"config.json": b'{"data_format": "channels_first"}', "model.weights.h5": b"x"})
    with pytest.raises(WeightsError, match="channels first"):
        load_checkpoint(path)
    archive(path, {f"{index}": b"" for index in range(30_000)})
    with pytest.raises(WeightsError, match="directory is far too long"):
        load_checkpoint(path)
    archive(path, {"config.json": b"{}", "model.weights.h5": b"no HDF5"})
    with pytest.raises(WeightsError, match="damaged"):
        load_checkpoint(path)


@pytest.mark.parametrize("network", [small("A-LRN"), small("A-BN"), small("A", head="gap")])
def test_what_keras_cannot_hold_is_refused(network: VGG, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not written for Keras"):
        save_keras(tmp_path / "w.h5", network, about(network))


@pytest.mark.parametrize("end", ["kill -SEGV $$", "kill -PROF $$"])
def test_a_file_that_brings_the_library_down_is_refused(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = small("A", width=1 / 64)
    save_keras(tmp_path / "net.h5", network, about(network))
    (tmp_path / "python").write_text(f"#!/bin/sh\n{end}\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(WeightsError, match=r"net\.h5 is damaged: the HDF5 library crashes on it or never finishes"):
        load_checkpoint(tmp_path / "net.h5")


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = small("A")
    save_keras(tmp_path / "net.h5", network, about(network))
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MachineError, match=r"pip install 'vggcli\[keras\]'"):
        read_checkpoint(tmp_path / "net.h5")
