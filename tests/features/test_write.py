"""Files of rows, read back by the libraries that others would read them with: numbers and names to the last bit."""

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from vggcli.data.decode import ImageError
from vggcli.data.own_files import STORE_SUFFIXES
from vggcli.errors import DataError, MachineError, UsageError
from vggcli.features import write
from vggcli.features.extract import Rows
from vggcli.features.metadata import sidecar
from vggcli.features.read import open_rows, open_store
from vggcli.features.search import folder_classes, nearest
from vggcli.features.spool import Spool, stored
from vggcli.features.table import Column, Table, column_of
from vggcli.features.write import check_format, write_table
from vggcli.probe.descriptors import read_descriptors

NAMES = ("plain.jpg", "new\nline.jpg", 'quote"d, comma.jpg', "bytes\udcff\udc80.jpg", "ünï/\r.png", " leading.jpg")
ABOUT = {"layer": "fc7", "weights": "w.safetensors", "weights_sha256": "0" * 64}


def table(dtype: str = "float32", names: tuple[str, ...] = NAMES) -> tuple[Table, np.ndarray[Any, Any]]:
    rows = np.random.default_rng(0).standard_normal((len(names), 5)).astype(dtype)
    return Table(names, {"features": column_of(rows)}, ABOUT), rows


def written(tmp_path: Path, suffix: str, **changes: Any) -> tuple[Path, np.ndarray[Any, Any]]:
    content, rows = table(**changes)
    path = tmp_path / f"f{suffix}"
    write_table(path, content)
    return path, rows


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_numbers_and_names_survive_exactly(tmp_path: Path, dtype: str) -> None:
    path, rows = written(tmp_path, ".safetensors", dtype=dtype)
    assert np.array_equal(load_file(path)["features"], rows)
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        assert tuple(json.loads(file.metadata()["images"])) == NAMES
        assert file.metadata()["layer"] == "fc7"

    path, rows = written(tmp_path, ".npy", dtype=dtype)
    mapped = np.load(path, mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    assert np.array_equal(mapped, rows)
    assert mapped.dtype == dtype
    assert tuple(json.loads(sidecar(path).read_text())["images"]) == NAMES

    path, rows = written(tmp_path, ".npz", dtype=dtype)
    with np.load(path) as arrays:
        assert np.array_equal(arrays["features"], rows)
        assert tuple(arrays["images"]) == NAMES
        assert json.loads(str(arrays["metadata"])).items() >= ABOUT.items()

    path, rows = written(tmp_path, ".csv", dtype=dtype)
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        header, *lines = csv.reader(file)
    assert header == ["path", "0", "1", "2", "3", "4"]
    assert tuple(line[0] for line in lines) == NAMES
    assert np.array_equal(np.array([line[1:] for line in lines], dtype), rows)
    assert os.fsencode(NAMES[3]) in path.read_bytes()  # the very bytes of the file system


@pytest.mark.parametrize("names", [NAMES, NAMES[:3]], ids=["binary", "text"])
def test_parquet(tmp_path: Path, names: tuple[str, ...]) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    path, rows = written(tmp_path, ".parquet", names=names)
    read = pq.read_table(path)
    assert np.array_equal(np.array(read.column("features").to_pylist(), np.float32), rows)
    found = read.column("path").to_pylist()
    assert found == ([os.fsencode(name) for name in names] if names == NAMES else list(names))
    assert read.schema.metadata[b"layer"] == b"fc7"


@pytest.mark.parametrize("suffix", STORE_SUFFIXES)
def test_every_format_is_read_back_and_equal_tables_are_equal_files(tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path, rows = written(tmp_path, suffix)
    first = path.read_bytes()
    assert open_rows(path).names == NAMES
    assert np.array_equal(np.concatenate(list(open_rows(path).chunks())), rows)
    assert open_rows(path).metadata == ABOUT
    written(tmp_path, suffix)
    assert path.read_bytes() == first
    path.write_bytes(first[: len(first) // 3])
    with pytest.raises(DataError, match="f\\" + suffix):
        list(open_rows(path).chunks())


@pytest.mark.parametrize("suffix", [".safetensors", ".npy", ".npz", ".parquet", ".csv"])
def test_a_probe_reads_every_format(tmp_path: Path, suffix: str) -> None:
    path, rows = written(tmp_path, suffix)
    store = read_descriptors(path)
    np.testing.assert_array_equal(store.features_ND, rows)
    assert store.images == NAMES
    assert store.about["layer"] == ABOUT["layer"]


def test_several_layers_are_tensors_of_their_own_names(tmp_path: Path) -> None:
    columns = {"conv1_1": column_of(np.ones((2, 3), np.float32)), "fc7:pre": column_of(np.zeros((2, 5), np.float32))}
    for suffix in (".safetensors", ".npz"):
        write_table(tmp_path / f"f{suffix}", Table(["a", "b"], columns, ABOUT))
    assert {name: rows.shape for name, rows in load_file(tmp_path / "f.safetensors").items()} == {
        "conv1_1": (2, 3),
        "fc7:pre": (2, 5),
    }
    with np.load(tmp_path / "f.npz") as arrays:
        assert arrays["fc7:pre"].shape == (2, 5)
    with pytest.raises(DataError, match="conv1_1, fc7:pre"):
        open_rows(tmp_path / "f.safetensors")


def test_formats_say_what_they_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, layers, pooled, words in [
        ("f.txt", ["fc7"], True, "ends in .safetensors"),
        ("f.npy", ["fc6", "fc7"], True, "one layer"),
        ("f.csv", ["fc7"], False, "not maps"),
    ]:
        with pytest.raises(UsageError, match=words):
            check_format(Path(name), layers, pooled)

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(MachineError, match=r"pip install 'vggcli\[parquet\]'"):
        check_format(Path("f.parquet"), ["fc7"], True)


def test_a_header_that_readers_refuse_is_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "LARGEST_HEADER", 200)
    with pytest.raises(UsageError, match="write shards of 10,000"):
        written(tmp_path, ".safetensors")
    assert list(tmp_path.iterdir()) == []


def test_rows_may_come_in_any_order_and_some_never(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vggcli.features.spool.CHUNK_ROWS", 4)
    names = [f"{index}.jpg" for index in range(19)]
    rows = np.random.default_rng(1).standard_normal((19, 3)).astype(np.float32)
    order = [
        index for index in np.random.default_rng(2).permutation(19).tolist() if index not in (0, 5, 8, 9, 10, 11, 18)
    ]
    with Spool(tmp_path, ["fc7"], names, "float32") as spool:
        for index in order:
            spool.put(Rows((index,), (rows[index : index + 1],)))
        for index in (0, 5):
            spool.leave_out(ImageError(names[index], "bad", index))
        kept = spool.table(ABOUT)
        write_table(tmp_path / "f.safetensors", kept)
    assert list(kept.names) == [names[index] for index in sorted(order)]
    assert np.array_equal(load_file(tmp_path / "f.safetensors")["features"], rows[sorted(order)])
    assert [path.name for path in tmp_path.iterdir()] == ["f.safetensors"]


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(column: object) -> Iterator[object]:
        raise OSError(28, "No space left on device")
        yield

    content, _ = table()
    broken = Column("float32", (6, 5), lambda: full(None))  # type: ignore[arg-type, return-value]
    with pytest.raises(MachineError, match="no space left"):
        write_table(tmp_path / "f.safetensors", Table(content.names, {"features": broken}, ABOUT))
    assert list(tmp_path.iterdir()) == []


def test_float16_never_turns_into_infinity() -> None:
    row = np.array([1.0, 65504.0], np.float32)
    assert stored(row, "float16", "a.jpg").tolist() == [1.0, 65504.0]
    with pytest.raises(UsageError, match=r"70000, a value of a.jpg"):
        stored(np.array([1.0, 70000.0], np.float32), "float16", "a.jpg")


def test_nearest_is_the_slow_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vggcli.features.read_arrays.CHUNK_ROWS", 7)
    names = tuple(f"{index}.jpg" for index in range(40))
    path, rows = written(tmp_path, ".safetensors", names=names)
    query = np.random.default_rng(9).standard_normal(5).astype(np.float32)
    cosines = [float(row @ query / np.linalg.norm(row) / np.linalg.norm(query)) for row in rows]
    best = sorted(range(40), key=lambda index: -cosines[index])[:6]
    found = nearest(open_rows(path), query, 6)
    assert [one.name for one in found] == [names[index] for index in best]
    assert [one.cosine for one in found] == pytest.approx([cosines[index] for index in best], abs=1e-6)
    others = sorted(set(range(40)) - {best[0], best[3]}, key=lambda index: -cosines[index])[:6]
    found = nearest(open_rows(path), query, 6, lambda name: name in (names[best[0]], names[best[3]]))
    assert [one.name for one in found] == [names[index] for index in others]
    assert len(nearest(open_rows(path), query, 50, lambda name: name == "7.jpg")) == 39
    assert nearest(open_rows(path), query, 3, lambda name: True) == []
    for row in rows:  # whose cosine with itself is above 1 by rounding, for some
        assert nearest(open_rows(path), row, 1)[0].cosine <= 1
        assert min(one.cosine for one in nearest(open_rows(path), -row, 40)) >= -1
    with pytest.raises(DataError, match="5 entries and the query's 4"):
        nearest(open_rows(path), query[:4], 1)


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["train/cat/1.jpg", "val/dog/1.jpg"], ["cat", "dog"]),
        (["photos/cat/1.jpg", "photos/cat/2.jpg"], [None, None]),  # one folder may be any
        (["train/1.jpg", "val/1.jpg"], [None, None]),
        (["1.jpg", "2.jpg"], [None, None]),
        (["a.tar/1.jpg", "b.tar/1.jpg", "b.tar/cat/1.jpg"], [None] * 3),
        (["a.tar/dog/1.jpg", "b.tar/cat/1.jpg", "b.tar/1.jpg"], ["dog", "cat", None]),
    ],
)
def test_folders_tell_classes_where_there_are_several(names: list[str], classes: list[str | None]) -> None:
    assert list(map(folder_classes(names), names)) == classes


def test_what_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    (tmp_path / "folder").mkdir()
    maps = Table(["a"], {"features": column_of(np.zeros((1, 2, 3, 3), np.float32))}, ABOUT)
    write_table(tmp_path / "maps.npz", maps)
    path, _ = written(tmp_path, ".npy")
    sidecar(path).unlink()
    for name, words in [
        ("a.txt", "is not a file of"),
        ("none.npy", "is not there"),
        ("folder", "manifest"),
        ("maps.npz", r"holds maps of the shape \[1, 2, 3, 3\]"),
        ("f.npy", "there is no .*f.npy.json, which belongs to"),
    ]:
        with pytest.raises(DataError, match=words):
            open_store(tmp_path / name)
