"""Predictions as a table, and images that cannot be used beside those that can."""

import json
from pathlib import Path

import pytest

from tests.conftest import MakeFolder
from tests.zoo.nets import about, small
from vggcli.errors import DataError, UsageError
from vggcli.evaluation.options import MeasureOptions
from vggcli.evaluation.predict import predict, predicted
from vggcli.places import Places
from vggcli.weights.checkpoint import save_checkpoint


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "w.safetensors", small(), about(small()))
    return tmp_path / "w.safetensors"


def test_what_cannot_be_used_stops_no_other(make_folder: MakeFolder, weights: Path, tmp_path: Path) -> None:
    places = Places(tmp_path / "runs", tmp_path / "cache")
    folder = make_folder() / "val" / "class0"
    (folder / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    found = predict(places, [folder, tmp_path / "none.jpg"], weights, top=2, device="cpu", dense=True)
    assert [len(one.top) for one in found.images] == [2] * 4
    assert sorted(Path(one.path).name for one in found.bad) == ["bad.jpg", "none.jpg"]
    assert [set(one) for one in found.to_json()] == [{"path", "predictions"}] * 4 + [{"path", "error"}] * 2
    found.write(tmp_path / "t.json")
    rows = json.loads((tmp_path / "t.json").read_text())
    assert [row["posterior"] for row in rows] == [value for one in found.images for _, value in one.top]


def test_nothing_to_predict_and_results_among_the_images(
    make_folder: MakeFolder, weights: Path, tmp_path: Path
) -> None:
    places = Places(tmp_path / "runs", tmp_path / "cache")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="there is no image in"):
        predict(places, tmp_path / "empty", weights)
    folder = make_folder()
    inside = folder / "val" / "class0" / "t.csv"
    with pytest.raises(UsageError, match="inside the input folder"):
        predicted([str(folder)], weights, MeasureOptions(), 5, places=places, outputs=[("out", inside)])
