"""What a source contains, before a network is trained on it: images by class and split, files whose header cannot be read,
and files with equal content in both splits or in two classes."""

import contextlib
import hashlib
import stat
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vggcli.data.decode import open_header, open_image
from vggcli.data.image_set import ImageSet
from vggcli.data.sources import load_split
from vggcli.data.tars import Place, TarMember
from vggcli.errors import DataError, counted
from vggcli.progress import LOG

PROBE_BYTES = 4096  # in the middle of a file; files that differ there are not read whole
COMPARED = 20_000  # images of both splits, at most, that are compared before an evaluation; a second or less
FEW = 30  # validation images, below which it is said how coarse errors are
UNEVEN = 3.0  # ratio of the largest class to the smallest from which it is mentioned


@dataclass(frozen=True)
class Survey:
    """The number of training and of validation images of each of the `classes`, the names of images whose header is
    unreadable, the (training, validation) names of equal files in both splits (`repeated`), the names of equal training
    files in two classes (`contradictory`), and what was left out."""

    classes: tuple[str, ...]
    train: tuple[int, ...]
    val: tuple[int, ...]
    unreadable: tuple[str, ...]
    repeated: tuple[tuple[str, str], ...]
    contradictory: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]

    @property
    def imbalance(self) -> float:
        """The training images of the largest class divided by those of the smallest; at least 1."""
        return max(self.train) / min(self.train)

    def to_json(self) -> dict[str, Any]:
        """What `vgg data` prints as JSON, without the name of the source."""
        rows = zip(self.classes, self.train, self.val, strict=True)
        return {
            "train": sum(self.train),
            "val": sum(self.val),
            "classes": [{"class": label, "train": train, "val": val} for label, train, val in rows],
            "imbalance": round(self.imbalance, 3),
            "unreadable": len(self.unreadable),
            "unreadable_images": list(self.unreadable),
            "in_two_classes": len(self.contradictory),
            "in_two_classes_images": [list(pair) for pair in self.contradictory],
            "in_both": len(self.repeated),
            "in_both_images": [{"train": train, "val": val} for train, val in self.repeated],
            "remarks": list(self.remarks),
        }


def survey(train: ImageSet, val: ImageSet, progress: Callable[[int], None] = lambda images: None) -> Survey:
    """Survey two splits with the same classes, as `load_training` returns them. Reads the header of every image, and the
    content only of files that may be equal. `progress` is called with the number of images read since its last call."""
    unreadable = []
    for images in (train, val):
        for index, name in enumerate(images.names):
            if not has_header(images.path(index)):
                unreadable.append(name)
            progress(1)
    counts = [Counter(images.labels) for images in (train, val)]
    by_class = [tuple(count[label] for label in range(len(train.classes))) for count in counts]
    remarks = tuple(dict.fromkeys(train.remarks + val.remarks))
    pairs = repeated(train, val), in_two_classes(train)
    return Survey(train.classes, by_class[0], by_class[1], tuple(unreadable), *pairs, remarks)


def survey_notes(found: Survey, boxes: bool = False) -> list[str]:
    """What the table of classes does not show, one sentence each; empty if there is nothing to mention. With `boxes`, which
    are to be learnt, one class is enough."""
    said = list(found.remarks)
    if len(found.classes) == 1 and not boxes:
        said.append("there is one class only; a classifier needs two or more")
    if (val := sum(found.val)) < FEW:
        count = counted(val, "validation image makes", "validation images make")
        said.append(f"{count} coarse errors: one image is {100 / max(1, val):.3g} %")
    if found.imbalance >= UNEVEN:
        said.append(f"the largest class has {found.imbalance:.1f} times the training images of the smallest")
    if found.unreadable:
        count = counted(len(found.unreadable), "file has", "files have")
        said.append(f"{count} no header of an image, such as {found.unreadable[0]}")
    if found.repeated:
        said.append(in_both(found.repeated, "validation"))
    if found.contradictory:
        count = counted(len(found.contradictory), "training image stands", "training images stand")
        first, second = found.contradictory[0]
        said.append(f"{count} in two classes, byte for byte, such as {first} and {second}; leave each in one")
    return said


def in_both(pairs: Sequence[tuple[str, str]], split: str) -> str:
    """The sentence that images of a split are training images, from their (training, other) names."""
    ours, theirs = pairs[0]
    count = counted(len(pairs), f"{split} image is a training image", f"{split} images are training images")
    return f"{count} too, byte for byte, such as {theirs} ({ours}); errors measured on them are too low"


def note_in_both(source: Path, images: ImageSet) -> None:
    """Log how many images that are about to be evaluated are also training images of the same source, if both splits
    together have at most COMPARED images and the source has a training split."""
    if len(images) > COMPARED or images.split == "train":
        return
    try:
        train = load_split(source, "train")
    except DataError:
        return
    if len(train) + len(images) > COMPARED:
        return
    known = set(train.names)  # a split such as trainval has the training images themselves, not copies
    pairs = [(ours, theirs) for ours, theirs in repeated(train, images) if theirs not in known]
    if pairs:
        name = "validation" if images.split == "val" else images.split
        LOG.info(f"data: {in_both(pairs, name)}")


def has_header(place: Place) -> bool:
    """Whether the file begins like an image of a known format and states its size; the rest of it is not checked."""
    refusals = (OSError, Image.DecompressionBombError, ValueError, SyntaxError, DataError)
    openers: tuple[Callable[[Place], Image.Image], ...] = (open_header, open_image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for opener in openers:
            with contextlib.suppress(*refusals), opener(place) as image:
                if min(image.size) > 0:
                    return True
    return False


def repeated(train: ImageSet, val: ImageSet) -> tuple[tuple[str, str], ...]:
    """The validation images whose file equals that of a training image, each as (training name, validation name)."""

    def find(row: int) -> tuple[ImageSet, int]:
        return (train, row) if row < len(train) else (val, row - len(train))

    split_N = np.repeat([0, 1], [len(train), len(val)])
    groups = _equal_files(lambda row: find(row)[0].path(find(row)[1]), split_N)
    return _pairs(groups, split_N, lambda row: find(row)[0].names[find(row)[1]])


def in_two_classes(train: ImageSet) -> tuple[tuple[str, str], ...]:
    """The images whose file equals that of an earlier one of another class, each as (earlier name, name)."""
    label_N = np.array(train.labels)
    return _pairs(_equal_files(train.path, label_N), label_N, train.names.__getitem__)


def _pairs(
    groups: Sequence[Sequence[int]], part_N: NDArray[np.int64], name: Callable[[int], str]
) -> tuple[tuple[str, str], ...]:
    """The first name of each group of rows paired with every later one of another part, sorted by the latter."""
    pairs = [(name(group[0]), name(row)) for group in groups for row in group if part_N[row] != part_N[group[0]]]
    return tuple(sorted(pairs, key=lambda pair: pair[1]))


def _equal_files(place: Callable[[int], Place], part_N: NDArray[np.int64]) -> list[list[int]]:
    """Groups of ascending rows, of more than one part, whose files at `place` are equal byte for byte: compared by
    size first, then by a piece of their middle, then whole. Unreadable ones equal none."""
    rows = np.arange(len(part_N))
    for tell in (_regular_size, _middle):
        told = np.fromiter((_told(tell, place(row)) for row in rows.tolist()), np.int64, len(rows))
        rows, told = rows[told >= 0], told[told >= 0]
        _, group_N = np.unique(told, return_inverse=True)
        lowest = np.full(len(rows), np.iinfo(np.int64).max)
        highest = np.full(len(rows), -1)
        np.minimum.at(lowest, group_N, part_N[rows])
        np.maximum.at(highest, group_N, part_N[rows])
        rows = rows[(lowest < highest)[group_N]]
    alike: dict[bytes, list[int]] = {}
    for row in rows.tolist():
        with contextlib.suppress(OSError):
            alike.setdefault(hashlib.sha256(_bytes(place(row), 0, None)).digest(), []).append(row)
    return [group for group in alike.values() if len({part_N[row] for row in group}) > 1]


def _told(tell: Callable[[Place], int], place: Place) -> int:
    """What `tell` says of a file, at least 0; -1 where it cannot be read."""
    try:
        return tell(place)
    except OSError:
        return -1


def _regular_size(place: Place) -> int:
    if isinstance(place, TarMember):
        return place.size
    state = place.stat()
    return state.st_size if stat.S_ISREG(state.st_mode) else -1


def _middle(place: Place) -> int:
    size = _regular_size(place)
    piece = _bytes(place, max(0, (size - PROBE_BYTES) // 2), PROBE_BYTES)
    digest = hashlib.sha256(size.to_bytes(8, "little") + piece).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def _bytes(place: Place, start: int, length: int | None) -> bytes:
    if isinstance(place, TarMember):
        return place.part(start, place.size if length is None else length)
    with place.open("rb") as file:
        file.seek(start)
        return file.read(length)
