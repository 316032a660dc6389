"""`vgg evaluate` from the command line."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors import safe_open

from tests.cli.test_train import train
from tests.conftest import MakeFolder
from vggcli.cli.app import run
from vggcli.data import survey
from vggcli.files import file_sha256

KEYS = """arch weights data split protocol scales images skipped classes correct_top1 correct_top5 top1_error top5_error
seconds images_per_second""".split()


def evaluated(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, object]:
    capsys.readouterr()
    assert run(["eval", "-q", "--json", "-j", "0", *flags]) == 0
    result = json.loads(capsys.readouterr().out)
    assert isinstance(result, dict)
    return result


def test_the_newest_run_is_measured_by_centre_crop_at_its_own_scale(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluated(capsys, "--arch", "a", "--data", str(photos))
    assert set(KEYS) <= set(result)
    assert (result["protocol"], result["scales"], result["flip"]) == ("centre-crop", [36], False)
    assert (result["images"], result["skipped"], result["classes"]) == (12, 0, 3)
    log = json.loads(Path("runs/A-1/log.jsonl").read_text().splitlines()[-1])
    assert result["top1_error"] == pytest.approx(log["top1_error"])
    assert result["weights_sha256"] == file_sha256(Path("runs/A-1/best.safetensors"))


def test_a_run_is_measured_on_its_own_data_unless_told_otherwise(
    photos: Path, make_folder: MakeFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = json.loads(Path("runs/A-1/config.json").read_text())["data"]
    assert evaluated(capsys, "--weights", "runs/A-1")["data"] == own
    assert evaluated(capsys, "--arch", "A")["data"] == own
    other = make_folder("other")
    assert evaluated(capsys, "--weights", "runs/A-1", "--data", str(other))["data"] == str(other)
    monkeypatch.setenv("VGG_DATA", str(other))
    assert evaluated(capsys, "--weights", "runs/A-1")["data"] == str(other)


def test_scales_in_either_form_and_dense_with_flips(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spaces = evaluated(capsys, "--arch", "A", "--data", str(photos), "--scales", "36", "40", "64", "--dense")
    repeated = evaluated(
        capsys, "--arch", "A", "--data", str(photos), "--dense", "--scales", "36", "--scales", "40", "--scales", "64"
    )
    assert spaces["scales"] == repeated["scales"] == [36, 40, 64]
    assert spaces["flip"] is True
    assert spaces["top1_error"] == repeated["top1_error"]


def test_multi_crop_alone_and_with_dense(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crops = evaluated(capsys, "--arch", "A", "--data", str(photos), "--multi-crop", "--scales", "36", "40", "48")
    assert (crops["protocol"], crops["crops"], crops["flip"]) == ("multi-crop", 150, True)
    both = evaluated(
        capsys, "--arch", "A", "--data", str(photos), "--multi-crop", "--dense", "--grid", "3", "--no-flip"
    )
    assert (both["protocol"], both["crops"], both["flip"]) == ("dense+multi-crop", 9, False)


def test_reports_by_class_confusions_and_mistakes(
    photos: Path, capsys: pytest.CaptureFixture[str], drawn: list[Any]
) -> None:
    flags = ["--arch", "A", "--data", str(photos), "--split", "train", "--per-class", "--worst", "20"]
    result = evaluated(capsys, *flags, "--confusion", "c.png")
    classes = result["per_class"]
    assert isinstance(classes, list)
    assert [one["name"] for one in classes] == ["class0", "class1", "class2"]
    assert sum(one["support"] for one in classes) == 24
    assert 0 <= float(str(result["calibration_error"])) <= 100
    with Image.open("c.png") as confusion, Image.open("runs/A-1/worst.png") as worst:
        assert min(confusion.size) > 400
        assert worst.width >= 900
    assert drawn[0].texts[0].get_text() == "Confusion matrix of runs/A-1"
    title = "The [0-9]+ mistakes that runs/A-1 is surest of: true class, answer, posterior"
    assert re.fullmatch(title, drawn[1].texts[0].get_text())
    data, error = f"{photos.parent.name}/{photos.name}", f"{result['top1_error']:.2f} %"
    said = f"network A: top-1 error {error} on {result['images']} images of {data} (train); centre-crop at Q = "
    for figure in drawn:
        assert said in "".join(text.get_text() for text in figure.texts)  # which is in lines
    assert run(["eval", "-q", *flags]) == 0
    assert "most confused with" in capsys.readouterr().out
    assert run(["eval", "-q", *flags, "--confusion", "c.png"]) == 2


def test_every_evaluation_is_recorded_in_its_run(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = evaluated(capsys, "--weights", "runs/A-1", "--data", str(photos), "--split", "train")
    line = json.loads(Path("runs/A-1/evaluations.jsonl").read_text())
    assert {key: line[key] for key in result} == result
    assert {"date", "version"} <= set(line)
    assert result["images"] == 24


def test_the_table_says_the_protocol_and_the_counts(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "--arch", "A", "--data", str(photos), "--dense", "-q"]) == 0
    said = capsys.readouterr()
    assert "dense at Q = 36; flips averaged as posteriors" in said.out
    assert "top-1" in said.out
    assert "top-5" not in said.out  # of three classes
    assert "the newest run of A" in said.err


def test_a_lower_precision_is_said_and_recorded(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = evaluated(capsys, "--arch", "A", "--data", str(photos))
    lower = evaluated(
        capsys, "--arch", "A", "--data", str(photos), "--precision", "bf16", "--save-scores", "s.safetensors"
    )
    assert (plain["precision"], lower["precision"]) == ("fp32", "bf16")
    with safe_open("s.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["details"])["precision"] == "bf16"
    assert run(["eval", "-q", "-j", "0", "--arch", "A", "--data", str(photos), "--precision", "bf16"]) == 0
    assert "computed in bf16" in capsys.readouterr().out


def test_a_checkpoint_alone_is_enough_anywhere(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.move("runs/A-1/best.safetensors", tmp_path / "w.safetensors")
    shutil.rmtree("runs")
    result = evaluated(capsys, "--weights", str(tmp_path / "w.safetensors"), "--data", str(photos))
    assert result["arch"] == "A"


def test_scores_are_saved_whole_and_never_over_another_file(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--arch", "A", "--data", str(photos), "--save-scores", "s.safetensors"]
    evaluated(capsys, *flags)
    with safe_open("s.safetensors", "pt") as file:
        assert file.get_tensor("posteriors").shape == (12, 3)
    before = Path("s.safetensors").read_bytes()
    assert run(["eval", *flags]) == 2
    assert "exists already" in capsys.readouterr().err
    assert Path("s.safetensors").read_bytes() == before


def test_unreadable_images_are_an_error_or_left_out_and_counted(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "val" / "class0" / "0.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    assert run(["eval", "--arch", "A", "--data", str(photos)]) == 3
    assert "val/class0/0.jpg" in capsys.readouterr().err
    result = evaluated(capsys, "--arch", "A", "--data", str(photos), "--skip-bad")
    assert (result["images"], result["skipped"]) == (11, 1)


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ("--arch E --scales 256 384 512 --dense", 4, "vgg train --arch E"),
        ("--arch A --scales 31", 2, "smallest usable Q is 32"),
        ("--arch A --scales 40 40", 2, "twice"),
        ("--arch A --multi-scale --scales 40", 2, "contradict"),
        (
            "--arch A --multi-scale --dense",
            2,
            "the scale 4 is below the network's crop; the smallest usable Q is 32 (--multi-scale)",
        ),
        ("--arch A --grid 3", 2, "a grid has no effect without multi-crop evaluation (--grid, --multi-crop)"),
        (
            "--arch A --multi-crop --grid 1",
            2,
            "a grid of 1 is too small: give 2 or more, or take the centre crop (--grid)",
        ),
        ("--arch B --weights runs/A-1", 4, "holds network A, not B"),
        ("--weights nowhere", 4, "nowhere"),
        ("runs/A-1 --arch B", 4, "holds network A, not B"),
        ("--arch A --preprocessing caffe", 2, "which says its own"),
        ("--arch A --preprocessing bgr", 2, "there is no preprocessing 'bgr'"),
        ("runs/A-1 --weights runs/A-1", 2, "--weights has no effect"),
        ("runs/A-1 runs/A-1/best.safetensors", 2, "named twice"),
        ("runs/A-1 runs/A-1/last.safetensors --save-scores s.safetensors", 2, "one file for 2 networks"),
        ("runs/A-1 --table --json", 2, "--table has no effect"),
        ("runs/A-1 --table --per-class", 2, "--per-class has no effect"),
        ("runs/A-1 nowhere", 4, "nowhere"),
        ("--weights {photos}/val/class0/0.jpg", 4, "cannot be read as a checkpoint"),
        ("--arch A --split test", 3, "no test/ folder"),
        ("--arch A --save-scores no/where.safetensors", 2, "no folder"),
        ("--arch A --scales big", 2, "--scales"),
        ("--arch A --confusion x.jpg", 2, "ends in .png"),
        ("--arch A --save-scores x.npz", 2, "ends in .safetensors"),
    ],
)
def test_each_wrong_command_line_is_refused(
    photos: Path, capsys: pytest.CaptureFixture[str], flags: str, code: int, message: str
) -> None:
    assert run(["eval", "--data", str(photos), *flags.format(photos=photos).split()]) == code
    said = capsys.readouterr()
    assert message in " ".join(said.err.split())
    assert said.err.splitlines()[-1].startswith("vgg: ")


def test_classes_the_weights_do_not_know_are_exit_4(
    photos: Path, trained: Path, make_folder: MakeFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_folder("other", classes=4)
    assert run(["eval", "--arch", "A", "--data", str(other)]) == 4
    said = capsys.readouterr().err
    assert "'class3'" in said
    assert str(trained / "photos") in said  # what they were trained on


def test_several_networks_at_once_measure_as_each_alone(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(photos, "--epochs", "1", "--seed", "5") == 0
    flags = ["--data", str(photos), "--dense", "--scales", "36", "48"]
    both = evaluated(capsys, "runs/A-2", "runs/A-1/last.safetensors", *flags)["evaluations"]
    assert isinstance(both, list)
    for result, weights in zip(both, ("runs/A-2", "runs/A-1/last.safetensors"), strict=True):
        alone = evaluated(capsys, "--weights", weights, *flags)
        for key in set(alone) - {"seconds", "images_per_second", "calibration_error"}:
            assert result[key] == alone[key], key
        assert result["calibration_error"] == pytest.approx(alone["calibration_error"], rel=1e-3)
    assert len(Path("runs/A-2/evaluations.jsonl").read_text().splitlines()) == 2


def test_the_table_has_the_form_of_the_papers(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(photos, "--epochs", "1", "--scale", "48") == 0
    capsys.readouterr()
    assert run(["eval", "runs/A-1", "runs/A-2", "--table", "--data", str(photos), "--dense", "-q"]) == 0
    shown = capsys.readouterr().out
    assert "dense, with flips, 12 images" in shown
    cells = [line.split() for line in shown.splitlines()]
    first, second = (next(row for row in cells if row[-1:] == [run]) for run in ("A-1", "A-2"))
    assert first[-4:-2] == ["36", "36"]
    assert second[-4:-2] == ["48", "48"]
    assert "top-5" not in shown  # of three classes
    assert "paper" not in shown  # these photos are not ImageNet


def test_untrained_weights_are_refused(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/A-1/best.safetensors").unlink()
    from dataclasses import replace

    from vggcli.weights.checkpoint import load_checkpoint, save_checkpoint

    last = Path("runs/A-1/last.safetensors")
    network, about = load_checkpoint(last)
    image = str(next(path for path in photos.rglob("*") if path.is_file()))
    save_checkpoint(last, network, replace(about, training={**about.training, "step": 0}))
    here, data = str(last), ["--data", str(photos)]
    for command in (
        ["eval", *data, "--weights", here],
        ["ensemble", *data, here, "runs/A-1"],
        ["predict", image, "--weights", here],
        ["features", image, "--weights", here],
        ["convert", here, "w.pth"],
        ["finetune", *data, "--weights", here],
        ["train", *data, "--arch", "D", "--recipe", "tiny", "--init-from", here],
    ):
        capsys.readouterr()
        assert run(command) == 4, command
        assert "untrained" in capsys.readouterr().err, command


def test_the_mistakes_of_a_bare_checkpoint_overwrite_no_picture(photos: Path) -> None:
    bare = Path("bare.safetensors")
    shutil.copy("runs/A-1/last.safetensors", bare)
    Path("worst.png").write_text("mine")
    for _ in range(2):
        assert run(["eval", "-q", "--weights", str(bare), "--data", str(photos), "--worst", "3"]) == 0
    assert Path("worst.png").read_text() == "mine"
    assert {path.name for path in Path().glob("worst*")} == {"worst.png", "worst-2.png", "worst-3.png"}


@pytest.mark.parametrize("command", ["eval --weights a.safetensors", "ensemble a.safetensors b.safetensors"])
def test_images_that_are_training_images_too_are_said_with_a_count(
    photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    for name in ("best", "last"):
        shutil.copy(f"runs/A-1/{name}.safetensors", {"best": "a", "last": "b"}[name] + ".safetensors")
    words = [*command.split(), "--data", str(photos), "-q", "-j", "0"]

    def said(*more: str) -> str:
        capsys.readouterr()
        assert run([*words, *more]) == 0
        return capsys.readouterr().err

    assert "too low" not in said()
    shutil.copy(photos / "train" / "class0" / "1.jpg", photos / "val" / "class0" / "again.jpg")
    assert (
        "1 validation image is a training image too, byte for byte, such as val/class0/again.jpg (train/class0/1.jpg); "
        "errors measured on them are too low"
    ) in said()
    shutil.copy(photos / "train" / "class1" / "2.jpg", photos / "val" / "class2" / "other.jpg")
    assert "2 validation images are training images too" in said()
    assert "too low" not in said("--split", "train")
    monkeypatch.setattr(survey, "COMPARED", 24 + 13)  # one fewer than there are
    assert "too low" not in said()


def test_a_source_without_training_images_has_none_in_both(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(photos / "train")
    assert evaluated(capsys, "--arch", "A", "--data", str(photos))["images"] == 12
    rows = [f"{path.relative_to(photos)},{path.parent.name},val" for path in sorted(photos.rglob("val/*/*.jpg"))]
    (photos / "index.csv").write_text("\n".join(["path,label,split", *rows]))
    assert evaluated(capsys, "--arch", "A", "--data", str(photos / "index.csv"))["images"] == 12
