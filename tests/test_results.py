"""Results of the package's functions as JSON, data frames and tables of notebooks."""

import sys
from dataclasses import dataclass
from typing import Any

import pytest

from vggcli.errors import MachineError
from vggcli.results import SHOWN_ROWS, Result


@dataclass(frozen=True)
class One(Result):
    name: str

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "error": 12.3456789, "run": None, "scales": [256, 384], "rows": [{}], "about": {}}


@dataclass(frozen=True)
class Many(Result):
    count: int

    def to_json(self) -> dict[str, Any]:
        return {"images": self.table()}

    def table(self) -> list[dict[str, Any]]:
        return [{"path": f"{index}.jpg", "posterior": index / 10} for index in range(self.count)]


def test_a_single_row_is_a_column_with_flat_lists_as_text_and_nothing_nested() -> None:
    html = One("<b>")._repr_html_()
    assert html == (
        "<table><tr><td>name</td><td>&lt;b&gt;</td></tr><tr><td>error</td><td>12.3457</td></tr>"
        "<tr><td>run</td><td></td></tr><tr><td>scales</td><td>256 384</td></tr></table>"
    )


def test_of_many_rows_the_first_are_shown() -> None:
    html = Many(SHOWN_ROWS + 3)._repr_html_()
    assert html.startswith("<table><tr><th>path</th><th>posterior</th></tr><tr><td>0.jpg</td><td>0</td></tr>")
    assert html.count("<tr>") == SHOWN_ROWS + 1
    assert html.endswith("<p>3 more rows</p>")
    assert Many(0)._repr_html_() == "<table></table>"


def test_a_data_frame_has_the_table() -> None:
    pandas = pytest.importorskip("pandas")
    frame = Many(3).to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.to_dict("records") == Many(3).table()


def test_a_data_frame_without_pandas_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MachineError, match="pip install pandas"):
        Many(1).to_frame()


def test_a_notebook_does_not_show_what_tells_nothing_and_a_data_frame_has_it() -> None:
    class Few(Many):
        def hidden(self) -> tuple[str, ...]:
            return ("posterior",)

    assert Few(2)._repr_html_() == "<table><tr><th>path</th></tr><tr><td>0.jpg</td></tr><tr><td>1.jpg</td></tr></table>"
    assert list(Few(2).table()[0]) == ["path", "posterior"]
