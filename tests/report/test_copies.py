"""Copies of images with their boxes lie where names cannot collide, never over another file; all candidates are drawn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageColor

from vggcli.data.own_files import was_drawn
from vggcli.errors import DataError, MachineError, UsageError
from vggcli.localisation.candidates import Candidates
from vggcli.localisation.localise import Found, Guess
from vggcli.report.boxes import rank_colour
from vggcli.report.copies import Copies

BOXES_24 = torch.tensor([[[2.0, 3, 20, 16], [10, 4, 30, 22]], [[1, 1, 9, 9], [5, 5, 60, 21]]], dtype=torch.float64)
SCORES_22 = torch.tensor([[0.25, 0.5], [0.125, 1.0]], dtype=torch.float64)
FOUND = Found(0, (32, 24), torch.ones(2) / 2, ("ape", "bee"), (0.75, 0.25), (Candidates(BOXES_24, SCORES_22),))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def photo(name: str) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 24), "navy").save(path, "PNG")
    return name


def drawn_of(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a/1.jpg"], ["1.png"]),
        (["a/1.jpg", "b/1.jpg"], ["a/1.png", "b/1.png"]),
        (["p/a/1.jpg", "p/b/c/1.jpg"], ["a/1.png", "b/c/1.png"]),
        (["a/1.jpg", "a/1.png", "a/1.PNG"], ["1.PNG-2.png", "1.png", "1.png.png"]),
        (["a/1.jpg", "a/b/1.jpg"], ["1.png", "b/1.png"]),
        (["a/no suffix", "a/x.tar.gif"], ["no suffix.png", "x.tar.png"]),
        (["a/../a/1.jpg", "./b/1.jpg"], ["a/1.png", "b/1.png"]),
    ],
)
def test_copies_of_images_never_have_one_name(names: list[str], expected: list[str]) -> None:
    copies = Copies(Path("out"))
    copies.begin([photo(name) for name in names])
    for name in names:
        copies.draw(name, FOUND.guesses(0.0), FOUND, 0.0)
    copies.finish()
    assert drawn_of(Path("out")) == sorted(expected)
    assert copies.drawn == len(names)
    assert all(was_drawn(path) for path in Path("out").rglob("*.png"))
    assert all(Image.open(name).getpixel((20, 3)) == (0, 0, 128) for name in names)  # the originals are as they were


def test_two_images_that_differ_in_a_suffix_keep_their_candidates_apart() -> None:
    names = [photo("a/1.jpg"), photo("a/1-candidates.jpg"), photo("a/1.gif")]
    copies = Copies(Path("out"), candidates=True)
    copies.begin(names)
    for name in names:
        copies.draw(name, FOUND.guesses(0.0), FOUND, 0.0)
    copies.finish()
    assert len(drawn_of(Path("out"))) == 6


def test_nothing_is_overwritten_and_nothing_drawn_among_the_images() -> None:
    name = photo("a/1.jpg")
    for folder in (Path("a"), Path("b/../a")):
        with pytest.raises(UsageError, match="has the images themselves"):
            Copies(folder).begin([name])
    Path("link").symlink_to("a")
    with pytest.raises(UsageError, match="has the images themselves"):
        Copies(Path("link")).begin([name])
    for existing in ("out/1.png", "out/1-candidates.png"):
        photo(existing)
        with pytest.raises(UsageError, match=f"{existing} exists already"):
            Copies(Path("out")).begin([name])
        Path(existing).unlink()
    Path("file").write_text("")
    with pytest.raises(MachineError, match="file"):
        Copies(Path("file/below")).begin([name])


def test_what_ends_the_drawing_is_raised_when_the_work_is_done() -> None:
    names = [photo("a/1.jpg"), photo("a/2.jpg")]
    copies = Copies(Path("out"))
    copies.begin(names)
    Path("a/1.jpg").unlink()
    for name in names:
        copies.draw(name, FOUND.guesses(0.0), FOUND, 0.0)
    assert copies.drawn == 0
    with pytest.raises(DataError, match="there is no such file"):
        copies.finish()


def test_a_copy_is_upright_and_has_its_boxes() -> None:
    image = Image.new("RGB", (240, 320), "navy")  # as stored: it is turned by EXIF
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save("1.jpg", exif=exif)
    guesses = [
        Guess("ape", 0.75, (100.0, 60.0, 300.0, 200.0), 1.0, 2),
        Guess("bee", 0.001, (5.0, 5.0, 50.0, 50.0), 1.0, 1),
    ]
    copies = Copies(Path("out"))
    copies.begin(["1.jpg"])
    copies.draw("1.jpg", guesses, FOUND, 0.0)
    copies.finish()
    with Image.open("out/1.png") as opened:
        drawn = np.asarray(opened)
    assert drawn.shape == (240, 320, 3)
    rows, columns = (drawn == ImageColor.getrgb(rank_colour(0))).all(-1).nonzero()
    assert (columns.min(), columns.max(), rows.max()) == (100, 299, 199)
    assert not (drawn == ImageColor.getrgb(rank_colour(1))).all(-1).any()  # a guess of almost no probability


def test_every_candidate_of_every_class_is_drawn_in_the_colour_of_its_score(drawn: list[Any]) -> None:
    copies = Copies(Path("out"), candidates=True)
    copies.begin([photo("a/1.jpg")])
    copies.draw("a/1.jpg", FOUND.guesses(0.0), FOUND, 0.0)
    copies.finish()
    panels, bars = drawn[0].axes[::2], drawn[0].axes[1::2]
    for row, (axes, bar) in enumerate(zip(panels, bars, strict=True)):
        (collection,) = axes.collections
        order = SCORES_22[row].argsort()  # the highest on top
        np.testing.assert_array_equal(collection.get_array(), SCORES_22[row][order])
        extents = [path.get_extents() for path in collection.get_paths()]
        np.testing.assert_array_equal([[*one.min, *one.max] for one in extents], BOXES_24[row][order])
        assert collection.get_clim() == (0, SCORES_22[row].max())
        (merged,) = axes.patches
        x0, y0, x1, y1 = BOXES_24[row][order[-1]].tolist()
        assert (merged.get_xy(), merged.get_width(), merged.get_height()) == ((x0, y0), x1 - x0, y1 - y0)
        assert bar.get_ylabel() == "score of the candidate"
        assert axes.get_xlim() == pytest.approx((-3.2, 35.2))  # a box leaves the image, so a margin is shown
    texts = [text.get_text() for text in drawn[0].texts]
    assert {"ape 0.75", "bee 0.25", "2 candidates, 1 of them in this box"} <= {*texts}
    assert texts[0] == "Candidates in a/1.jpg"


def test_boxes_that_all_classes_share_are_coloured_by_the_scores_of_each(drawn: list[Any]) -> None:
    shared = Found(0, (32, 24), FOUND.posteriors_K, FOUND.labels, FOUND.scores, (Candidates(BOXES_24[:1], SCORES_22),))
    copies = Copies(Path("out"), candidates=True)
    copies.begin([photo("a/1.jpg")])
    copies.draw("a/1.jpg", shared.guesses(0.0), shared, 0.0)
    copies.finish()
    first, second = (axes.collections[0] for axes in drawn[0].axes[::2])
    np.testing.assert_array_equal(first.get_array(), [0.25, 0.5])
    np.testing.assert_array_equal(second.get_array(), [0.125, 1.0])
    assert len(first.get_paths()) == len(second.get_paths()) == 2
