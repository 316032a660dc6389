"""What a source holds, before anything is trained on it: images by class and split, files whose header cannot be read, and
files that are in the training and in the validation split by content."""

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from vggcli.data.decode import FORMATS, open_image
from vggcli.data.image_set import ImageSet
from vggcli.errors import DataError

PROBE_BYTES = 4096  # from the middle of a file; files that differ there are not read whole

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Survey:
    """Counts of images by class in the training and the validation split (a class each, in the order of `classes`), the
    names of the images whose header is unreadable, (training, validation) names of equal files, and what was left out."""

    classes: tuple[str, ...]
    train: tuple[int, ...]
    val: tuple[int, ...]
    unreadable: tuple[str, ...]
    repeated: tuple[tuple[str, str], ...]
    remarks: tuple[str, ...]

    @property
    def imbalance(self) -> float:
        """Images of the largest class over those of the smallest, of the training split; at least 1."""
        return max(self.train) / min(self.train)


def survey(train: ImageSet, val: ImageSet, progress: Progress = lambda images: None) -> Survey:
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
    return Survey(train.classes, by_class[0], by_class[1], tuple(unreadable), repeated(train, val), remarks)


def has_header(path: Path) -> bool:
    """Whether the file begins as an image of a known format does and states its size; what follows is not looked at."""
    if not path.is_file():
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _opens(path, _quickly) or _opens(path, open_image)


def _quickly(path: Path) -> Image.Image:
    """Opened, where nothing is odd about it, without reading what lies behind the header."""
    return Image.open(path, formats=FORMATS)


def _opens(path: Path, opener: Callable[[Path], Image.Image]) -> bool:
    try:
        with opener(path) as image:
            return min(image.size) > 0
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError, DataError):
        return False


def repeated(train: ImageSet, val: ImageSet) -> tuple[tuple[str, str], ...]:
    """The validation images whose file equals a training image's, byte for byte, each as (training name, validation name).
    Files are compared by size first, then by a piece of their middle, then whole."""
    ours, theirs = ([(images.path(index), name) for index, name in enumerate(images.names)] for images in (train, val))
    for key in (_size, _middle):
        keys = [{place: key(place[0]) for place in places} for places in (ours, theirs)]
        shared = set(keys[0].values()) & set(keys[1].values()) - {None}
        ours, theirs = ([place for place, value in one.items() if value in shared] for one in keys)
    first: dict[bytes | None, str] = {}
    for path, name in ours:
        first.setdefault(_whole(path), name)
    found = ((first.get(_whole(path)), name) for path, name in theirs)
    return tuple((mine, name) for mine, name in found if mine is not None)


def _size(path: Path) -> bytes | None:
    try:
        return path.stat().st_size.to_bytes(8, "little")
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
