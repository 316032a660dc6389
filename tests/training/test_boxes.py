"""Boxes are learnt: they follow the views, their loss is the paper's, their error is that of protocol 1, and a run of them
is kept, resumed and refused as any other."""

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torchvision.ops import box_iou

from tests.conftest import picture
from tests.training.sessions import assert_same_bits
from vggcli.boxes import cxcywh_to_xyxy
from vggcli.cli.app import run
from vggcli.colour import ColourStatistics, normalise
from vggcli.data.boxes import checked_boxes
from vggcli.data.image_set import ImageSet
from vggcli.data.sources import load_split
from vggcli.data.test_views import centre_offsets, rescaled_size
from vggcli.data.training_batches import Schedule, TrainingBatch, training_batches
from vggcli.data.training_views import drawn_box
from vggcli.training.objective import BoxRegression
from vggcli.weights.checkpoint import load_checkpoint

WHITE = (255, 255, 255)
SMALL = "--arch A --crop 32 --scale 36 --width 0.0625 -b 8 --epochs 1 --init he --lr 0.01 -j 0 -q".split()
PLAIN = ColourStatistics((0.0, 0.0, 0.0), 1.0, (0.0, 0.0, 0.0), ((0.0, 0.0, 0.0),) * 3)
CPU = torch.device("cpu")


def boxed_photos(root: Path, train: int = 8, val: int = 4, classes: int = 3, boxes: int = 1) -> Path:
    """A CSV of pictures of one colour a class, each with white rectangles as its boxes."""
    root.mkdir()
    rows = []
    for split, count in (("train", train), ("val", val)):
        for label in range(classes):
            for index in range(count):
                image, draw = picture(label, index, split), Random(f"{split} {label} {index}")
                name = f"{split}-{label}-{index}.png"
                for _ in range(boxes):
                    x0, y0 = draw.randint(2, image.width // 2), draw.randint(2, image.height // 2)
                    x1, y1 = draw.randint(x0 + 12, image.width - 2), draw.randint(y0 + 12, image.height - 2)
                    ImageDraw.Draw(image).rectangle((x0, y0, x1 - 1, y1 - 1), fill=WHITE)
                    rows.append((name, f"class{label}", split, x0, y0, x1, y1))
                image.save(root / name)
    with (root / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split", "xmin", "ymin", "xmax", "ymax"), *rows])
    return root / "index.csv"


def boxed_set(source: Path, split: str = "train") -> ImageSet:
    return checked_boxes(load_split(source, split, boxes=True), 0, False)[0]


def batch_of(
    images: ImageSet, scale: tuple[int, int], crop: int, seed: int = 0, epochs: int = 1
) -> list[TrainingBatch]:
    schedule = Schedule(len(images), len(images), len(images), epochs)
    return list(training_batches(images, PLAIN, scale, crop, seed, schedule, 0, CPU))


@pytest.mark.parametrize("scale", [(48, 48), (48, 96), (96, 160)])
def test_a_drawn_box_is_found_again_in_its_views_to_a_pixel(tmp_path: Path, scale: tuple[int, int]) -> None:
    images, found = boxed_set(boxed_photos(tmp_path / "photos")), 0
    for batch in batch_of(images, scale, 48, epochs=3):
        assert batch.boxes_N4 is not None
        assert batch.learnt_N is not None
        for view_HWC, flip, box in zip(batch.images_NHWC, batch.flips_N, batch.boxes_N4, strict=True):
            seen = view_HWC.flip(1) if flip else view_HWC  # as `augment` turns it
            rows, columns = np.nonzero((np.abs(seen.numpy().astype(int) - WHITE) < 70).all(2))
            wanted = cxcywh_to_xyxy(box) * 48
            if not (wanted[2] - wanted[0] > 4 and wanted[3] - wanted[1] > 4) or not len(rows):
                continue
            edges = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            assert (edges - wanted.clamp(0, 48)).abs().max() <= 1.5
            found += 1
    assert found > 40


def test_half_of_a_box_must_be_in_a_view_that_is_learnt_from(tmp_path: Path) -> None:
    images = boxed_set(boxed_photos(tmp_path / "photos"))
    shares, learnt = [], []
    for batch in batch_of(images, (64, 64), 32, epochs=8):
        assert batch.boxes_N4 is not None
        assert batch.learnt_N is not None
        for x0, y0, x1, y1 in cxcywh_to_xyxy(batch.boxes_N4).tolist():
            inside = max(0, min(1, x1) - max(0, x0)) * max(0, min(1, y1) - max(0, y0))
            shares.append(inside / ((x1 - x0) * (y1 - y0)))
        learnt += batch.learnt_N.tolist()
    assert learnt == [share >= 0.5 for share in shares]
    assert 20 < sum(learnt) < len(learnt) - 20


def test_each_box_of_an_image_is_drawn_as_often_whatever_the_workers(tmp_path: Path) -> None:
    boxes = [(float(one), 0.0, float(one) + 1, 1.0) for one in range(3)]
    counts = Counter(drawn_box(boxes, seed, epoch, 5) for seed in range(30) for epoch in range(100))
    assert min(counts.values()) > 900
    images = boxed_set(boxed_photos(tmp_path / "photos", boxes=3))

    def drawn(schedule: Schedule, workers: int = 0) -> Tensor:
        batches = training_batches(images, PLAIN, (40, 60), 32, 3, schedule, workers, CPU)
        return torch.cat([one.boxes_N4 for one in batches if one.boxes_N4 is not None])

    whole = drawn(Schedule(len(images), 8, 4, 2))
    assert torch.equal(whole, drawn(Schedule(len(images), 8, 4, 2), workers=2))
    assert torch.equal(whole[len(images) :], drawn(Schedule(len(images), 8, 4, 2, start=(1, 0))))


@pytest.mark.parametrize("kind", ["scr", "pcr"])
def test_the_loss_is_caffes_euclidean_loss_over_the_true_classs_outputs(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.rand(5, 4 if kind == "scr" else 12, generator=generator, dtype=torch.float64, requires_grad=True)
    boxes, labels = torch.rand(5, 4, generator=generator, dtype=torch.float64), torch.tensor([0, 2, 1, 1, 0])
    learnt = torch.tensor([True, True, False, True, True])
    views = torch.zeros(5, 2, 2, 3, dtype=torch.uint8)
    batch = TrainingBatch(views, labels, torch.zeros(5, dtype=torch.bool), torch.zeros(5, 3), boxes, learnt)
    loss, right = BoxRegression(kind, 36, 32).losses(outputs, batch)  # type: ignore[arg-type]
    slow, expected, overlaps = 0.0, torch.zeros_like(outputs), []
    for row in range(5):
        first = 0 if kind == "scr" else 4 * int(labels[row])
        mine = outputs.detach()[row, first : first + 4]
        overlaps.append(float(box_iou(cxcywh_to_xyxy(mine)[None], cxcywh_to_xyxy(boxes[row])[None])))
        if learnt[row]:
            slow += sum(float(mine[k] - boxes[row, k]) ** 2 for k in range(4)) / 2
            expected[row, first : first + 4] = mine - boxes[row]
    assert float(loss.detach()) == pytest.approx(slow)
    assert right == sum(overlap > 0.5 for overlap in overlaps)
    loss.backward()
    torch.testing.assert_close(outputs.grad, expected)


def slow_protocol_1(run_folder: Path, source: Path) -> tuple[float, float]:
    """Localisation error and mean IoU by Pillow, one image at a time."""
    network, about = load_checkpoint(run_folder / "best.safetensors")
    images, right, overlaps = boxed_set(source, "val"), 0, []
    for row, name in enumerate(images.names):
        with Image.open(source.parent / name) as image:
            size = rescaled_size(image.size, 36)
            scaled = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BILINEAR))
            width, height = image.size
        top, left = centre_offsets(scaled.shape[:2], 32)
        crop = torch.from_numpy(scaled[top : top + 32, left : left + 32].copy())[None]
        with torch.inference_mode():
            outputs = network(normalise(crop, about.preprocessing))[0]
        label = images.labels[row] if len(outputs) > 4 else 0
        x, y, w, h = (32 * outputs[4 * label : 4 * label + 4]).tolist()
        across, down = width / size[0], height / size[1]
        box = Tensor([[(left + x - w / 2) * across, (top + y - h / 2) * down, (left + x + w / 2) * across, 0]])
        box[0, 3] = (top + y + h / 2) * down
        overlaps.append(float(box_iou(box, torch.tensor(images.own_boxes(row))).max()))
        right += overlaps[-1] > 0.5
    return 100 * (1 - right / len(images)), sum(overlaps) / len(overlaps)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CSV of boxed photos; a run A-1 of their classes is in the current folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    csv_file = boxed_photos(tmp_path / "photos", boxes=2)
    assert run(["train", "--data", str(csv_file), *SMALL]) == 0
    return csv_file


def finetune(*words: str) -> int:
    return run(["finetune", "-q", "-j", "0", *words])


@pytest.mark.parametrize("kind", ["scr", "pcr"])
def test_a_box_run_keeps_what_it_is_and_says_the_error_of_protocol_1(
    source: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetune("--weights", "runs/A-1", "--boxes", kind, "--epochs", "2", "--lr", "0.05") == 0
    said = capsys.readouterr()
    assert f"fc8 is new: {'1 box' if kind == 'scr' else '3 boxes'} in place of 3 classes" in said.err
    assert "localisation error" in said.out
    config = json.loads(Path("runs/A-2/config.json").read_text())
    assert (config["boxes"], config["recipe"]["scale"], config["layers"]) == (kind, [36, 36], "all")
    records = [json.loads(line) for line in Path("runs/A-2/log.jsonl").read_text().splitlines()]
    assert "top1_error" not in records[0]
    best = min(records, key=lambda one: float(one["localisation_error"]))
    network, about = load_checkpoint(Path("runs/A-2/best.safetensors"))
    assert (about.config.boxes, about.config.outputs) == (kind, 4 if kind == "scr" else 12)
    assert about.classes == ("class0", "class1", "class2")
    assert network.get_parameter("fc8.bias").shape == (about.config.outputs,)
    error, iou = slow_protocol_1(Path("runs/A-2"), source)
    assert best["localisation_error"] == pytest.approx(error)
    assert best["mean_iou"] == pytest.approx(iou, abs=1e-5)
    assert run(["runs", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed[0]["localisation_error"] == best["localisation_error"]


def test_the_default_recipe_is_that_of_appendix_a(source: Path) -> None:
    assert finetune("--weights", "runs/A-1", "--boxes", "scr", "--max-steps", "1", "--recipe", "tiny") == 0
    recipe = json.loads(Path("runs/A-2/config.json").read_text())["recipe"]
    assert (recipe["learning_rate"], recipe["scale"], recipe["batch_size"]) == (0.001, [36, 36], 16)


def test_no_initialisation_can_be_given_for_boxes(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert finetune("--weights", "runs/A-1", "--boxes", "scr", "--init", "he") == 2
    said = "vgg: an initialisation has no effect, because boxes begin at their mean (--init)"
    assert capsys.readouterr().err.splitlines()[-1] == said


@pytest.mark.parametrize("kind", ["scr", "pcr"])
def test_a_box_run_begins_at_the_mean_box_of_the_centre_crops(source: Path, kind: str) -> None:
    assert finetune("--weights", "runs/A-1", "--boxes", kind, "--max-steps", "1", "--lr", "1e-12") == 0
    images, means = boxed_set(source), []
    for row in range(len(images)):
        with Image.open(images.root / images.names[row]) as image:
            width, height = image.size
        scale = 36 / min(width, height)
        left, top = (round(width * scale) - 32) // 2, (round(height * scale) - 32) // 2
        boxes = torch.tensor(images.own_boxes(row), dtype=torch.float64) * scale
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2 - torch.tensor([left, top])
        means.append(torch.cat((centres, boxes[:, 2:] - boxes[:, :2]), 1).mean(0) / 32)
    network, _ = load_checkpoint(Path("runs/A-2/last.safetensors"))
    assert 0.0008 < float(network.get_parameter("fc8.weight").detach().std()) < 0.0012
    biases = network.get_parameter("fc8.bias").view(-1, 4)
    expected = torch.stack(means).mean(0).float()
    torch.testing.assert_close(biases.detach(), expected.expand_as(biases), rtol=0, atol=0.02)  # sides round to pixels
    assert expected[2:].min() > 0.05


def test_a_resumed_box_run_equals_one_that_was_not_interrupted(source: Path) -> None:
    words = ("--weights", "runs/A-1", "--boxes", "pcr", "--layers", "fc", "--epochs", "2", "--lr", "0.05")
    assert finetune(*words, "--out", "whole") == 0
    assert finetune(*words, "--out", "parts", "--max-steps", "4") == 0
    assert finetune("--resume", "parts", "--epochs", "2") == 0
    assert_same_bits(Path("whole"), Path("parts"))
    paths = [Path(folder) / "last.safetensors" for folder in ("runs/A-1", "whole")]
    before, after = (load_checkpoint(path)[0].state_dict() for path in paths)
    changed = {name for name, one in before.items() if not torch.equal(one, after[name])}
    assert changed == {f"{layer}.{kind}" for layer in ("fc6", "fc7", "fc8") for kind in ("weight", "bias")}


def test_other_boxes_are_other_data_when_a_run_is_resumed(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert finetune("--weights", "runs/A-1", "--boxes", "scr", "--epochs", "1", "--out", "boxes") == 0
    lines = source.read_text().splitlines()
    path, label, split, x0, *rest = lines[1].split(",")
    source.write_text("\n".join([lines[0], ",".join([path, label, split, str(int(x0) + 1), *rest]), *lines[2:]]))
    assert finetune("--resume", "boxes", "--epochs", "2") == 3
    assert "are not those that" in capsys.readouterr().err


def test_one_class_is_enough_for_boxes(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = boxed_photos(tmp_path / "one", classes=1)
    assert finetune("--weights", "runs/A-1", "--boxes", "scr", "--epochs", "1", "--data", str(one)) == 0
    assert load_checkpoint(Path("runs/A-2/last.safetensors"))[1].classes == ("class0", "class1", "class2")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--layers", "last"), 2, "boxes are learnt by all layers or by the FC layers"),
        (("--layers", "fc", "--cache-features"), 2, "outputs of frozen layers cannot be cached where boxes are learnt"),
        (("--weights", "runs/box"), 4, "runs/box/best.safetensors gives boxes already"),
        (("--data", "none.csv"), 3, "no box of"),
    ],
)
def test_what_boxes_cannot_be_learnt_with(
    source: Path, words: tuple[str, ...], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    images = {line.split(",")[0]: line.split(",")[:3] for line in source.read_text().splitlines()}
    rows = [(source.parent / name if name != "path" else name, *rest) for name, *rest in images.values()]
    Path("none.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    if "runs/box" in words:
        assert finetune("--weights", "runs/A-1", "--boxes", "scr", "--max-steps", "1", "--out", "runs/box") == 0
    given = words if "--weights" in words else ("--weights", "runs/A-1", *words)
    assert finetune("--boxes", "scr", "--max-steps", "1", *given) == code
    assert said in capsys.readouterr().err


def test_a_network_of_boxes_can_be_given_classes_again(source: Path) -> None:
    assert finetune("--weights", "runs/A-1", "--boxes", "pcr", "--max-steps", "1") == 0
    assert finetune("--weights", "runs/A-2", "--max-steps", "1") == 0
    before, after = (load_checkpoint(Path(f"runs/A-{number}/last.safetensors")) for number in (2, 3))
    assert (before[1].config.boxes, after[1].config.boxes) == ("pcr", None)
    assert after[1].config == replace(before[1].config, boxes=None)
