"""The embedded set `shapes`: objects of ten classes on varied backgrounds, rendered offline, with labels and boxes.

All randomness depends only on (seed, split, index), so the set is the same on every machine and in any order of rendering.
Sizes differ by a factor of four, so that scale jitter and several test scales make a difference.
"""

import csv
import math
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple

from PIL import Image, ImageDraw

from vggcli.data.shapes_art import THINGS, Pen, background
from vggcli.data.workers import loaded
from vggcli.errors import MachineError
from vggcli.files import appearing

CLASSES: tuple[str, ...] = tuple(THINGS)
PICTURES_VERSION = 1  # increased when the images change; each version has its own folder in the cache
IMAGES_BY_SPLIT: Mapping[str, int] = {"train": 2000, "val": 400}
SHORTER = (256, 300)  # pixels of the shorter side
LONGEST_ASPECT = 1.5
SMALLEST_SHARE, LARGEST_SHARE = 0.22, 0.92  # size of an object as a share of the shorter side
TURN = math.radians(25)
JPEG_QUALITY = 90
HEADER = ("path", "label", "split", "xmin", "ymin", "xmax", "ymax")


class Rendered(NamedTuple):
    """An image (RGB), its class name and the tight box of its object: xmin, ymin, xmax, ymax in pixels."""

    image: Image.Image
    label: str
    box: tuple[int, int, int, int]


def render(split: str, index: int, seed: int = 0) -> Rendered:
    """Image number `index` of `split`; its class is number `index` modulo ten."""
    draw = Random(f"shapes {PICTURES_VERSION} {seed} {split} {index}")
    label = CLASSES[index % len(CLASSES)]
    shorter = draw.randint(*SHORTER)
    longer = int(shorter * draw.uniform(1.0, LONGEST_ASPECT))
    size = (longer, shorter) if draw.random() < 0.6 else (shorter, longer)
    picture = background(draw, size)
    extent = (
        SMALLEST_SHARE + (LARGEST_SHARE - SMALLEST_SHARE) * draw.random() ** 0.6
    )  # more large objects than small ones
    half = extent * shorter / 2
    free = max(0.0, shorter / 2 - half)  # keeps nearly all of the object in the central square
    centre = (size[0] / 2 + draw.uniform(-free, free), size[1] / 2 + draw.uniform(-free, free))
    angle, mirror = draw.uniform(-TURN, TURN), draw.random() < 0.5
    double = picture.resize((2 * size[0], 2 * size[1]), Image.Resampling.NEAREST)
    mask = Image.new("L", double.size)
    pen = Pen(ImageDraw.Draw(double), ImageDraw.Draw(mask), (2 * centre[0], 2 * centre[1]), 2 * half, angle, mirror)
    THINGS[label](pen, draw)
    box = mask.reduce(2).getbbox()
    assert box is not None, "a thing that is not in its picture"
    return Rendered(double.reduce(2), label, box)


def build(
    folder: Path,
    workers: int,
    images: Mapping[str, int] = IMAGES_BY_SPLIT,
    progress: Callable[[int], None] = lambda more: None,
) -> Path:
    """Render the set into `folder` with `workers` processes, unless it is there already, and return its index.csv (path,
    label, split, box). The folder is made whole or not at all; `progress` is called with 1 after each image.

    Raises MachineError where the disk refuses.
    """
    index = folder / "index.csv"
    if index.is_file():
        return index
    try:
        with appearing(folder, index.name) as temporary:  # another process makes the same bytes
            _render_all(temporary, workers, images, progress)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise MachineError(f"cannot write the shapes set to {folder}: {reason}; set XDG_CACHE_HOME") from error
    return index


def _render_all(folder: Path, workers: int, images: Mapping[str, int], progress: Callable[[int], None]) -> None:
    for split in images:
        for label in CLASSES:
            (folder / split / label).mkdir(parents=True, exist_ok=True)
    tasks = ((split, index) for split, count in images.items() for index in range(count))
    rows = []
    with closing(loaded(partial(_write, folder), tasks, workers if workers > 1 else 0)) as results:
        for row in results:
            rows.append(row)
            progress(1)
    with (folder / "index.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *rows])


def _write(folder: Path, task: tuple[str, int]) -> tuple[str | int, ...]:
    split, index = task
    rendered = render(split, index)
    name = f"{split}/{rendered.label}/{index:05d}.jpg"
    rendered.image.save(folder / name, format="JPEG", quality=JPEG_QUALITY)
    return (name, rendered.label, split, *rendered.box)
