"""What a source holds, before anything is trained on it: images by class and split, files whose header cannot be read, and
files that are in the training and in the validation split by content."""

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from vggcli.data.decode import IMAGE_FORMATS, open_image
from vggcli.data.image_set import ImageSet
from vggcli.data.sources import load_split
from vggcli.errors import DataError, counted
from vggcli.progress import LOG

PROBE_BYTES = 4096  # from the middle of a file; files that differ there are not read whole
COMPARED = 20_000  # images of two splits that are compared by content before an evaluation; a second or less
UNEVEN = 3.0  # largest class over smallest from which it is said


@dataclass(frozen=True)
class Survey:
    """Counts of images by class in the training and the validation split (a class each, in the order of `classes`), the
    names of the images whose header is unreadable, (training, validation) names of equal files, those of equal training
    files in two classes, and what was left out."""

    classes: tuple[str, ...]
    train: tuple[int, ...]
    val: tuple[int, ...]
    unreadable: tuple[str, ...]
    repeated: tuple[tuple[str, str], ...]
    contradictory: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]

    @property
    def imbalance(self) -> float:
        """Images of the largest class over those of the smallest, of the training split; at least 1."""
        return max(self.train) / min(self.train)

    def to_json(self) -> dict[str, Any]:
        """What `vgg data` prints as JSON, but for the name of the source."""
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
    """Look at every image of two splits with the same classes, as `load_training` gives them; reads headers, and contents
    only of files that may be in both. `progress` is told the images looked at."""
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


def survey_notes(found: Survey) -> list[str]:
    """What a table of classes does not show, a sentence each; nothing where all is well."""
    said = list(found.remarks)
    if len(found.classes) == 1:
        said.append("there is one class only; a classifier needs two or more")
    if found.imbalance >= UNEVEN:
        said.append(f"the largest class has {found.imbalance:.1f} times the training images of the smallest")
    if found.unreadable:
        said.append(f"{counted(len(found.unreadable), 'image')} cannot be read, such as {found.unreadable[0]}")
    if found.repeated:
        said.append(in_both(found.repeated, "validation"))
    if found.contradictory:
        count = counted(len(found.contradictory), "training image stands", "training images stand")
        first, second = found.contradictory[0]
        said.append(f"{count} in two classes, byte for byte, such as {first} and {second}; leave each in one")
    return said


def in_both(pairs: Sequence[tuple[str, str]], split: str) -> str:
    """That images of a split are training images, from their (training, other) names."""
    ours, theirs = pairs[0]
    count = counted(len(pairs), f"{split} image is a training image", f"{split} images are training images")
    return f"{count} too, byte for byte, such as {theirs} ({ours}); errors measured on them are too low"


def note_in_both(source: Path, images: ImageSet) -> None:
    """Note how many images that are about to be measured are training images of the same source too, where both splits
    together have at most COMPARED images; a source without a training split has nothing to compare with."""
    if len(images) > COMPARED or images.split == "train":
        return
    try:
        train = load_split(source, "train")
    except DataError:
        return
    if len(train) + len(images) > COMPARED:
        return
    known = set(train.names)  # a split that holds the training images by name is no copy of them
    pairs = [(ours, theirs) for ours, theirs in repeated(train, images) if theirs not in known]
    if pairs:
        name = "validation" if images.split == "val" else images.split
        LOG.info(f"data: {in_both(pairs, name)}")


def has_header(path: Path) -> bool:
    """Whether the file begins as an image of a known format does and states its size; what follows is not looked at."""
    if not path.is_file():
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _opens(path, _quickly) or _opens(path, open_image)


def _quickly(path: Path) -> Image.Image:
    """Opened, where nothing is odd about it, without reading what lies behind the header."""
    return Image.open(path, formats=IMAGE_FORMATS)


def _opens(path: Path, opener: Callable[[Path], Image.Image]) -> bool:
    try:
        with opener(path) as image:
            return min(image.size) > 0
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError, DataError):
        return False


def repeated(train: ImageSet, val: ImageSet) -> tuple[tuple[str, str], ...]:
    """The validation images whose file equals a training image's, byte for byte, each as (training name, validation
    name)."""
    files = [
        (part.path(row), split, name) for split, part in enumerate((train, val)) for row, name in enumerate(part.names)
    ]
    groups = [sorted(group, key=lambda one: one[0]) for group in _equal_files(files)]  # training images first
    return _pairs(groups)


def in_two_classes(train: ImageSet) -> tuple[tuple[str, str], ...]:
    """The images whose file equals, byte for byte, an earlier one's of another class, each as (earlier name, name)."""
    return _pairs(_equal_files([(train.path(row), train.labels[row], name) for row, name in enumerate(train.names)]))


def _pairs(groups: Sequence[Sequence[tuple[int, str]]]) -> tuple[tuple[str, str], ...]:
    """The first name of each group with every later one of another part, in the order of these."""
    pairs = [(group[0][1], name) for group in groups for part, name in group if part != group[0][0]]
    return tuple(sorted(pairs, key=lambda pair: pair[1]))


def _equal_files(files: Sequence[tuple[Path, int, str]]) -> list[list[tuple[int, str]]]:
    """Groups of files (path, part, name) of more than one part that are equal byte for byte, each with (part, name) in
    order. Files are compared by size first, then by a piece of their middle, then whole."""
    groups = [list(files)]
    for tell in (_size, _middle, _whole):
        alike: dict[tuple[int, bytes | None], list[tuple[Path, int, str]]] = {}
        for number, group in enumerate(groups):
            for file in group:
                alike.setdefault((number, tell(file[0])), []).append(file)
        mixed = {key: group for key, group in alike.items() if len({part for _, part, _ in group}) > 1}
        groups = [group for (_, told), group in mixed.items() if told is not None]
    return [[(part, name) for _, part, name in group] for group in groups]


def _size(path: Path) -> bytes | None:
    """None for what is no regular file, which goes no further."""
    try:
        return path.stat().st_size.to_bytes(8, "little") if path.is_file() else None
    except OSError:
        return None


def _middle(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            file.seek(max(0, (size - PROBE_BYTES) // 2))
            return hashlib.sha256(size.to_bytes(8, "little") + file.read(PROBE_BYTES)).digest()
    except OSError:
        return None


def _whole(path: Path) -> bytes | None:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return None
