"""Pictures of runs and evaluations: curves, read from log.jsonl alone, confusion matrices, and sheets of images."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from vggcli.data.own_files import DRAWN_BY
from vggcli.files import replacing
from vggcli.report.text import printable

SHEET_COLUMNS = 8
CAPTION = 16  # pixels below each picture


def save_curves(log: Path, path: Path) -> None:
    """A PNG with loss, top-1 and top-5 error and learning rate by epoch, from the JSON lines of `log`."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    records: list[dict[str, Any]] = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    epochs = [record["epoch"] for record in records]
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    panels = {
        "loss": {"loss": "training views", "val_loss": "validation"},
        "validation error (%)": {"top1_error": "top-1", "top5_error": "top-5"},
        "learning rate": {"learning_rate": ""},
    }
    for axes, (title, curves) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        for key, label in curves.items():
            axes.plot(epochs, [record[key] for record in records], label=label, marker="o", markersize=3)
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        if title == "learning rate":
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
            axes.legend()
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata=DRAWN_BY)


def save_confusion(counts_KK: NDArray[np.int64], classes: Sequence[str], path: Path) -> None:
    """A PNG with a confusion matrix: shares of each true class (rows), with the counts where there is room for them."""
    from matplotlib.figure import Figure

    count = len(classes)
    side = min(24.0, max(4.5, 2.0 + 0.45 * count))
    figure = Figure(figsize=(side + 0.8, side), layout="constrained")
    axes = figure.subplots()
    shares_KK = counts_KK / np.maximum(1, counts_KK.sum(1, keepdims=True))
    image = axes.imshow(shares_KK, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    axes.set_xlabel("taken for")
    axes.set_ylabel("true class")
    if count <= 50:
        names = [printable(name) for name in classes]
        axes.set_xticks(range(count), names, rotation=90, parse_math=False)
        axes.set_yticks(range(count), names, parse_math=False)
    if count <= 30:
        for row, column in zip(*np.nonzero(counts_KK), strict=True):
            colour = "white" if shares_KK[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts_KK[row, column]), ha="center", va="center", color=colour, fontsize=8)
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of characters that the font lacks, which are drawn as boxes
        figure.savefig(temporary, format="png", dpi=100, metadata=DRAWN_BY)


def save_sheet(pictures_HWC: Sequence[NDArray[np.uint8]], captions: Sequence[str], path: Path) -> None:
    """A PNG with pictures of one size, eight in a row, each with its caption below (of as many lines as the first has)."""
    height, width, _ = pictures_HWC[0].shape
    columns = min(SHEET_COLUMNS, len(pictures_HWC))
    lines = captions[0].count("\n") + 1
    cell_width, cell_height = max(width, 96) + 4, height + 4 + CAPTION * lines
    rows = -(-len(pictures_HWC) // columns)
    sheet = Image.new("RGB", (columns * cell_width, rows * cell_height), "white")
    draw = ImageDraw.Draw(sheet)
    font = caption_font()
    for index, (picture, caption) in enumerate(zip(pictures_HWC, captions, strict=True)):
        left, top = (index % columns) * cell_width, (index // columns) * cell_height
        sheet.paste(Image.fromarray(picture), (left + (cell_width - 4 - width) // 2, top))
        for line, text in enumerate(caption.split("\n")):
            place = (left + 2, top + height + 1 + CAPTION * line)
            draw.text(place, _shortened(draw, printable(text), font, cell_width - 6), fill="black", font=font)
    mark = PngInfo()
    for name, value in DRAWN_BY.items():
        mark.add_text(name, value)
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG", pnginfo=mark)


def save_views(views_HWC: Sequence[NDArray[np.uint8]], names: Sequence[str], path: Path) -> None:
    """A sheet of training views with their names, whatever characters these have."""
    save_sheet(views_HWC, [printable(name) for name in names], path)


def caption_font(size: int = 11) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: it has the letters of most alphabets."""
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size)


def fitted(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """The whole image within a grey square of `side` pixels."""
    square = Image.new("RGB", (side, side), (200, 200, 200))
    small = image.copy()
    small.thumbnail((side, side))
    square.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    return np.asarray(square)


def _shortened(draw: ImageDraw.ImageDraw, text: str, font: Any, width: int) -> str:
    while len(text) > 3 and draw.textlength(text, font) > width:
        text = text[:-2] + "…"
    return text
