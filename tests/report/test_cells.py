"""Tables on narrow terminals: numbers stay whole, names lose their middle, titles keep their line."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from vggcli import paper
from vggcli.report.cells import Elided, Titled, from_here, lowest_green, right
from vggcli.report.tables import ensemble_table, facts_table, predictions_table
from vggcli.report.zoo import published_table, zoo_table
from vggcli.weights.published import PUBLISHED


def lines_of(table: RenderableType, width: int = 80, **terminal: Any) -> list[str]:
    console = Console(width=width, file=io.StringIO(), **terminal)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert terminal or all(cell_len(line) <= width for line in lines)
    return lines


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_long_name_loses_its_middle_and_numbers_stay_whole(width: int) -> None:
    name = "photographs/of/clothing/with/a/long/name/for/a/folder/12345678.jpg"
    table = Titled("A title that is wider than the table", "image", *right("posterior"))
    table.add_row(Elided(name), "0.123456789")
    title, *_, row = (line for line in lines_of(table, width) if line)
    assert title == "A title that is wider than the table"
    assert row.split()[1] == "0.123456789"
    shown = row.split()[0]
    assert (shown == name) if width > 90 else (shown.startswith("phot") and "…" in shown and shown.endswith(".jpg"))


def test_the_zoo_and_the_published_weights_fit_80_columns_without_a_broken_word() -> None:
    zoo = lines_of(zoo_table((row, 143_667_240, 19.632) for row in paper.NETWORKS.values()))
    shown = lines_of(published_table(PUBLISHED))
    text = "\n".join([*zoo, *shown])
    assert "…" not in text
    for row in paper.NETWORKS.values():
        (line,) = (line for line in zoo if line.split()[:1] == [row.arch])
        assert "143,667,240" in line
        if row.top5_error is not None:
            assert float(line.split()[-2]) == row.top5_error
            assert f"({line.split()[-1]}) {row.error_source}." in text
    assert " 8.0 " in text  # as the paper writes it
    for one in PUBLISHED:
        (line,) = (line for line in shown if line.endswith(f" {one.file}"))
        assert line.split()[:2] == [one.name, one.arch]
        assert one.licence in text
    assert "https://download.pytorch.org/models/" in text


def test_predictions_keep_a_line_each() -> None:
    path, name = "folder/" * 20 + "image.jpg", "African hunting dog, hyena dog, Cape hunting dog, Lycaon pictus"
    lines = lines_of(predictions_table([(path, [(name, 0.75), ("cat", 0.25)])]))
    rows = [line for line in lines if "0." in line]
    assert [line.split()[-2] for line in rows] == ["0.7500", "0.2500"]
    assert rows[0].split()[0].startswith("folder/")
    assert "image.jpg" in rows[0]
    assert not any("hunting" in line for line in lines if line not in rows)


def test_the_lowest_error_alone_is_green_and_only_on_a_terminal_with_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("a", "", {"top1_error": 20.0, "top5_error": 5.0}), ("b", "", {"top1_error": 30.0, "top5_error": 5.0})]
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = "\n".join(lines_of(ensemble_table("t", rows), force_terminal=True, color_system="standard"))
    assert coloured.count("\x1b[32m") == 1
    assert re.search(r"\x1b\[32m *20\.00", coloured)
    assert "\x1b[32m" not in "\n".join(lines_of(ensemble_table("t", rows)))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in "\n".join(lines_of(ensemble_table("t", rows), force_terminal=True))
    assert [one.style for one in lowest_green(["1", "1"], [1, 1])] == ["", ""]


def test_facts_fold_text_and_elide_names() -> None:
    lines = lines_of(facts_table("Facts", {"weights": "w" * 100, "how": "word " * 40}))
    assert sum("…" in line for line in lines) == 1
    assert set(" ".join(lines[2:]).split()) - {"weights", "how"} == {
        "word",
        next(line.split()[1] for line in lines if "…" in line),
    }


def test_paths_are_shown_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "runs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert from_here(tmp_path / "here" / "runs") == "runs"
    assert from_here(tmp_path / "here") == str(tmp_path / "here")
    assert from_here(str(tmp_path / "data")) == str(tmp_path / "data")
    assert [from_here(name) for name in ("shapes", "runs/A-1")] == ["shapes", "runs/A-1"]
