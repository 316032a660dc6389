"""Pictures of runs and evaluations: curves of training, sheets of training views, confusion matrices, histograms of
IoU."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggcli import paper
from vggcli.errors import counted
from vggcli.metrics import shows_top5
from vggcli.report.figures import (
    LEAST_WIDTH,
    MARGIN,
    SMALL_LINE,
    SMALL_SIZE,
    draw_title,
    drawing,
    pixel_figure,
    save_figure,
    text_width,
    title_height,
    title_lines,
    wrapped,
)
from vggcli.report.sheets import Caption, save_sheet
from vggcli.report.text import last_parts, printable
from vggcli.training.surroundings import PicturedRun

CURVES_SIZE = 1200, 1050  # pixels
COLOURS = {
    **{"loss": "C0", "training_error": "C0", "val_loss": "C1", "top1_error": "C1"},
    **{"localisation_error": "C1", "top5_error": "C2", "learning_rate": "dimgrey"},
}
MARKED_EPOCHS = 40  # up to which every epoch has a marker
NAMED_RATES = 4  # of learning rates that are written beside the axis
IOU_BARS = 20
HISTOGRAM_SIZE = 1000, 620  # pixels, without the title
NAMED_CLASSES, COUNTED_CLASSES = 50, 30  # up to which a confusion matrix has their names and the counts
CELL, SMALL_CELL = 54, 36  # pixels, of a confusion matrix with counts and without
MATRIX = 400, 1800  # pixels of its side, at least and at most
NAME_SIGNS, NAME_LINES = 30, 3  # of a class name in one line; longer ones have up to so many lines
_BAR = 150  # pixels, of the colour bar with its labels


def save_curves(log: Path, path: Path, run: PicturedRun) -> None:
    """A PNG with losses, errors and learning rate by epoch, from the JSON lines of `log`; the epoch of the lowest
    validation error is marked."""
    from matplotlib.ticker import MaxNLocator

    records: list[dict[str, Any]] = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    measured = {"top1_error": "validation error (top-1)"}
    if run.config.boxes:
        measured = {"localisation_error": "validation error (localisation)"}
    key = next(iter(measured))
    best = min(records, key=lambda one: float(one[key]))
    if shows_top5(run.config.classes) and not run.config.boxes:
        measured["top5_error"] = "validation error (top-5)"
    panels = {
        "loss": {"loss": "training loss", "val_loss": "validation loss"},
        "error (%)": {"training_error": "training error", **measured},
        "learning rate": {"learning_rate": "learning rate"},
    }
    with drawing():
        figure = pixel_figure(*CURVES_SIZE)
        lines = title_lines((f"Training of {last_parts(run.path)}", _network(run)), CURVES_SIZE[0] - 2 * MARGIN)
        draw_title(figure, lines)
        top = 1 - title_height(lines) / CURVES_SIZE[1]
        places = {"left": 0.13, "right": 0.97, "bottom": 0.07, "top": top, "hspace": 0.1}
        axes_of = figure.subplots(3, sharex=True, gridspec_kw={"height_ratios": (4, 4, 1), **places})
        for axes, (quantity, curves) in zip(axes_of, panels.items(), strict=True):
            _plot(axes, records, curves)
            axes.axvline(best["epoch"], color="grey", linestyle="--", linewidth=1)
            axes.set_ylabel(quantity)
            axes.grid(alpha=0.3)
        label = f"best: {best[key]:.2f} % (epoch {best['epoch']})"
        axes_of[1].plot(best["epoch"], best[key], "*", color="C3", markersize=10, zorder=3, label=label)
        for axes in axes_of[:2]:
            axes.legend()
        _name_rates(axes_of[2], [one["learning_rate"] for one in records])
        axes_of[2].set_xlabel("epoch")
        axes_of[2].set_xlim(records[0]["epoch"] - 0.5, records[-1]["epoch"] + 0.5)
        axes_of[2].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=(1, 2, 5, 10)))
        figure.align_ylabels()
        save_figure(figure, path)


def _network(run: PicturedRun) -> str:
    """The network and the data of a run in words."""
    one = run.config
    data = f"{last_parts(run.data)}, {counted(one.classes, 'class', 'classes')}"
    return f"network {one.arch}, crop {one.crop}, width {one.width:g}; {data}"


def _plot(axes: Any, records: Sequence[dict[str, Any]], curves: dict[str, str]) -> None:
    """The numbers of the records by epoch, a curve for each key that has one; `curves` are their names by key."""
    marker = "o" if len(records) <= MARKED_EPOCHS else ""
    for key, label in curves.items():
        values = [np.nan if one.get(key) is None else one[key] for one in records]
        if not np.isnan(values).all():
            epochs = [one["epoch"] for one in records]
            axes.plot(epochs, values, label=label, marker=marker, markersize=3, color=COLOURS[key])


def _name_rates(axes: Any, rates: Sequence[float]) -> None:
    """The low strip of learning rates, which are written beside it where they are few."""
    different = sorted({*rates})
    axes.set_yscale("log")
    axes.set_ylim(different[0] / 2, different[-1] * 2)
    axes.set_ylabel("learning\nrate")
    named = different if len(different) <= NAMED_RATES else [different[0], different[-1]]
    axes.set_yticks(named, [f"{rate:.3g}" for rate in named])
    axes.set_yticks([], minor=True)


def save_confusion(counts_KK: NDArray[np.int64], classes: Sequence[str], path: Path, title: tuple[str, ...]) -> None:
    """A PNG with a confusion matrix: shares of each true class (rows), with the counts where there is room for them. Class
    names are whole, long ones in several lines."""
    count = len(classes)
    side = min(MATRIX[1], max(MATRIX[0], count * (CELL if count <= COUNTED_CLASSES else SMALL_CELL)))
    with drawing():
        names = [_in_lines(printable(name)) for name in classes] if count <= NAMED_CLASSES else []
        measured = text_width(SMALL_SIZE)
        beside = MARGIN + 2 * SMALL_LINE + round(max((measured(line) for name in names for line in name), default=50))
        width = max(LEAST_WIDTH, beside + side + _BAR + MARGIN)
        lines = title_lines(tuple(map(printable, title)), width - 2 * MARGIN)
        height = title_height(lines) + side + beside
        figure = pixel_figure(width, height)
        draw_title(figure, lines)
        axes = figure.add_axes((beside / width, beside / height, side / width, side / height))
        bar = figure.add_axes(((beside + side + MARGIN) / width, beside / height, MARGIN / width, side / height))
        shares_KK = counts_KK / np.maximum(1, counts_KK.sum(1, keepdims=True))
        image = axes.imshow(shares_KK, cmap="Blues", vmin=0, vmax=1)
        figure.colorbar(image, cax=bar, label="share of the true class")
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        if names:
            axes.set_xticks(range(count), ["\n".join(name) for name in names], rotation=90)
            axes.set_yticks(range(count), ["\n".join(name) for name in names])
        if count <= COUNTED_CLASSES:
            _write_counts(axes, counts_KK, shares_KK, side / count)
        save_figure(figure, path)


def _in_lines(name: str) -> list[str]:
    """A class name in as many lines as it needs."""
    longest = max(NAME_SIGNS, -(-len(name) // NAME_LINES) + 5)
    return wrapped(name, lambda text: len(text) <= longest)


def _write_counts(axes: Any, counts_KK: NDArray[np.int64], shares_KK: NDArray[np.float64], cell: float) -> None:
    """Every count but 0 in its square, of `cell` pixels, in numbers small enough for the largest one."""
    widest = text_width(SMALL_SIZE)(str(counts_KK.max()))
    size = SMALL_SIZE * min(1.0, 0.9 * cell / widest)
    for row, column in zip(*np.nonzero(counts_KK), strict=True):
        colour = "white" if shares_KK[row, column] > 0.5 else "black"
        number = str(counts_KK[row, column])
        axes.text(column, row, number, ha="center", va="center", color=colour, fontsize=size)


def save_iou_histogram(ious: Sequence[float], unguessed: int, path: Path, title: tuple[str, ...]) -> None:
    """A PNG with a histogram of the IoU of the best box of each image; those up to 1/2 are wrong. In `unguessed` of the
    images, whose IoU is 0, no guess had their class."""
    with drawing():
        lines = title_lines(tuple(map(printable, title)), HISTOGRAM_SIZE[0] - 2 * MARGIN)
        top = title_height(lines)
        height = top + HISTOGRAM_SIZE[1]
        figure = pixel_figure(HISTOGRAM_SIZE[0], height)
        draw_title(figure, lines)
        axes = figure.add_axes((0.1, 90 / height, 0.87, 1 - (90 + top + 2 * SMALL_LINE) / height))
        _draw_ious(axes, np.asarray(ious), unguessed)
        axes.axvline(paper.RIGHT_IOU, color="black", linestyle="--", linewidth=1)
        axes.set(xlim=(0, 1), xlabel="IoU of the best box", ylabel="images", xticks=np.linspace(0, 1, 11))
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3, axis="y")
        axes.set_axisbelow(True)
        save_figure(figure, path)


def _draw_ious(axes: Any, ious_N: NDArray[np.float64], unguessed: int) -> None:
    """Bars of 1/20, each with its upper end, and above both sides of 1/2 the share of the images."""
    edges = np.linspace(0, 1, IOU_BARS + 1)
    places_N = np.maximum(0, np.searchsorted(edges, ious_N, side="left") - 1)
    counts = np.bincount(places_N, minlength=IOU_BARS)
    half = IOU_BARS // 2
    for side, some, colour in (("wrong: IoU up to", slice(half), "C3"), ("right: IoU above", slice(half, None), "C0")):
        axes.bar(edges[:-1][some], counts[some], 1 / IOU_BARS, align="edge", color=colour, edgecolor="white")
        count = int(counts[some].sum())
        said = f"{side} {paper.RIGHT_IOU:g} in {100 * count / len(ious_N):.2f} % ({count})"
        axes.text(edges[:-1][some].mean() + 0.025, 1.02, said, color=colour, ha="center", transform=axes.transAxes)
    if unguessed:
        label = f"no guess of the image's class ({unguessed})"
        bottom = counts[0] - unguessed
        axes.bar(0, unguessed, 1 / IOU_BARS, bottom, align="edge", color="grey", edgecolor="white", label=label)
        axes.margins(y=0.2)  # room for the legend
        axes.legend(loc="upper left")


def save_views(
    views_HWC: Sequence[NDArray[np.uint8]], names: Sequence[tuple[str, str]], path: Path, run: PicturedRun
) -> None:
    """A sheet of training views, each uint8 [H, W, 3], with the names of its class and its file."""
    title = f"Training views of {last_parts(run.path)}, as the network sees them", _network(run)
    save_sheet(views_HWC, [Caption((label,), file) for label, file in names], path, title)
