"""`vgg predict --boxes` and the pictures and tables of `vgg eval` on boxes, from the command line."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from tests.conftest import write_photos
from tests.localisation.nets import saved, saved_pair
from vggcli.cli.app import run
from vggcli.report.boxes import rank_colour


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of photos with boxes.csv, and in the current folder a network of boxes and one of classes."""
    root = write_photos(tmp_path / "photos")
    names = sorted(path.relative_to(root).as_posix() for path in root.glob("*/*/*.jpg"))
    lines = [f"{name},{name.split('/')[1]},{name.split('/')[0]},10,10,40,40" for name in names]
    (root / "boxes.csv").write_text("\n".join(["path,label,split,xmin,ymin,xmax,ymax", *lines]))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    saved_pair(Path())
    return root


BOTH = ["--boxes", "boxes.safetensors", "--classifier", "classes.safetensors"]


def test_boxes_are_shown_written_and_drawn_for_all_images_but_the_bad_ones(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [photos / "train" / "class1", photos / "val" / "class1"]
    (folders[1] / "bad.jpg").write_bytes(b"no image")
    for path in [*folders[0].glob("[4-7].jpg"), *folders[1].glob("[2-3].jpg")]:
        path.unlink()
    flags = [*BOTH, "--scales", "36", "48", "-q", "--json", "--out", "t.csv", "--draw", "drawn", "--candidates"]
    assert run(["predict", *flags, *map(str, folders), f"{folders[0]}/0.jpg"]) == 3
    shown = capsys.readouterr()
    objects = [json.loads(line) for line in shown.out.splitlines()]
    *good, bad = objects
    assert bad["image"] == f"{folders[1]}/bad.jpg"
    assert "1 of 7 files could not be used" in shown.err
    rows = list(csv.DictReader(Path("t.csv").read_text().splitlines()))
    assert [row["path"] for row in rows[::3]] == [one["image"] for one in good]
    boxes = [[float(row[name]) for name in ("xmin", "ymin", "xmax", "ymax")] for row in rows]
    assert boxes == [box["box"] for one in good for box in one["boxes"]]
    drawn = sorted(path.relative_to("drawn").as_posix() for path in Path("drawn").rglob("*.png"))
    names = [f"train/class1/{n}" for n in range(4)] + [f"val/class1/{n}" for n in range(2)]
    assert drawn == sorted([f"{name}.png" for name in names] + [f"{name}-candidates.png" for name in names])


def test_a_box_is_drawn_where_the_table_has_it(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    with Image.open(photos / "val" / "class1" / "3.jpg") as small:  # wide as stored, high as seen
        small.resize((400, 250)).save("turned.jpg", exif=exif)
    assert run(["predict", *BOTH, "turned.jpg", "-q", "--json", "--top", "1", "--draw", "drawn"]) == 0
    (only,) = json.loads(capsys.readouterr().out)["boxes"]
    left, top, right, bottom = only["box"]
    with Image.open("drawn/turned.png") as copy:
        assert copy.size == (250, 400)
        found = (np.asarray(copy) == ImageColor.getrgb(rank_colour(0))).all(-1)
    middle, sides = int((top + bottom) / 2), (int(left), int(np.ceil(right)) - 1)
    assert 0 <= sides[0] < sides[1] < 250
    assert found[middle, sides].all()
    assert not found[middle, sides[0] + 10 : sides[1] - 9].any()


def test_a_terminal_of_80_columns_gets_every_corner(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(photos / "val", "a folder with a long name, as people have them, with photos in it")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["predict", *BOTH, "-q", "a folder with a long name, as people have them, with photos in it"]) == 0
    lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 80
    heads = next(line.split() for line in lines if "xmin" in line)
    assert heads == ["image", "class", "score", "xmin", "ymin", "xmax", "ymax"]
    corners = [line.split()[-4:] for line in lines if "class" in line and "xmin" not in line]
    assert len(corners) == 36
    assert all(float(one) == round(float(one), 1) for row in corners for one in row)


def test_a_classifier_takes_no_image_and_a_second_one_is_averaged(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(Path("other.safetensors"), None, seed=5)
    image = str(photos / "val" / "class0" / "0.jpg")

    def score(*flags: str) -> dict[str, float]:
        assert run(["predict", "--boxes", "boxes.safetensors", *flags, image, "-q", "--json"]) == 0
        return {one["class"]: one["score"] for one in json.loads(capsys.readouterr().out)["boxes"]}

    one, other = score("--classifier", "classes.safetensors"), score("--classifier", "other.safetensors")
    both = score("--classifier", "classes.safetensors", "--classifier", "other.safetensors")
    assert both == pytest.approx({name: (one[name] + other[name]) / 2 for name in one}, abs=1e-6)


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ("--boxes classes.safetensors --classifier classes.safetensors", 4, "gives classes, not boxes"),
        ("--boxes boxes.safetensors --classifier boxes.safetensors", 4, "gives boxes in place of classes"),
        ("--boxes boxes.safetensors", 2, "(--classifier)"),
        ("--draw out", 2, "--draw has no effect without --boxes"),
        ("--candidates", 2, "--candidates has no effect without --boxes"),
        ("--classifier classes.safetensors", 2, "--classifier has no effect without --boxes"),
        ("--merging 0.5", 2, "--merging has no effect without --boxes"),
        ("--merging 0", 2, "--merging has no effect without --boxes"),
        ("{} --candidates", 2, "--candidates has no effect without --draw"),
        ("{} --weights classes.safetensors", 2, "--weights has no effect with --boxes"),
        ("{} --arch A", 2, "--arch has no effect with --boxes"),
        ("{} --multi-crop", 2, "dense evaluation alone"),
        ("{} --top 6", 2, "at most 5 classes"),
        ("{} --draw ../photos/val/class0", 2, "has the images themselves"),
        ("{} --draw boxes.safetensors", 5, "boxes.safetensors"),
        ("{} --out t.txt", 2, ".csv or .json"),
    ],
)
def test_held_wrong(photos: Path, capsys: pytest.CaptureFixture[str], flags: str, code: int, message: str) -> None:
    line = flags.format(" ".join(BOTH)).split()
    assert run(["predict", *line, "-q", str(photos / "val" / "class0" / "0.jpg")]) == code
    assert message in capsys.readouterr().err


def test_drawings_are_not_put_among_the_images(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("val", "val/new"):
        assert run(["predict", *BOTH, "-q", str(photos / "val"), "--draw", str(photos / folder)]) == 2
        assert "is inside the input folder" in capsys.readouterr().err


def evaluated(photos: Path, *flags: str) -> int:
    return run(["eval", "boxes.safetensors", "--data", str(photos / "boxes.csv"), "-q", *flags])


def test_the_worst_boxes_and_their_histogram_are_written(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluated(photos, "--histogram", "h.png", "--worst", "3") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "h.png" in shown
    assert "worst.png (3 images, the lowest IoU first)" in shown
    dense = ["--dense", "--classifier", "classes.safetensors", "--histogram", "h2.png", "--worst", "99"]
    assert evaluated(photos, *dense) == 0
    assert "worst-2.png (12 images" in " ".join(capsys.readouterr().out.split())
    for name in ("h.png", "h2.png", "worst.png", "worst-2.png"):
        with Image.open(name) as picture:
            assert picture.info["Software"] == "vgg"
    assert evaluated(photos, "--histogram", "h.png") == 2  # never over another


def test_tables_are_those_of_the_paper(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(Path("shared.safetensors"), "scr", seed=3, layers="fc")
    assert evaluated(photos, "shared.safetensors", "--table") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:3] for line in lines if line[:1] == ["all"]] == [["all", "PCR", "36"]]
    assert [line[:4] for line in lines if line[:1] == ["fc6,"]] == [["fc6,", "fc7", "SCR", "36"]]
    dense = ["--dense", "--classifier", "classes.safetensors", "--table", "--data", str(photos / "boxes.csv")]
    assert run(["ensemble", "boxes.safetensors", "shared.safetensors", *dense, "--scales", "36", "48", "-q"]) == 0
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines()]
    sides = [line for line in lines if line[:3] == ["36", "36,", "48"]]
    assert [line[-1] for line in sides] == ["boxes.safetensors", "shared.safetensors"] * 2
    assert [len(line) for line in sides] == [6, 6, 6, 4]  # the last is the second of the whole
    assert "with classes by classes.safetensors" in shown


@pytest.mark.parametrize(
    ("weights", "flags", "message"),
    [
        ("boxes.safetensors", "--confusion c.png", "report of classes, but the weights give boxes"),
        ("classes.safetensors", "--histogram h.png", "report of boxes, but the weights give classes"),
        ("boxes.safetensors", "--histogram h.jpg", "must be a name that ends in .png"),
        ("boxes.safetensors boxes.safetensors", "--histogram h.png", "one file for 2 networks"),
    ],
)
def test_reports_that_cannot_be_made(
    photos: Path, capsys: pytest.CaptureFixture[str], weights: str, flags: str, message: str
) -> None:
    shutil.copy("boxes.safetensors", "second.safetensors")
    names = weights.replace("boxes.safetensors boxes", "boxes.safetensors second").split()
    assert run(["eval", *names, "--data", str(photos / "boxes.csv"), "-q", *flags.split()]) == 2
    assert message in capsys.readouterr().err
