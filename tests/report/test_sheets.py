"""Sheets show every picture whole and enlarged where it is small, above a caption that is whole or cut in its middle."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vggcli.report.figures import drawing, fitting, shortened, wrapped
from vggcli.report.sheets import Caption, fitted, save_sheet


@pytest.mark.parametrize(
    ("count", "columns"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 3), (6, 3), (7, 4), (8, 4), (11, 4), (16, 4), (32, 8)]
)
def test_a_sheet_shows_every_picture_whole_above_its_own_caption(
    tmp_path: Path, drawn: list[Any], count: int, columns: int
) -> None:
    draw = np.random.default_rng(5)
    pictures = [draw.integers(0, 256, (40, 64, 3), dtype=np.uint8) for _ in range(count)]
    captions = [Caption((f"no {k}", f"kind {k * k}"), f"{k}.jpg") for k in range(count)]
    save_sheet(pictures, captions, tmp_path / "s.png", ("A title", "and more"))
    with Image.open(tmp_path / "s.png") as opened:
        sheet = np.asarray(opened.convert("RGB"))
        assert opened.info["Software"] == "vgg"
    texts = {text.get_text(): text.get_window_extent() for text in drawn[0].texts}
    top, below = 24 + 2 * 30 + 12, 120 + 3 * 22 + 18  # of the title, and from one row to the next
    assert sheet.shape == (top + -(-count // columns) * below + 24, max(900, 2 * 24 + columns * (192 + 18) - 18), 3)
    for k, picture in enumerate(pictures):
        left, high = 24 + k % columns * (192 + 18), top + k // columns * below
        shown = sheet[high : high + 120, left : left + 192]  # three times as large
        np.testing.assert_array_equal(shown, picture.repeat(3, 0).repeat(3, 1))
        bottom = high + 120
        for line in (f"no {k}", f"kind {k * k}", f"{k}.jpg"):
            assert texts[line].x0 == pytest.approx(left, abs=3)
            assert len(sheet) - texts[line].y1 >= bottom - 1  # below the picture or the line above
            bottom = len(sheet) - texts[line].y0 - 6  # a "j" may go below the line
    assert texts["A title"].height > texts["and more"].height


def test_a_caption_has_its_classes_whole_and_its_file_without_its_middle(tmp_path: Path, drawn: list[Any]) -> None:
    label, file = "n01443537 goldfish, Carassius auratus", "IMG_20210304_at_the_garden_pond_0001.jpeg"
    save_sheet([np.zeros((200, 20, 3), np.uint8)] * 2, [Caption((label,), file)] * 2, tmp_path / "s.png", ("a",))
    *lines, name = drawn[0].texts[1 : len(drawn[0].texts) // 2 + 1]
    assert "".join(line.get_text() for line in lines) == label
    begin, end = name.get_text().split("…")
    assert file.startswith(begin)
    assert file.endswith(end)
    assert abs(len(begin) - len(end)) <= 1
    assert all(text.get_window_extent().width <= 193 for text in (*lines, name))  # though the picture is narrow


@pytest.mark.parametrize("text", ["", "a", "hat", "a hat of straw", "x" * 70, "one_long_name/of-a-file.jpg"])
def test_texts_are_cut_as_little_as_must_be(text: str) -> None:
    for most in (1, 3, 10, 69, 70):

        def fits(part: str, most: int = most) -> bool:
            return len(part) <= most

        lines = wrapped(text, fits)
        assert "".join(lines) == text
        assert all(map(fits, lines))
        cut = shortened(text, fits)
        assert len(cut) == min(len(text), most)
        assert cut == text or "…" in cut


def test_lines_end_after_a_word_where_they_can() -> None:
    assert wrapped("a hat of straw", lambda part: len(part) <= 7) == ["a hat ", "of ", "straw"]
    with drawing():
        assert fitting(100)("hat")
        assert not fitting(100)("hat " * 10)


def test_an_image_is_fitted_whole_into_the_middle_of_grey() -> None:
    for size, box in (((80, 40), (0, 10, 40, 30)), ((20, 60), (13, 0, 26, 40)), ((8, 8), (0, 0, 40, 40))):
        square = fitted(Image.new("RGB", size, (250, 0, 0)), 40)
        grey = (square == 200).all(2)
        rows, columns = np.flatnonzero(~grey.all(1)), np.flatnonzero(~grey.all(0))
        assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == pytest.approx(box, abs=1)
        assert (square[~grey] == (250, 0, 0)).all()
