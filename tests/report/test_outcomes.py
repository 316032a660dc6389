"""Pictures and tables of measured boxes, against the outcomes that they show."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor
from rich.console import Console
from rich.table import Table

from vggcli import paper
from vggcli.colour import ColourStatistics
from vggcli.data.image_set import ImageSet
from vggcli.data.voc import MarkedObject
from vggcli.imagenet import imagenet_ids
from vggcli.localisation.error import ImageOutcome
from vggcli.localisation.localise import Guess
from vggcli.localisation.networks import BoxNetwork
from vggcli.localisation.result import BoxEvaluation, BoxFusion, MeasuredBoxes
from vggcli.report.boxes import rank_colour
from vggcli.report.outcomes import draw_histogram, fusion_rows_tables, rows_table, save_worst_boxes
from vggcli.report.plots import save_iou_histogram
from vggcli.weights.checkpoint import Checkpoint
from vggcli.zoo.layers import NetworkConfig

COLOUR = ColourStatistics((0.0, 0.0, 0.0), 255.0)
IOUS = {"a.png": 0.75, "b.png": 0.25, "c.png": 0.0, "d.png": 0.5}
TRUE, GUESSED, ELSEWHERE = (8.0, 8.0, 40.0, 40.0), (20.0, 10.0, 60.0, 50.0), (0.0, 20.0, 30.0, 38.0)


def network(
    name: str, layers: str = "all", boxes: Any = "pcr", scale: tuple[int, int] = (384, 384), **config: Any
) -> BoxNetwork:
    made = NetworkConfig(**{"arch": "D", "classes": 1000, "boxes": boxes, **config})
    return BoxNetwork(Path(name), Checkpoint(made, (), COLOUR, scale, {"layers": layers}))


def measured(
    networks: list[BoxNetwork],
    scales: tuple[int, ...] = (384,),
    protocol: Any = "ground-truth",
    classes: tuple[str, ...] = imagenet_ids(),
    images: int = paper.IMAGENET_VALIDATION,
    error: float = 40.0,
) -> MeasuredBoxes:
    config, full = networks[0].checkpoint.config, protocol == "full"
    shape = {"crop": config.crop, "width": config.width, "head": config.head, "boxes": config.boxes}
    evaluation = BoxEvaluation(
        arch=config.arch,
        weights="w",
        weights_sha256="",
        data="photos",
        split="val",
        protocol="dense" if full else "centre-crop",
        box_protocol=protocol,
        scales=scales,
        flip=False,
        images=images,
        skipped=0,
        classes=len(classes),
        correct=round(images * (100 - error) / 100),
        guessed=images,
        mean_iou=0.5125,
        preprocessing={},
        seconds=1.0,
        network={**shape, "scale": list(networks[0].checkpoint.scale)},
        classifier=("runs/C-1",) if full else (),
    )
    return MeasuredBoxes(evaluation, (), (), ImageSet(Path(), "val", classes, (), (), ()), tuple(networks))


@pytest.fixture
def photos(tmp_path: Path) -> MeasuredBoxes:
    """An evaluation of four images, of which `c.png` has no guess of its class."""
    for name in IOUS:
        Image.new("RGB", (64, 64), "navy").save(tmp_path / name)
    objects = ((MarkedObject("cat", TRUE), MarkedObject("dog", (1.0, 1, 2, 2))),) * 4
    images = ImageSet(tmp_path, "val", ("cat", "dog"), tuple(IOUS), (0,) * 4, objects)
    outcomes = tuple(ImageOutcome("cat", name != "c.png", iou) for name, iou in IOUS.items())
    other, own = Guess("dog", 0.75, ELSEWHERE, 1.0, 1), Guess("cat", 0.25, GUESSED, 1.0, 1)
    guesses = tuple((other,) if name == "c.png" else (other, own) for name in IOUS)
    whole = measured([network("runs/D-1", width=0.5)], protocol="full", classes=("cat", "dog"), images=4, error=75.0)
    return replace(whole, outcomes=outcomes, guesses=guesses, images=images)


def test_the_worst_are_those_of_the_lowest_iou_with_truth_and_guess(
    tmp_path: Path, photos: MeasuredBoxes, drawn: list[Any]
) -> None:
    assert save_worst_boxes(photos, 3, tmp_path / "w.png") == 3
    texts = [text.get_text() for text in drawn[0].texts]
    assert texts[0] == "The 3 images of the lowest IoU by runs/D-1; dashed: true boxes"
    assert texts[1].startswith(
        "network D: localisation error 75.00 % on 4 images of photos (val); dense at Q = 384, cl"
    )
    captions = [texts[first : first + 3] for first in range(2, len(texts), 3)]
    assert captions[0][:2] == ["cat", "not guessed; first: dog"]
    assert captions[1:] == [["cat", "IoU 0.25", "b.png"], ["cat", "IoU 0.50", "d.png"]]
    factor = 280 / 64
    for image, box in zip(drawn[0].images, (ELSEWHERE, GUESSED, GUESSED), strict=True):
        picture = np.asarray(image.get_array())
        assert picture.shape == (280, 280, 3)
        rows, columns = (picture == ImageColor.getrgb(rank_colour(0))).all(-1).nonzero()
        assert (columns.min(), rows.max()) == (int(box[0] * factor), -int(-box[3] * factor // 1) - 1)
        white = (picture == 255).all(-1).nonzero()
        assert (white[1].min(), white[0].max()) == (35, 174)  # of the true box; that of another class is not drawn
    assert save_worst_boxes(photos, 9, tmp_path / "all.png") == 4


def bars(figure: Any) -> dict[float, float]:
    """The height of the bars, by their left ends; those that stand on another add to it."""
    found: dict[float, float] = {}
    for bar in figure.axes[0].patches:
        found[round(bar.get_x(), 2)] = found.get(round(bar.get_x(), 2), 0) + bar.get_height()
    return found


def test_a_histogram_counts_every_image_once(tmp_path: Path, photos: MeasuredBoxes, drawn: list[Any]) -> None:
    draw_histogram(photos, tmp_path / "h.png")
    axes = drawn[0].axes[0]
    grey = [bar for bar in axes.patches if bar.get_facecolor()[:3] == pytest.approx((0.5, 0.5, 0.5), abs=0.01)]
    assert [(bar.get_x(), bar.get_y(), bar.get_height()) for bar in grey] == [(0, 0, 1)]  # of c.png
    heights = bars(drawn[0])
    assert {left for left, height in heights.items() if height} == {0.0, 0.2, 0.45, 0.7}  # 0.5 is wrong
    assert [text.get_text() for text in axes.texts] == [
        "wrong: IoU up to 0.5 in 75.00 % (3)",
        "right: IoU above 0.5 in 25.00 % (1)",
    ]
    assert [list(line.get_xdata()) for line in axes.lines] == [[0.5, 0.5]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["no guess of the image's class (1)"]
    assert drawn[0].texts[0].get_text() == "IoU of the boxes of runs/D-1"


def test_bars_of_a_histogram_have_their_upper_ends(tmp_path: Path, drawn: list[Any]) -> None:
    draw = np.random.default_rng(1)
    ious = [0.0, 0.5, np.nextafter(0.5, 1), 1.0, *(np.arange(21) / 20), *draw.random(300)]
    save_iou_histogram(ious, 0, tmp_path / "h.png", ("a",))
    edges = np.linspace(0, 1, 21)
    expected = [sum(low < one <= high or (low == one == 0) for one in ious) for low, high in itertools.pairwise(edges)]
    assert list(bars(drawn[0]).values()) == expected
    right = sum(one > 0.5 for one in ious)
    assert f"({right})" in drawn[0].axes[0].texts[1].get_text()
    assert drawn[0].axes[0].get_legend() is None


def lines(table: Table, width: int = 120) -> list[list[str]]:
    console = Console(width=width, no_color=True)
    with console.capture() as capture:
        console.print(table)
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in capture.get().splitlines()]


def test_table_8_has_the_papers_figures_beside_ours_where_the_setting_is_its() -> None:
    several = [
        measured([network("runs/D-1", "fc", "scr")], error=36.5),
        measured([network("runs/D-2", "all", "pcr")], error=33.0),
        measured([network("runs/D-3", "all", "scr")], error=35.0),  # which the paper does not have
        measured([network("runs/D-4", "all", "pcr")], (352,), error=34.0),
    ]
    found = lines(rows_table(several))
    assert ["fc6, fc7", "SCR", "384", "36.5", "0.512", "36.4", "D", "D-1"] in found
    assert ["all", "PCR", "384", "33.0", "0.512", "33.1", "D", "D-2"] in found
    assert ["all", "SCR", "384", "35.0", "0.512", "-", "D", "D-3"] in found
    assert ["all", "PCR", "384", "34.0", "0.512", "-", "D", "D-4"] in found


@pytest.mark.parametrize(
    "other",
    [
        measured([network("runs/D-1", width=0.5)]),
        measured([network("runs/D-1", arch="E")]),
        measured([network("runs/D-1")], images=49_999),
        measured([network("runs/D-1")], classes=("cat", "dog")),
        measured([network("runs/D-1", scale=(256, 256))]),
    ],
)
def test_table_8_has_no_figures_of_the_paper_for_other_settings(other: MeasuredBoxes) -> None:
    text = " ".join(" ".join(line) for line in lines(rows_table([other])))
    assert "40.0" in text
    assert "33.1" not in text
    assert "paper" not in text


@pytest.mark.parametrize("width", [80, 120])
def test_table_9_has_each_network_and_the_fusion_as_the_paper_has_them(width: int) -> None:
    first, second = network("runs/D-1", scale=(256, 256)), network("runs/D-2")
    members = measured([first], (256,), "full", error=30.0), measured([second], (384, 352), "full", error=27.0)
    fusion = BoxFusion(members, measured([second, first], (256, 352, 384), "full", error=26.0), ("D-1", "D-2"))
    (table,) = fusion_rows_tables(replace(fusion, whole=replace(fusion.whole, networks=(first, second))))
    found = lines(table, width)
    assert ["256", "256", "30.0", "0.512", "29.5, -", "D-1"] in found
    assert ["384", "384, 352", "27.0", "0.512", "27.5, -", "D-2"] in found
    at = found.index(["256", "256", "26.0", "0.512", "26.9, 25.3", "D-1"])
    assert found[at + 1] == ["384", "384, 352", "D-2"]
    rows = lines(rows_table([members[0], measured([network("runs/D-1")], (384,), "full")]), width)
    assert ["384", "384", "40.0", "0.512", "28.2, 26.7", "D-1"] in rows
    others = (
        measured([network("runs/D-1", "fc")], (384,), "full"),
        measured([network("runs/D-1", boxes="scr")], (384,), "full"),
    )
    assert not any("28.2" in cell for line in lines(rows_table(others), width) for cell in line)
