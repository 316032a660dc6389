"""The objects of the embedded set: each is a short function that draws its parts and markings with a pen.

A pen uses coordinates of the object, about -1 to 1 with y down, and knows its centre, size and angle, and whether it is
mirrored. Like real objects, each has several cues: outline, markings, parts, and typical colours.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]
ROUND = 28  # corners of an ellipse
DARK: Colour = (38, 32, 34)
WHITE: Colour = (246, 244, 240)


@dataclass(frozen=True)
class Pen:
    """Draws on `picture` and marks the same pixels in `mask`, at whole pixels, so rounding errors make no difference."""

    picture: ImageDraw.ImageDraw
    mask: ImageDraw.ImageDraw
    centre: Point
    size: float  # pixels of one unit
    angle: float  # radians
    mirror: bool

    def _place(self, x: float, y: float) -> tuple[int, int]:
        x = -x if self.mirror else x
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        across = self.centre[0] + self.size * (x * cos - y * sin)
        down = self.centre[1] + self.size * (x * sin + y * cos)
        return round(across), round(down)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        placed = [self._place(x, y) for x, y in points]
        self.picture.polygon(placed, fill=colour)
        self.mask.polygon(placed, fill=255)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour, turn: float = 0.0) -> None:
        """An ellipse around (x, y), rotated by `turn` radians."""
        self.polygon([_on_ellipse(x, y, rx, ry, turn, 2 * math.pi * k / ROUND) for k in range(ROUND)], colour)

    def wedge(self, x: float, y: float, rx: float, ry: float, first: float, last: float, colour: Colour) -> None:
        """The sector of an ellipse between two angles, in radians clockwise from the right."""
        rim = [_on_ellipse(x, y, rx, ry, 0.0, first + (last - first) * k / 12) for k in range(13)]
        self.polygon([(x, y), *rim], colour)

    def line(self, x0: float, y0: float, x1: float, y1: float, width: float, colour: Colour) -> None:
        length = math.hypot(x1 - x0, y1 - y0) or 1.0
        nx, ny = width * (y1 - y0) / length / 2, -width * (x1 - x0) / length / 2
        self.polygon([(x0 + nx, y0 + ny), (x1 + nx, y1 + ny), (x1 - nx, y1 - ny), (x0 - nx, y0 - ny)], colour)


def _on_ellipse(x: float, y: float, rx: float, ry: float, turn: float, angle: float) -> Point:
    across, down = rx * math.cos(angle), ry * math.sin(angle)
    cos, sin = math.cos(turn), math.sin(turn)
    return x + across * cos - down * sin, y + across * sin + down * cos


def pick(draw: Random, *usual: Colour, spread: int = 28) -> Colour:
    """One of the `usual` colours, each channel changed by up to `spread`."""
    red, green, blue = (min(255, max(0, value + draw.randint(-spread, spread))) for value in draw.choice(usual))
    return red, green, blue


def shade(colour: Colour, factor: float) -> Colour:
    """The colour, darker for a factor below 1, lighter above."""
    red, green, blue = (min(255, int(value * factor)) for value in colour)
    return red, green, blue


def fish(pen: Pen, draw: Random) -> None:
    body = pick(draw, (240, 140, 40), (235, 170, 60), (225, 105, 60), (90, 150, 200))
    fin = shade(body, 0.72)
    pen.polygon([(-0.5, 0), (-1, -0.5), (-0.85, 0), (-1, 0.5)], fin)
    pen.polygon([(-0.1, -0.35), (0.15, -0.72), (0.4, -0.3)], fin)
    pen.polygon([(0, 0.35), (0.1, 0.66), (0.3, 0.3)], fin)
    pen.ellipse(0.15, 0, 0.8, 0.46, body)
    for row in range(-2, 3):  # scales
        for column in range(5):
            x, y = -0.42 + 0.17 * column + 0.085 * (row % 2), 0.15 * row
            if (x - 0.15) ** 2 / 0.5 + y**2 / 0.16 < 0.92:
                pen.ellipse(x, y, 0.08, 0.075, shade(body, 0.8))
                pen.ellipse(x + 0.03, y, 0.065, 0.06, shade(body, 1.14))
    pen.ellipse(0.66, -0.1, 0.12, 0.12, WHITE)
    pen.ellipse(0.69, -0.1, 0.06, 0.06, DARK)


def tree(pen: Pen, draw: Random) -> None:
    bark = pick(draw, (110, 75, 45), (90, 65, 45))
    leaf = pick(draw, (60, 140, 60), (85, 150, 55), (45, 115, 75))
    pen.polygon([(-0.14, 0), (0.14, 0), (0.22, 1), (-0.22, 1)], bark)
    for x in (-0.07, 0.05):
        pen.line(x, 0.3, x, 0.95, 0.04, shade(bark, 0.65))
    for x, y, r in ((-0.42, -0.12, 0.42), (0.42, -0.12, 0.42), (0, -0.5, 0.5), (-0.3, -0.5, 0.36), (0.32, -0.48, 0.36)):
        pen.ellipse(x, y, r, r, leaf)
    for _ in range(26):  # leaves
        angle, radius = draw.uniform(0, 6.283), 0.62 * math.sqrt(draw.random())
        x, y = radius * math.cos(angle), -0.36 + 0.75 * radius * math.sin(angle)
        pen.ellipse(x, y, 0.1, 0.05, shade(leaf, draw.choice((0.65, 1.35))), draw.uniform(0, 3.14))


def house(pen: Pen, draw: Random) -> None:
    wall = pick(draw, (190, 110, 85), (205, 150, 110), (170, 90, 80))
    roof = pick(draw, (95, 60, 55), (75, 75, 90), (120, 50, 45))
    pen.box(0.4, -0.85, 0.6, -0.3, shade(roof, 0.8))
    pen.polygon([(-1, -0.15), (0, -0.95), (1, -0.15)], roof)
    pen.box(-0.82, -0.15, 0.82, 0.95, wall)
    for row in range(9):  # bricks
        y = -0.09 + 0.115 * row
        pen.line(-0.82, y, 0.82, y, 0.022, shade(wall, 0.66))
        for column in range(6):
            x = -0.75 + 0.28 * column + 0.14 * (row % 2)
            if x < 0.8:
                pen.line(x, y, x, y + 0.115, 0.022, shade(wall, 0.66))
    for x in (-0.5, 0.5):
        pen.box(x - 0.2, 0.05, x + 0.2, 0.42, WHITE)
        pen.box(x - 0.16, 0.09, x + 0.16, 0.38, (120, 170, 205))
        pen.line(x, 0.05, x, 0.42, 0.04, WHITE)
        pen.line(x - 0.2, 0.235, x + 0.2, 0.235, 0.04, WHITE)
    pen.box(-0.17, 0.48, 0.17, 0.95, pick(draw, (80, 55, 40), (45, 85, 70)))
    pen.ellipse(0.1, 0.72, 0.035, 0.035, (235, 200, 90))


def butterfly(pen: Pen, draw: Random) -> None:
    wing = pick(draw, (150, 80, 190), (75, 110, 215), (190, 80, 160))
    spot = pick(draw, (250, 210, 90), (250, 240, 170))
    spots = ((0.6, -0.5, 0.13), (0.36, -0.26, 0.09), (0.74, -0.26, 0.07), (0.42, 0.46, 0.12), (0.3, 0.26, 0.06))
    for side in (-1, 1):
        pen.ellipse(0.5 * side, -0.38, 0.52, 0.42, DARK, 0.5 * -side)
        pen.ellipse(0.5 * side, -0.38, 0.44, 0.34, wing, 0.5 * -side)
        pen.ellipse(0.4 * side, 0.42, 0.4, 0.38, DARK, 0.5 * side)
        pen.ellipse(0.4 * side, 0.42, 0.32, 0.3, shade(wing, 1.15), 0.5 * side)
        for x, y, r in spots:
            pen.ellipse(x * side, y, r, r, spot)
            pen.ellipse(x * side, y, r / 2, r / 2, DARK)
        pen.line(0, -0.5, 0.25 * side, -0.95, 0.04, DARK)
    pen.ellipse(0, 0.02, 0.09, 0.62, DARK)


def clock(pen: Pen, draw: Random) -> None:
    rim = pick(draw, (60, 60, 70), (140, 95, 45), (70, 85, 110))
    pen.ellipse(0, 0, 1, 1, rim)
    pen.ellipse(0, 0, 0.84, 0.84, pick(draw, (245, 240, 225), (250, 250, 250), spread=8))
    for hour in range(12):
        x, y = math.cos(math.pi * hour / 6), math.sin(math.pi * hour / 6)
        inner, width = (0.56, 0.11) if hour % 3 == 0 else (0.66, 0.06)
        pen.line(inner * x, inner * y, 0.78 * x, 0.78 * y, width, DARK)
    for length, width in ((0.42, 0.1), (0.64, 0.06)):
        angle = draw.uniform(0, 6.283)
        pen.line(0, 0, length * math.cos(angle), length * math.sin(angle), width, DARK)
    pen.ellipse(0, 0, 0.08, 0.08, (200, 50, 40))


def car(pen: Pen, draw: Random) -> None:
    paint = pick(draw, (200, 40, 45), (45, 85, 185), (235, 195, 50), (60, 140, 110))
    pen.polygon([(-0.55, -0.05), (-0.35, -0.46), (0.3, -0.46), (0.58, -0.05)], paint)
    pen.polygon([(-0.43, -0.08), (-0.29, -0.37), (-0.04, -0.37), (-0.04, -0.08)], (175, 215, 235))
    pen.polygon([(0.04, -0.08), (0.04, -0.37), (0.25, -0.37), (0.44, -0.08)], (175, 215, 235))
    pen.polygon([(-1, 0.05), (-0.9, -0.1), (0.8, -0.1), (1, 0.08), (1, 0.36), (-1, 0.36)], paint)
    pen.line(-1, 0.17, 1, 0.17, 0.045, shade(paint, 0.62))
    pen.line(0, -0.08, 0, 0.34, 0.03, shade(paint, 0.62))
    pen.ellipse(0.92, 0.07, 0.08, 0.07, (255, 245, 190))
    pen.ellipse(-0.95, 0.07, 0.05, 0.07, (150, 20, 20))
    for x in (-0.55, 0.55):
        pen.ellipse(x, 0.38, 0.26, 0.26, DARK)
        pen.ellipse(x, 0.38, 0.14, 0.14, (190, 190, 195))
        for spoke in range(3):
            dx, dy = 0.12 * math.cos(spoke * 1.047), 0.12 * math.sin(spoke * 1.047)
            pen.line(x - dx, 0.38 - dy, x + dx, 0.38 + dy, 0.035, DARK)


def mushroom(pen: Pen, draw: Random) -> None:
    cap = pick(draw, (205, 35, 35), (215, 70, 40), (165, 30, 45))
    stem = pick(draw, (240, 230, 205), (225, 210, 185), spread=14)
    pen.polygon([(-0.22, -0.1), (0.22, -0.1), (0.32, 0.95), (-0.32, 0.95)], stem)
    for x in (-0.14, 0, 0.14):
        pen.line(x, 0.1, x * 1.3, 0.92, 0.03, shade(stem, 0.78))
    pen.wedge(0, 0.02, 0.36, 0.22, 0, math.pi, shade(stem, 0.88))
    pen.wedge(0, 0.05, 1, 1, math.pi, 2 * math.pi, cap)
    spots = ((-0.6, -0.22, 0.13), (-0.28, -0.56, 0.15), (0.12, -0.28, 0.16), (0.42, -0.62, 0.11), (0.68, -0.22, 0.12))
    for x, y, r in spots:
        pen.ellipse(x + draw.uniform(-0.05, 0.05), y + draw.uniform(-0.05, 0.05), r, r * 0.85, WHITE)


def umbrella(pen: Pen, draw: Random) -> None:
    first = pick(draw, (230, 80, 130), (60, 160, 190), (120, 90, 200), (240, 150, 60))
    pen.line(0, -0.2, 0, 0.82, 0.07, DARK)
    pen.ellipse(0.14, 0.82, 0.2, 0.16, DARK)
    pen.line(0, -0.98, 0, -0.8, 0.05, DARK)
    for stripe in range(8):
        start, stop = math.pi * (1 + stripe / 8), math.pi * (1 + (stripe + 1) / 8)
        pen.wedge(0, 0.05, 1, 0.92, start, stop, first if stripe % 2 else WHITE)
    for scallop in range(4):
        pen.wedge(-0.75 + 0.5 * scallop, 0.04, 0.25, 0.12, 0, math.pi, shade(first, 0.8))


def snowman(pen: Pen, draw: Random) -> None:
    snow = pick(draw, (238, 242, 250), (228, 234, 244), spread=8)
    for y, r in ((0.56, 0.44), (-0.02, 0.33), (-0.46, 0.25)):
        pen.ellipse(0, y, r, r, shade(snow, 0.82))
        pen.ellipse(-0.03, y - 0.03, r * 0.92, r * 0.92, snow)
    for side in (-1, 1):
        pen.line(0.28 * side, -0.05, 0.72 * side, -0.32, 0.05, (95, 65, 40))
        pen.ellipse(0.09 * side, -0.52, 0.04, 0.04, DARK)
    for y in (-0.12, 0.06, 0.4, 0.6):
        pen.ellipse(0, y, 0.05, 0.05, DARK)
    scarf = pick(draw, (205, 45, 50), (45, 110, 185), (50, 150, 80))
    pen.box(-0.26, -0.3, 0.26, -0.2, scarf)
    pen.box(0.06, -0.26, 0.17, 0.08, scarf)
    pen.polygon([(0, -0.46), (0.3, -0.41), (0, -0.39)], (240, 130, 30))
    pen.box(-0.34, -0.7, 0.34, -0.63, DARK)
    pen.box(-0.21, -1, 0.21, -0.66, DARK)


def flower(pen: Pen, draw: Random) -> None:
    petal = pick(draw, (245, 205, 60), (240, 120, 170), (245, 245, 235), (235, 95, 80))
    green = pick(draw, (70, 150, 60), (50, 125, 60))
    pen.line(0, 0, 0, 1, 0.08, green)
    for side in (-1, 1):
        pen.ellipse(0.24 * side, 0.7, 0.26, 0.1, green, -0.5 * side)
    count = draw.choice((8, 9, 10))
    for index in range(count):
        angle = 2 * math.pi * index / count
        x, y = 0.4 * math.cos(angle), -0.32 + 0.4 * math.sin(angle)
        pen.ellipse(x, y, 0.26, 0.11, shade(petal, 0.9), angle)
        pen.ellipse(x, y, 0.22, 0.07, petal, angle)
        inner_x, inner_y = 0.2 * math.cos(angle), -0.32 + 0.2 * math.sin(angle)
        pen.line(inner_x, inner_y, 1.4 * x, 1.4 * y + 0.128, 0.022, shade(petal, 0.68))
    pen.ellipse(0, -0.32, 0.22, 0.22, (120, 75, 35))
    for index in range(9):
        radius, angle = 0.055 * (index % 3 + 0.5), index * 2.4
        pen.ellipse(radius * math.cos(angle), -0.32 + radius * math.sin(angle), 0.028, 0.028, (225, 175, 60))


THINGS: dict[str, Callable[[Pen, Random], None]] = {
    thing.__name__: thing for thing in (butterfly, car, clock, fish, flower, house, mushroom, snowman, tree, umbrella)
}


def background(draw: Random, size: tuple[int, int]) -> Image.Image:
    """A gradient between two colours with coarse and fine texture and a few blobs and lines, independent of the object."""
    width, height = size
    first, second = (tuple(draw.randint(40, 215) for _ in range(3)) for _ in range(2))
    ramp = Image.linear_gradient("L").rotate(draw.choice((0, 90, 180, 270))).resize(size, Image.Resampling.BILINEAR)
    picture = Image.composite(Image.new("RGB", size, first), Image.new("RGB", size, second), ramp)
    pen = ImageDraw.Draw(picture)
    for _ in range(draw.randint(0, 4)):
        x, y, r = draw.randint(0, width), draw.randint(0, height), draw.randint(6, 60)
        colour = tuple(draw.randint(50, 205) for _ in range(3))
        if draw.random() < 0.6:
            pen.ellipse((x - r, y - r // 2, x + r, y + r // 2), fill=colour)
        else:
            pen.line((x, y, draw.randint(0, width), draw.randint(0, height)), fill=colour, width=draw.randint(2, 9))
    for cell, strength in ((draw.choice((16, 32, 48)), draw.uniform(0.1, 0.25)), (2, draw.uniform(0.03, 0.08))):
        grain = (max(2, width // cell), max(2, height // cell))
        noise = Image.frombytes("RGB", grain, draw.randbytes(3 * grain[0] * grain[1]))
        picture = Image.blend(picture, noise.resize(size, Image.Resampling.BILINEAR), strength)
    return picture
