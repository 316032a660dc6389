"""The embedded set: the same pictures everywhere, tight boxes, widely different sizes, built whole or not at all."""

import csv
import hashlib
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageDraw

from vggcli.data import shapes
from vggcli.data.shapes_art import THINGS
from vggcli.data.sources import load_training

SMALL = {"train": 24, "val": 10}
PINNED = {  # of the raw pixels: a change of these is a new VERSION
    ("train", 0): "19bee4b52c8b4959073800af29bab44e460ddc43a1fdfc1bec12556513234582",
    ("train", 1999): "c5bc4eff53cfd63fb77a3ce777a22a9bbd8d6551b6c87f870f36d853c0d0eb0f",
    ("val", 7): "91176ba94e11771c3bedaf9a0b192c0ff4f4c06cef86194f788f26c3a0fcf525",
}


@pytest.mark.parametrize(("split", "index"), list(PINNED))
def test_pictures_are_the_same_everywhere(split: str, index: int) -> None:
    assert hashlib.sha256(shapes.render(split, index).image.tobytes()).hexdigest() == PINNED[split, index]


def test_boxes_are_tight(monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(20):
        rendered = shapes.render("train", index)
        with monkeypatch.context() as patch:
            patch.setitem(THINGS, rendered.label, lambda pen, draw: pen.mask.point((0, 0), fill=255))
            bare = shapes.render("train", index).image  # the same background without its thing
        changed = ImageChops.difference(rendered.image, bare).convert("L").point(lambda value: 255 if value > 6 else 0)
        found = changed.getbbox()
        assert found is not None
        assert all(abs(a - b) <= 2 for a, b in zip(found, rendered.box, strict=True)), (index, found, rendered.box)


def test_sizes_span_a_factor_of_four_and_pictures_are_photo_like() -> None:
    extents = []
    for index in range(300):
        rendered = shapes.render("train", index)
        width, height = rendered.image.size
        assert min(width, height) >= 256
        xmin, ymin, xmax, ymax = rendered.box
        assert 0 <= xmin < xmax <= width
        assert 0 <= ymin < ymax <= height
        extents.append(max(xmax - xmin, ymax - ymin) / min(width, height))
    assert max(extents) > 4 * min(extents)


def test_a_pool_renders_the_same_bytes_as_one_process(tmp_path: Path) -> None:
    alone, pool = (shapes.build(tmp_path / name, workers, SMALL) for name, workers in (("a", 1), ("b", 2)))
    names = sorted(path.relative_to(alone.parent) for path in alone.parent.rglob("*.*"))
    assert len(names) == 35
    for name in names:
        assert (alone.parent / name).read_bytes() == (pool.parent / name).read_bytes(), name


def test_the_index_is_a_source_with_balanced_classes_and_boxes(tmp_path: Path) -> None:
    index = shapes.build(tmp_path / "s", 1, {"train": 40, "val": 20})
    train, val = load_training(index)
    assert train.classes == tuple(sorted(shapes.CLASSES))
    assert set(Counter(train.labels).values()) == {4}
    assert set(Counter(val.labels).values()) == {2}
    assert all(len(train.own_boxes(row)) == 1 for row in range(len(train)))
    with index.open(newline="") as file:
        row = next(csv.DictReader(file))
    image = Image.open(index.parent / row["path"])
    ImageDraw.Draw(image).rectangle([int(row[key]) for key in shapes.HEADER[3:]])  # inside, or this is a wrong column


def test_a_build_that_fails_leaves_nothing_and_one_that_is_there_is_kept(tmp_path: Path) -> None:
    done = []

    def interrupt(more: int) -> None:
        done.append(more)
        if sum(done) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shapes.build(tmp_path / "s", 1, SMALL, interrupt)
    assert list(tmp_path.iterdir()) == []
    index = shapes.build(tmp_path / "s", 1, SMALL)
    before = index.stat().st_mtime_ns
    assert shapes.build(tmp_path / "s", 1, SMALL, interrupt) == index
    assert index.stat().st_mtime_ns == before
