"""Boxes drawn on copies of images: guesses with their class and score, and true boxes.

Lines and text are as large as the image asks for. A guess is a line in the colour of its rank between two dark ones, a true
box is dashed in white: both are seen on any background. Labels lie within the image and beside each other.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import product
from pathlib import Path

from PIL import Image, ImageColor, ImageDraw, ImageFont

from vggcli.boxes import Region
from vggcli.data.own_files import DRAWN_BY
from vggcli.files import replacing
from vggcli.localisation.localise import Guess
from vggcli.report.figures import (
    FONTS,
    Fits,
    shortened,
)
from vggcli.report.text import printable

RANK_COLOURS = ("#ff7f0e", "#56b4e9", "#2fd18b", "#f28cc8", "#f0e442")  # of guesses, the first one first; then again
DARK, LIGHT = "#000000", "#ffffff"
LINE_SHARE, FONT_SHARE = 140, 25  # of the image's shorter side: its pixels over that are those of a line, of a letter
LEAST_FONT = 10  # pixels
LABEL_LETTERS = 14  # that a label may have in any image that is as wide
STEPS = 6  # heights of a label, from a box, among which a free place is looked for
COMPRESSION = 3  # of PNG, from 0 to 9: photos are hardly larger than by 6, and written in half the time

PixelBox = tuple[int, int, int, int]  # the first and last column and row that a box has a share of: x0, y0, x1, y1


def with_boxes(
    image: Image.Image, guesses: Sequence[Guess], truth: Sequence[Region] = (), scores: bool = True
) -> Image.Image:
    """A copy of an upright RGB image with `guesses`, the first one on top, and above them the boxes of `truth`. What is
    outside the image is cut off; labels have the `scores` or the classes alone."""
    copy = image.copy()
    draw = ImageDraw.Draw(copy)
    line = max(1, round(min(copy.size) / LINE_SHARE))
    inside = [(rank, one, pixels) for rank, one in enumerate(guesses) if (pixels := _pixels(one.box, copy.size))]
    for rank, _, pixels in reversed(inside):
        width = line if rank == 0 else max(min(line, 2), 2 * line // 3)
        _outline(draw, pixels, rank_colour(rank), width)
    for box in truth:
        if pixels := _pixels(box, copy.size):
            _dashes(draw, pixels, line)
    taken: list[PixelBox] = []
    for rank, one, pixels in inside:
        taken.append(_write(draw, (one.label, f" {one.score:.2f}" if scores else ""), pixels, rank_colour(rank), taken))
    return copy


def rank_colour(rank: int) -> str:
    """The colour of the guess of that rank, from 0."""
    return RANK_COLOURS[rank % len(RANK_COLOURS)]


def save_copy(copy: Image.Image, path: Path) -> None:
    """The picture as a PNG with the mark of this program, whole or not at all."""
    from PIL.PngImagePlugin import PngInfo

    mark = PngInfo()
    for name, text in DRAWN_BY.items():
        mark.add_text(name, text)
    with replacing(path) as temporary:
        copy.save(temporary, "PNG", pnginfo=mark, compress_level=COMPRESSION)


def _pixels(box: Region, size: tuple[int, int]) -> PixelBox | None:
    """The pixels of an image of `size` that a box has a share of; None where it lies outside."""
    x0, y0, x1, y1 = (min(max(corner, 0), side) for corner, side in zip(box, (*size, *size), strict=True))
    if x0 >= x1 or y0 >= y1:
        return None
    return int(x0), int(y0), -int(-x1 // 1) - 1, -int(-y1 // 1) - 1


def _grown(box: PixelBox, by: int) -> PixelBox:
    return box[0] - by, box[1] - by, box[2] + by, box[3] + by


def _outline(draw: ImageDraw.ImageDraw, box: PixelBox, colour: str, width: int) -> None:
    """The outermost pixels of a box in `colour`, with a dark edge on both sides."""
    edge = max(1, width // 4)
    draw.rectangle(_grown(box, edge), outline=DARK, width=width + 2 * edge)
    solid = min(box[2] - box[0], box[3] - box[1]) < 2 * width
    draw.rectangle(box, fill=colour) if solid else draw.rectangle(box, outline=colour, width=width)


def _dashes(draw: ImageDraw.ImageDraw, box: PixelBox, width: int) -> None:
    """The outermost pixels of a box as white dashes with dark edges; what is below shows between them."""
    x0, y0, x1, y1 = box
    dash, edge = 4 * width, max(1, width // 4)
    for start in range(x0, x1 + 1, 2 * dash):
        end = min(x1, start + dash - 1)
        for top in (y0, y1 - width + 1):
            _bar(draw, (start, top, end, top + width - 1), edge)
    for start in range(y0, y1 + 1, 2 * dash):
        end = min(y1, start + dash - 1)
        for left in (x0, x1 - width + 1):
            _bar(draw, (left, start, left + width - 1, end), edge)


def _bar(draw: ImageDraw.ImageDraw, box: PixelBox, edge: int) -> None:
    draw.rectangle(_grown(box, edge), fill=DARK)
    draw.rectangle(box, fill=LIGHT)


def _write(
    draw: ImageDraw.ImageDraw, text: tuple[str, str], box: PixelBox, colour: str, taken: Sequence[PixelBox]
) -> PixelBox:
    """Write the class and what follows it beside or in a box, where no label of `taken` is; the pixels of the label."""
    across, down = draw.im.size
    size = max(LEAST_FONT, round(min(across, down) / FONT_SHARE))
    font = _font(printable(text[0]), size)
    most = min(across, max(box[2] - box[0], across // 2, LABEL_LETTERS * size // 2)) - size // 2
    shown = labelled(*text, lambda part: font.getlength(part) <= most)
    width, height = round(font.getlength(shown)) + size // 2, size + size // 2
    places = [
        (x, y, x + width - 1, y + height - 1)
        for x, y in _corners(box, width, height, across)
        if 0 <= y <= down - height
    ] or [(0, 0, width - 1, height - 1)]
    place = min(places, key=lambda place: sum(_shared(place, other) for other in taken))  # the first of equal ones
    draw.rectangle(place, fill=colour)
    light = sum(ImageColor.getrgb(colour)[:3]) > 3 * 110
    draw.text((place[0] + size // 4, place[1] + height / 2), shown, DARK if light else LIGHT, font, anchor="lm")
    return place


def _corners(box: PixelBox, width: int, height: int, across: int) -> Iterator[tuple[int, int]]:
    """Where the upper left corner of a label may be, the best place first: above the box, below it, in it, further off."""
    x0, y0, x1, y1 = box
    for step, x in product(range(STEPS), (x0, x1 - width + 1)):
        within = min(max(0, x), max(0, across - width))
        yield within, y0 - (step + 1) * height
        yield within, y1 + 1 + step * height
        yield within, y0 + step * height


def _shared(one: PixelBox, other: PixelBox) -> int:
    """The pixels that two boxes share."""
    across, down = (min(one[k + 2], other[k + 2]) - max(one[k], other[k]) + 1 for k in (0, 1))
    return max(0, across) * max(0, down)


@lru_cache(64)
def _font(text: str, size: int) -> ImageFont.FreeTypeFont:
    """The first of the fonts of all pictures that has every sign of `text`, else the first."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    here = font_manager.get_font_names()
    files = [font_manager.findfont(name) for name in FONTS if name in here]
    whole = (file for file in files if {*map(ord, text)} <= FT2Font(file).get_charmap().keys())
    return ImageFont.truetype(str(next(whole, files[0])), size)


def labelled(label: str, score: str, fits: Fits) -> str:
    """A class and its score; the class without its middle where both do not fit."""
    return shortened(printable(label), lambda part: fits(part + score)) + score
