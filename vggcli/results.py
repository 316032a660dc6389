"""Results of the package's functions: each can be shown as JSON, as a pandas data frame, and as a table in notebooks."""

from abc import ABC, abstractmethod
from html import escape
from typing import TYPE_CHECKING, Any

from vggcli.errors import MachineError

if TYPE_CHECKING:
    import pandas as pd

LONGEST_LIST = 20  # of which a table has the values
SHOWN_ROWS = 50  # of a table in a notebook


class Result(ABC):
    """A result: `to_json()` is the JSON object that its command prints, and the tables are made from that."""

    @abstractmethod
    def to_json(self) -> Any:
        """The result as lists, dictionaries, strings and numbers."""

    def table(self) -> list[dict[str, Any]]:
        """The rows as dictionaries. Here it is one row, of all values of `to_json` but dictionaries and lists of these; a
        list of numbers or texts becomes a text ("256 384")."""
        row = self.to_json().items()
        texts = {name: " ".join(map(str, value)) for name, value in row if isinstance(value, list) and _is_flat(value)}
        return [
            {name: texts.get(name, value) for name, value in row if name in texts or not isinstance(value, list | dict)}
        ]

    def hidden(self) -> tuple[str, ...]:
        """The columns of `table` that notebooks do not show, as they tell a reader nothing. Here there are none."""
        return ()

    def to_frame(self) -> "pd.DataFrame":
        """The rows as a data frame. Raises MachineError where pandas is not installed."""
        try:
            import pandas as pd
        except ImportError as error:
            raise MachineError("a data frame needs pandas; install it with `pip install pandas`") from error
        return pd.DataFrame(self.table())

    def _repr_html_(self) -> str:
        """A table for notebooks: a single row is shown as a column, and of many rows only the first ones."""
        hidden = self.hidden()
        rows = [{name: value for name, value in row.items() if name not in hidden} for row in self.table()]
        if len(rows) == 1:
            return _table([], [[name, value] for name, value in rows[0].items()])
        names = list(rows[0]) if rows else []
        more = f"<p>{len(rows) - SHOWN_ROWS} more rows</p>" if len(rows) > SHOWN_ROWS else ""
        return _table(names, [[row.get(name) for name in names] for row in rows[:SHOWN_ROWS]]) + more


def _is_flat(values: list[Any]) -> bool:
    return len(values) <= LONGEST_LIST and not any(isinstance(value, list | dict) for value in values)


def _table(names: list[str], rows: list[list[Any]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{escape(_shown(value))}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table>{f'<tr>{head}</tr>' if names else ''}{body}</table>"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
