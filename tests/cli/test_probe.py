"""`vgg probe` from the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.conftest import MakeFolder
from tests.data.voc_sets import Marked, listed, voc_set
from tests.features.stored_files import write_store
from vggcli import paper
from vggcli.cli.app import run
from vggcli.defaults import user_places


def mean_colour(path: Path) -> list[float]:
    with Image.open(path) as image:
        return [float(value) for value in np.asarray(image.convert("RGB").resize((1, 1))).reshape(3)]


def described(folder: Path, store: Path, extra: int = 0) -> Path:
    """A store of the mean colours of all JPEG files below a folder, and `extra` numbers of noise."""
    paths = sorted(folder.rglob("*.jpg"))
    noise_ND = np.random.default_rng(0).normal(size=(len(paths), extra))
    features_ND = np.hstack([np.array([mean_colour(path) for path in paths]), noise_ND]).astype(np.float32)
    return write_store(
        store, features_ND, [path.relative_to(folder.parent).as_posix() for path in paths], folder.parent
    )


@pytest.fixture
def photos(make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of photos, with `d.safetensors` beside it in the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = make_folder(train=12, val=6)
    described(folder, tmp_path / "d.safetensors")
    return folder


def probed(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["probe", "-q", "--json", "--per-class", *flags]) == 0, capsys.readouterr().err
    result = json.loads(capsys.readouterr().out)
    assert isinstance(result, dict)
    return result


def failed(capsys: pytest.CaptureFixture[str], *flags: str) -> tuple[int, str]:
    capsys.readouterr()
    code = run(["probe", "-q", *flags])
    shown = capsys.readouterr()
    assert shown.out == ""
    return code, shown.err


def test_accuracy_on_the_validation_split(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = probed(capsys, "d.safetensors", "--data", str(photos))
    assert result["protocol"] == result["measure"] == "accuracy"
    assert result["error"] == 100 - result["figure"]
    assert result["figure"] == 100
    assert (result["train_split"], result["split"], result["images"], result["skipped"]) == ("train", "val", 54, 0)
    (only,) = result["results"]
    assert (only["train_images"], only["test_images"]) == (36, 18)
    assert len(only["held_out"]) == len(result["costs"]) == 5
    assert only["cost"] in result["costs"]
    assert result["descriptors"][0]["layer"] == "fc7"
    assert result["dimension"] == 3
    assert result["per_class"] == {"class0": 100, "class1": 100, "class2": 100}
    assert result["published"] == []


def test_the_table_says_what_the_figure_rests_on(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["probe", "d.safetensors", "--data", str(photos), "--costs", "0.5", "8", "--per-class"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("100.00 %", "trained on train, measured on val", "36 to train, 18 to test", "3 classes", "layer fc7"):
        assert words in shown
    assert "held out (0.5: 100.0, 8: 100.0)" in shown
    assert "class1 100.0" in shown
    assert "Table 11" not in shown


def test_random_splits(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["d.safetensors", "--data", str(photos), "--protocol", "caltech"]
    result = probed(capsys, *flags, "--train-per-class", "5", "--test-per-class", "4", "--splits", "4")
    assert result["measure"] == "mean class recall"
    assert [(one["train_images"], one["test_images"]) for one in result["results"]] == [(15, 12)] * 4
    assert (result["train_per_class"], result["test_per_class"], result["splits"]) == (5, 4, 4)
    assert result["deviation"] == 0
    code, error = failed(capsys, *flags)
    assert code == 3
    assert "'class0' has 18 images, too few to train on 30" in error


def test_stacked_stores_in_any_order(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    described(photos, tmp_path / "e.safetensors", extra=5)
    result = probed(capsys, "d.safetensors", "e.safetensors", "--data", str(photos))
    assert result["dimension"] == 11
    assert [one["dimension"] for one in result["descriptors"]] == [3, 8]
    names = sorted(str(path.relative_to(tmp_path)) for path in photos.rglob("*.jpg"))
    backwards = np.array([mean_colour(tmp_path / name) for name in reversed(names)], np.float32)
    write_store(tmp_path / "backwards.safetensors", backwards, names[::-1])
    one = probed(capsys, "d.safetensors", "--data", str(photos), "--norm", "none")
    other = probed(capsys, "backwards.safetensors", "--data", str(photos), "--norm", "none")
    assert one["results"] == other["results"]
    code, error = failed(capsys, "d.safetensors", "d.safetensors", "--data", str(photos))
    assert (code, "given twice" in error) == (2, True)


def test_one_store_a_split(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "val"):
        names = sorted(path.relative_to(photos).as_posix() for path in (photos / split).rglob("*.jpg"))
        colours_ND = np.array([mean_colour(photos / name) for name in names], np.float32)
        write_store(tmp_path / f"{split}.safetensors", colours_ND, names, photos, weights_sha256="0a")
    parts = probed(capsys, "train.safetensors", "val.safetensors", "--data", str(photos))
    whole = probed(capsys, "d.safetensors", "--data", str(photos))
    assert parts["descriptors"][0]["path"] == "train.safetensors + val.safetensors"
    assert parts["dimension"] == whole["dimension"] == 3
    assert parts["results"] == whole["results"]
    code, error = failed(capsys, "train.safetensors", "--data", str(photos))
    assert (code, "no descriptor of 18 of the 54 images" in error) == (3, True)


def marks(index: int) -> list[Marked]:
    """A red, green or blue thing that fills the picture; now and then a second, small one, difficult or not."""
    large, small = (1.0, 1.0, 40.0, 40.0), (1.0, 1.0, 5.0, 5.0)
    return [("rgb"[index % 3], large, 0), *([("r", small, index % 2)] if index % 5 == 0 else [])]


@pytest.fixture
def voc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A devkit in the cache, as `voc2007` by name, with `v.safetensors` in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = user_places().cache / "voc2007" / "VOCdevkit" / "VOC2007"
    stems = [f"{index:06d}" for index in range(60)]
    listed(
        voc_set(folder, {stem: marks(index) for index, stem in enumerate(stems)}),
        train=stems[:20], val=stems[20:40], trainval=stems[:40], test=stems[40:],
    )  # fmt: skip
    described(folder, tmp_path / "v.safetensors")
    return folder


def test_voc_by_name_is_the_papers_protocol(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["v.safetensors", "--protocol", "voc"]
    result = probed(capsys, *flags, "--data", "voc2007")
    assert result["measure"] == "mean average precision"
    assert (result["train_split"], result["split"], result["ap"]) == ("trainval", "test", "11")
    assert set(result["per_class"]) == {"r", "g", "b"}
    assert result["per_class"]["g"] == result["per_class"]["b"] == 100
    assert 50 < result["per_class"]["r"] < 100  # its small objects cannot be told from the mean colour
    assert {"method": "VGG D + E", "figure": 89.7} in result["published"]
    by_folder = probed(capsys, *flags, "--data", str(voc), "--train-split", "trainval", "--split", "test", "--ap", "11")
    assert by_folder["per_class"] == result["per_class"]
    assert by_folder["published"] == []  # it may be any set
    everywhere = probed(capsys, *flags, "--data", "voc2007", "--ap", "all")
    assert everywhere["per_class"]["r"] != result["per_class"]["r"]
    assert everywhere["published"] == []
    assert run(["probe", *flags, "--data", "voc2007"]) == 0
    shown = capsys.readouterr()
    assert "at 11 recalls, as voc2007 is measured" in shown.err
    assert "trained on trainval, measured on test" in shown.err
    assert "Table 11" in shown.out
    assert "89.7" in shown.out


def test_voc_on_images_with_one_class_each(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = probed(capsys, "d.safetensors", "--data", str(photos), "--protocol", "voc")
    assert (result["ap"], result["figure"]) == ("all", 100)


def test_caltech256_by_name_has_its_own_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = user_places().cache / "caltech256"
    folder.mkdir(parents=True)
    names = [f"{label}/{index}.jpg" for label in "ab" for index in range(64)]
    (folder / "index.csv").write_text("path,label\n" + "".join(f"{name},{name[0]}\n" for name in names))
    features_ND = np.array([[1, name[0] == "a"] for name in names], np.float32)
    write_store(tmp_path / "c.safetensors", features_ND, names, folder)
    result = probed(capsys, "c.safetensors", "--data", "caltech256", "--protocol", "caltech")
    assert (result["train_per_class"], result["test_per_class"], result["splits"]) == (60, None, 3)
    assert result["results"][0]["test_images"] == 8
    assert [one["figure"] for one in result["published"]][-1] == [86.2, 0.3]
    fewer = probed(capsys, "c.safetensors", "--data", "caltech256", "--protocol", "caltech", "--train-per-class", "30")
    assert fewer["published"] == []


def test_table_11_is_the_papers() -> None:
    best = paper.TABLE11[-1]
    assert (best.method, best.voc2007, best.voc2012, best.caltech101) == ("VGG D + E", 89.7, 89.3, (92.7, 0.5))
    assert len(paper.TABLE11) == 7


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--splits 2", "the protocol accuracy draws no random splits"),
        (
            "--train-per-class 2 --protocol voc",
            "have no effect; they belong to caltech (--train-per-class, --protocol)",
        ),
        ("--split val --protocol caltech", "naming a split has no effect (--split, --protocol)"),
        ("--train-split val --protocol caltech", "naming a split has no effect (--train-split, --protocol)"),
        ("--ap 11", "average precision have no effect with the protocol accuracy"),
        ("--costs 0 1", "C must be above 0"),
        ("--costs nan", "costs is [nan], and should be a finite number"),
        ("--costs 1 --seed 3", "a random seed has no effect"),
        ("--split val --train-split val", "are both val"),
        ("--protocol coin", "coin"),
    ],
)
def test_flags_held_wrong(photos: Path, capsys: pytest.CaptureFixture[str], flags: str, words: str) -> None:
    code, error = failed(capsys, "d.safetensors", "--data", str(photos), *flags.split())
    assert code == 2
    assert words in error


def test_bad_stores(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", str(photos)]
    assert failed(capsys, "nothing.safetensors", *data)[0] == 3
    picture = photos / "train" / "class0" / "0.jpg"
    assert failed(capsys, str(picture), *data)[0] == 3
    names = sorted(path.relative_to(tmp_path).as_posix() for path in photos.rglob("*.jpg"))
    rows_ND = np.ones((len(names), 2), np.float32)
    write_store(tmp_path / "part.safetensors", rows_ND[3:], names[3:], tmp_path)
    code, error = failed(capsys, "part.safetensors", *data)
    assert code == 3
    assert "no descriptor of 3 of the 54 images" in error
    assert "train/class0/0.jpg" in error
    both = probed(capsys, "part.safetensors", "d.safetensors", "--skip-missing", *data)
    assert (both["skipped"], both["images"]) == (3, 51)
    rows_ND[5, 1] = np.nan
    write_store(tmp_path / "nan.safetensors", rows_ND, names, tmp_path)
    code, error = failed(capsys, "nan.safetensors", *data)
    assert code == 3
    assert names[5] in error


def test_one_class_only(make_folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_folder("single", classes=1)
    store = described(folder, tmp_path / "s.safetensors")
    code, error = failed(capsys, str(store), "--data", str(folder))
    assert code == 3
    assert "one class only, 'class0'" in error


def test_unused_descriptors_are_said(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (photos / "val" / "class1").iterdir():
        path.unlink()
    (photos / "val" / "class1").rmdir()
    assert run(["probe", "d.safetensors", "--data", str(photos), "--costs", "1", "--per-class"]) == 0
    shown = capsys.readouterr()
    assert "d.safetensors: left out 6 descriptors of images that are not in the data" in shown.err
    assert "no test image" in shown.out
