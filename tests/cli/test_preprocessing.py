"""What weights of others do not say: their pixels, their classes and the order of these, given or assumed and then said."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.conftest import MakeFolder
from tests.zoo.nets import small
from vggcli.cli.app import run
from vggcli.weights.checkpoint import load_checkpoint
from vggcli.weights.preprocessing import PIXELS, ExpectedPixels
from vggcli.weights.torch_names import Framework, to_framework

BGR = {"channels": "BGR", "mean": [103.5, 116.25, 123.5], "divisor": [58.0, 57.0, 56.0]}
RGB = {"channels": "RGB", "mean": [123.5, 116.25, 103.5], "divisor": [56.0, 57.0, 58.0]}


def saved(path: Path, framework: Framework = "torchvision", bgr: bool = False, **fields: object) -> Path:
    network = small("A", 3, **{"crop": 32, "width": 1 / 16, "classes": 3, **fields})
    state = to_framework(network.state_dict(), network.config, framework)
    if bgr:
        state["features.0.weight"] = state["features.0.weight"].flip(1)
    torch.save({name: value.contiguous() for name, value in state.items()}, path)
    return path


@pytest.fixture
def photos(make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("bgr.json").write_text(json.dumps(BGR))
    Path("rgb.json").write_text(json.dumps(RGB))
    return make_folder()


def result(capsys: pytest.CaptureFixture[str], words: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert run([*words.split(), "--json", "-q"]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_bgr_weights_see_what_the_same_weights_in_rgb_see(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(Path("rgb.pth"))
    saved(Path("bgr.pth"), bgr=True)
    image = photos / "val" / "class0" / "0.jpg"
    command = f"features {image} --gap --layer pool5 -j 0"
    rgb, bgr = (
        result(capsys, f"{command} --weights {one}.pth --preprocessing {one}.json")[0] for one in ("rgb", "bgr")
    )
    assert bgr["features"] == pytest.approx(rgb["features"], abs=1e-5)
    assert (rgb["preprocessing"], bgr["preprocessing"]) == (RGB, BGR)
    other = result(capsys, f"{command} --weights bgr.pth --preprocessing rgb.json")[0]
    assert other["features"] != pytest.approx(rgb["features"], abs=1e-2)
    command = f"predict {image} -j 0"
    rgb, bgr = (
        result(capsys, f"{command} --weights {one}.pth --preprocessing {one}.json")[0] for one in ("rgb", "bgr")
    )
    posteriors = [[one["posterior"] for one in found["predictions"]] for found in (rgb, bgr)]
    assert posteriors[0] == pytest.approx(posteriors[1], abs=1e-5)


@pytest.mark.parametrize("given", [PIXELS["caffe"], PIXELS["torchvision"], ExpectedPixels.from_json(BGR)])
def test_the_first_layer_sees_what_the_file_expects(given: ExpectedPixels, tmp_path: Path) -> None:
    """conv1_1 of our RGB against plain convolution of pixels in the file's own order, mean and divisor."""
    weights = torch.load(saved(tmp_path / "w.pth"), weights_only=True)
    network, checkpoint = load_checkpoint(tmp_path / "w.pth", pixels=given)
    pixels_CHW = torch.randint(0, 256, (3, 9, 9), generator=torch.Generator().manual_seed(0)).double()
    about = given.to_json()
    over = about["divisor"] if isinstance(about["divisor"], list) else [about["divisor"]] * 3
    order = [2, 1, 0] if about["channels"] == "BGR" else [0, 1, 2]
    theirs = torch.stack([(pixels_CHW[c] - m) / d for c, m, d in zip(order, about["mean"], over, strict=True)])
    mean, divisor = (
        torch.tensor(getattr(checkpoint.preprocessing, name)).double().reshape(-1, 1, 1) for name in ("mean", "divisor")
    )
    ours = (pixels_CHW - mean) / divisor
    wanted = torch.nn.functional.conv2d(theirs[None], weights["features.0.weight"].double())
    found = torch.nn.functional.conv2d(ours[None], network.get_parameter("conv1_1.weight").detach().double())
    assert (found - wanted).abs().max() <= 1e-6 * wanted.abs().max()


def test_weights_numbered_as_oxfords_copies_expect_caffes_pixels(tmp_path: Path) -> None:
    state = torch.load(saved(tmp_path / "w.pth"), weights_only=True)
    moved = {"classifier.0": "classifier.1", "classifier.3": "classifier.4"}
    torch.save({moved.get(name[:12], name[:12]) + name[12:] if name.startswith("classifier") else name: value
                for name, value in state.items()}, tmp_path / "v.pth")  # fmt: skip
    network, checkpoint = load_checkpoint(tmp_path / "v.pth")
    given = load_checkpoint(tmp_path / "w.pth", pixels=PIXELS["caffe"])[0]
    for name, value in given.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name
    assert checkpoint.preprocessing.mean == PIXELS["caffe"].mean


def test_what_was_given_is_recorded_and_then_said_by_the_file(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(Path("bgr.pth"), bgr=True)
    flags = "--weights bgr.pth --preprocessing bgr.json -j 0"
    measured = result(capsys, f"eval --data {photos} {flags}")[0]
    assert measured["preprocessing"] == {"mean": RGB["mean"], "divisor": RGB["divisor"]}
    assert run("convert bgr.pth own.safetensors --preprocessing bgr.json".split()) == 0
    again = result(capsys, f"eval --data {photos} --weights own.safetensors -j 0")[0]
    assert again["preprocessing"] == measured["preprocessing"]
    assert again["correct_top1"] == measured["correct_top1"]
    assert run("predict x.jpg --weights own.safetensors --preprocessing caffe".split()) == 2
    assert "which says its own" in capsys.readouterr().err
    finetune = f"finetune --data {photos} {flags} --layers last --epochs 1 --batch-size 8 --scale 36 -q --out tuned"
    assert run(finetune.split()) == 0
    config = json.loads(Path("tuned/config.json").read_text())
    assert config["preprocessing"] == BGR
    assert load_checkpoint(Path("tuned/last.safetensors"))[1].preprocessing.mean == tuple(RGB["mean"])
    Path("tuned/config.json").write_text(json.dumps({**config, "preprocessing": RGB}))
    assert run("finetune --resume tuned --epochs 2 -q".split()) == 4
    assert "config.json says preprocessing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "cannot be used"), ("[]", "an object with mean"), ('{"mean": [1, 2, 3]}', "an object with mean"),
     ('{"mean": [1, 2], "divisor": 1}', "mean.2 is missing"), ('{"mean": [1, 2, 3], "divisor": 0}', "divisor is 0"),
     ('{"mean": [1, 2, 3], "std": [1, 1, 1]}', "std goes with"), ('{"mean": 5, "divisor": 1}', "mean is 5"),
     ('{"mean": [1, 2, 3], "divisor": 1, "channels": "GBR"}', "'RGB' or 'BGR'")],
)  # fmt: skip
def test_a_preprocessing_that_cannot_be_meant(
    text: str, message: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("p.json").write_text(text)
    assert run(f"predict {photos} --weights {saved(Path('w.pth'))} --preprocessing p.json".split()) == 2
    assert message in capsys.readouterr().err


def test_torchvisions_own_numbers_are_its_name(tmp_path: Path) -> None:
    found = ExpectedPixels.from_json({"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]})
    assert found == PIXELS["torchvision"]
    assert all(ExpectedPixels.from_json(one.to_json()) == one for one in PIXELS.values())


@pytest.mark.parametrize("command", ["eval --data {photos}", "predict {photos}"])
def test_a_single_output_is_no_posterior(command: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(Path("one.pth"), classes=1)
    assert run(f"{command.format(photos=photos)} --weights one.pth".split()) == 4
    assert "one output" in capsys.readouterr().err


@pytest.mark.parametrize("framework", ["torchvision", "timm"])
def test_a_thousand_unnamed_classes_are_said_to_be_taken_for_imagenets(
    framework: Framework, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(Path("w.pth"), framework, classes=1000)
    assert run(f"predict {photos}/val/class0/0.jpg --weights w.pth -j 0".split()) == 0
    assert "does not name its 1000 classes; ImageNet's are assumed" in capsys.readouterr().err


@pytest.mark.parametrize(("framework", "second"), [("timm", "1, 2, 10"), ("torchvision", "1, 10, 2")])
def test_number_classes_are_in_the_order_of_their_framework(
    framework: Framework, second: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, new in (("class0", "1"), ("class1", "2"), ("class2", "10")):
        for split in ("train", "val"):
            (photos / split / name).rename(photos / split / new)
    saved(Path("w.pth"), framework)
    assert run(f"eval --data {photos} --weights w.pth -q -j 0".split()) == 0
    assert f"order{', as timm lists folders' if framework == 'timm' else ''}: {second}" in capsys.readouterr().err


def test_safetensors_with_prefixes_take_it_too(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = torch.load(saved(Path("w.pth")), weights_only=True)
    save_file({f"model.{name}": value for name, value in state.items()}, "w.safetensors")
    image = photos / "val" / "class0" / "0.jpg"
    one, two = (
        result(capsys, f"predict {image} -j 0 --weights w.{end} --preprocessing keras")
        for end in ("pth", "safetensors")
    )
    assert one == two


def test_the_network_named_beside_a_file_is_a_check(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(Path("w.pth"))
    image = photos / "val" / "class0" / "0.jpg"
    for command in (f"predict {image} -j 0", f"features {image} --gap -j 0", "convert w.pth v{} --arch {}"):
        for number, (arch, code) in enumerate((("vgg11", 0), ("a", 0), ("D", 4))):
            words = (
                command.format(f"{number}.safetensors", arch)
                if "{}" in command
                else f"{command} --weights w.pth --arch {arch}"
            )
            assert run(words.split()) == code, words
            said = capsys.readouterr().err
            assert ("w.pth holds network A, not D" in said) == (code == 4)
