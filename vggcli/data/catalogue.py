"""Sets that are known by name: fetched once by torchvision's own loaders into a folder that appears whole or not at all.

Each leaves either an index.csv (path, class name, split) over the files as torchvision unpacks them, or a VOC devkit; from
then on it is read like any CSV or folder, without torchvision and without a network.
"""

import contextlib
import csv
import errno
import http.client
import io
import json
import shutil
import socket
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from vggcli.errors import MachineError
from vggcli.files import appearing
from vggcli.servers import within

CSV_INDEX = "index.csv"
ARCHIVES = (".tgz", ".tar.gz", ".tar", ".zip")
REACH_SECONDS = 8.0  # for a first answer, name lookup included
STALL_SECONDS = 60.0  # without a byte, in the middle of a download

IndexRow = tuple[str, str, str]  # path below the set's folder (POSIX), class name, split (empty: split by the hash)


@dataclass(frozen=True)
class KnownSet:
    """A set by name: what it is, what fetching it costs, where from, and what `load_split` reads once it is there: the file
    or folder `source` below the set's own. `make` fetches it into a folder by torchvision.datasets and yields its index."""

    name: str
    title: str
    images: int
    download_bytes: int
    host: str
    make: Callable[[Any, Path], Iterable[IndexRow]]
    source: str = CSV_INDEX

    @property
    def announcement(self) -> str:
        """What is about to be fetched, its size, and from where."""
        size = f"{self.download_bytes / 1e6:,.0f} MB"
        return f"{self.title} ({self.images:,} images, a download of {size}) from {self.host}"


def fetch(known: KnownSet, folder: Path, quiet: bool) -> Path:
    """Fetch a set into `folder`, whose parent exists, and return what `load_split` reads. Progress goes to stderr.

    Raises MachineError, within about 10 seconds, where torchvision cannot be loaded or nothing answers; and where a
    download breaks off or the disk refuses. Nothing is left at `folder` then.
    """
    datasets = torchvision_datasets()
    _reach(known, folder)
    progress = io.StringIO() if quiet else sys.stderr
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        with contextlib.redirect_stdout(progress), contextlib.redirect_stderr(progress):
            return assemble(known, folder, datasets)
    finally:
        socket.setdefaulttimeout(previous)


def assemble(known: KnownSet, folder: Path, datasets: Any) -> Path:
    """What `fetch` does once everything is at hand; `datasets` is the module torchvision.datasets, or its like."""
    try:
        with appearing(folder, known.source) as temporary:
            rows = list(known.make(datasets, temporary))
            if known.source == CSV_INDEX:
                _write_index(temporary / CSV_INDEX, rows)
            for path in (*temporary.glob("*"), *temporary.glob("*/*")):
                if path.name.endswith(ARCHIVES):
                    path.unlink()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            size = f"{2 * known.download_bytes / 1e6:,.0f} MB"
            raise MachineError(
                f"no space left for {known.name} on the disk of {folder}: free {size}, or set XDG_CACHE_HOME"
            ) from error
        raise _failed(known, folder, error) from error
    except (RuntimeError, EOFError, http.client.HTTPException, tarfile.TarError, zipfile.BadZipFile) as error:
        raise _failed(known, folder, error) from error
    return folder / known.source


def torchvision_datasets() -> Any:
    """The module torchvision.datasets. Raises MachineError where torchvision cannot be loaded."""
    try:
        from torchvision import datasets
    except Exception as error:  # a torchvision that does not fit torch fails in many ways
        reason = str(error).splitlines()[0]
        raise MachineError(
            f"torchvision, which fetches sets by name, cannot be loaded ({reason}); install one that fits torch, or give a "
            f"folder of your own",
            "data",
        ) from error
    return datasets


def _failed(known: KnownSet, folder: Path, error: Exception) -> MachineError:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    reason = " ".join(str(cause).split()).rstrip(".") or type(error).__name__
    return MachineError(
        f"{known.name} could not be fetched from {known.host} ({reason}); try again with a network, copy {folder} from a "
        f"machine that has it, or give a folder of your own",
        "data",
    )


def _reach(known: KnownSet, folder: Path) -> None:
    """Raises MachineError unless the set's host answers, be it with a refusal."""
    request = urllib.request.Request(f"https://{known.host}/", method="HEAD")
    try:
        within(REACH_SECONDS + 1, lambda: urllib.request.urlopen(request, timeout=REACH_SECONDS).close())
    except urllib.error.HTTPError as error:
        error.close()
    except Exception as error:
        raise _failed(known, folder, error) from error


def _write_index(path: Path, rows: list[IndexRow]) -> None:
    columns = 3 if any(split for _, _, split in rows) else 2
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "label", "split")[:columns])
        writer.writerows(row[:columns] for row in sorted(rows))


def _imagenette(datasets: Any, folder: Path) -> Iterator[IndexRow]:
    """Its own train and val; classes by their first English name, as ImageNet's weights name them."""
    found = datasets.Imagenette(folder, split="train", size="full", download=True)
    names = {wnid: names[0] for wnid, names in zip(found.wnids, found.classes, strict=True)}
    for split in ("train", "val"):
        for wnid, name in names.items():
            for path in (folder / "imagenette2" / split / wnid).iterdir():
                yield path.relative_to(folder).as_posix(), name, split


def _cifar10(datasets: Any, folder: Path) -> Iterator[IndexRow]:
    """Its own train and test; the arrays that it comes as are written out as PNG files, once."""
    for split, train in (("train", True), ("test", False)):
        found = datasets.CIFAR10(folder, train=train, download=True)
        for name in found.classes:
            (folder / split / name).mkdir(parents=True)
        for index, (pixels_HWC, label) in enumerate(zip(found.data, found.targets, strict=True)):
            name = found.classes[label]
            path = folder / split / name / f"{index:05d}.png"
            Image.fromarray(pixels_HWC).save(path)
            yield path.relative_to(folder).as_posix(), name, split
    shutil.rmtree(folder / "cifar-10-batches-py")


def _flowers102(datasets: Any, folder: Path) -> Iterator[IndexRow]:
    """Its own train, val and test; classes by name where this torchvision knows the names, else by number."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MachineError(
            "flowers102 needs SciPy to be read; install it with `pip install 'vggcli[probe]'`"
        ) from error
    datasets.Flowers102(folder, split="train", download=True)
    base = folder / "flowers-102"
    labels = loadmat(base / "imagelabels.mat", squeeze_me=True)["labels"].tolist()
    splits = loadmat(base / "setid.mat", squeeze_me=True)
    names = getattr(datasets.Flowers102, "classes", None) or [f"{number:03d}" for number in range(1, 103)]
    for split, key in (("train", "trnid"), ("val", "valid"), ("test", "tstid")):
        for image in splits[key].tolist():
            yield f"flowers-102/jpg/image_{image:05d}.jpg", names[labels[image - 1] - 1], split


def _food101(datasets: Any, folder: Path) -> Iterator[IndexRow]:
    """Its own train and test."""
    datasets.Food101(folder, split="train", download=True)
    for split in ("train", "test"):
        lists = json.loads((folder / "food-101" / "meta" / f"{split}.json").read_text(encoding="utf-8"))
        for label, images in lists.items():
            for image in images:
                yield f"food-101/images/{image}.jpg", label, split


def _pets(datasets: Any, folder: Path) -> Iterator[IndexRow]:
    """Its trainval as train, its test; classes are the breeds, named as torchvision names them."""
    datasets.OxfordIIITPet(folder, split="trainval", download=True)
    base = folder / "oxford-iiit-pet"
    for split, listed in (("train", "trainval"), ("test", "test")):
        for line in (base / "annotations" / f"{listed}.txt").read_text(encoding="utf-8").splitlines():
            image = line.split()[0]
            breed = " ".join(word.title() for word in image.rsplit("_", 1)[0].split("_"))
            yield f"oxford-iiit-pet/images/{image}.jpg", breed, split


def _caltech101(datasets: Any, folder: Path) -> Iterator[IndexRow]:
    """No splits of its own. The background counts as a class, as in the paper (102 classes)."""
    datasets.Caltech101(folder, download=True)
    return _class_folders(folder, folder / "caltech101" / "101_ObjectCategories")


def _caltech256(datasets: Any, folder: Path) -> Iterator[IndexRow]:
    """No splits of its own. The clutter counts as a class, as in the paper (257 classes)."""
    datasets.Caltech256(folder, download=True)
    return _class_folders(folder, folder / "caltech256" / "256_ObjectCategories")


def _class_folders(folder: Path, classes: Path) -> Iterator[IndexRow]:
    """The JPEG files that lie right in each class folder; stray files and folders in between are not of the set."""
    for path in classes.glob("*/*.jpg"):
        yield path.relative_to(folder).as_posix(), path.parent.name, ""


def _voc2007(datasets: Any, folder: Path) -> Iterator[IndexRow]:
    """train, val, trainval and test, as the devkit lists them."""
    for part in ("trainval", "test"):
        datasets.VOCDetection(folder, year="2007", image_set=part, download=True)
    return iter(())


def _voc2012(datasets: Any, folder: Path) -> Iterator[IndexRow]:
    """train, val and trainval, as the devkit lists them; the labels of its test images are not public."""
    datasets.VOCDetection(folder, year="2012", image_set="trainval", download=True)
    return iter(())


# Sizes are those of the archives that torchvision downloads.
KNOWN: dict[str, KnownSet] = {
    known.name: known
    for known in (
        KnownSet("imagenette", "Imagenette", 13_394, 1_557_161_267, "s3.amazonaws.com", _imagenette),
        KnownSet("cifar10", "CIFAR-10", 60_000, 170_498_071, "www.cs.toronto.edu", _cifar10),
        KnownSet("flowers102", "Oxford 102 Flowers", 8_189, 344_862_509, "www.robots.ox.ac.uk", _flowers102),
        KnownSet("food101", "Food-101", 101_000, 4_996_278_331, "data.vision.ee.ethz.ch", _food101),
        KnownSet("pets", "Oxford-IIIT Pets", 7_349, 811_092_049, "www.robots.ox.ac.uk", _pets),
        KnownSet("caltech101", "Caltech-101", 9_144, 137_414_764, "data.caltech.edu", _caltech101),
        KnownSet("caltech256", "Caltech-256", 30_607, 1_183_006_720, "data.caltech.edu", _caltech256),
        KnownSet(
            "voc2007", "Pascal VOC 2007", 9_963, 911_052_800, "thor.robots.ox.ac.uk", _voc2007, "VOCdevkit/VOC2007"
        ),
        KnownSet(
            "voc2012", "Pascal VOC 2012", 11_540, 1_999_639_040, "thor.robots.ox.ac.uk", _voc2012, "VOCdevkit/VOC2012"
        ),
    )
}
