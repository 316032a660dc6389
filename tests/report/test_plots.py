"""Pictures of a run can be made from its log alone and show the numbers, labels and pictures that they should."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from vggcli.report.plots import save_confusion, save_curves, save_views
from vggcli.training.surroundings import PicturedRun
from vggcli.zoo.layers import NetworkConfig

LOG = [  # no two curves alike
    {
        "epoch": epoch,
        "loss": 2.0 / epoch,
        "val_loss": 1.9 / epoch + 0.3,
        "top1_error": 60.0 - 7 * epoch,
        "top5_error": 20.0 - 2 * epoch,
        "learning_rate": 0.01 / 10 ** (epoch // 3),
    }
    for epoch in (1, 2, 3, 4, 5)
]
RUN = PicturedRun(Path("/data/runs/D-1"), NetworkConfig("D", 6, 64, 0.25, "fc"), "/data/photos")
TITLE = "Confusion matrix", "of a test"
COUNTS = np.array([[6, 2, 0], [1, 1, 2], [0, 0, 0]])


@pytest.mark.parametrize("epochs", [1, 5])
def test_curves_are_the_numbers_of_the_log(tmp_path: Path, drawn: list[Any], epochs: int) -> None:
    log, path = tmp_path / "log.jsonl", tmp_path / "curves.png"
    log.write_text("".join(json.dumps(one) + "\n" for one in LOG[:epochs]))
    save_curves(log, path, RUN)
    with Image.open(path) as image:
        assert (image.format, image.size) == ("PNG", (1200, 1050))
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
        assert image.info["Software"] == "vgg"
    losses, errors, rates = drawn[0].axes
    named = {
        losses: {"training loss": "loss", "validation loss": "val_loss"},
        errors: {"validation error (top-1)": "top1_error", "validation error (top-5)": "top5_error"},
        rates: {"learning rate": "learning_rate"},
    }
    best = min(LOG[:epochs], key=lambda one: one["top1_error"])
    for axes, keys in named.items():
        lines = {line.get_label(): line for line in axes.lines}
        for name, key in keys.items():
            assert list(lines[name].get_xdata()) == [1, 2, 3, 4, 5][:epochs]
            assert list(lines[name].get_ydata()) == [one[key] for one in LOG[:epochs]]
            assert lines[name].get_marker() == "o"  # a run of one epoch is a point
        assert [list(line.get_xdata()) for line in axes.lines if line.get_linestyle() == "--"] == [[best["epoch"]] * 2]
    star = errors.lines[-1]
    assert (star.get_xdata(), star.get_ydata()) == ([best["epoch"]], [best["top1_error"]])
    assert [text.get_text() for text in losses.get_legend().get_texts()] == list(named[losses])
    said = f"best: {best['top1_error']:.2f} % (epoch {best['epoch']})"
    assert [text.get_text() for text in errors.get_legend().get_texts()] == [*named[errors], said]
    assert [axes.get_yscale() for axes in named] == ["linear", "linear", "log"]
    assert len({axes.get_xlim() for axes in named}) == 1  # one axis for all
    assert rates.get_position().height < losses.get_position().height / 3
    rate_ticks = [label.get_text() for label in rates.get_yticklabels()]
    assert rate_ticks == (["0.01"] if epochs == 1 else ["0.001", "0.01"])
    assert titles(drawn[0]) == ["Training of runs/D-1", "network D, crop 64, width 0.25; data/photos, 6 classes"]


def titles(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_axes_fit_the_data(tmp_path: Path, drawn: list[Any]) -> None:
    records = [{**one, "loss": 2.0, "val_loss": 2.1, "top1_error": 40.0, "top5_error": 39.0} for one in LOG]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, records)))
    save_curves(tmp_path / "log.jsonl", tmp_path / "c.png", RUN)
    for axes, low, high in zip(drawn[0].axes, (2.0, 39.0), (2.1, 40.0), strict=False):
        bottom, top = axes.get_ylim()
        assert low - 0.1 <= bottom < low < high < top <= high + 0.1


@pytest.mark.parametrize("classes", [5, 6])
def test_training_error_is_drawn_where_it_is_known_and_top_5_where_it_means_something(
    tmp_path: Path, drawn: list[Any], classes: int
) -> None:
    known = [None, 50.0, 40.0, 30.0, 20.0]
    records = [{**one, "training_error": error} for one, error in zip(LOG, known, strict=True)]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, records)))
    run = replace(RUN, config=replace(RUN.config, classes=classes))
    save_curves(tmp_path / "log.jsonl", tmp_path / "c.png", run)
    lines = {line.get_label(): list(line.get_ydata()) for line in drawn[0].axes[1].lines}
    np.testing.assert_array_equal(lines["training error"], [np.nan, *known[1:]])
    assert ("validation error (top-5)" in lines) == (classes > 5)


def test_a_confusion_matrix_shows_shares_counts_and_names(tmp_path: Path, drawn: list[Any]) -> None:
    save_confusion(COUNTS, ["ape", "bee", "cat"], tmp_path / "c.png", TITLE)
    axes, bar = drawn[0].axes
    shares = np.array([[0.75, 0.25, 0], [0.25, 0.25, 0.5], [0, 0, 0]])
    np.testing.assert_allclose(axes.images[0].get_array(), shares)
    assert axes.images[0].get_clim() == (0, 1)
    written = {text.get_position(): text.get_text() for text in axes.texts}  # (column, row)
    assert written == {(0, 0): "6", (1, 0): "2", (0, 1): "1", (1, 1): "1", (2, 1): "2"}
    assert [text.get_color() for text in axes.texts] == ["white", *["black"] * 4]  # on a dark square and on light ones
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == ["ape", "bee", "cat"]
    assert (axes.get_xlabel(), axes.get_ylabel(), bar.get_ylabel()) == (
        "predicted class",
        "true class",
        "share of the true class",
    )


@pytest.mark.parametrize(("classes", "counts", "names"), [(30, 30, 30), (31, 0, 31), (50, 0, 50), (51, 0, 0)])
def test_many_classes_leave_out_what_could_not_be_read(
    tmp_path: Path, drawn: list[Any], classes: int, counts: int, names: int
) -> None:
    save_confusion(np.eye(classes, dtype=np.int64), [f"class{k}" for k in range(classes)], tmp_path / "c.png", TITLE)
    axes = drawn[0].axes[0]
    assert len(axes.texts) == counts
    assert sum(label.get_text().startswith("class") for label in axes.get_yticklabels()) == names


def test_names_are_drawn_as_they_are_whatever_signs_they_hold(tmp_path: Path, drawn: list[Any]) -> None:
    names = ["$5 and $10", "$\\frac{$", "hat \udcff", "帽", "a_b^c"]
    save_confusion(np.eye(5, dtype=np.int64), names, tmp_path / "c.png", ("$5 and $10", "帽"))
    run = replace(RUN, path=Path("runs/$5 and $10"), data="帽 \udcff")
    save_views([np.zeros((8, 8, 3), np.uint8)] * 5, [(name, name) for name in names], tmp_path / "s.png", run)
    confusion, sheet = drawn
    shown = ["$5 and $10", "$\\frac{$", "hat \\udcff", "帽", "a_b^c"]
    labels = confusion.axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == shown
    assert [text.get_text() for text in sheet.texts[2:]] == [name for name in shown for _ in range(2)]
    assert titles(sheet)[0] == "Training views of runs/$5 and $10, as the network sees them"
    assert "; 帽 \\udcff, 6 classes" in titles(sheet)[1]
    assert not any(text.get_parse_math() for text in (*labels, *confusion.texts, *sheet.texts))


def test_long_class_names_are_whole_and_within_the_picture(tmp_path: Path, drawn: list[Any]) -> None:
    names = ["n01443537 goldfish, Carassius auratus", "x" * 200, "two words", "hat"]
    counts = np.diag([12345678, 1, 1, 1])
    save_confusion(counts, names, tmp_path / "c.png", ("A title of a run with a long name " * 5, "more"))
    figure = drawn[0]
    labels = [*figure.axes[0].get_xticklabels(), *figure.axes[0].get_yticklabels()]
    assert [label.get_text().replace("\n", "") for label in labels] == names * 2
    assert "".join(titles(figure)).startswith("A title of a run with a long name " * 5)
    for text in (*labels, *figure.texts, *figure.axes[0].texts, figure.axes[0].xaxis.label, figure.axes[0].yaxis.label):
        box = text.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width
        assert 0 <= box.y0 < box.y1 <= figure.bbox.height
    assert figure.axes[0].texts[0].get_window_extent().width < figure.axes[0].get_window_extent().width / 4
