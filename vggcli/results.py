"""What the functions of the package return knows itself as JSON, as a table of pandas, and as a table of a notebook."""

from abc import ABC, abstractmethod
from html import escape
from typing import TYPE_CHECKING, Any

from vggcli.errors import MachineError

if TYPE_CHECKING:
    import pandas as pd

SHOWN_ROWS = 50  # of a table in a notebook


class Result(ABC):
    """A result with `to_json()`, the object that its command prints; its table follows from that."""

    @abstractmethod
    def to_json(self) -> Any:
        """Plain lists, dictionaries, texts and numbers."""

    def table(self) -> list[dict[str, Any]]:
        """The table, a dictionary a row: here one, of all that `to_json` says in a single value."""
        return [{name: value for name, value in self.to_json().items() if not isinstance(value, list | dict)}]

    def to_frame(self) -> "pd.DataFrame":
        """The rows as a data frame. Raises MachineError where pandas is not installed."""
        try:
            import pandas as pd
        except ImportError as error:
            raise MachineError("a data frame needs pandas: pip install pandas") from error
        return pd.DataFrame(self.table())

    def _repr_html_(self) -> str:
        """A table for notebooks: a single row stands upright, of many rows the first are shown."""
        rows = self.table()
        if len(rows) == 1:
            return _table([], [[name, value] for name, value in rows[0].items()])
        names = list(rows[0]) if rows else []
        more = f"<p>{len(rows) - SHOWN_ROWS} more rows</p>" if len(rows) > SHOWN_ROWS else ""
        return _table(names, [[row.get(name) for name in names] for row in rows[:SHOWN_ROWS]]) + more


def _table(names: list[str], rows: list[list[Any]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{escape(_shown(value))}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table>{f'<tr>{head}</tr>' if names else ''}{body}</table>"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
