"""Which images of a set can be used: each is decoded whole, once, so that training need not stop at one that cannot be."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from vggcli.data.decode import ImageError, read_image
from vggcli.data.image_set import ImageSet
from vggcli.data.workers import loaded
from vggcli.errors import DataError

CHUNK = 16  # images that a worker looks at before it says so


def usable(images: ImageSet, workers: int, progress: Callable[[int], None]) -> tuple[ImageSet, tuple[ImageError, ...]]:
    """`images` without those that cannot be used, and why these cannot. `progress` is told the images done.

    Raises DataError as `without` does.
    """
    chunks = [range(first, min(first + CHUNK, len(images))) for first in range(0, len(images), CHUNK)]
    bad: list[ImageError] = []
    with closing(loaded(_Errors(images), chunks, workers)) as found:
        for chunk, errors in zip(chunks, found, strict=True):
            bad += errors
            progress(len(chunk))
    return without(images, {error.index for error in bad if error.index is not None}), tuple(bad)


def without(images: ImageSet, rows: set[int]) -> ImageSet:
    """`images` but those at `rows`. Raises DataError where none would be left, or none of a class to train on."""
    kept = images.chosen([row for row in range(len(images)) if row not in rows])
    lost = sorted(set(images.classes_used()) - set(kept.classes_used()))
    if lost and images.split == "train":
        raise DataError(f"no {images.split} image of the class {lost[0]!r} can be used; mend one, or remove the class")
    if not kept:
        raise DataError(f"no {images.split} image can be used; mend one")
    return kept


@dataclass(frozen=True)
class _Errors:
    images: ImageSet

    def __call__(self, indices: range) -> list[ImageError]:
        found = []
        for index in indices:
            try:
                read_image(self.images.path(index))
            except ImageError as error:
                found.append(ImageError(error.path, error.reason, index))
        return found
