"""What a source contains, before a network is trained on it: images by class and split, files whose header cannot be read,
and files with equal content in both splits or in two classes."""

import contextlib
import hashlib
import stat
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from vggcli.data.decode import IMAGE_FORMATS, open_image
from vggcli.data.image_set import ImageSet
from vggcli.data.sources import load_split
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


def has_header(path: Path) -> bool:
    """Whether the file begins like an image of a known format and states its size; the rest of it is not checked."""
    refusals = (OSError, Image.DecompressionBombError, ValueError, SyntaxError, DataError)
    openers = (partial(Image.open, formats=IMAGE_FORMATS), open_image)  # the first reads only the header
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for opener in openers if path.is_file() else ():
            with contextlib.suppress(*refusals), opener(path) as image:
                if min(image.size) > 0:
                    return True
    return False


def repeated(train: ImageSet, val: ImageSet) -> tuple[tuple[str, str], ...]:
    """The validation images whose file equals that of a training image, each as (training name, validation name)."""
    splits = enumerate((train, val))
    files = [(part.path(row), split, name) for split, part in splits for row, name in enumerate(part.names)]
    return _pairs([sorted(group, key=lambda one: one[0]) for group in _equal_files(files)])  # training images first


def in_two_classes(train: ImageSet) -> tuple[tuple[str, str], ...]:
    """The images whose file equals that of an earlier one of another class, each as (earlier name, name)."""
    return _pairs(_equal_files([(train.path(row), train.labels[row], name) for row, name in enumerate(train.names)]))


def _pairs(groups: Sequence[Sequence[tuple[int, str]]]) -> tuple[tuple[str, str], ...]:
    """The first name of each group paired with every later one of another part, sorted by the latter."""
    pairs = [(group[0][1], name) for group in groups for part, name in group if part != group[0][0]]
    return tuple(sorted(pairs, key=lambda pair: pair[1]))


def _equal_files(files: Sequence[tuple[Path, int, str]]) -> list[list[tuple[int, str]]]:
    """Groups of files (path, part, name) of more than one part that are equal byte for byte, each with (part, name) in
    order. Files are compared by size first, then by a piece of their middle, then whole; unreadable ones equal none."""
    groups = [list(files)]
    for tell in (_size, _middle, lambda path: hashlib.sha256(path.read_bytes()).digest()):
        alike: dict[tuple[int, bytes], list[tuple[Path, int, str]]] = {}
        for number, group in enumerate(groups):
            for file in group:
                with contextlib.suppress(OSError):
                    alike.setdefault((number, tell(file[0])), []).append(file)
        groups = [group for group in alike.values() if len({part for _, part, _ in group}) > 1]
    return [[(part, name) for _, part, name in group] for group in groups]


def _size(path: Path) -> bytes:
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise OSError("it is not a regular file")
    return state.st_size.to_bytes(8, "little")


def _middle(path: Path) -> bytes:
    with path.open("rb") as file:
        size = path.stat().st_size
        file.seek(max(0, (size - PROBE_BYTES) // 2))
        return hashlib.sha256(size.to_bytes(8, "little") + file.read(PROBE_BYTES)).digest()
