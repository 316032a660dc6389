"""What the Python functions of this room promise."""

from pathlib import Path

import numpy as np
import pytest

from tests.features.stores import checkpoint, network, pictures
from vggcli.errors import DataError, UsageError
from vggcli.features.describe import Features, features
from vggcli.places import Places


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """The folders of a user whose current folder holds a run of network D and three photos."""
    monkeypatch.chdir(tmp_path)
    Path("runs/D-1").mkdir(parents=True)
    checkpoint(Path("runs/D-1/last.safetensors"), network("D"))
    for path, name in zip(pictures(Path("photos"), 3), ("cat", "dog", "lynx"), strict=True):
        path.rename(path.with_name(f"{name}.jpg"))
    return Places(Path("runs"), tmp_path / "cache")


def test_a_network_says_how_it_describes(places: Places) -> None:
    found = Features("runs/D-1", "pool5", norm="l1")
    how = "pool='gap', scales=(40,), aggregate='mean', norm='l1', flip=True"
    assert repr(found) == f"Features('runs/D-1', 'pool5', {how}) of network D"
    with pytest.raises(UsageError, match="pool is 'avg', and should be 'gap'"):
        features(places, ["photos"], "runs/D-1", pool="avg")  # type: ignore[arg-type]


def test_a_single_image_needs_no_file_and_the_newest_run_no_name(places: Places) -> None:
    found = features(places, ["photos/cat.jpg"], arch="D", layer=["fc7", "pool5"])
    assert found.single is not None
    assert found.out is None
    for row, layer in zip(found.single.rows, ("fc7", "pool5"), strict=True):
        np.testing.assert_array_equal(row, Features("runs/D-1", layer)(["photos/cat.jpg"])[0])
    with pytest.raises(UsageError, match="there are 3 images; give a file for their descriptors"):
        features(places, ["photos"], arch="D")
    with pytest.raises(DataError, match="there is none here"):
        features(places, ["-"], arch="D")


def test_what_cannot_be_used_is_in_the_outcome(places: Places) -> None:
    Path("photos/dog.jpg").write_bytes(b"no image")
    found = features(places, ["photos"], "runs/D-1", out="f.npy")
    assert (found.rows, found.bad[0][0]) == (2, "photos/dog.jpg")
    with pytest.raises(DataError, match="1 of 3 files could not be used"):
        found.check()
