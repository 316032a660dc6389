"""What this program wrote is no data, wherever it lies; what a user calls alike is."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import MakeFolder, picture
from vggcli.data.sources import load_split, load_training
from vggcli.data.walking import images_below
from vggcli.report.plots import save_confusion, save_curves
from vggcli.report.sheets import Caption, save_sheet
from vggcli.training.surroundings import PicturedRun
from vggcli.zoo.layers import NetworkConfig

PICTURE = np.zeros((8, 8, 3), np.uint8)


def make_run(folder: Path, config: bool = True) -> Path:
    """A run folder as training leaves it, of pictures that carry no mark."""
    folder.mkdir(parents=True)
    if config:
        (folder / "config.json").write_text(json.dumps({"version": "0.1.0", "arch": "A", "recipe": {}}))
    (folder / "last.safetensors").write_bytes(bytes(8))
    for name in ("curves.png", "views.png", "worst.png"):
        Image.new("RGB", (9, 9)).save(folder / name)
    return folder


@pytest.fixture
def flat(make_folder: MakeFolder) -> Path:
    """Class folders right in a folder, which has no splits."""
    root = make_folder(train=10, val=1)
    shutil.rmtree(root / "val")
    for folder in list((root / "train").iterdir()):
        folder.rename(root / folder.name)
    (root / "train").rmdir()
    return root


@pytest.mark.parametrize("config", [True, False])
@pytest.mark.parametrize("place", ["runs/A-{}", "reproduction/steps/A-{}", "run-{}", "class0/run-{}", "class0/deep/{}"])
def test_runs_are_left_out_of_class_folders_and_said(flat: Path, place: str, config: bool) -> None:
    before = load_training(flat)
    for number in (1, 2):
        make_run(flat / place.format(number), config)
    train, val = load_training(flat)
    assert (train.names, val.names, train.classes) == (before[0].names, before[1].names, before[0].classes)
    said = {
        "runs": f"{flat}/runs/ holds 2 runs of vgg and is left out",
        "reproduction": f"{flat}/reproduction/ holds 2 runs of vgg and is left out",
        "run-{}": f"{flat}/run-2/ is a run of vgg and is left out",
        "class0": f"{flat}/class0/deep/ holds 2 runs of vgg" if "deep" in place else f"{flat}/class0/run-2/ is a run",
    }[place.split("/", maxsplit=1)[0]]
    assert any(said in remark for remark in train.remarks)


def test_runs_are_left_out_of_splits_and_of_annotated_folders(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder()
    before = load_training(root)
    make_run(root / "train" / "runs" / "A-1")
    make_run(root / "runs" / "A-1")
    assert [part.names for part in load_training(root)] == [part.names for part in before]
    assert not any("no split" in remark for remark in load_split(root, "train").remarks)
    voc = tmp_path / "voc"
    (voc / "annots").mkdir(parents=True)
    for index in range(30):
        picture(index, index).save(voc / f"{index}.jpg")
        box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
        text = f"<annotation><object><name>c{index % 2}</name>{box}</object></annotation>"
        (voc / "annots" / f"{index}.xml").write_text(text)
    make_run(voc / "runs" / "A-1")
    train = load_split(voc, "train")
    assert len(train) + len(load_split(voc, "val")) == 30
    assert f"{voc}/runs/ holds 1 run of vgg and is left out" in train.remarks


def test_a_users_own_folder_is_kept_whatever_it_is_called(flat: Path) -> None:
    (flat / "class0").rename(flat / "runs")
    (flat / "runs" / "config.json").write_text('{"arch": "of a house"}')
    (flat / "class1" / "last.safetensors").write_bytes(bytes(8))  # weights that someone copied beside photos
    picture(0, 0).save(flat / "class1" / "curves of a road.png")
    train = load_split(flat, "train")
    assert train.classes == ("class1", "class2", "runs")
    assert not train.remarks
    assert sum(1 for _ in images_below(flat)) == 31


def test_a_run_that_photos_were_put_into_is_a_run(flat: Path) -> None:
    picture(0, 0).save(make_run(flat / "mine") / "photo.jpg")
    train = load_split(flat, "train")
    assert "mine" not in train.classes
    assert f"{flat}/mine/ is a run of vgg and is left out, with 1 image that vgg may not have drawn" in train.remarks


def test_pictures_that_were_drawn_here_are_no_images_and_counted(flat: Path, tmp_path: Path) -> None:
    record = {"epoch": 1, "loss": 1.0, "val_loss": 1.0, "top1_error": 1.0, "top5_error": 1.0, "learning_rate": 0.1}
    (tmp_path / "log.jsonl").write_text(json.dumps(record))
    before = sorted(images_below(flat))
    save_sheet([PICTURE], [Caption(("a caption",))], flat / "class0" / "a.png", ("a title",))
    save_confusion(np.eye(2, dtype=np.int64), ("a", "b"), flat / "class0" / "b.png", ("a title",))
    save_curves(tmp_path / "log.jsonl", flat / "c.png", PicturedRun(tmp_path, NetworkConfig("A", 3), "photos"))
    (flat / "class0" / "b.png").rename(flat / "class0" / "b")
    assert sorted(images_below(flat)) == before
    remarks = load_split(flat, "train").remarks
    assert f"2 pictures that vgg drew, in {flat}/class0/, are left out" in remarks
    assert f"1 picture that vgg drew, in {flat}/, is left out" in remarks
    assert not any("belong" in remark for remark in remarks)


def test_folders_of_stored_numbers_are_no_classes(flat: Path) -> None:
    before = load_training(flat)[0].classes
    settings = {"weights_sha256": "0", "layer": "fc7"}
    files = {
        "shards/manifest.json": json.dumps({"format": 1, "shard_size": 5, "settings": settings}).encode(),
        "numpy/a.npy.json": json.dumps(settings).encode(),
        "numpy/a.npy": b"\x93NUMPY",
        "numpys/a.npz": "weights_sha256".encode("utf-32-le"),
        "scores/a.safetensors": b'........{"__metadata__":{},"posteriors":{}}',
    }
    for name, content in files.items():
        (flat / name).parent.mkdir(exist_ok=True)
        (flat / name).write_bytes(content)
    train = load_split(flat, "train")
    assert train.classes == before
    assert sum("holds numbers that vgg stored and is left out" in remark for remark in train.remarks) == 4
