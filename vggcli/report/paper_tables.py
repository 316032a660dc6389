"""Measurements in the form of the paper's Tables 3 to 9, beside its own figures where there are any."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Column, Table
from rich.text import Text

from vggcli import paper
from vggcli.errors import counted
from vggcli.report.cells import Elided, Titled, fold, lowest_green, right

Errors = tuple[float, ...]  # top-1 and, for more than five classes, top-5, per cent


@dataclass(frozen=True)
class NetworkRow:
    """A line of Tables 3 to 5: the network, its training range of S, its test scales, what its weights are called, and for
    each column its errors with the paper's, where it has one."""

    network: str
    scale: tuple[int, int]
    test_scales: tuple[int, ...]
    weights: str
    errors: tuple[tuple[Errors, paper.PublishedResult | None], ...]


@dataclass(frozen=True)
class FusionRow:
    """A line of Table 6: the networks, how they were evaluated, their error with posteriors averaged, and the paper's."""

    members: tuple[str, ...]
    protocol: str
    errors: Errors
    published: paper.FusionResult | None


@dataclass(frozen=True)
class BoxRow:
    """A line of Table 8: the network, the layers that were fine-tuned ("all" or "fc"), the kind of its boxes ("scr" or
    "pcr"), its training range of S, its test scale, its error in per cent, its mean IoU from 0 to 1, what its weights are
    called, and the paper's error."""

    network: str
    layers: str
    boxes: str
    scale: tuple[int, int]
    test_scales: tuple[int, ...]
    error: float
    mean_iou: float
    weights: str
    published: float | None


@dataclass(frozen=True)
class LocalisationRow:
    """A line of Table 9: what the weights of its box networks are called, with the training range of S and the test scales
    of each, the error and the mean IoU after their boxes were united, and the paper's result."""

    members: tuple[tuple[str, tuple[int, int], tuple[int, ...]], ...]
    error: float
    mean_iou: float
    published: paper.LocalisationResult | None


def range_text(scale: tuple[int, int]) -> str:
    """A training range of S as the paper writes it: 256, or [256;512]."""
    low, high = scale
    return str(low) if low == high else f"[{low};{high}]"


def protocol_table(title: str, rows: Sequence[NetworkRow]) -> Table:
    """Rows with one column of errors in the form of Tables 3 and 4."""
    sides = [Column(f"smallest side\n{name}", justify="center", overflow="fold") for name in ("train (S)", "test (Q)")]
    published = any(row.errors[0][1] for row in rows)
    theirs_column = [Column("the paper's\ntop-1, top-5", justify="right", overflow="fold")] if published else []
    errors = right(*(f"{name}\nerror (%)" for name in _ranks(rows[0].errors[0][0])))
    table = _narrow(title, *fold("ConvNet config."), *sides, *errors, *theirs_column, "weights")
    values = list(zip(*(row.errors[0][0] for row in rows), strict=True))
    columns = [lowest_green([f"{value:.1f}" for value in column], column) for column in values]
    for row, *errors_of in zip(rows, *columns, strict=True):
        theirs = row.errors[0][1]
        cells: list[Text | str] = [*errors_of]
        if published:
            cells.append(f"{theirs.top1_error:.1f}, {theirs.top5_error:.1f} (Table {theirs.table})" if theirs else "-")
        table.add_row(*_sides(row), *cells, Elided(row.weights))
    return table


def crops_table(title: str, columns: Sequence[str], rows: Sequence[NetworkRow]) -> Table:
    """Rows with one column of errors for each of `columns`, which are protocols, as in Table 5."""
    errors = _unbroken(*(f"{name}\n{', '.join(_ranks(rows[0].errors[0][0]))}" for name in columns))
    table = _narrow(title, *fold("ConvNet\nconfig.", "train (S)\ntest (Q)"), *errors, "weights")
    for row in rows:
        cells = []
        for ours, theirs in row.errors:
            beside = f"\n({theirs.top1_error:.1f}, {theirs.top5_error:.1f})" if theirs else ""
            cells.append(", ".join(map(_figure, ours)) + beside)
        name, *sides = _sides(row)
        table.add_row(name, "\n".join(sides), *cells, Elided(row.weights))
    published = any(theirs for row in rows for _, theirs in row.errors)
    brackets = "; in brackets the paper's (Table 5)" if published else ""
    table.remark = f"Errors in per cent{brackets}."
    return table


def fusion_table(title: str, rows: Sequence[FusionRow]) -> Table:
    """Rows of the same networks in the form of Table 6."""
    protocol = Column("evaluation", overflow="fold", max_width=len("multi-crop"))
    published = any(row.published for row in rows)
    theirs = ["the paper's top-1,\ntop-5, test top-5"] if published else []
    errors = _unbroken(*(f"{name}\n(%)" for name in _ranks(rows[0].errors)), *theirs)
    table = _narrow(title, *fold("combined ConvNet models"), protocol, *errors)
    for place, row in enumerate(rows):
        cells = [f"{error:.1f}" for error in row.errors]
        if published:
            one = row.published
            three = (one.top1_error, one.top5_error, one.test_top5_error) if one else ()
            cells.append(", ".join(map(_figure, three)) or "-")
        members = "\n".join(row.members) if place == 0 or row.members != rows[place - 1].members else ""
        table.add_row(Text(members), Text(_spelt(row.protocol)), *cells)
    return table


def methods_table(nets: int, rows: Sequence[FusionRow]) -> Table:
    """Our `rows`, each of `nets` networks, then Table 7."""
    title = "Beside the paper's Table 7 (ImageNet, errors in per cent)"
    errors = _unbroken("top-1\nval", "top-5\nval", "top-5\ntest")
    table = _narrow(title, Column("method", no_wrap=True), "", *errors)
    for row in rows:
        ours = [f"{error:.1f}" for error in row.errors]
        table.add_row(
            "these networks", f"{counted(nets, 'net')}, {_spelt(row.protocol)}", *ours, "-", end_section=row is rows[-1]
        )
    for one in paper.TABLE7:
        top5, test = (_figure(error) for error in (one.top5_error, one.test_top5_error))
        if one.one_cell:
            top5, test = f"({top5})", f"({test})"
        table.add_row(one.method, one.nets, _figure(one.top1_error), top5, test)
    table.remark = "In brackets: one figure for both columns."
    return table


def boxes_table(title: str, rows: Sequence[BoxRow]) -> Titled:
    """Rows in the form of Table 8."""
    published = any(row.published is not None for row in rows)
    theirs = _unbroken("paper's\n(Table 8)") if published else []
    columns = [Column(name, no_wrap=True) for name in ("layers\ntuned", "boxes", "train (S)\ntest (Q)")]
    table = _narrow(title, *columns, *right("error\n(%)", "mean\nIoU"), *theirs, *fold("network"), "weights")
    errors = lowest_green([f"{row.error:.1f}" for row in rows], [row.error for row in rows])
    for row, error in zip(rows, errors, strict=True):
        tuned = {"fc": "fc6, fc7"}.get(row.layers, row.layers)
        sides = f"{range_text(row.scale)}\n{', '.join(map(str, row.test_scales))}"
        cells: list[Text | str] = [error, f"{row.mean_iou:.3f}", *([_figure(row.published)] if published else [])]
        table.add_row(tuned, row.boxes.upper(), sides, *cells, row.network, Elided(row.weights))
    return table


def localisation_table(title: str, rows: Sequence[LocalisationRow]) -> Titled:
    """Rows in the form of Table 9; a line below another is of a network whose boxes were united with its."""
    published = any(row.published for row in rows)
    theirs = _unbroken("the paper's\nval, test") if published else []
    sides = [Column(f"smallest side\n{name}", justify="center", no_wrap=True) for name in ("train (S)", "test (Q)")]
    table = _narrow(title, *sides, *right("top-5\nerror (%)", "mean\nIoU"), *theirs, "weights")
    errors = lowest_green([f"{row.error:.1f}" for row in rows], [row.error for row in rows])
    for row, error in zip(rows, errors, strict=True):
        cells: list[Text | str] = [error, f"{row.mean_iou:.3f}"]
        if published:
            one = row.published
            cells.append(f"{one.error:.1f}, {_figure(one.test_error)}" if one else "-")
        for place, (weights, scale, test_scales) in enumerate(row.members):
            sides_of = range_text(scale), ", ".join(map(str, test_scales))
            table.add_row(*sides_of, *(cells if place == 0 else [""] * len(cells)), Elided(weights))
    return table


def _ranks(errors: Errors) -> tuple[str, ...]:
    """What the errors are called."""
    return ("top-1", "top-5")[: len(errors)]


def _narrow(title: str, *columns: Column | str) -> Titled:
    table = Titled(title, *columns)
    table.collapse_padding = True
    return table


def _unbroken(*names: str) -> list[Column]:
    return [Column(name, justify="right", no_wrap=True) for name in names]


def _sides(row: NetworkRow) -> tuple[str, str, str]:
    return row.network, range_text(row.scale), ", ".join(map(str, row.test_scales))


def _spelt(protocol: str) -> str:
    return protocol.replace("dense+multi-crop", "dense and multi-crop")


def _figure(error: float | None) -> str:
    return "-" if error is None else f"{error:.1f}"
