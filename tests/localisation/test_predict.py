"""Predicted boxes are those of the pipeline, in pixels of the upright image; tables, JSON and CSV say the same."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import vggcli
from tests.conftest import MakeFolder, picture
from tests.localisation.nets import CLASSES, saved, saved_pair
from vggcli.data.test_batches import test_batches
from vggcli.errors import DataError, UsageError, WeightsError
from vggcli.evaluation.options import MeasureOptions
from vggcli.files import file_sha256
from vggcli.localisation import localise, measure
from vggcli.localisation.evaluate import BoxOptions
from vggcli.localisation.localise import THRESHOLD, Found, Guess
from vggcli.localisation.predict import BoxPredictions, predicted_boxes
from vggcli.places import Places


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.chdir(tmp_path)
    return saved_pair(tmp_path)


def found_in(paths: str | Sequence[str], pair: tuple[Path, Path], **asked: object) -> BoxPredictions:
    return vggcli.predict(paths, boxes=pair[0], classifier=pair[1], **asked)  # type: ignore[call-overload,no-any-return]


def boxed(folder: Path) -> Path:
    """A list of the images in `folder`, each with the same box."""
    lines = ["path,label,split,xmin,ymin,xmax,ymax"]
    names = sorted(str(path.relative_to(folder)) for path in folder.glob("*/*/*.jpg"))
    lines += [f"{name},{name.split('/')[1]},{name.split('/')[0]},10,10,40,40" for name in names]
    (folder / "boxes.csv").write_text("\n".join(lines))
    return folder / "boxes.csv"


@pytest.mark.parametrize("dense", [False, True])
def test_the_hash_is_that_of_the_networks_that_were_measured(
    make_folder: MakeFolder, pair: tuple[Path, Path], dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = file_sha256(pair[0])
    Path("other").write_bytes(pair[0].read_bytes() + b" ")

    def replaced_meanwhile(*given: Any, **how: Any) -> Any:
        Path("other").replace(pair[0])
        return test_batches(*given, **how)

    for room in (measure, localise):
        monkeypatch.setattr(room, "test_batches", replaced_meanwhile)
    how: Any = {"classifier": pair[1], "scales": (48,), "dense": True} if dense else {}
    found = vggcli.evaluate(pair[0], boxed(make_folder()), **how)
    assert not Path("other").exists()
    assert found.evaluation.weights_sha256 == measured


def test_predictions_are_those_of_an_evaluation(make_folder: MakeFolder, pair: tuple[Path, Path]) -> None:
    folder = make_folder()
    boxed(folder)
    how = {"scales": (36, 48)}
    measured = vggcli.evaluate(pair[0], folder / "boxes.csv", classifier=pair[1], dense=True, **how)  # type: ignore[arg-type]
    found = found_in(str(folder / "val"), pair, **how)
    boxes = {Path(one.path).relative_to(folder).as_posix(): one.boxes for one in found.images}
    for name, guesses in zip(measured.images.names, measured.guesses, strict=True):  # type: ignore[union-attr]
        assert [one.label for one in boxes[name]] == [one.label for one in guesses]
        for one, other in zip(boxes[name], guesses, strict=True):
            assert one.box == pytest.approx(other.box, abs=1e-3)
            assert one.score == pytest.approx(other.score, abs=1e-6)


def test_an_image_turned_by_exif_has_the_boxes_of_the_upright_one(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    upright = picture(1, 3).resize((160, 100))
    upright.save("upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save("turned.png", exif=exif)
    one, other = found_in(["upright.png", "turned.png"], pair, scales=(48,)).images
    assert [guess.box for guess in one.boxes] == [guess.box for guess in other.boxes]
    assert max(guess.box[2] for guess in one.boxes) > 100  # it is wider than high


def test_json_table_and_csv_say_the_same(make_folder: MakeFolder, pair: tuple[Path, Path]) -> None:
    folder = make_folder()
    (folder / "bad.jpg").write_bytes(b"no image")
    found = found_in([str(folder / "val" / "class0"), str(folder / "bad.jpg")], pair, top=2)
    found.write(Path("b.csv"))
    found.write(Path("b.json"))
    *objects, bad = found.to_json()
    assert json.loads(Path("b.json").read_text()) == found.to_json()
    assert bad == {"image": str(folder / "bad.jpg"), "error": found.bad[0].reason}
    rows = list(csv.DictReader(Path("b.csv").read_text().splitlines()))
    assert ",".join(rows[0]) == "path,rank,class,score,xmin,ymin,xmax,ymax"
    assert len(rows) == len(found.table()) == 4 * 2
    from_csv = [
        {
            "class": row["class"],
            "score": float(row["score"]),
            "box": [float(row[name]) for name in ("xmin", "ymin", "xmax", "ymax")],
        }
        for row in rows
    ]
    assert from_csv == [box for one in objects for box in one["boxes"]]
    assert [row["path"] for row in rows] == [one["image"] for one in objects for _ in one["boxes"]]
    assert [row["rank"] for row in rows] == ["1", "2"] * 4
    scores = [box["score"] for box in objects[0]["boxes"]]
    assert scores == sorted(scores, reverse=True)
    assert {box["class"] for box in from_csv} <= {*CLASSES}


def test_the_threshold_that_a_network_was_tuned_to_is_taken(make_folder: MakeFolder, pair: tuple[Path, Path]) -> None:
    folder = str(make_folder() / "val" / "class0")
    counts = {}
    for merging in (None, 0.0, THRESHOLD, 100.0):
        found = found_in(folder, pair, merging=merging, scales=(64,))
        counts[merging] = sum(box.candidates for one in found.images for box in one.boxes)
    assert counts[None] == counts[THRESHOLD]
    assert counts[0.0] < counts[100.0]


def test_a_drawer_gets_every_image_with_what_was_found(make_folder: MakeFolder, pair: tuple[Path, Path]) -> None:
    folder = make_folder()
    (folder / "bad.jpg").write_bytes(b"no image")
    paths = [str(folder / "val" / "class0"), str(folder / "bad.jpg")]

    class Drawer:
        names: Sequence[str] = ()
        drawn: dict[str, Sequence[Guess]] = {}  # noqa: RUF012 (of one test)

        def begin(self, names: Sequence[str]) -> None:
            self.names = names

        def draw(self, name: str, guesses: Sequence[Guess], found: Found, threshold: float) -> None:
            assert guesses == found.guesses(threshold)
            self.drawn[name] = guesses

    drawer, places = Drawer(), Places(Path("runs"), Path("cache"))
    by, asked = BoxOptions((pair[1],)), MeasureOptions(dense=True)
    found = predicted_boxes(paths, [pair[0]], by, asked, 5, places=places, drawer=drawer)
    assert len(drawer.names) == 5
    assert drawer.drawn == {one.path: one.boxes for one in found.images}
    assert len(found.bad) == 1


def test_boxes_of_several_networks_are_united(make_folder: MakeFolder, pair: tuple[Path, Path]) -> None:
    image = str(make_folder() / "val" / "class0" / "0.jpg")
    second = saved(Path("second.safetensors"), "scr", seed=2)
    one, other = (found_in(image, (boxes, pair[1]), merging=100.0) for boxes in (pair[0], second))
    both = vggcli.predict(image, boxes=[pair[0], second], classifier=pair[1], merging=100.0)
    for first, last, whole in zip(*(some.images[0].boxes for some in (one, other, both)), strict=True):
        assert whole.candidates == first.candidates + last.candidates
        corners = [
            (first.candidates * a + last.candidates * b) / whole.candidates
            for a, b in zip(first.box, last.box, strict=True)
        ]
        assert whole.box == pytest.approx(corners, abs=1e-6)


def test_held_wrong(make_folder: MakeFolder, pair: tuple[Path, Path]) -> None:
    image, (boxes, classes) = str(make_folder() / "val" / "class0" / "0.jpg"), pair
    with pytest.raises(WeightsError, match="gives classes, not boxes"):
        found_in(image, (classes, classes))
    with pytest.raises(WeightsError, match="gives boxes in place of classes"):
        found_in(image, (boxes, boxes))
    with pytest.raises(WeightsError, match="gives boxes in place of classes"):
        vggcli.predict(image, boxes)
    with pytest.raises(UsageError, match="at most 5 classes"):
        found_in(image, pair, top=6)
    with pytest.raises(UsageError, match="top is 0"):
        found_in(image, pair, top=0)
    with pytest.raises(UsageError, match="dense evaluation alone"):
        found_in(image, pair, multi_crop=True)
    with pytest.raises(UsageError, match="weights have no effect beside boxes"):
        found_in(image, pair, weights=classes)
    with pytest.raises(UsageError, match="need a network that says their classes"):
        vggcli.predict(image, boxes=boxes, classifier=())
    with pytest.raises(UsageError, match="classifier has no effect without"):
        vggcli.predict(image, classes, classifier=classes)  # type: ignore[call-overload]
    with pytest.raises(DataError, match="none of the 1 image can be used"):
        found_in("missing.jpg", pair)
