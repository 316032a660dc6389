"""Data sets that are known by name, which torchvision's own classes fetch once, into a folder made whole or not at all.

The result is an index.csv (path, class name, split) of the files that torchvision unpacks, or a VOC devkit. From then on it
is read like any CSV or folder, without torchvision and without a network.
"""

import contextlib
import csv
import errno
import http.client
import io
import json
import shutil
import socket
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from PIL import Image

from vggcli.errors import MachineError
from vggcli.files import appearing
from vggcli.progress import Progress, silent
from vggcli.servers import within

CSV_INDEX = "index.csv"
MEGABYTE = 1_000_000
VOC_HOST = "thor.robots.ox.ac.uk"
ARCHIVES = (".tgz", ".tar.gz", ".tar", ".zip")
REACH_SECONDS = 8.0  # for a first answer, including the look-up of the host
STALL_SECONDS = 60.0  # without a byte during a download

IndexRow = tuple[str, str, str]  # path below the set's folder (POSIX), class name, split (empty: by the hash)


@dataclass(frozen=True)
class KnownSet:
    """A set by name: its title, its size, the host that it is fetched from, and the file or folder `source` in its folder
    that `load_split` reads. `make`, given torchvision.datasets and a folder, fetches it there and yields its index."""

    name: str
    title: str
    images: int
    download_bytes: int
    host: str
    make: Callable[[Any, Path], Iterable[IndexRow]]
    source: str = CSV_INDEX

    @property
    def announcement(self) -> str:
        """What will be fetched, its size, and from which host."""
        size = f"{self.download_bytes / 1e6:,.0f} MB"
        return f"{self.title} ({self.images:,} images, a download of {size}) from {self.host}"


def fetch(known: KnownSet, folder: Path, progress: Progress = silent) -> Path:
    """Fetch a set into `folder`, whose parent exists, and return what `load_split` reads. `progress` shows the download in
    megabytes; nothing is printed.

    Raises MachineError, within about 10 seconds, where torchvision cannot be loaded or the host does not answer, and where
    a download breaks off or the disk refuses. Nothing is left at `folder` then.
    """
    datasets = torchvision_datasets()
    _reach(known, folder)
    previous, their_bar, received = socket.getdefaulttimeout(), datasets.utils.tqdm, 0
    socket.setdefaulttimeout(STALL_SECONDS)
    with progress(f"fetching {known.name}", round(known.download_bytes / MEGABYTE), "MB") as bar:

        def arrived(count: int) -> None:
            nonlocal received
            bar((received + count) // MEGABYTE - received // MEGABYTE)
            received += count

        try:
            datasets.utils.tqdm = lambda **_: contextlib.nullcontext(SimpleNamespace(update=arrived))
            with contextlib.redirect_stdout(io.StringIO()):
                return assemble(known, folder, datasets)
        finally:
            socket.setdefaulttimeout(previous)
            datasets.utils.tqdm = their_bar


def assemble(known: KnownSet, folder: Path, datasets: Any) -> Path:
    """The part of `fetch` that downloads and unpacks; `datasets` is the module torchvision.datasets."""
    try:
        with appearing(folder, known.source) as temporary:
            rows = sorted(known.make(datasets, temporary))
            columns = 3 if any(split for _, _, split in rows) else 2
            if known.source == CSV_INDEX:
                with (temporary / CSV_INDEX).open("w", newline="", encoding="utf-8") as file:
                    listed = [("path", "label", "split"), *rows]
                    csv.writer(file, lineterminator="\n").writerows(row[:columns] for row in listed)
            for path in (*temporary.glob("*"), *temporary.glob("*/*")):
                if path.name.endswith(ARCHIVES):
                    path.unlink()
    except (OSError, RuntimeError, EOFError, http.client.HTTPException, tarfile.TarError, zipfile.BadZipFile) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            advice = f"free {2 * known.download_bytes / 1e6:,.0f} MB, or set XDG_CACHE_HOME to another folder"
            raise MachineError(f"no space left for {known.name} on the disk of {folder}: {advice}") from error
        raise _failed(known, folder, error) from error
    return folder / known.source


def torchvision_datasets() -> Any:
    """The module torchvision.datasets. Raises MachineError where torchvision cannot be loaded."""
    try:
        from torchvision import datasets
    except Exception as error:  # a torchvision that does not fit torch fails in many ways
        what = f"torchvision, which fetches sets by name, cannot be loaded ({str(error).splitlines()[0]})"
        raise MachineError(f"{what}; install one that fits torch, or give a folder of your own", "data") from error
    return datasets


def _failed(known: KnownSet, folder: Path, error: Exception) -> MachineError:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    reason = " ".join(str(cause).split()).rstrip(".") or type(error).__name__
    advice = f"try again with a network, copy {folder} from a machine that has it, or give a folder of your own"
    return MachineError(f"{known.name} could not be fetched from {known.host} ({reason}); {advice}", "data")


def _reach(known: KnownSet, folder: Path) -> None:
    """Raises MachineError unless the set's host answers, even with an HTTP error."""
    request = urllib.request.Request(f"https://{known.host}/", method="HEAD")
    try:
        within(REACH_SECONDS + 1, lambda: urllib.request.urlopen(request, timeout=REACH_SECONDS).close())
    except urllib.error.HTTPError as error:
        error.close()
    except Exception as error:
        raise _failed(known, folder, error) from error


def _imagenette(datasets: Any, folder: Path) -> Iterator[IndexRow]:
    """Its own train and val; classes have their first English names, as in ImageNet's weights."""
    found = datasets.Imagenette(folder, split="train", size="full", download=True)
    names = {wnid: names[0] for wnid, names in zip(found.wnids, found.classes, strict=True)}
    for split in ("train", "val"):
        for wnid, name in names.items():
            for path in (folder / "imagenette2" / split / wnid).iterdir():
                yield path.relative_to(folder).as_posix(), name, split


def _cifar10(datasets: Any, folder: Path) -> Iterator[IndexRow]:
    """Its own train and test; the arrays of which it consists are written as PNG files."""
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
    """Its own train, val and test; classes are named if this torchvision has their names, otherwise numbered."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MachineError("flowers102 needs SciPy; install it with `pip install 'vggcli[probe]'`") from error
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
    """Its trainval as train, and its test; the classes are the breeds, with torchvision's names."""
    datasets.OxfordIIITPet(folder, split="trainval", download=True)
    base = folder / "oxford-iiit-pet"
    for split, listed in (("train", "trainval"), ("test", "test")):
        for line in (base / "annotations" / f"{listed}.txt").read_text(encoding="utf-8").splitlines():
            image = line.split()[0]
            breed = " ".join(word.title() for word in image.rsplit("_", 1)[0].split("_"))
            yield f"oxford-iiit-pet/images/{image}.jpg", breed, split


def _caltech(name: str, classes: str, datasets: Any, folder: Path) -> Iterator[IndexRow]:
    """No splits of its own; only JPEG files directly in the folders of `classes` count. The background of Caltech-101
    and the clutter of Caltech-256 count as a class, as in the paper (102 and 257 classes)."""
    getattr(datasets, name)(folder, download=True)
    for path in (folder / classes).glob("*/*.jpg"):
        yield path.relative_to(folder).as_posix(), path.parent.name, ""


def _voc(year: str, parts: tuple[str, ...], datasets: Any, folder: Path) -> Iterable[IndexRow]:
    """The splits that the devkit lists; the labels of the test images of 2012 are not public."""
    for part in parts:
        datasets.VOCDetection(folder, year=year, image_set=part, download=True)
    return ()


_CALTECH101 = partial(_caltech, "Caltech101", "caltech101/101_ObjectCategories")
_CALTECH256 = partial(_caltech, "Caltech256", "caltech256/256_ObjectCategories")
_VOC2007, _VOC2012 = partial(_voc, "2007", ("trainval", "test")), partial(_voc, "2012", ("trainval",))


# Sizes are those of the archives that torchvision downloads.
KNOWN: dict[str, KnownSet] = {
    known.name: known
    for known in (
        KnownSet("imagenette", "Imagenette", 13_394, 1_557_161_267, "s3.amazonaws.com", _imagenette),
        KnownSet("cifar10", "CIFAR-10", 60_000, 170_498_071, "www.cs.toronto.edu", _cifar10),
        KnownSet("flowers102", "Oxford 102 Flowers", 8_189, 344_862_509, "www.robots.ox.ac.uk", _flowers102),
        KnownSet("food101", "Food-101", 101_000, 4_996_278_331, "data.vision.ee.ethz.ch", _food101),
        KnownSet("pets", "Oxford-IIIT Pets", 7_349, 811_092_049, "www.robots.ox.ac.uk", _pets),
        KnownSet("caltech101", "Caltech-101", 9_144, 137_414_764, "data.caltech.edu", _CALTECH101),
        KnownSet("caltech256", "Caltech-256", 30_607, 1_183_006_720, "data.caltech.edu", _CALTECH256),
        KnownSet("voc2007", "Pascal VOC 2007", 9_963, 911_052_800, VOC_HOST, _VOC2007, "VOCdevkit/VOC2007"),
        KnownSet("voc2012", "Pascal VOC 2012", 11_540, 1_999_639_040, VOC_HOST, _VOC2012, "VOCdevkit/VOC2012"),
    )
}
