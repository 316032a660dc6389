"""`vgg eval` and `vgg ensemble` on networks of boxes: both protocols of Appendix A, tuning, records, and each wrong command
line."""

import json
import math
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import vggcli
from tests.cli.test_devices import alone, shared
from tests.cli.test_train import SMALL
from tests.localisation.boxed import saved, write_boxed
from vggcli.cli.app import run
from vggcli.evaluation.options import MeasureOptions
from vggcli.localisation.error import localisation
from vggcli.localisation.localise import THRESHOLD
from vggcli.localisation.measure import own_threshold
from vggcli.localisation.networks import box_network
from vggcli.localisation.result import BoxEvaluationRecord, BoxFusion, MeasuredBoxes
from vggcli.localisation.tune import GRID, tune_merging
from vggcli.places import Places
from vggcli.records import read_record
from vggcli.training.run import hold_run, let_go_of_run
from vggcli.weights.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def trained_boxes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with boxed photos/ and, below here/runs, A-1 of classes, and A-2 and A-3 of boxes."""
    root, before = tmp_path_factory.mktemp("boxes"), Path.cwd()
    write_boxed(root / "photos")
    (root / "here").mkdir()
    os.chdir(root / "here")
    small = [*SMALL[:-2], "-j", "0", "-q", "--data", str(root / "photos" / "index.csv")]
    more = "--weights runs/A-1 --epochs 6 -b 4 --lr 0.05 --layers all -j 0 -q".split()
    try:
        assert run(["train", *small]) == 0
        assert run(["finetune", *more, "--boxes", "pcr"]) == 0
        assert run(["finetune", *more, "--boxes", "scr"]) == 0
    finally:
        os.chdir(before)
    return root


@pytest.fixture
def here(trained_boxes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, whose here/ is the current folder."""
    shutil.copytree(trained_boxes / "here", tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("VGG_DATA", str(trained_boxes / "photos" / "index.csv"))
    return tmp_path / "here"


def result(capsys: pytest.CaptureFixture[str], command: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run([*command.split(), "--json", "-q", "-j", "0"]) == 0
    return dict(json.loads(capsys.readouterr().out))


@pytest.mark.parametrize("name", ["A-2", "A-3"])
def test_protocol_1_is_the_validation_of_the_run(here: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    one = result(capsys, f"eval --weights runs/{name}/last.safetensors")
    last = json.loads((here / "runs" / name / "log.jsonl").read_text().splitlines()[-1])
    assert one["localisation_error"] == last["localisation_error"]
    assert one["mean_iou"] == last["mean_iou"]
    assert (one["images"], one["protocol"], one["box_protocol"]) == (12, "centre-crop", "ground-truth")
    assert not {"top1_error", "box_part", "merging", "classifier"} & set(one)
    (line,) = (here / "runs" / name / "evaluations.jsonl").read_text().splitlines()
    record = read_record(BoxEvaluationRecord, line, partly=True)
    assert {**one, "date": record.date, "version": record.version} == record.to_json() == json.loads(line)


def test_protocol_2_has_the_classifiers_error_and_the_parts(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = result(capsys, "eval --weights runs/A-2 --dense --classifier runs/A-1 --scales 36 64 --per-class")
    classes = result(capsys, "eval --weights runs/A-1 --dense --scales 36 64")
    assert (one["top1_error"], one["top5_error"]) == (classes["top1_error"], classes["top5_error"])
    assert one["classification_part"] + one["box_part"] == pytest.approx(one["localisation_error"])
    assert (one["box_protocol"], one["merging"], one["scales"]) == ("full", {"threshold": 0.2}, [36, 64])
    mean = sum(row["localisation_error"] for row in one["per_class"]) / 3
    assert mean == pytest.approx(one["localisation_error"])
    line = (here / "runs" / "A-2" / "evaluations.jsonl").read_text().splitlines()[-1]
    assert read_record(BoxEvaluationRecord, line, partly=True).correct_top1 == classes["correct_top1"]
    other = result(capsys, "eval runs/A-2 runs/A-3 --dense --classifier runs/A-1 --scales 36 64 --merging 2")
    assert [row["merging"]["threshold"] for row in other["evaluations"]] == [2, 2]
    assert "top1_error" in classes  # a run of classes is measured as before


def test_saved_scores_and_several_classifiers_say_the_classes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    classes = result(capsys, "eval --weights runs/A-1 --save-scores s.safetensors")
    saved_scores = result(capsys, "eval --weights runs/A-2 --dense --classifier s.safetensors --scales 36 64")
    assert saved_scores["top1_error"] == classes["top1_error"]
    both = result(
        capsys, "eval runs/A-2 --dense --scales 36 --classifier runs/A-1 s.safetensors runs/A-1/last.safetensors"
    )
    assert both["classifier"] == ["runs/A-1", "s.safetensors", "runs/A-1/last.safetensors"]
    assert run("eval runs/A-2 --dense --classifier s.safetensors --split train".split()) == 4
    assert "has no scores of train/" in capsys.readouterr().err


def test_the_python_functions_give_the_same_with_every_outcome(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = result(capsys, "eval --weights runs/A-2 --dense --classifier runs/A-1 --scales 36 64")
    measured = vggcli.evaluate("runs/A-2", dense=True, classifier="runs/A-1", scales=[36, 64], device="cpu")
    assert isinstance(measured, MeasuredBoxes)
    mine, timed = measured.to_json(), ("seconds", "images_per_second")
    assert {name: value for name, value in mine.items() if name not in timed} == {
        name: value for name, value in printed.items() if name not in timed
    }
    assert vars(localisation(measured.outcomes)) == {
        name: mine[name] for name in ("images", "correct", "guessed", "mean_iou")
    }
    assert len(measured.guesses) == len(measured.images) == 12
    assert [one.label for one in measured.outcomes] == [measured.images.classes[row] for row in measured.images.labels]
    assert len(measured.table()) == 1 and measured.run == Path("runs/A-2")


def test_networks_are_united_before_merging(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "ensemble runs/A-2 runs/A-3 --dense --classifier runs/A-1 --scales 36 64 --merging 1.5"
    whole = result(capsys, command)
    alone = result(capsys, "eval --weights runs/A-3 --dense --classifier runs/A-1 --scales 36 64 --merging 1.5")
    assert (whole["arch"], len(whole["weights"]), whole["box_protocol"]) == ("A+A", 2, "full")
    assert whole["members"][1]["mean_iou"] == pytest.approx(alone["mean_iou"])
    fusion = vggcli.ensemble(
        ["runs/A-2", "runs/A-3"], dense=True, classifier=["runs/A-1"], scales=[36, 64], merging=1.5, device="cpu"
    )
    assert isinstance(fusion, BoxFusion) and len(fusion.table()) == 3
    counts = [[guess.candidates for guess in guesses] for guesses in fusion.whole.guesses]
    of_members = [
        [max(a.candidates, b.candidates) for a, b in zip(*two, strict=True)]
        for two in zip(*(one.guesses for one in fusion.members), strict=True)
    ]
    assert sum(map(sum, counts)) > sum(map(sum, of_members))
    assert run([*command.split(), "-q"]) == 0
    shown = capsys.readouterr().out
    assert "Localisation over 12 images" in shown and "all" in shown


def test_a_tuned_threshold_is_kept_with_the_same_weights(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, file = load_checkpoint(Path("runs/A-2/best.safetensors")), Path("runs/A-2/best.safetensors")
    one = result(capsys, "eval --weights runs/A-2 --dense --classifier runs/A-1 --scales 36 64 --tune-merging")
    network, checkpoint = load_checkpoint(file)
    kept = checkpoint.training["merging"]
    assert (kept["images"], kept["threshold"], one["merging"]["threshold"]) == (
        24,
        kept["threshold"],
        kept["threshold"],
    )
    assert kept["threshold"] in GRID
    assert checkpoint.training == {**before[1].training, "merging": kept}
    assert all(torch.equal(value, before[0].state_dict()[name]) for name, value in network.state_dict().items())
    again = result(capsys, "eval --weights runs/A-2 --dense --classifier runs/A-1 --scales 36 64")
    assert (again["merging"], again["mean_iou"]) == (one["merging"], one["mean_iou"])
    asked = MeasureOptions(dense=True, scales=[36, 64], device="cpu")
    places = Places(Path("runs"), Path("cache"), os.environ["VGG_DATA"])
    tuned = tune_merging(file, ["runs/A-1"], None, asked, places=places)
    least = min(one.localisation_error for one in tuned.tried.values())
    assert tuned.tried[tuned.threshold].localisation_error == least and tuned.threshold == kept["threshold"]
    held = hold_run(Path("runs/A-2"))
    command = "eval --weights runs/A-2 --dense --classifier runs/A-1 --scales 36 64 --tune-merging -q"
    assert run(command.split()) == 5
    let_go_of_run(Path("runs/A-2"), held)


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("eval runs/A-2 --dense", 2, "need a network that says their classes; name one (--classifier)"),
        ("eval runs/A-2 --classifier runs/A-1", 2, "no effect without dense evaluation, by which boxes are found"),
        (
            "eval runs/A-1 --dense --classifier runs/A-1",
            4,
            "gives classes itself, so a classifier has no effect beside it",
        ),
        ("eval runs/A-1 runs/A-2", 4, "measure networks of one kind at a time"),
        ("eval runs/A-2 --multi-crop", 2, "measured by a single view, the centre crop"),
        ("eval runs/A-2 --dense --multi-crop --classifier runs/A-1", 2, "by dense evaluation alone (--multi-crop)"),
        ("eval runs/A-2 --scales 36 64", 2, "leave this out, or measure densely, with a classifier (--scales)"),
        ("eval runs/A-2 --flip", 2, "(--flip)"),
        ("eval runs/A-2 --merging 1", 2, "no effect but on boxes of whole images, by dense evaluation (--merging"),
        ("eval runs/A-2 --merging 0", 2, "no effect but on boxes of whole images, by dense evaluation (--merging"),
        ("eval runs/A-2 --dense --classifier runs/A-1 --merging 0 --tune-merging", 2, "contradict each other"),
        (
            "eval runs/A-2 --dense --classifier runs/A-1 --merging 1 --tune-merging",
            2,
            "contradict each other; give one",
        ),
        ("eval runs/A-2 --dense --classifier runs/A-3", 4, "gives boxes in place of classes"),
        ("eval runs/A-2 --dense --classifier nowhere", 4, "nowhere is not there"),
        ("eval runs/A-2 --preprocessing caffe", 2, "which says its own"),
        ("eval runs/A-2 --dense --classifier runs/A-1 --preprocessing caffe", 2, "which says its own"),
        ("eval runs/A-2 --save-scores s.safetensors", 2, "a report of classes, but the weights give boxes"),
        ("ensemble runs/A-1 runs/A-2", 4, "measure networks of one kind at a time"),
        ("ensemble runs/A-2 runs/A-3", 2, "united in whole images, by dense evaluation (--dense)"),
        ("ensemble runs/A-2 runs/A-2/best.safetensors --dense --classifier runs/A-1", 2, "each named once"),
        ("predict --weights runs/A-2 {photos}", 4, "gives boxes in place of classes"),
        ("convert runs/A-2 x.pth", 4, "can only be written as a checkpoint"),
        ("eval runs/A-2 --data {bare}", 3, "no box is marked in the val split"),
        ("eval runs/A-2 --dense --classifier other.safetensors", 4, "are of different classes: only the"),
        ("eval other-boxes.safetensors", 4, "the weights lack 1 of the data's classes"),
    ],
)
def test_each_wrong_command_line_is_refused(
    here: Path, trained_boxes: Path, capsys: pytest.CaptureFixture[str], command: str, code: int, message: str
) -> None:
    bare = trained_boxes / "photos"
    saved(here / "other.safetensors", 1, ("class0", "class1", "class2", "class3"), crop=32)
    saved(here / "other-boxes.safetensors", 1, ("class0", "class1", "class3"), crop=32, boxes="pcr")
    assert run(command.format(photos=bare, bare=bare).split()) == code
    said = capsys.readouterr()
    assert message in " ".join(said.err.split())
    assert said.err.splitlines()[-1].startswith("vgg: ")


def test_the_screens_say_what_was_measured(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("eval runs/A-2 -q --per-class".split()) == 0
    first = " ".join(capsys.readouterr().out.split())
    assert "localisation error" in first and "box of the true class, right above IoU 0.5" in first
    assert run("eval runs/A-3 -q --dense --classifier runs/A-1 --scales 36 64 --per-class --merging 0.25".split()) == 0
    second = " ".join(capsys.readouterr().out.split())
    for words in ("class not guessed", "merged up to a match score of 0.25", "(SCR)", "runs/A-1", "wrong %"):
        assert words in second


def test_images_that_cannot_be_used_are_an_error_or_left_out_and_counted(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    csv = write_boxed(tmp_path / "bad")
    first, second, third = (tmp_path / "bad" / "val" / "class1" / f"{index}.jpg" for index in (0, 1, 2))
    first.write_bytes(first.read_bytes()[:-200])  # its header can be read
    second.write_bytes(b"no image")
    for how in ("", " --dense --classifier runs/A-1 --scales 36 64"):
        command = f"eval runs/A-2 --data {csv}{how}"
        second.write_bytes(b"no image")
        assert run([*command.split(), "-q", "-j", "0"]) == 3
        assert "1.jpg" in capsys.readouterr().err
        one = result(capsys, f"{command} --skip-bad")
        assert (one["images"], one["skipped"]) == (10, 2)
        second.write_bytes(third.read_bytes())
        assert run([*command.split(), "-q", "-j", "0"]) == 3
        assert "0.jpg" in capsys.readouterr().err


def test_the_threshold_of_several_networks_is_the_mean_of_theirs(tmp_path: Path) -> None:
    networks = []
    for index, threshold in enumerate((0.4, None, 0.9)):
        file = tmp_path / f"{index}.safetensors"
        network = saved(file, 1, boxes="scr")
        about = load_checkpoint(file)[1]
        if threshold is not None:
            about = replace(about, training={**about.training, "merging": {"threshold": threshold}})
            save_checkpoint(file, network, about)
        networks.append(box_network(file))
    assert own_threshold(networks) == pytest.approx((0.4 + THRESHOLD + 0.9) / 3)


def test_where_there_is_one_class_nothing_has_to_say_which(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Path(os.environ["VGG_DATA"])
    head, *rows = index.read_text().splitlines()
    mine = [row.replace(",class1,", ",raccoon,") for row in rows if ",class1," in row]
    alone, image = index.with_name("alone.csv"), index.parent / mine[-1].split(",")[0]
    alone.write_text("\n".join([head, *mine]) + "\n")
    monkeypatch.setenv("VGG_DATA", str(alone))
    one = "--weights runs/A-1 --epochs 3 -b 4 --lr 0.05 --layers all -j 0 -q --boxes scr --out runs/one"
    assert run(["finetune", *one.split()]) == 0
    full = result(capsys, "eval --weights runs/one --dense --scales 36 64 --merging 0.3")
    assert (full["box_protocol"], full["top1_error"], full["classification_part"]) == ("full", 0.0, 0.0)
    assert full["localisation_error"] == full["box_part"]
    assert run(["predict", str(image), "--boxes", "runs/one", "--json", "-q", "-j", "0"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["boxes"]
    assert (found["class"], found["score"]) == ("raccoon", 1.0)
    assert run(["eval", "--weights", "runs/A-2", "--dense", "-q"]) == 2  # of three classes
    assert "need a network that says their classes" in capsys.readouterr().err


def test_a_table_says_how_sure_its_differences_are(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "runs/A-2", "runs/A-3", "--table", "-q", "-j", "0"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    found = re.search(r"Against (A-\d), by McNemar's exact test: (A-\d) p = ([\d.e-]+)\.", text)
    assert found is not None
    best, other = (vggcli.evaluate(f"runs/{name}") for name in found.groups()[:2])
    assert isinstance(best, MeasuredBoxes)
    assert isinstance(other, MeasuredBoxes)
    pairs = [(one.right, two.right) for one, two in zip(best.outcomes, other.outcomes, strict=True)]
    won, lost = pairs.count((True, False)), pairs.count((False, True))
    tail = sum(math.comb(won + lost, count) for count in range(min(won, lost) + 1))
    assert float(found[3]) == pytest.approx(min(1, 2 * tail / 2 ** (won + lost)), rel=0.05)
    assert run(["eval", "runs/A-2", "--table", "-q", "-j", "0"]) == 0
    assert "Against" not in capsys.readouterr().out


def test_a_member_that_is_not_there_is_named_as_such(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("ensemble runs/A-2 nowhere --dense --classifier runs/A-1 -q".split()) == 4
    assert "nowhere is not there" in capsys.readouterr().err


def test_a_threshold_says_at_which_scales_it_was_tuned(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tune = "eval --weights runs/A-2 --dense --classifier runs/A-1 --scales 36 64 -q -j 0".split()
    assert run([*tune, "--tune-merging"]) == 0
    kept = load_checkpoint(here / "runs" / "A-2" / "best.safetensors")[1].training["merging"]
    assert kept["scales"] == [36, 64]
    capsys.readouterr()
    assert run(tune) == 0
    assert "was tuned at" not in capsys.readouterr().err
    assert run("eval --weights runs/A-2 --dense --classifier runs/A-1 --scales 48 -q -j 0".split()) == 0
    assert "was tuned at Q = 36, 64; tune it at these scales" in capsys.readouterr().err


def test_both_protocols_of_boxes_give_what_one_process_gives(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dense = ["--dense", "--classifier", "runs/A-1", "--no-flip"]
    for command in (
        ["eval", "--weights", "runs/A-2", "--json", "-j", "0", "-q"],
        ["eval", "--weights", "runs/A-2", "--json", *dense, "--tune-merging", "-j", "0", "-q"],
        ["ensemble", "runs/A-2", "runs/A-3", "--json", *dense, "-j", "0", "-q"],
    ):
        mine, theirs = json.loads(shared(tmp_path, 2, *command)), json.loads(alone(capsys, *command))
        for name in ("localisation_error", "images", "merging_threshold"):
            assert mine.get(name) == theirs.get(name)
        assert mine["mean_iou"] == pytest.approx(theirs["mean_iou"], rel=1e-4)
    images = sorted(str(one) for one in Path(os.environ["VGG_DATA"]).parent.glob("val/*/*"))[:5]
    assert len(images) == 5
    boxes = ["predict", *images, "--boxes", "runs/A-2", "--classifier", "runs/A-1", "--out"]
    shared(tmp_path, 2, *boxes, "shared.csv", "--draw", "drawn", "-j", "0", "-q")
    alone(capsys, *boxes, "alone.csv", "-j", "0", "-q")
    rows = [
        [line.split(",")[:3] for line in Path(name).read_text().splitlines()] for name in ("shared.csv", "alone.csv")
    ]
    assert rows[0] == rows[1]
    assert len(list(Path("drawn").rglob("*.png"))) == len(images)
