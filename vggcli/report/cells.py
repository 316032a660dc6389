"""What tables are made of: titles wider than the table, columns that are never squeezed, names elided in their middle."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from vggcli.report.text import elided, printable

LEAST = 12  # columns of a name that was elided


class Titled(Table):
    """An empty table in the style of all of them. Its title and its caption may be wider than itself."""

    def __init__(self, title: str, *columns: Column | str, caption: str = "") -> None:
        super().__init__(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
        self.heading, self.remark = printable(title), caption

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.heading:
            yield Text(self.heading, "table.title")
        yield from super().__rich_console__(console, options)
        if self.remark:
            yield Text(f"{self.remark}\n", "table.caption")


class Elided:
    """A name, such as a file's or a class's, on one line: its middle is left out where the column is too narrow."""

    def __init__(self, name: str) -> None:
        self.name = printable(name)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(elided(self.name, options.max_width), no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        width = cell_len(self.name)
        return Measurement(min(width, LEAST), width)


def right(*names: str) -> list[Column]:
    """Columns of numbers, which are never squeezed."""
    return [Column(name, justify="right", no_wrap=True) for name in names]


def fold(*names: str) -> list[Column]:
    """Columns whose text is folded where it is too long, and never cut."""
    return [Column(name, overflow="fold") for name in names]


def lowest_green(texts: Sequence[str], values: Sequence[float]) -> list[Text]:
    """The texts of a column of errors; the lowest of several different ones is green on a terminal that has colours."""
    best = min(values, default=0.0) if len(set(values)) > 1 else None
    return [Text(text, "green" if value == best else "") for text, value in zip(texts, values, strict=True)]


def from_here(path: str | Path) -> str:
    """A path as it is from the current folder, where it lies below it; anything else as it is."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if here in Path(path).parents else str(path)
