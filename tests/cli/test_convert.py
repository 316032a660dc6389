"""`vgg convert` from the command line, and other frameworks' weights in the other commands."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from tests.conftest import MakeFolder
from tests.zoo.nets import about, small
from vggcli.cli.app import run
from vggcli.weights.caffe_write import save_caffe
from vggcli.weights.checkpoint import load_checkpoint, save_checkpoint


def error(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, object]:
    capsys.readouterr()
    assert run(["eval", "-q", "--json", "-j", "0", *flags]) == 0
    result = json.loads(capsys.readouterr().out)
    assert isinstance(result, dict)
    return result


@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("w.pth", []),
        ("w.safetensors", ["--to", "timm"]),
        ("t.pth", ["--to", "timm"]),
        ("w.h5", []),
        ("w.weights.h5", ["--to", "keras"]),
        ("w.keras", []),
        ("w.caffemodel", []),
    ],
)
def test_there_and_back_gives_the_same_bits(photos: Path, name: str, to: list[str]) -> None:
    assert run(["convert", "runs/A-1", name, *to]) == 0
    assert run(["convert", name, "back.safetensors"]) == 0
    before, after = load_file("runs/A-1/best.safetensors"), load_file("back.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_checkpoint_keeps_what_it_says(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["convert", "runs/A-1", "copy.safetensors", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["layout"], facts["network"], facts["class_names"]) == ("vgg", "A", True)
    assert load_checkpoint(Path("copy.safetensors"))[1] == load_checkpoint(Path("runs/A-1/best.safetensors"))[1]


def test_torchvisions_weights_are_measured_as_torchvision_measures(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = make_folder(val=2)
    theirs = torchvision.models.vgg11(weights=None, num_classes=3).eval()
    torch.save(theirs.state_dict(), "vgg11.pth")
    assert (
        run(
            ["eval", "--weights", "vgg11.pth", "--data", str(folder), "-q", "-j", "0", "--save-scores", "s.safetensors"]
        )
        == 0
    )
    said = capsys.readouterr().err
    assert "does not name its classes; the data's 3 are assumed, in sorted order" in said
    assert "does not say which preprocessing it expects; torchvision's is assumed" in said
    assert ": RGB mean 123.675, 116.28, 103.53, divisor 58.395, 57.12, 57.375" in said
    transforms = torchvision.transforms
    normalize = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    preset = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), normalize])
    images = torchvision.datasets.ImageFolder(str(folder / "val"), preset)
    with torch.inference_mode():
        expected = torch.cat([theirs(image[None]).softmax(1) for image, _ in images])
    torch.testing.assert_close(load_file("s.safetensors")["posteriors"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["w.weights.h5", "w.caffemodel", "w.pth"])
def test_weights_of_another_layout_are_measured_the_same(
    photos: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["convert", "runs/A-1", name]) == 0
    flags = ["--data", str(photos), "--dense", "--save-scores"]
    before, after = (error(capsys, "--weights", w, *flags, f"{w[0]}.safetensors") for w in ("runs/A-1", name))
    assert after["scales"] == before["scales"]  # the note in the file knows the training scale
    assert torch.equal(load_file("w.safetensors")["posteriors"], load_file("r.safetensors")["posteriors"])


def test_what_was_exported_is_said(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["convert", "runs/A-1", "a.onnx", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["checked_with_onnx_runtime"]
    assert facts["largest_difference"] < 1e-5
    assert (facts["layout"], facts["channels"]) == ("onnx", "RGB")
    assert run(["convert", "runs/A-1", "a.caffemodel"]) == 0
    shown = capsys.readouterr().out
    assert "a.prototxt" in shown
    assert "BGR" in shown
    assert re.search(r" mean +(\d{2,3}(\.\d{1,2})?(, |\s)){3}", shown)
    assert not re.search(r"\d\.\d{5}", shown[: shown.index("# The posteriors")])


def test_lines_that_use_what_was_written_can_be_pasted(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["convert", "runs/A-1", "a.pth"]) == 0
    shown = capsys.readouterr().out
    code = shown[shown.index("# The posteriors") :]
    assert max(map(len, code.splitlines())) > 80  # nothing is wrapped
    shutil.copy(next((photos / "val").rglob("*.jpg")), "photo.jpg")
    names: dict[str, Any] = {}
    exec(compile(code, "pasted", "exec"), names)
    assert names["posteriors"].sum() == pytest.approx(1, abs=1e-5)
    Path("a.pth").unlink()
    assert run(["convert", "runs/A-1", "a.pth", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["usage"] == code.rstrip("\n")


@pytest.mark.parametrize("name", ["w.pth", "w.h5", "w.keras", "w.caffemodel", "w.onnx"])
def test_a_full_disk_is_exit_5_and_leaves_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = small("A")
    save_checkpoint(tmp_path / "a.safetensors", network, about(network))

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    def torch_on_a_full_disk(*arguments: object) -> None:
        try:
            full()
        finally:  # as torch's writer ends then
            raise RuntimeError("unexpected pos 1454976 vs 1454864")

    monkeypatch.setattr("os.fsync", full)
    monkeypatch.setattr("torch.save", torch_on_a_full_disk)
    assert run(["convert", str(tmp_path / "a.safetensors"), str(tmp_path / name)]) == 5
    assert f"no space left on the disk of {tmp_path / name}" in capsys.readouterr().err
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_thousand_classes_on_data_of_ten(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = small("A", classes=1000, width=1 / 16)
    save_caffe(Path("w.caffemodel"), network, replace(about(network), classes=(), training={}))
    assert run(["eval", "--weights", "w.caffemodel", "--data", str(photos)]) == 4
    said = capsys.readouterr().err
    assert (
        "w.caffemodel has 1000 classes without names, but the data have 3; give other data, or other weights (--data)"
        in said
    )
    save_checkpoint(Path("w.safetensors"), network, about(network))
    assert run(["eval", "--weights", "w.safetensors", "--data", str(photos)]) == 4
    said = capsys.readouterr().err
    assert "lack 3 of the data's classes ('class0', 'class1', 'class2')" in said
    assert "they were trained on photos" in said


def bare_state_dict() -> None:
    """The run's weights as torchvision itself would save them, w.pth."""
    assert run(["convert", "runs/A-1", "noted.pth"]) == 0
    torch.save(torch.load("noted.pth", weights_only=True), "w.pth")


def test_unnamed_classes_are_predicted_by_number(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bare_state_dict()
    capsys.readouterr()
    image = str(next((photos / "val").rglob("*.jpg")))
    assert run(["predict", image, "--weights", "w.pth", "--json", "-q", "--scales", "40"]) == 0
    found = json.loads(capsys.readouterr().out)["predictions"]
    assert {one["class"] for one in found} == {"0", "1", "2"}


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, ("ran",)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("runs/A-1 w.tflite", 2, "must end in .safetensors, .pth, .pt, .h5, .keras, .caffemodel, .onnx"),
        ("runs/A-1 w.pth --to vgg", 2, "never pickled"),
        (
            "runs/A-1 w.h5 --to caffe",
            2,
            "w.h5 cannot have the layout caffe; give a name that ends in .caffemodel (--to)",
        ),
        ("runs/A-1 w.safetensors --to onnx", 2, "give a name that ends in .onnx"),
        ("runs/A-1 other.caffemodel", 2, "other.prototxt exists already"),
        ("runs/A-1 there.pth", 2, "exists already"),
        ("runs/A-1 no/where.pth", 2, "no folder"),
        ("nowhere w.pth", 4, "nowhere"),
        (
            "there.pth w.safetensors",
            4,
            "it holds text (perhaps the pointer that Git LFS leaves), not what its suffix .pth says",
        ),
        ("hostile.pth w.safetensors", 4, "cannot be read as weights that torch has saved"),
        ("list.pth w.safetensors", 4, "holds no state dict"),
        ("other.safetensors w.safetensors", 4, "its first entries are layer1.weight"),
        ("nan.pth w.safetensors", 4, "not finite"),
        ("renamed.safetensors w.pth", 4, "that torch has saved, not what its suffix .safetensors says"),
        ("lrn.safetensors w.caffemodel", 4, "network A-LRN is not written for Caffe"),
        ("lrn.safetensors w.h5", 4, "network A-LRN is not written for Keras"),
    ],
)
def test_each_wrong_command_line_is_refused(
    photos: Path, capsys: pytest.CaptureFixture[str], words: str, code: int, message: str
) -> None:
    Path("there.pth").write_bytes(b"PK not an archive")
    Path("other.prototxt").touch()
    lrn = small("A-LRN")
    save_checkpoint(Path("lrn.safetensors"), lrn, about(lrn))
    torch.save({"a": Hostile()}, "hostile.pth")
    torch.save([1, 2], "list.pth")
    save_file({"layer1.weight": torch.ones(1)}, "other.safetensors")
    assert run(["convert", "runs/A-1", "nan.pth"]) == 0
    broken = torch.load("nan.pth", weights_only=True)
    broken["classifier.0.bias"][0] = float("nan")
    torch.save(broken, "nan.pth")
    torch.save(broken, "renamed.safetensors")
    before = sorted(Path().iterdir())
    assert run(["convert", *words.split()]) == code
    said = capsys.readouterr().err
    assert message in said
    assert said.splitlines()[-1].startswith("vgg: ")
    assert sorted(Path().iterdir()) == before  # nothing ran, nothing was written


def test_other_numbers_of_classes_are_exit_4(
    photos: Path, make_folder: MakeFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    bare_state_dict()
    assert run(["eval", "--weights", "w.pth", "--data", str(make_folder("other", classes=4)), "--scales", "40"]) == 4
    assert "3 classes without names, but the data have 4" in capsys.readouterr().err
    assert error(capsys, "--weights", "w.pth", "--data", str(photos), "--scales", "40")["images"] == 12
