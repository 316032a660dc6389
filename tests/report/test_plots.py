"""Pictures of a run can be made from its log alone and show the numbers, labels and pictures that they should."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from vggcli.report.plots import caption_font, fitted, save_confusion, save_curves, save_sheet

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
COUNTS = np.array([[6, 2, 0], [1, 1, 2], [0, 0, 0]])


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are saved, in order, with everything that was drawn into them."""
    figures: list[Any] = []
    save = Figure.savefig

    def savefig(self: Figure, *words: Any, **options: Any) -> None:
        figures.append(self)
        save(self, *words, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures


@pytest.mark.parametrize("epochs", [1, 5])
def test_curves_are_the_numbers_of_the_log(tmp_path: Path, drawn: list[Any], epochs: int) -> None:
    log, path = tmp_path / "log.jsonl", tmp_path / "curves.png"
    log.write_text("".join(json.dumps(one) + "\n" for one in LOG[:epochs]))
    save_curves(log, path)
    with Image.open(path) as image:
        assert (image.format, image.size) == ("PNG", (1440, 432))
    keys = [["loss", "val_loss"], ["top1_error", "top5_error"], ["learning_rate"]]
    losses, errors, rates = panels = drawn[0].axes
    for axes, wanted in zip(panels, keys, strict=True):
        assert axes.get_xlabel() == "epoch"
        for line, key in zip(axes.lines, wanted, strict=True):
            assert list(line.get_xdata()) == [1, 2, 3, 4, 5][:epochs]
            assert list(line.get_ydata()) == [one[key] for one in LOG[:epochs]]
            assert line.get_marker() == "o"  # a run of one epoch is a point
    assert [axes.get_title() for axes in panels] == ["loss", "validation error (%)", "learning rate"]
    assert [text.get_text() for text in losses.get_legend().get_texts()] == ["training views", "validation"]
    assert [text.get_text() for text in errors.get_legend().get_texts()] == ["top-1", "top-5"]
    assert losses.get_ylim()[0] == errors.get_ylim()[0] == 0
    assert [axes.get_yscale() for axes in panels] == ["linear", "linear", "log"]
    assert rates.get_legend() is None


def test_a_confusion_matrix_shows_shares_counts_and_names(tmp_path: Path, drawn: list[Any]) -> None:
    save_confusion(COUNTS, ["ape", "bee", "cat"], tmp_path / "c.png")
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
        "taken for",
        "true class",
        "share of the true class",
    )


@pytest.mark.parametrize(("classes", "counts", "names"), [(30, 30, 30), (31, 0, 31), (50, 0, 50), (51, 0, 0)])
def test_many_classes_leave_out_what_could_not_be_read(
    tmp_path: Path, drawn: list[Any], classes: int, counts: int, names: int
) -> None:
    save_confusion(np.eye(classes, dtype=np.int64), [f"class{k}" for k in range(classes)], tmp_path / "c.png")
    axes = drawn[0].axes[0]
    assert len(axes.texts) == counts
    assert sum(label.get_text().startswith("class") for label in axes.get_yticklabels()) == names


def written(text: str, width: int, height: int) -> np.ndarray[Any, Any]:
    """A caption's line as Pillow draws it by itself."""
    line = Image.new("RGB", (width, height), "white")
    ImageDraw.Draw(line).text((2, 1), text, fill="black", font=caption_font())
    return np.asarray(line)


def test_a_sheet_shows_every_picture_whole_above_its_own_caption(tmp_path: Path) -> None:
    draw = np.random.default_rng(5)
    pictures = [draw.integers(0, 256, (40, 30, 3), dtype=np.uint8) for _ in range(11)]
    save_sheet(pictures, [f"no {k}\nkind {k * k}" for k in range(11)], tmp_path / "s.png")
    with Image.open(tmp_path / "s.png") as opened:
        sheet = np.asarray(opened.convert("RGB"))
    assert sheet.shape == (2 * 76, 8 * 100, 3)  # eight a row; two lines of 16 pixels below each
    for k, picture in enumerate(pictures):
        cell = sheet[(k // 8) * 76 : (k // 8 + 1) * 76, (k % 8) * 100 : (k % 8 + 1) * 100]
        np.testing.assert_array_equal(cell[:40, 33:63], picture)
        np.testing.assert_array_equal(cell[40:56], written(f"no {k}", 100, 16))
        np.testing.assert_array_equal(cell[56:72], written(f"kind {k * k}", 100, 16))
    assert (sheet[76:, 3 * 100 :] == 255).all()  # nothing where there is no picture


def test_a_long_caption_ends_within_its_cell(tmp_path: Path) -> None:
    pictures = [np.zeros((20, 120, 3), np.uint8)] * 2
    save_sheet(pictures, ["class with a very long name that must be cut.jpg", "b"], tmp_path / "s.png")
    with Image.open(tmp_path / "s.png") as opened:
        sheet = np.asarray(opened.convert("L"))
    assert sheet.shape == (40, 2 * 124)
    inked = np.flatnonzero((sheet[20:, :124] < 200).any(0))
    assert inked[0] < 6
    assert 90 < inked[-1] < 121


@pytest.mark.parametrize(
    ("size", "box"), [((80, 40), (0, 10, 40, 30)), ((20, 60), (13, 0, 26, 40)), ((8, 8), (16,) * 2 + (24,) * 2)]
)
def test_a_fitted_image_is_whole_and_in_the_middle_of_grey(size: tuple[int, int], box: tuple[int, ...]) -> None:
    square = fitted(Image.new("RGB", size, (250, 0, 0)), 40)
    grey = (square == 200).all(2)
    rows, columns = np.flatnonzero(~grey.all(1)), np.flatnonzero(~grey.all(0))
    assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == box
    assert (square[~grey] == (250, 0, 0)).all()


def test_names_are_drawn_as_they_are_whatever_signs_they_hold(tmp_path: Path, drawn: list[Any]) -> None:
    names = ["$5 and $10", "$\\frac{$", "hat \udcff", "帽", "a_b^c"]
    save_confusion(np.eye(5, dtype=np.int64), names, tmp_path / "c.png")
    labels = [label.get_text() for label in drawn[0].axes[0].get_xticklabels()]
    assert labels == ["$5 and $10", "$\\frac{$", "hat \\udcff", "帽", "a_b^c"]
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.size[0] > 400
    save_sheet([np.zeros((8, 8, 3), np.uint8)] * 5, names, tmp_path / "s.png")
    with Image.open(tmp_path / "s.png") as sheet:
        assert np.asarray(sheet.convert("L"))[14:].min() < 100  # captions
