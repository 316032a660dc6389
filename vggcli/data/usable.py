"""Finds the images of a set that cannot be used by decoding each one, so that training does not stop at one of them."""

from collections.abc import Callable
from contextlib import closing
from functools import partial

from vggcli.data.decode import ImageError, read_image
from vggcli.data.image_set import ImageSet
from vggcli.data.workers import chunked, loaded
from vggcli.errors import DataError


def usable(images: ImageSet, workers: int, progress: Callable[[int], None]) -> tuple[ImageSet, tuple[ImageError, ...]]:
    """`images` without those that cannot be used, and the errors of these. `progress` is called with the number of images
    decoded since its last call. Raises DataError as `without` does."""
    bad: list[ImageError] = []
    with closing(loaded(partial(_errors, images), chunked(range(len(images))), workers)) as found:
        for decoded, errors in found:
            bad += errors
            progress(decoded)
    return without(images, {error.index for error in bad if error.index is not None}), tuple(bad)


def without(images: ImageSet, rows: set[int]) -> ImageSet:
    """`images` without those at `rows`. Raises DataError where none is left, or none of a class in the training split."""
    kept = images.chosen([row for row in range(len(images)) if row not in rows])
    lost = sorted(set(images.classes_used()) - set(kept.classes_used()))
    if lost and images.split == "train":
        raise DataError(f"no {images.split} image of class {lost[0]!r} can be used; repair one, or remove the class")
    if not kept:
        raise DataError(f"no {images.split} image can be used; repair or replace them")
    return kept


def _errors(images: ImageSet, indices: list[int]) -> tuple[int, list[ImageError]]:
    found = []
    for index in indices:
        try:
            read_image(images.path(index))
        except ImageError as error:
            found.append(ImageError(error.path, error.reason, index))
    return len(indices), found
