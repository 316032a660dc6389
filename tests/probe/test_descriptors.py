"""Stored descriptors: read, refused, and matched to images by name."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.features.stored_files import write_store
from vggcli.data.sources import ImageSet
from vggcli.errors import DataError
from vggcli.features.pooling import l2_normalised
from vggcli.probe.descriptors import Descriptors, matched_rows, read_descriptors, stacked, with_parts_joined
from vggcli.probe.labelled import with_descriptors

ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)
NAMES = ["a.jpg", "b, c\n.jpg", "caf\udce9.jpg"]  # a comma, a newline, a byte that is not UTF-8


def image_set(root: Path, names: Sequence[str]) -> ImageSet:
    return ImageSet(root, "train", ("x",), tuple(names), (0,) * len(names), ((),) * len(names))


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_descriptors_come_back_with_their_names(tmp_path: Path, kind: Any) -> None:
    store = read_descriptors(write_store(tmp_path / "d.safetensors", ROWS.astype(kind), NAMES, tmp_path))
    np.testing.assert_array_equal(store.features_ND, ROWS)
    assert store.features_ND.dtype == np.float32
    assert store.images == tuple(NAMES)
    assert store.root == str(tmp_path)
    assert store.about["layer"] == "fc7"
    assert store.dimension == 4


def test_npz_is_read_too(tmp_path: Path) -> None:
    metadata = json.dumps({"layer": "fc7", "root": "somewhere"})
    np.savez(tmp_path / "d.npz", features=ROWS, images=np.array(["x/a.jpg", "b", "c"]), metadata=metadata)
    store = read_descriptors(tmp_path / "d.npz")
    np.testing.assert_array_equal(store.features_ND, ROWS)
    assert store.images == ("x/a.jpg", "b", "c")
    assert (store.root, store.about) == ("somewhere", {"layer": "fc7"})
    np.save(tmp_path / "one.npy", ROWS)
    for content in (b"PK\3\4 but no more", b"", b"text", (tmp_path / "one.npy").read_bytes()):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(DataError, match="cannot be read as a file of descriptors"):
            read_descriptors(tmp_path / "bad.npz")


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    with pytest.raises(DataError, match="is not there; make one with"):
        read_descriptors(path)
    path.write_text("not a store")
    with pytest.raises(DataError, match="cannot be read as a file of descriptors"):
        read_descriptors(path)
    save_file({"conv1_1.weight": ROWS, "fc7": ROWS}, path, {"vgg": "{}"})
    with pytest.raises(DataError, match=r"name no images; it holds conv1_1\.weight, fc7"):
        read_descriptors(path)
    cut = write_store(path, ROWS, NAMES).read_bytes()[:-9]
    path.write_bytes(cut)
    with pytest.raises(DataError, match="cannot be read as a file of descriptors"):
        read_descriptors(path)


@pytest.mark.parametrize(
    ("features", "images", "message"),
    [
        (np.zeros((3, 4, 2, 2), np.float32), "abc", r"maps of the shape \[3, 4, 2, 2\], not rows"),
        (ROWS, "ab", "3 descriptors and the names of 2 images"),
        (ROWS[:0], "", "holds no descriptor"),
        (ROWS, "aba", "two descriptors of 'a'"),
        (np.where(ROWS < 5, ROWS, np.nan), "abc", "descriptor of 'b' .* not finite"),
        (np.where(ROWS < 9, ROWS, np.inf), "abc", "descriptor of 'c' .* not finite"),
    ],
)
def test_what_is_wrong_with_a_store_is_said(tmp_path: Path, features: Any, images: str, message: str) -> None:
    path = write_store(tmp_path / "d.safetensors", features.astype(np.float32), list(images))
    with pytest.raises(DataError, match=message):
        read_descriptors(path)


@pytest.mark.parametrize("images", ['{"a": 1}', "[1, 2, 3]", "a, b, c"])
def test_names_that_are_no_list_are_refused(tmp_path: Path, images: str) -> None:
    path = tmp_path / "d.safetensors"
    save_file({"features": ROWS}, path, {"images": images})
    with pytest.raises(DataError, match="do not list the names"):
        read_descriptors(path)


def store(images: Sequence[str], root: str = "") -> Descriptors:
    return Descriptors("d.safetensors", np.zeros((len(images), 2), np.float32), tuple(images), root)


def test_images_are_matched_by_absolute_path_first(tmp_path: Path) -> None:
    images = image_set(tmp_path / "photos", ["val/a.jpg", "train/a.jpg", "a.jpg"])
    names = ["photos/train/a.jpg", "../elsewhere/val/a.jpg", "photos/a.jpg", "other/../photos/val/a.jpg"]
    assert matched_rows(store(names, str(tmp_path)), images).tolist() == [3, 0, 2]


def test_images_are_matched_by_the_end_of_the_name_then() -> None:
    images = image_set(Path("there"), ["x/a.jpg", "x/b.jpg", "nowhere.jpg", "c.jpg"])
    assert matched_rows(store(["here/x/b.jpg", "ax/a.jpg", "c.jpg", "deep/in/x/a.jpg"], "here"), images).tolist() == [
        3, 0, -1, 2
    ]  # fmt: skip


def test_what_could_be_two_images_is_refused() -> None:
    images = image_set(Path("there"), ["b.jpg", "a.jpg"])
    with pytest.raises(DataError, match=r"of a\.jpg could be that of 'x/a\.jpg' or of 'y/a\.jpg' \(1 of 2"):
        matched_rows(store(["x/a.jpg", "y/a.jpg", "b.jpg"]), images)
    images = image_set(Path("there"), ["a.jpg", "x/a.jpg"])
    with pytest.raises(DataError, match=r"'x/a\.jpg' could belong to a\.jpg and to x/a\.jpg"):
        matched_rows(store(["x/a.jpg"]), images)


def test_missing_descriptors_are_counted_or_left_out() -> None:
    images = image_set(Path("there"), ["a", "b", "c", "d"])
    full, part = store(["d", "c", "b", "a", "z"]), store(["b", "a", "d"])
    kept, rows, unused = with_descriptors(images, [full], skip_missing=False)
    assert kept == images
    assert rows[0].tolist() == [3, 2, 1, 0]
    assert unused == (1,)
    with pytest.raises(DataError, match="no descriptor of 1 of the 4 images of there; the first is c"):
        with_descriptors(images, [full, part], skip_missing=False)
    kept, rows, _ = with_descriptors(images, [full, part], skip_missing=True)
    assert kept.names == ("a", "b", "d")
    assert [one.tolist() for one in rows] == [[3, 2, 0], [1, 0, 2]]
    with pytest.raises(DataError, match="describes none of the 4 images"):
        with_descriptors(images, [full, store(["q"])], skip_missing=True)
    with pytest.raises(DataError, match="described by all of the 2 stores"):
        with_descriptors(images, [store(["a"]), store(["b"])], skip_missing=True)


def test_stores_are_stacked_row_by_row_each_of_length_one() -> None:
    one = Descriptors("1", np.array([[3, 4], [0, 0], [0, 2]], np.float32), ("a", "b", "c"))
    two = Descriptors("2", np.array([[5], [7]], np.float32), ("c", "a"))
    rows = [np.array([0, 2]), np.array([1, 0])]
    wanted_ND = np.array([[0.6, 0.8, 1], [0, 1, 1]], np.float32)
    np.testing.assert_allclose(stacked([one, two], rows, True), wanted_ND, rtol=1e-6)
    np.testing.assert_array_equal(stacked([one, two], rows, False), [[3, 4, 7], [0, 2, 5]])
    np.testing.assert_array_equal(l2_normalised(one.features_ND)[1], [0, 0])


def made(path: str, root: str, names: Sequence[str], value: float, **about: str) -> Descriptors:
    about = {"weights_sha256": "0a", "layer": "fc7", "scales": "[256]", **about}
    return Descriptors(path, np.full((len(names), 2), value, np.float32), tuple(names), root, about)


def test_stores_that_were_made_alike_are_parts_of_one() -> None:
    train, val = made("t", "/photos", ["train/a", "train/b"], 1), made("v", "/photos/val", ["a"], 2)
    deeper = made("e", "/photos", ["train/a"], 3, weights_sha256="0b")
    wider = made("w", "/photos", ["train/a"], 4, scales="[512]")
    whole, *others = with_parts_joined([train, deeper, val, wider])
    assert others == [deeper, wider]
    assert whole.path == "t + v"
    assert whole.features_ND[:, 0].tolist() == [1, 1, 2]
    images = image_set(Path("/photos"), ["val/a", "train/b", "train/a"])
    assert matched_rows(whole, images).tolist() == [2, 1, 0]
    with pytest.raises(DataError, match="t and x were made with the same settings, and both describe a"):
        with_parts_joined([train, val, made("x", "/photos/train", ["a"], 5)])


def test_stores_that_do_not_say_how_they_were_made_are_never_joined() -> None:
    stores = [store(["a"]), store(["b"])]
    assert with_parts_joined(stores) == stores


def test_rows_of_any_length_get_length_one() -> None:
    rows = np.array([[3e-3, -4e-3], [300.0, 400.0], [0.5, 0.0]], np.float32)
    wanted = np.array([[0.6, -0.8], [0.6, 0.8], [1, 0]], np.float32)
    np.testing.assert_allclose(l2_normalised(rows), wanted, rtol=1e-6)
