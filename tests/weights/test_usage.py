"""The lines of Python that a conversion gives, run as they stand, against the network itself on the same photo."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.peer import import_keras, import_timm
from tests.rounding import depth, relative, rounding
from tests.zoo.nets import COLOUR, about, small
from vggcli.choices import Layout
from vggcli.evaluation.load import load
from vggcli.places import Places
from vggcli.weights.checkpoint import save_checkpoint
from vggcli.weights.convert import convert
from vggcli.zoo.layers import NetworkConfig

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """A folder with photo.jpg, coloured and lying on its side, whose numbers of pixels rescale to whole ones."""
    monkeypatch.chdir(tmp_path)
    noise = Image.frombytes("RGB", (8, 12), Random(5).randbytes(288)).resize((640, 960), Image.Resampling.BILINEAR)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.blend(noise, Image.new("RGB", noise.size, (230, 90, 20)), 0.3).save("photo.jpg", exif=turned)
    import_keras()
    import_timm()
    return Places(tmp_path / "runs", tmp_path / "cache")


def posteriors_of(code: str) -> Any:
    """What the code leaves as `posteriors`."""
    names: dict[str, Any] = {}
    exec(compile(code, "pasted", "exec"), names)
    return names["posteriors"]


def assert_the_lines_give_the_networks_own(
    places: Places, target: str, to: Layout | None = None, divisor: Any = COLOUR.divisor, **fields: Any
) -> str:
    """Returns the lines that were run."""
    network = small(**fields)
    checkpoint = replace(about(network), preprocessing=replace(COLOUR, divisor=divisor))
    if network.config.crop != 64:
        checkpoint = replace(checkpoint, scale=(network.config.crop, network.config.crop + 32))
    save_checkpoint(Path("own.safetensors"), network, checkpoint)
    code = convert(places, "own.safetensors", target, to=to).usage
    with Image.open("photo.jpg") as photo:
        by_name = load(places, "own.safetensors", device="cpu")(photo)
    expected = torch.tensor([by_name[name] for name in checkpoint.classes])
    found: Tensor = torch.as_tensor(posteriors_of(code))
    assert expected.std() > 0.01  # the posteriors are no constant
    assert relative(found, expected) < 10 * rounding(depth(network))
    return code


@pytest.mark.parametrize(
    ("target", "to", "fields"),
    [
        ('it\'s \\ "d" é.pth', None, {"arch": "D"}),
        ("w.pth", None, {"arch": "A-BN", "divisor": (58.5, 57.25, 59.0)}),
        ("w.pt", "torchvision", {"crop": 72}),
        ("w.safetensors", "torchvision", {"arch": "B"}),
        ('it\'s \\ "d" é.pth', "timm", {"arch": "B-BN"}),
        ("w.safetensors", "timm", {"arch": "D", "divisor": (58.5, 57.25, 59.0)}),
        ('it\'s "d" é.keras', None, {"arch": "C", "divisor": (58.5, 57.25, 59.0)}),
        ("w.keras", None, {"arch": "B-5x5", "divisor": 1.0, "width": 1 / 64}),
        ('it\'s "d" é.caffemodel', None, {"arch": "C", "divisor": (58.5, 57.25, 59.0)}),
        ("w.caffemodel", None, {"arch": "E", "width": 0.3}),
        ('it\'s \\ "d" é.onnx', None, {"arch": "A-LRN"}),
        ("w.onnx", None, {"arch": "D-BN", "head": "gap"}),
    ],
)
def test_the_lines_give_the_networks_own_posteriors(
    target: str, to: Layout | None, fields: dict[str, Any], here: Places
) -> None:
    assert_the_lines_give_the_networks_own(here, target, to, **fields)


@pytest.mark.parametrize("target", [pytest.param("w.h5", marks=pytest.mark.slow), "w.weights.h5"])
def test_keras_applications_holds_networks_of_full_width_and_any_crop(target: str, here: Places) -> None:
    code = assert_the_lines_give_the_networks_own(here, target, arch="D", width=1.0, crop=32)
    assert "keras.applications.VGG16(weights=None, input_shape=(32, 32, 3), classes=5)" in code


@pytest.mark.slow  # networks of half a gigabyte
@pytest.mark.parametrize(
    ("target", "to", "fields", "built"),
    [
        ("w.pth", None, {"arch": "A"}, "torchvision.models.vgg11(num_classes=5)"),
        ("w.safetensors", "torchvision", {"arch": "E-BN"}, "torchvision.models.vgg19_bn(num_classes=5)"),
        ("w.pth", "timm", {"arch": "D-BN"}, 'timm.create_model("vgg16_bn", num_classes=5, checkpoint_path='),
        ("w.safetensors", "timm", {"arch": "B"}, 'timm.create_model("vgg13", num_classes=5, checkpoint_path='),
        ("w.h5", None, {"arch": "E"}, "keras.applications.VGG19(weights=None, input_shape=(224, 224, 3), classes=5)"),
    ],
)
def test_networks_of_the_papers_size_are_built_by_name(
    target: str, to: Layout | None, fields: dict[str, Any], built: str, here: Places
) -> None:
    assert built in assert_the_lines_give_the_networks_own(here, target, to, width=1.0, crop=224, **fields)


@pytest.mark.parametrize(
    ("target", "archive", "arch"), [("w.h5", "w.keras", "A"), ("a\nit's.weights.h5", "a\nit's.keras", "D")]
)
def test_what_keras_applications_has_not_is_said(target: str, archive: str, arch: str, here: Places) -> None:
    network = small(arch)
    save_checkpoint(Path("own.safetensors"), network, about(network))
    code = convert(here, "own.safetensors", target).usage
    assert code.startswith(f"# keras.applications has no network {arch} of width 0.125; ")
    assert f"vggcli.convert({target!r}, {archive!r}) writes the network with its weights" in code
    assert len(code.splitlines()) == 1  # a comment, whatever the file's name


@pytest.mark.filterwarnings("ignore:Exception ignored in. <_io.FileIO name='photo.jpg'")  # left open, for brevity
def test_a_checkpoint_is_used_with_this_package(here: Places) -> None:
    import vggcli

    network = small()
    save_checkpoint(Path("own.safetensors"), network, about(network))
    found = posteriors_of(convert(here, "own.safetensors", "it's.safetensors").usage)
    assert found == vggcli.load("own.safetensors")(Image.open("photo.jpg"))


def test_weights_without_a_classifier_give_a_descriptor(here: Places) -> None:
    import vggcli

    network = small("A", head="none")
    save_checkpoint(Path("own.safetensors"), network, replace(about(network), classes=()))
    names: dict[str, Any] = {}
    exec(convert(here, "own.safetensors", "w.safetensors").usage, names)
    expected = vggcli.Features("own.safetensors", layer="pool5")(["photo.jpg"])
    assert (names["descriptor"] == expected[0]).all()


def test_no_classes_change_the_lines_nor_does_a_scale_of_the_crop(here: Places) -> None:
    network = small()
    assert network.config == NetworkConfig("A", 5, 64, 0.125)
    save_checkpoint(Path("own.safetensors"), network, replace(about(network), classes=(), scale=(64, 64)))
    found = convert(here, "own.safetensors", "w.onnx")
    assert "(64, 64), Image.Resampling.BILINEAR)\n" in found.usage
    assert posteriors_of(found.usage).shape == (5,)
    assert found.to_json()["usage"] == found.usage
    assert "usage" not in found.table()[0]  # too long for a table
