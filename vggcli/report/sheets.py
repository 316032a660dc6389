"""Sheets of images in rows, each with its caption below it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from vggcli.report.figures import (
    LEAST_WIDTH,
    MARGIN,
    SMALL_LINE,
    draw_title,
    drawing,
    fitting,
    pixel_figure,
    save_figure,
    shortened,
    title_height,
    title_lines,
    wrapped,
)
from vggcli.report.text import printable

SHEET_COLUMNS = range(3, 9)
LEAST_SIDE = 192  # pixels; smaller images are enlarged
GAP = 18  # pixels between images
_GREY = (200, 200, 200)  # beside an image that is not square


@dataclass(frozen=True)
class Caption:
    """The lines below a picture, each shown whole, and the name of its file, whose middle is left out if it is long."""

    lines: tuple[str, ...]
    file: str = ""

    def within(self, width: int) -> list[tuple[str, str]]:
        """Lines of at most `width` pixels, each with its colour."""
        fits = fitting(width)
        whole = [(line, "black") for text in self.lines for line in wrapped(printable(text), fits)]
        return [*whole, (shortened(printable(self.file), fits), "dimgrey")] if self.file else whole


def save_sheet(
    pictures_HWC: Sequence[NDArray[np.uint8]], captions: Sequence[Caption], path: Path, title: tuple[str, ...]
) -> None:
    """A PNG with pictures of one size, uint8 RGB, in rows, each with its caption below. Small pictures are enlarged by a
    whole number, so that every pixel of theirs is a square."""
    factor = -(-LEAST_SIDE // max(pictures_HWC[0].shape[:2]))
    height, width = (side * factor for side in pictures_HWC[0].shape[:2])
    columns, cell = _columns(len(pictures_HWC)), max(width, LEAST_SIDE)
    with drawing():
        texts = [one.within(cell) for one in captions]
        rows = [range(first, min(first + columns, len(texts))) for first in range(0, len(texts), columns)]
        tall = [height + GAP + SMALL_LINE * max(len(texts[index]) for index in row) for row in rows]
        whole_width = max(LEAST_WIDTH, 2 * MARGIN + columns * (cell + GAP) - GAP)
        lines = title_lines(tuple(map(printable, title)), whole_width - 2 * MARGIN)
        top = title_height(lines)
        whole_height = top + sum(tall) + MARGIN
        figure = pixel_figure(whole_width, whole_height)
        draw_title(figure, lines)
        for row, tallness in zip(rows, tall, strict=True):
            for column, index in enumerate(row):
                left = MARGIN + column * (cell + GAP)
                enlarged = pictures_HWC[index].repeat(factor, 0).repeat(factor, 1)
                figure.figimage(enlarged, left, whole_height - top - height)
                for number, (line, colour) in enumerate(texts[index], start=1):
                    below = 1 - (top + height + SMALL_LINE * number) / whole_height
                    figure.text(left / whole_width, below, line, color=colour)
            top += tallness
        save_figure(figure, path)


def _columns(count: int) -> int:
    """How many of so many images stand in a row: such that at most one place is empty, if it can be, and the sheet is
    a little wide."""
    if count < SHEET_COLUMNS[0]:
        return count
    return min(SHEET_COLUMNS, key=lambda columns: (max(1, -count % columns), abs(columns - 1.3 * math.sqrt(count))))


def fitted(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """The whole image, enlarged if it is small, within a grey square of `side` pixels: uint8 [side, side, 3]."""
    return np.asarray(ImageOps.pad(image, (side, side), Image.Resampling.BICUBIC, color=_GREY))
