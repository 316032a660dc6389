"""Results of the package's functions: each can be shown as JSON, as a pandas data frame, and as a table in notebooks."""

from abc import ABC, abstractmethod
from html import escape
from typing import TYPE_CHECKING, Any

from vggcli.errors import MachineError

if TYPE_CHECKING:
    import pandas as pd

SHOWN_ROWS = 50  # of a table in a notebook


class Result(ABC):
    """A result: `to_json()` is the JSON object that its command prints, and the tables are made from that."""

    @abstractmethod
    def to_json(self) -> Any:
        """The result as lists, dictionaries, strings and numbers."""

    def table(self) -> list[dict[str, Any]]:
        """The rows as dictionaries. Here it is one row, of all values of `to_json` but lists and dictionaries."""
        return [{name: value for name, value in self.to_json().items() if not isinstance(value, list | dict)}]

    def to_frame(self) -> "pd.DataFrame":
        """The rows as a data frame. Raises MachineError where pandas is not installed."""
        try:
            import pandas as pd
        except ImportError as error:
            raise MachineError("a data frame needs pandas; install it with `pip install pandas`") from error
        return pd.DataFrame(self.table())

    def _repr_html_(self) -> str:
        """A table for notebooks: a single row is shown as a column, and of many rows only the first ones."""
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
