"""Boxes in pixels of images as they are read: turned with an image that EXIF turns, clipped to it, and never empty.

A file may mark the boxes of an image that EXIF turns on the upright image, as most tools show it, or on the pixels as they
are stored. The frame in which all of them fit decides; if both do, the boxes are those of the upright image unless the
annotation states the size of the stored one.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

from vggcli.data.decode import ImageError, upright_size
from vggcli.data.image_set import ImageSet
from vggcli.data.usable import without
from vggcli.data.voc import Box, MarkedObject, Size, has_area, why_no_area
from vggcli.data.workers import chunked, loaded
from vggcli.errors import DataError, counted

MARGIN = 2.0  # pixels by which a box may pass the border of its image
TURNS = {  # by EXIF orientation: whether x is mirrored, whether y is, and whether they are then swapped
    2: (True, False, False),
    3: (True, True, False),
    4: (False, True, False),
    5: (False, False, True),
    6: (False, True, True),
    7: (True, True, True),
    8: (True, False, True),
}
Objects = tuple[MarkedObject, ...]


@dataclass(frozen=True)
class Checked:
    """The objects of an image with their boxes in the image as it is read, its size (width, height), how many boxes were
    clipped, and whether they were marked on the pixels as stored and turned."""

    objects: Objects
    size: Size
    clipped: int = 0
    turned: bool = False


def checked_boxes(
    images: ImageSet, workers: int, skip_bad: bool, progress: Callable[[int], None] = lambda images: None
) -> tuple[ImageSet, list[ImageError]]:
    """`images` with all boxes in pixels of the image that `read_image` gives, within it, and the sizes of these; and the
    errors of those that cannot be used, in their order. Reads the header of each image with `workers` processes (0: in this
    one); `progress` is called with the number of images done since its last call. The remarks of the set say what was
    clipped and what was turned, and how many images without a box of their class were left out.

    Raises DataError for an image without a box of its class, for a box that has no area, lies outside its image or passes
    its border by more than MARGIN, and for an unreadable header; with `skip_bad` these images are left out, and
    DataError is raised as `without` does.
    """
    bare = [row for row in range(len(images)) if not images.own_boxes(row)]
    count = counted(len(bare), "image has no box of its class", "images have no box of their class")
    where = f"of the {len(images)} in the {images.split} split"
    if bare and not skip_bad:
        what = f"{count}, {where}; the first is {images.path(bare[0])}"
        raise DataError(f"{what}: mark one, or leave such images out with skip_bad=True", "skip_bad")
    progress(len(bare))
    found: dict[int, Checked | ImageError] = {}
    rows = sorted({*range(len(images))} - {*bare})
    with closing(loaded(partial(_check, images), chunked(rows), workers)) as answers:
        for answer in answers:
            first = next((one for one in answer.values() if isinstance(one, ImageError)), None)
            if first and not skip_bad:
                raise DataError(f"{first}; correct it, or leave it out with skip_bad=True", "skip_bad")
            found.update(answer)
            progress(len(answer))
    bad = [one for row in rows if isinstance(one := found[row], ImageError)]
    good = [one for row in rows if isinstance(one := found[row], Checked)]
    kept = without(images, {*bare} | {row for row in rows if isinstance(found[row], ImageError)})
    objects, sizes = tuple(one.objects for one in good), tuple(one.size for one in good)
    remarks = [f"{count}, {where}, and {'is' if len(bare) == 1 else 'are'} left out"] if bare else []
    remarks = [*images.remarks, *remarks, *_remarks(images.split, good)]
    return replace(kept, objects=objects, sizes=sizes, remarks=tuple(remarks)), bad


def upright_objects(objects: Objects, size: Size, orientation: int) -> Checked:
    """The `objects` of an image of `size` once EXIF `orientation` is applied. Raises ValueError, which names the box, where
    one cannot be used."""
    turned = tuple(replace(one, box=turned_box(one.box, size, orientation), stated=None) for one in objects)
    stored = size[::-1] if orientation in TURNS and TURNS[orientation][2] else size
    fits, fits_turned = (not any(flaw(one.box, size) for one in some) for some in (objects, turned))
    is_turned = orientation in TURNS and fits_turned and (not fits or objects[0].stated == stored != size)
    upright = turned if is_turned else objects
    for one in upright:
        if why := flaw(one.box, size):
            raise ValueError(f"{one} {why}")
    within = tuple(replace(one, box=clipped_box(one.box, size)) for one in upright)
    return Checked(within, size, sum(one != other for one, other in zip(within, upright, strict=True)), is_turned)


def flaw(box: Box, size: Size) -> str | None:
    """What is wrong with a box in an image of `size`, or None if it passes the border by at most MARGIN."""
    if not has_area(box):
        return why_no_area(box)
    image = f"the image, which has {size[0]}x{size[1]} pixels"
    if not has_area(clipped_box(box, size)):
        return f"lies outside {image}"
    over = max(-box[0], -box[1], box[2] - size[0], box[3] - size[1])
    return f"passes the border of {image}, by {over:g} pixels" if over > MARGIN else None


def clipped_box(box: Box, size: Size) -> Box:
    """The part of a box that is in an image of `size`; without an area where it lies outside."""
    xmin, ymin, xmax, ymax = box
    return max(0.0, xmin), max(0.0, ymin), min(float(size[0]), xmax), min(float(size[1]), ymax)


def turned_box(box: Box, size: Size, orientation: int) -> Box:
    """A box on the pixels as stored, turned as EXIF `orientation` turns them into an upright image of `size`."""
    mirror_x, mirror_y, swap = TURNS.get(orientation, (False, False, False))
    width, height = size[::-1] if swap else size
    xmin, ymin, xmax, ymax = box
    if mirror_x:
        xmin, xmax = width - xmax, width - xmin
    if mirror_y:
        ymin, ymax = height - ymax, height - ymin
    return (ymin, xmin, ymax, xmax) if swap else (xmin, ymin, xmax, ymax)


def _check(images: ImageSet, rows: Sequence[int]) -> dict[int, Checked | ImageError]:
    """What was found of each of the `rows`."""
    found: dict[int, Checked | ImageError] = {}
    for row in rows:
        try:
            found[row] = upright_objects(images.objects[row], *upright_size(images.path(row)))
        except ImageError as error:
            found[row] = ImageError(error.path, error.reason, row)
        except ValueError as error:
            found[row] = ImageError(images.path(row), str(error), row)
    return found


def _remarks(split: str, changed: Iterable[Checked]) -> list[str]:
    clipped = sum(one.clipped for one in changed)
    turned = sum(one.turned for one in changed)
    said = []
    if clipped:
        what = counted(clipped, f"box of the {split} split passes", f"boxes of the {split} split pass")
        said.append(f"{what} the border by up to {MARGIN:g} pixels and {'is' if clipped == 1 else 'are'} clipped")
    if turned:
        what = counted(turned, f"image of the {split} split is", f"images of the {split} split are")
        said.append(f"{what} turned by EXIF, and so are the boxes, which were marked on the pixels as stored")
    return said
