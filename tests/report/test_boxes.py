"""Boxes drawn on images are found again by their colour, at the pixels where they should be; labels can be read."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageColor

from vggcli.boxes import Region
from vggcli.localisation.localise import Guess
from vggcli.report import boxes as drawing
from vggcli.report.boxes import rank_colour, with_boxes

FIRST = ImageColor.getrgb(rank_colour(0))


def guess(box: Region, label: str = "cat", score: float = 0.5) -> Guess:
    return Guess(label, score, box, score, 1)


def noise(size: tuple[int, int]) -> Image.Image:
    pixels = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels // 2 * 2)  # no pixel has the exact colour of a line


def extent(mask_HW: NDArray[np.bool_]) -> tuple[int, ...]:
    """The first and last column and row in which a pixel is set: x0, y0, x1, y1."""
    rows, columns = mask_HW.nonzero()
    return tuple(map(int, (columns.min(), rows.min(), columns.max(), rows.max())))


@pytest.fixture
def labels(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int, int]]:
    """The pixels of the labels that are drawn."""
    places: list[Any] = []
    write = drawing._write

    def writing(*words: Any) -> Any:
        places.append(write(*words))
        return places[-1]

    monkeypatch.setattr(drawing, "_write", writing)
    return places


BOXES = [
    ((200, 120), (40, 50, 140, 90), (40, 50, 139, 89)),
    ((200, 120), (40.7, 50.2, 140.3, 89.9), (40, 50, 140, 89)),  # each pixel that it has a share of
    ((64, 48), (10, 20, 60, 40), (10, 20, 59, 39)),
    ((1500, 900), (300, 400, 1200.5, 800), (300, 400, 1200, 799)),
    ((200, 120), (-50, 30, 500, 90), (0, 30, 199, 89)),  # cut off at the border
    ((200, 120), (0, 0, 200, 120), (0, 0, 199, 119)),
    ((200, 120), (50, 60, 51, 61), (50, 60, 50, 60)),
    ((20, 12), (2, 3, 18, 11), (2, 3, 17, 10)),
]


@pytest.mark.parametrize(("size", "box", "pixels"), BOXES)
def test_a_box_is_found_again_by_its_colour(
    size: tuple[int, int], box: Region, pixels: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "_write", lambda draw, one, box, *rest: box)  # which may be over the line
    image = noise(size)
    before = image.tobytes()
    drawn = np.asarray(with_boxes(image, [guess(box)]))
    assert image.tobytes() == before
    found = (drawn == FIRST).all(-1)
    assert extent(found) == pixels
    x0, y0, x1, y1 = pixels
    for edge in (found[y0, x0 : x1 + 1], found[y1, x0 : x1 + 1], found[y0 : y1 + 1, x0], found[y0 : y1 + 1, x1]):
        assert edge.all()
    wide = 2 + 2 * round(min(size) / 140)  # of the line with its dark edges, inwards and a little outwards
    within = np.s_[y0 + wide : y1 + 1 - wide, x0 + wide : x1 + 1 - wide]
    np.testing.assert_array_equal(drawn[within], np.asarray(image)[within])
    changed = extent((drawn != np.asarray(image)).any(-1))
    assert all(abs(one - other) <= wide for one, other in zip(changed, pixels, strict=True))


@pytest.mark.parametrize(("size", "box", "pixels"), BOXES[:-1])  # the last is too narrow for a score
@pytest.mark.parametrize("name", ["cat", "n01443537 goldfish, Carassius auratus (of a pond)"])
def test_a_label_is_within_the_image_in_the_colour_of_its_box(
    size: tuple[int, int], box: Region, pixels: tuple[int, ...], name: str, labels: list[tuple[int, int, int, int]]
) -> None:
    drawn = np.asarray(with_boxes(noise(size), [guess(box, name)]))
    ((left, top, right, bottom),) = labels
    assert 0 <= left < right < size[0]
    assert 0 <= top < bottom < size[1]
    label = drawn[top : bottom + 1, left : right + 1]
    assert (label[0] == FIRST).all()
    assert (label[-1] == FIRST).all()
    assert (label[:, 0] == FIRST).all()
    assert (label.max(-1) < 60).mean() > 0.05  # letters, in black


def test_labels_of_boxes_in_one_place_stand_beside_each_other(labels: list[tuple[int, int, int, int]]) -> None:
    for box in ((100.0, 100.0, 400.0, 300.0), (0.0, 0.0, 500.0, 400.0), (480.0, 380.0, 500.0, 400.0)):
        labels.clear()
        with_boxes(noise((500, 400)), [guess(box, f"class {rank}") for rank in range(5)])
        covered = np.zeros((400, 500), int)
        for left, top, right, bottom in labels:
            covered[top : bottom + 1, left : right + 1] += 1
        assert covered.max() == 1
        assert len(labels) == 5


def test_the_first_guess_is_on_top_and_a_guess_outside_the_image_is_not_drawn() -> None:
    box = (20.0, 40.0, 120.0, 100.0)
    some = [guess(box), guess((300, 0, 320, 20), "far"), guess(box, "second")]
    drawn = np.asarray(with_boxes(noise((200, 120)), some))
    assert (drawn[40:100, 20] == FIRST).all()
    assert not (drawn == ImageColor.getrgb(rank_colour(1))).all(-1).any()
    assert (drawn == ImageColor.getrgb(rank_colour(2))).all(-1).any()  # its label: a rank keeps its colour


@pytest.mark.parametrize("background", ["white", "black", rank_colour(0), "grey"])
def test_lines_and_dashes_are_seen_on_any_background(background: str) -> None:
    image = Image.new("RGB", (300, 300), background)
    for picture in (with_boxes(image, [guess((60, 80, 200, 220))]), with_boxes(image, [], [(60, 80, 200, 220)])):
        strip = np.asarray(picture.convert("L")).astype(int)[140:170, 55:70]  # across the left edge
        assert np.ptp(strip, axis=1).max() > 100


def test_true_boxes_are_dashed_in_white() -> None:
    drawn = np.asarray(with_boxes(noise((300, 300)), [guess((60, 80, 200, 220))], [(60, 80, 200, 220)]))
    white = (drawn == 255).all(-1)
    assert extent(white) == (60, 80, 199, 219)
    share = white[80:220, 60].mean()
    assert 0.4 < share < 0.6
    assert (drawn[80:220, 60] == FIRST).all(-1).any()  # what is below shows between the dashes


def test_a_sign_that_a_font_lacks_is_drawn_by_another_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing._font.cache_clear()
    monkeypatch.setattr(drawing, "FONTS", ("STIXGeneral", "DejaVu Sans"))  # both come with matplotlib
    assert drawing._font("cat", 20).getname()[0] == "STIXGeneral"
    assert drawing._font("\u10d0", 20).getname()[0] == "DejaVu Sans"  # a Georgian letter
    assert drawing._font("\U0001f98a", 20).getname()[0] == "STIXGeneral"  # none has a fox
    drawing._font.cache_clear()
