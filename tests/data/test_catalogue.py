"""Sets by name: fetched through torchvision's own classes, whose downloads the tests replace by small copies."""

import importlib
import io
import json
import pickle
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torchvision
from PIL import Image

from tests.conftest import picture
from tests.data.voc_sets import listed, voc_set
from vggcli.data import catalogue
from vggcli.data.catalogue import KNOWN, assemble, fetch
from vggcli.data.sources import ImageSet, load_split, load_training, load_whole
from vggcli.errors import MachineError

MODULES = "imagenette cifar flowers102 food101 oxford_iiit_pet caltech voc".split()
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), np.uint8)  # CIFAR's batches hold two each


def save(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(0, 0).save(path, format="JPEG")


def imagenette(root: Path) -> None:
    for name in ("train/n01440764/a.JPEG", "train/n02102040/b.JPEG", "val/n01440764/c.JPEG", "val/n02102040/d.JPEG"):
        save(root / "imagenette2" / name)


def cifar10(root: Path) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    for index, name in enumerate([*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]):
        two_NHWC = PIXELS[2 * index : 2 * index + 2]
        batch = {"data": two_NHWC.transpose(0, 3, 1, 2).reshape(2, -1), "labels": [0, 1]}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["airplane", "automobile"]}))


def flowers102(root: Path) -> None:
    from scipy.io import savemat

    for number in range(1, 7):
        save(root / "jpg" / f"image_{number:05d}.jpg")
    savemat(root / "imagelabels.mat", {"labels": np.array([[77, 77, 1, 1, 77, 1]])})
    savemat(root / "setid.mat", {"trnid": [[1, 3]], "valid": [[2, 4]], "tstid": [[5, 6]]})


def food101(root: Path) -> None:
    lists = {"train": {"apple_pie": ["apple_pie/1"], "pizza": ["pizza/3"]}, "test": {"pizza": ["pizza/4"]}}
    for split, classes in lists.items():
        path = root / "food-101" / "meta" / f"{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(classes))
        for name in (name for names in classes.values() for name in names):
            save(root / "food-101" / "images" / f"{name}.jpg")


def pets(root: Path) -> None:
    marks = root / "annotations"
    (marks / "xmls").mkdir(parents=True, exist_ok=True)
    (marks / "trainval.txt").write_text("Abyssinian_1 1 1 1\namerican_bulldog_7 2 2 1\n")
    (marks / "test.txt").write_text("Abyssinian_2 1 1 1\namerican_bulldog_9 2 2 1\n")
    for name in ("Abyssinian_1", "Abyssinian_2", "american_bulldog_7", "american_bulldog_9"):
        save(root / "images" / f"{name}.jpg")


def caltech101(root: Path) -> None:
    for name in ("BACKGROUND_Google", "Faces", "ant"):
        for number in range(1, 21):
            save(root / "101_ObjectCategories" / name / f"image_{number:04d}.jpg")
    (root / "caltech-101").mkdir()


def caltech256(root: Path) -> None:
    for index, name in enumerate(("001.ak47", "002.dog", "257.clutter"), start=1):
        for number in range(1, 21):
            save(root / "256_ObjectCategories" / name / f"{index:03d}_{number:04d}.jpg")
    save(root / "256_ObjectCategories" / "002.dog" / "greg" / "stray.jpg")  # the real one has such a folder
    (root / "256_ObjectCategories" / "001.ak47" / "RENAME2").write_text("")


def voc(root: Path, year: str) -> None:
    folder = root / "VOCdevkit" / f"VOC{year}"
    if not folder.exists():
        large, small = (1.0, 1.0, 40.0, 40.0), (1.0, 1.0, 9.0, 9.0)
        voc_set(folder, {f"{year}_{n}": [("cat", small, 0), ("dog" if n % 2 else "cat", large, 0)] for n in range(6)})
        stems = [f"{year}_{n}" for n in range(6)]
        listed(folder, train=stems[:2], val=stems[2:4], trainval=stems[:4], test=stems[4:])
    save(folder / "SegmentationClass" / f"{year}_1.jpg")  # masks go by the same stems


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "imagenette": imagenette,
    "cifar10": cifar10,
    "flowers102": flowers102,
    "food101": food101,
    "pets": pets,
    "caltech101": caltech101,
    "caltech256": caltech256,
    "voc2007": lambda root: voc(root, "2007"),
    "voc2012": lambda root: voc(root, "2012"),
}


@pytest.fixture
def datasets(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """torchvision.datasets with every check of a sum replaced by one that the file is there."""
    module: ModuleType = torchvision.datasets
    monkeypatch.setattr(catalogue, "torchvision_datasets", lambda: module)
    for name in MODULES:
        part = importlib.import_module(f"torchvision.datasets.{name}")
        for function in ("check_integrity", "download_url"):
            if hasattr(part, function):
                monkeypatch.setattr(part, function, lambda path, *_, **__: Path(path).exists())
    return module


def downloading(monkeypatch: pytest.MonkeyPatch, layout: Callable[[Path], None]) -> None:
    """Make every download of torchvision's write `layout`, and leave its archive behind."""

    def fake(url: str, download_root: Any, *_: Any, filename: str | None = None, **__: Any) -> None:
        root = Path(download_root)
        root.mkdir(parents=True, exist_ok=True)
        layout(root)
        (root / (filename or Path(url).name)).write_bytes(b"archive")
        print("torchvision says something")

    for name in MODULES:
        part = importlib.import_module(f"torchvision.datasets.{name}")
        monkeypatch.setattr(part, "download_and_extract_archive", fake)


def labels_of(images: ImageSet) -> dict[str, str]:
    assert all((images.root / images.names[index]).is_file() for index in range(len(images)))
    return {name: images.classes[label] for name, label in zip(images.names, images.labels, strict=True)}


def theirs(datasets: Any, name: str, folder: Path, split: str) -> dict[str, str]:
    """The images of a split and their class names, as torchvision reads the same folder."""
    if name == "imagenette":
        found = datasets.Imagenette(folder, split=split)
        pairs = [(path, found.classes[label][0]) for path, label in found._samples]
    elif name == "flowers102":
        found = datasets.Flowers102(folder, split=split)
        pairs = [(path, found.classes[n]) for path, n in zip(found._image_files, found._labels, strict=True)]
    elif name == "food101":
        found = datasets.Food101(folder, split="test" if split == "val" else split)
        pairs = [(path, found.classes[n]) for path, n in zip(found._image_files, found._labels, strict=True)]
    else:
        found = datasets.OxfordIIITPet(folder, split="test" if split == "val" else "trainval")
        pairs = [(path, found.classes[n]) for path, n in zip(found._images, found._labels, strict=True)]
    return {Path(path).relative_to(folder).as_posix(): label for path, label in pairs}


@pytest.mark.parametrize("name", ["imagenette", "flowers102", "food101", "pets"])
def test_splits_and_labels_are_torchvisions(
    name: str, datasets: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    downloading(monkeypatch, LAYOUTS[name])
    source = assemble(KNOWN[name], tmp_path / name, datasets)
    train, val = load_training(source)
    assert labels_of(train) == theirs(datasets, name, tmp_path / name, "train")
    assert labels_of(val) == theirs(datasets, name, tmp_path / name, "val")
    assert len(train) + len(val) >= 3
    assert not [path for path in (tmp_path / name).rglob("*") if path.name.endswith(catalogue.ARCHIVES)]


def test_flowers_have_a_test_split_beside_val(
    datasets: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    downloading(monkeypatch, flowers102)
    source = assemble(KNOWN["flowers102"], tmp_path / "flowers102", datasets)
    assert labels_of(load_split(source, "test")) == theirs(datasets, "flowers102", tmp_path / "flowers102", "test")


def test_cifar_is_written_out_as_images(datasets: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    downloading(monkeypatch, cifar10)
    source = assemble(KNOWN["cifar10"], tmp_path / "cifar10", datasets)
    train, val = load_training(source)
    assert train.classes == ("airplane", "automobile")
    assert (len(train), len(val)) == (10, 2)
    rows = sorted((Path(name).stem, index) for index, name in enumerate(train.names))
    pixels_NHWC = np.stack([np.asarray(Image.open(train.root / train.names[index])) for _, index in rows])
    np.testing.assert_array_equal(pixels_NHWC, PIXELS[:10])
    assert [train.labels[index] for _, index in rows] == [0, 1] * 5
    assert sorted(path.name for path in (tmp_path / "cifar10").iterdir()) == ["index.csv", "test", "train"]


@pytest.mark.parametrize("name", ["caltech101", "caltech256"])
def test_caltech_has_all_classes_and_no_split_of_its_own(
    name: str, datasets: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    downloading(monkeypatch, LAYOUTS[name])
    whole = load_whole(assemble(KNOWN[name], tmp_path / name, datasets))
    found = datasets.Caltech101(tmp_path / name) if name == "caltech101" else datasets.Caltech256(tmp_path / name)
    extra = (
        {"BACKGROUND_Google"} if name == "caltech101" else set()
    )  # which torchvision leaves out, and the paper counts
    assert set(whole.classes) == {*found.categories, *extra}
    assert len(whole) == len(found) + 20 * len(extra) == 60
    assert len(labels_of(whole)) == 60


@pytest.mark.parametrize(("name", "splits"), [("voc2007", ("trainval", "test")), ("voc2012", ("train", "val"))])
def test_voc_is_read_as_the_devkit_lists_it(
    name: str, splits: tuple[str, str], datasets: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    downloading(monkeypatch, LAYOUTS[name])
    source = assemble(KNOWN[name], tmp_path / name, datasets)
    for split in splits:
        images = load_split(source, split)
        paths = {str(images.path(index)) for index in range(len(images))}
        assert paths == set(datasets.VOCDetection(tmp_path / name, year=name[3:], image_set=split).images)
        assert images.classes == ("cat", "dog")
        assert all(len(objects) == 2 for objects in images.objects)


def test_an_interrupted_download_leaves_nothing(
    datasets: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(root: Path) -> None:
        food101(root)
        raise KeyboardInterrupt

    downloading(monkeypatch, interrupted)
    with pytest.raises(KeyboardInterrupt):
        assemble(KNOWN["food101"], tmp_path / "food101", datasets)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(28, "No space left on device"), "free 9,993 MB"),
        (urllib.error.URLError("name not known"), r"data\.vision\.ee\.ethz\.ch .*name not known.*a folder of your own"),
        (RuntimeError("File not found or corrupted."), "not found or corrupted"),
        (EOFError("Compressed file ended"), "Compressed file ended"),
    ],
)
def test_a_download_that_fails_is_the_machines_fault(
    error: Exception, message: str, datasets: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def failing(root: Path) -> None:
        food101(root)
        raise error

    downloading(monkeypatch, failing)
    with pytest.raises(MachineError, match=message):
        assemble(KNOWN["food101"], tmp_path / "food101", datasets)
    assert not list(tmp_path.iterdir())


class Archive(io.BytesIO):
    """What a server sends."""

    length = 2_500_000


def test_a_download_is_shown_by_the_callers_progress_and_nothing_is_printed(
    datasets: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def layout(root: Path) -> None:
        food101(root)
        datasets.utils._urlretrieve("https://example.org/food.tar", str(root / "food.tar"))

    shown: list[Any] = []

    @contextmanager
    def progress(*about: Any) -> Iterator[Callable[[int], None]]:
        shown.append(about)
        yield shown.append

    downloading(monkeypatch, layout)
    monkeypatch.setattr(catalogue, "_reach", lambda known, folder: None)
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Archive(bytes(Archive.length)))
    before = datasets.utils.tqdm
    fetch(KNOWN["food101"], tmp_path / "shown", progress)
    assert shown[0] == ("fetching food101", 4996, "MB")
    assert sum(shown[1:]) == 2
    fetch(KNOWN["food101"], tmp_path / "silent")
    assert capsys.readouterr() == ("", "")
    assert datasets.utils.tqdm is before
    assert socket.getdefaulttimeout() is None


def test_without_a_network_it_says_what_else_to_do(
    datasets: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("network is unreachable")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(MachineError, match="network is unreachable.*copy .*pets from a machine that has it"):
        fetch(KNOWN["pets"], tmp_path / "pets")


def test_without_torchvision_it_says_what_else_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(MachineError, match="torchvision.*cannot be loaded.*a folder of your own"):
        fetch(KNOWN["pets"], tmp_path / "pets")


def test_a_known_set_says_what_it_costs() -> None:
    assert set(KNOWN) == set(LAYOUTS)
    assert KNOWN["cifar10"].announcement == ("CIFAR-10 (60,000 images, a download of 170 MB) from www.cs.toronto.edu")
