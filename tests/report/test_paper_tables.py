"""Tables in the paper's form: nothing is cut off on a terminal of 80 columns, and the paper's figures stand in place."""

from dataclasses import replace

import pytest
from rich.console import Console
from rich.table import Table

from vggcli import paper
from vggcli.report.paper_tables import FusionRow, NetworkRow, crops_table, fusion_table, methods_table, protocol_table

DENSE, CROPS, BOTH = (one for one in paper.RESULTS if (one.table, one.arch) == (5, "D"))
ROW = NetworkRow("D", (256, 512), (256, 384, 512), "D-12", (((100.0, 12.34), DENSE),))
MODELS = ("D/[256;512]/256,384,512", "E/[256;512]/256,384,512")
FUSED = FusionRow(MODELS, "multi-crop", (25.04, 6.25), paper.TABLE6[2])


def shown(table: Table, width: int) -> str:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def cells(text: str) -> list[list[str]]:
    """The cells of each line."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


THREE = replace(ROW, errors=(((25.04, 7.0), DENSE), ((24.96, 8.0), CROPS), ((24.0, 9.0), BOTH)))
ALL = {
    "one protocol": protocol_table("title", [ROW]),
    "three": crops_table("title", ("dense", "multi-crop", "both"), [replace(THREE, network="D (width 0.25, crop 64)")]),
    "fusion": fusion_table("title", [FUSED, replace(FUSED, protocol="dense+multi-crop")]),
    "methods": methods_table(2, [replace(FUSED, protocol="dense+multi-crop", errors=(100.0, 100.0))]),
}


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", ALL)
def test_nothing_is_cut_off(name: str, width: int) -> None:
    text = shown(ALL[name], width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


def test_table_5_has_a_column_for_each_protocol_with_the_papers_below() -> None:
    lines = cells(shown(crops_table("title", ("dense", "multi-crop", "both"), [THREE]), 120))
    at = lines.index(["D", "[256;512]", "25.0, 7.0", "25.0, 8.0", "24.0, 9.0", "D-12"])
    assert lines[at + 1] == ["256, 384, 512", "(24.8, 7.5)", "(24.6, 7.5)", "(24.4, 7.2)"]
    without = replace(THREE, errors=tuple((errors, None) for errors, _ in THREE.errors))
    text = shown(crops_table("title", ("dense", "multi-crop", "both"), [without]), 120)
    assert "(24" not in text
    assert "paper" not in text


def test_table_6_names_networks_once_and_has_a_dash_where_the_paper_has() -> None:
    lines = cells(shown(fusion_table("title", [FUSED, replace(FUSED, protocol="dense", published=None)]), 120))
    at = lines.index([MODELS[0], "multi-crop", "25.0", "6.2", "23.9, 7.2, -"])
    assert lines[at + 1] == [MODELS[1]]
    assert lines[at + 2] == ["dense", "25.0", "6.2", "-"]
    assert "paper" not in shown(fusion_table("title", [replace(FUSED, published=None)]), 120)


def test_table_7_follows_our_own_rows() -> None:
    lines = cells(shown(methods_table(2, [FUSED]), 120))
    ours, google = (
        next(place for place, row in enumerate(lines) if row[:1] == [name]) for name in ("these networks", "GoogLeNet")
    )
    assert lines[ours] == ["these networks", "2 nets, multi-crop", "25.0", "6.2", "-"]
    assert lines[google] == ["GoogLeNet", "1 net", "-", "(7.9)", "(7.9)"]
    assert ["VGG", "7 nets, dense, ILSVRC submission", "24.7", "7.5", "7.3"] in lines
    assert ["OverFeat", "1 net", "35.7", "14.2", "-"] in lines


def test_without_a_top_5_error_no_column_names_one() -> None:
    few = replace(ROW, errors=(((25.04,), None),))
    fused = replace(FUSED, errors=(25.04,), published=None)
    for table in (
        protocol_table("title", [few]),
        crops_table("title", ("dense", "both"), [replace(few, errors=few.errors * 2)]),
        fusion_table("title", [fused]),
    ):
        text = shown(table, 80)
        assert "25.0" in text
        assert "top-1" in text
        assert "top-5" not in text
