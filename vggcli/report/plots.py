"""Pictures of a run: its curves, read from log.jsonl alone, and a sheet of its training views."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vggcli.zoo.files import replacing

SHEET_COLUMNS = 8
CAPTION = 16  # pixels below each picture


def save_curves(log: Path, path: Path) -> None:
    """Loss, top-1 and top-5 error and learning rate by epoch, from the JSON lines of `log`, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    records: list[dict[str, Any]] = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    epochs = [record["epoch"] for record in records]
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
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
        figure.savefig(temporary, format="png", dpi=120)


def save_sheet(pictures_HWC: Sequence[NDArray[np.uint8]], captions: Sequence[str], path: Path) -> None:
    """Pictures of one size, eight a row, each with its caption below, as a PNG."""
    height, width, _ = pictures_HWC[0].shape
    columns = min(SHEET_COLUMNS, len(pictures_HWC))
    cell = max(width, 96)
    rows = -(-len(pictures_HWC) // columns)
    sheet = Image.new("RGB", (columns * (cell + 4), rows * (height + CAPTION + 4)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(11)
    for index, (picture, caption) in enumerate(zip(pictures_HWC, captions, strict=True)):
        left, top = (index % columns) * (cell + 4), (index // columns) * (height + CAPTION + 4)
        sheet.paste(Image.fromarray(picture), (left + (cell - width) // 2, top))
        draw.text((left + 2, top + height + 1), _shortened(draw, caption, font, cell), fill="black", font=font)
    with replacing(path) as temporary:
        sheet.save(temporary, format="PNG")


def _shortened(draw: ImageDraw.ImageDraw, text: str, font: Any, width: int) -> str:
    while len(text) > 3 and draw.textlength(text, font) > width:
        text = text[:-2] + "…"
    return text
