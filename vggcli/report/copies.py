"""Copies of images with the boxes that are found in them, and pictures of the candidates that were merged."""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vggcli.boxes import Region
from vggcli.data.decode import read_image
from vggcli.errors import UsageError, VGGError, counted
from vggcli.files import machine_error
from vggcli.localisation.candidates import Candidates, united
from vggcli.localisation.localise import Found, Guess
from vggcli.report.boxes import labelled, save_copy, with_boxes
from vggcli.report.figures import (
    LEAST_WIDTH,
    MARGIN,
    SMALL_LINE,
    draw_title,
    drawing,
    fitting,
    pixel_figure,
    save_figure,
    title_height,
    title_lines,
)
from vggcli.report.sheets import LEAST_SIDE
from vggcli.report.text import last_parts, printable

PANEL = 420, 640  # pixels of the longer side of an image with candidates, beside others and alone
LEAST_SCORE = 0.005  # of a guess that is drawn, unless it is the first: a lower one reads 0.00
_BAR = 125  # pixels, of a colour bar with its labels


class Copies:
    """Draws into `folder`, which is made, a copy of each image with its guesses, after the first only those of LEAST_SCORE.
    It is a PNG, in folders like those of the image from the one on that has all images; with `candidates` there is
    NAME-candidates.png beside it. Nothing is overwritten. What the disk refuses first is in `failed`, and ends the drawing.
    """

    def __init__(self, folder: Path, candidates: bool = False) -> None:
        self.folder, self.candidates = folder, candidates
        self.failed: VGGError | None = None
        self.drawn = 0  # images
        self._paths: dict[str, Path] = {}  # without suffix, by the names of the images

    def begin(self, names: Sequence[str]) -> None:
        """Decide what each copy is called. Raises UsageError where there is a file of that name already or an image lies in
        the folder, MachineError where the folder cannot be made."""
        whole = [os.path.abspath(name) for name in names]  # noqa: PTH100 (links stay as they are)
        above = os.path.commonpath([os.path.dirname(one) for one in whole])  # noqa: PTH120
        if os.path.realpath(self.folder) in {os.path.realpath(os.path.dirname(one)) for one in whole}:  # noqa: PTH120
            raise UsageError(f"{self.folder} has the images themselves; draw into another folder", "draw")
        taken: set[str] = set()
        for name, path in zip(names, whole, strict=True):
            below = Path(os.path.relpath(path, above))
            more = (below.with_name(f"{below.name}-{number}") for number in itertools.count(2))
            tries = itertools.chain((below.with_suffix(""), below), more)
            stem = next(one for one in tries if taken.isdisjoint(_files(str(one).casefold())))  # as some disks compare
            taken |= {*_files(str(stem).casefold())}
            self._paths[name] = self.folder / stem
            for file in _files(str(self._paths[name])):
                if os.path.lexists(file):
                    raise UsageError(f"{file} exists already; remove it or draw into another folder", "draw")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise machine_error(self.folder, error) from error

    def draw(self, name: str, guesses: Sequence[Guess], found: Found, threshold: float) -> None:
        """Draw an image, as `begin` named it."""
        if self.failed is not None:
            return
        copy, beside = map(Path, _files(str(self._paths[name])))
        guesses = [guess for guess in guesses if guess.score >= LEAST_SCORE or guess is guesses[0]]
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            image = read_image(Path(name))
            save_copy(with_boxes(image, guesses), copy)
            if self.candidates:
                said = f"white: the guess, merged up to a match score of {threshold:g}"
                title = f"Candidates in {last_parts(name)}", f"A box for each window of the networks; {said}"
                save_candidates(image, guesses, united(found.candidates), beside, title)
        except VGGError as error:
            self.failed = error
        except OSError as error:
            self.failed = machine_error(copy, error)
        else:
            self.drawn += 1

    def finish(self) -> None:
        """Raises what the drawing ended by, if it did."""
        if self.failed is not None:
            raise self.failed


def _files(stem: str) -> tuple[str, str]:
    """The files that are drawn for an image."""
    return f"{stem}.png", f"{stem}-candidates.png"


def save_candidates(
    image: Image.Image, guesses: Sequence[Guess], candidates: Candidates, path: Path, title: tuple[str, ...]
) -> None:
    """A PNG with a panel for each of the `guesses`, which are those of the first classes of `candidates`: on the darkened
    image the candidates of its class, coloured by score, and the guess, which was merged from some of them."""
    columns = 2 if len(guesses) == 4 else min(3, len(guesses))
    boxes_LN4, scores_CN = candidates.boxes_LN4.numpy(), candidates.scores_CN.numpy()
    bounds = _bounds(image.size, boxes_LN4[: len(guesses)])
    dark = image.copy()
    dark.thumbnail((PANEL[1], PANEL[1]))
    dark = Image.blend(dark, Image.new("RGB", dark.size), 0.5)
    sides = bounds[2] - bounds[0], bounds[3] - bounds[1]
    across, down = (round(side * PANEL[len(guesses) == 1] / max(sides)) for side in sides)
    cell = max(across, LEAST_SIDE) + _BAR, down + 3 * SMALL_LINE
    with drawing():
        width = max(LEAST_WIDTH, 2 * MARGIN + columns * cell[0])
        lines = title_lines(tuple(map(printable, title)), width - 2 * MARGIN)
        height = title_height(lines) + -(-len(guesses) // columns) * cell[1] + MARGIN
        figure = pixel_figure(width, height)
        draw_title(figure, lines)
        for index, guess in enumerate(guesses):
            left = MARGIN + index % columns * cell[0]
            below = height - title_height(lines) - (index // columns + 1) * cell[1]
            axes = figure.add_axes((left / width, below / height, across / width, down / height))
            beside = (left + across + MARGIN // 2) / width, below / height, MARGIN / 2 / width, down / height
            boxes_N4 = boxes_LN4[index % len(boxes_LN4)]
            axes.imshow(dark, extent=(0, image.width, image.height, 0))
            drawn = _draw_candidates(axes, guess, boxes_N4, scores_CN[index])
            axes.set(xlim=bounds[::2], ylim=bounds[:0:-2], xticks=[], yticks=[], facecolor="dimgrey")
            figure.colorbar(drawn, cax=figure.add_axes(beside), label="score of the candidate")
            said = f"{counted(len(boxes_N4), 'candidate')}, {guess.candidates} of them in this box"
            name = labelled(guess.label, f" {guess.score:.2f}", fitting(cell[0] - MARGIN))
            for number, text in enumerate((said, name)):
                up = below + down + (number + 0.4) * SMALL_LINE
                figure.text(left / width, up / height, text, weight="bold" if number else "normal")
        save_figure(figure, path)


def _bounds(size: tuple[int, int], boxes_LN4: NDArray[np.float64]) -> Region:
    """The image, with a tenth of it on every side where a box leaves it."""
    outside = boxes_LN4.min() < -1 or bool((boxes_LN4[..., 2:] > np.array(size) + 1).any())
    margin = max(size) / 10 if outside else 0.0
    return -margin, -margin, size[0] + margin, size[1] + margin


def _draw_candidates(axes: Any, guess: Guess, boxes_N4: NDArray[np.float64], scores_N: NDArray[np.float64]) -> Any:
    """Draw the candidates and the guess; gives what a colour bar is made for."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    order = scores_N.argsort(kind="stable")
    patches = [Rectangle((x0, y0), x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes_N4[order]]
    drawn = PatchCollection(patches, facecolor="none", linewidth=1, cmap="plasma", array=scores_N[order])
    drawn.set_clim(0, scores_N.max(initial=0) or 1)
    axes.add_collection(drawn)
    x0, y0, x1, y1 = guess.box
    halo = [withStroke(linewidth=4.5, foreground="black")]
    axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color="white", linewidth=2, path_effects=halo))
    return drawn
