"""Tables as rich renderables."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Column, Table
from rich.text import Text

from vggcli.data.survey import Survey
from vggcli.data.voc import CORNERS
from vggcli.evaluation.result import ClassReport
from vggcli.features.outcome import Outcome
from vggcli.features.pooling import strongest_channels
from vggcli.features.search import Neighbours
from vggcli.localisation.predict import BoxPrediction
from vggcli.report.cells import Elided, Titled, fold, from_here, lowest_green, right
from vggcli.report.text import printable
from vggcli.weights.convert import Converted

POOLS = {"gap": "averaged over space", "gmp": "maximum over space", "none": "not pooled"}
NAMED_CHANNELS = 8  # the strongest of a row
BAR = 16  # characters of a posterior of 1
SHOWN_CLASSES = 6  # at either end of a long list


def classes_table(reports: Sequence[ClassReport]) -> Table:
    """Error, support and worst confusion by class, the worst class first."""
    table = Titled("By class", "class", *right("images", "top-1 error %"), "most confused with")
    for report in sorted(reports, key=lambda one: (-one.top1_error, one.name)):
        confused = f"{report.confused_with} ({report.confused})" if report.confused_with is not None else ""
        table.add_row(Elided(report.name), str(report.support), f"{report.top1_error:.1f}", Elided(confused))
    return table


def ensemble_table(title: str, rows: Sequence[tuple[str, str, Mapping[str, Any]]], top5: bool = True) -> Table:
    """(name, what it is, its errors) each: members, pairs, and last the whole; without `top5` of the top-1 errors only."""
    ranks = (1, 5) if top5 else (1,)
    table = Titled(title, "posteriors of", *fold(""), *right(*(f"top-{rank}\nerror %" for rank in ranks)))
    values = [[errors[f"top{rank}_error"] for _, _, errors in rows] for rank in ranks]
    columns = [lowest_green([f"{value:.2f}" for value in column], column) for column in values]
    for index, (name, what, _) in enumerate(rows):
        if index == len(rows) - 1:
            table.add_section()
        table.add_row(Elided(name), _name(what), *(column[index] for column in columns))
    return table


def predictions_table(images: Sequence[tuple[str, Sequence[tuple[str, float]]]]) -> Table:
    """(path, its top classes with posteriors) each, with bars."""
    table = Titled("", "image", "class", *right("posterior"), Column("", min_width=BAR, no_wrap=True))
    for path, top in images:
        for rank, (name, posterior) in enumerate(top):
            cells = Elided(path if rank == 0 else ""), Elided(name), f"{posterior:.4f}", "█" * round(BAR * posterior)
            table.add_row(*cells, end_section=rank == len(top) - 1)
    return table


def box_predictions_table(images: Sequence[BoxPrediction]) -> Table:
    """The classes of each image with their scores and boxes, in pixels."""
    table = Titled("", "image", "class", *right("score", *CORNERS))
    for one in images:
        for guess in one.boxes:
            first = guess is one.boxes[0]
            cells = Elided(one.path if first else ""), Elided(guess.label), f"{guess.score:.4f}"
            table.add_row(*cells, *(f"{corner:.1f}" for corner in guess.box), end_section=guess is one.boxes[-1])
    return table


def neighbours_table(result: Neighbours) -> Table:
    """The images that were found, the nearest first, with their classes where these are known."""
    known = any(one.label is not None for one in result.found)
    title = f"Nearest to {result.query}: {result.sentence()}"
    table = Titled(title, *right(""), *(fold("class") if known else ()), "image", *right("cosine"))
    for rank, one in enumerate(result.found, start=1):
        label = [Elided(one.label or "")] if known else []
        table.add_row(str(rank), *label, Elided(one.name), f"{one.cosine:.4f}")
    return table


def features_table(outcome: Outcome) -> Table:
    """What was written and how, or the rows of a single image in a few numbers."""
    how, one = outcome.how, outcome.how.options
    facts = {}
    if outcome.single is not None and outcome.out is None:
        facts["image"] = outcome.single.name + (", turned upright by EXIF" if outcome.turned else "")
        for name, row in zip(one.layers, outcome.single.rows, strict=True):
            strongest = ", ".join(
                f"{channel} ({mean:.3g})" for channel, mean in strongest_channels(row, NAMED_CHANNELS)
            )
            numbers = f"{_size(row.shape)}, L2 length {np.linalg.norm(row):.4g}, {(row == 0).mean():.0%} zeros"
            facts[name] = f"{numbers}; strongest channels: {strongest}"
    else:
        turned = f", {outcome.turned} turned upright by EXIF" if outcome.turned else ""
        bad = f", {len(outcome.bad)} could not be used" if outcome.bad else ""
        facts["rows"] = f"{outcome.rows} of {', '.join(map(_size, outcome.shapes))} ({how.dtype}){bad}{turned}"
    scales = f"Q = {', '.join(map(str, one.scales))}" + (f" ({one.aggregate})" if len(one.scales) > 1 else "")
    facts["layer"] = f"{' '.join(one.layers)} of network {how.arch}; {POOLS[one.pool]}"
    facts["views"] = f"{scales}{', mirror image averaged' if one.flip else ''}; norm {one.norm}"
    facts["weights"] = from_here(how.weights)
    if outcome.out is not None:
        facts["speed"] = f"{outcome.images_per_second:.1f} images/s, {outcome.seconds:.1f} s"
        facts["written"] = from_here(outcome.out)
    return facts_table("Features", facts)


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def facts_table(title: str, facts: Mapping[str, str | Elided]) -> Table:
    """Names and values, one pair a line. A value of one word, such as a path, is elided where it is too long."""
    table = Titled(title, "", *fold(""))
    table.show_header = False
    for name, value in facts.items():
        if isinstance(value, str) and len(value.split()) > 1:
            table.add_row(Elided(name), Text("\n").join(map(_name, value.split("\n"))))
        else:
            table.add_row(Elided(name), Elided(value) if isinstance(value, str) else value)
    return table


def converted_table(converted: Converted) -> Table:
    """What was written, and the preprocessing that it expects."""
    facts = converted.to_json()
    shown = {name.replace("_", " "): _short(value) for name, value in facts.items() if name != "usage"}
    if converted.exported:
        difference = converted.exported.difference
        missing = "not measured: onnxruntime is not installed (pip install 'vggcli[onnx]')"
        measured = f"{difference:.1e} of the largest output, compared with the network itself"
        shown["largest difference"] = missing if difference is None else measured
    shown["class names"] = "kept" if facts["class_names"] else "none"
    return facts_table("Converted (mean and divisor: of pixels from 0 to 255, channel by channel)", shown)


def _short(value: object) -> str:
    """Numbers to 4 digits, and lists without brackets."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_short, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _name(text: str) -> Text:
    """Text that may be the name of a file or a class."""
    return Text(printable(text))


def survey_table(found: Survey) -> Table:
    """Images by class in both splits, the largest class first; of more than 12 classes the largest and the smallest."""
    table = Titled("Images by class", "class", *right("train", "val"))
    order = sorted(range(len(found.classes)), key=lambda row: (-found.train[row], found.classes[row]))
    ends = len(order) if len(order) <= 2 * SHOWN_CLASSES else SHOWN_CLASSES
    for place, row in enumerate(order):
        if place < ends or place >= len(order) - ends:
            table.add_row(Elided(found.classes[row]), f"{found.train[row]:,}", f"{found.val[row]:,}")
        elif place == ends:
            table.add_row(f"... {len(order) - 2 * ends} more", "", "", style="dim")
    table.add_row("all", f"{sum(found.train):,}", f"{sum(found.val):,}", style="bold")
    return table
