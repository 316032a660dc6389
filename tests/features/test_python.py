"""What the Python functions of this room promise."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

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
    assert repr(found) == f"Features('runs/D-1', 'pool5', {how}): network D, 64 numbers an image"
    assert repr(Features("runs/D-1", scales=(40, 50), aggregate="stack")).endswith(": network D, 1024 numbers an image")
    assert repr(Features("runs/D-1", "conv3_3", "none")).endswith(": network D, a map of 32 channels an image")
    assert found(["photos/cat.jpg"]).shape == (1, 64)
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


@pytest.mark.parametrize("layer", ["fc7", "conv3_3"])
@pytest.mark.parametrize("workers", [0, 2])
def test_images_in_memory_give_the_bits_of_a_lossless_file(places: Places, layer: str, workers: int) -> None:
    with Image.open("photos/cat.jpg") as opened:
        image = opened.convert("RGB")
    pixels = np.asarray(image)
    image.save("cat.png")
    describe = Features("runs/D-1", layer, "none" if layer == "conv3_3" else "gap", workers=workers)
    (row,) = describe(["cat.png"])
    turned = pixels[::-1, ::-1][::-1, ::-1]  # the same in another order in memory
    for one in ("cat.png", Path("cat.png"), image, pixels, turned):
        np.testing.assert_array_equal(describe(one), row)  # alone
        np.testing.assert_array_equal(describe([one]), row[None])
    mixed = describe([pixels, "cat.png", image])
    np.testing.assert_array_equal(mixed[1:], mixed[[0, 0]])
    np.testing.assert_allclose(mixed[0], row, atol=1e-5)  # in a batch of another size
    np.testing.assert_array_equal(describe(iter([image])), row[None])
    assert image.tobytes() == pixels.tobytes()


def test_an_opened_image_is_made_upright_as_a_file_is(places: Places) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    describe = Features("runs/D-1")
    with Image.open("photos/cat.jpg") as image:
        np.testing.assert_array_equal(describe(image), describe("photos/cat.jpg"))
        image.save("turned.jpg", exif=exif)
    with Image.open("turned.jpg") as image:
        np.testing.assert_array_equal(describe(image), describe("turned.jpg"))


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (
            np.zeros((9, 8), np.uint8),
            r"image 0 is an array uint8 \[9, 8\]; give RGB arrays of uint8 \[height, width, 3\]",
        ),
        (np.zeros((8, 9, 3), np.float32), r"image 0 is an array float32 \[8, 9, 3\]"),
        (np.zeros((2, 8, 9, 3), np.uint8), r"image 0 is an array uint8 \[2, 8, 9, 3\]; .*in a list"),
        (np.zeros((8, 9, 4), np.uint8), r"uint8 \[8, 9, 4\]"),
        (np.zeros((0, 9, 3), np.uint8), r"uint8 \[0, 9, 3\]"),
        (["photos/cat.jpg", b"photos/cat.jpg"], "image 1 is bytes; give paths, Pillow images or RGB arrays"),
        ([], "give one image or more"),
    ],
)
def test_what_is_no_image_is_one_clear_error(places: Places, images: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Features("runs/D-1")(images)
