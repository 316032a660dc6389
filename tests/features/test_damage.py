"""Stores damaged anywhere, in every format: found, one sentence, exit 3; or nothing that anybody reads was touched."""

import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from vggcli.cli.app import run
from vggcli.data.own_files import STORE_SUFFIXES
from vggcli.errors import DataError
from vggcli.features.metadata import sidecar
from vggcli.features.read import open_file, open_store
from vggcli.features.table import Table, column_of
from vggcli.features.write import write_table

NAMES = tuple(f"photos/{index}.jpg" for index in range(12))
ROWS = np.random.default_rng(0).standard_normal((12, 6)).astype(np.float32)
ABOUT = {"layer": "fc7", "pool": "gap", "scales": "[256]", "weights": "w.safetensors", "weights_sha256": "0" * 64}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the same rows in every format that can be read here."""
    monkeypatch.chdir(tmp_path)
    for suffix in STORE_SUFFIXES:
        if suffix == ".parquet":
            pytest.importorskip("pyarrow")
        write_table(tmp_path / f"f{suffix}", Table(NAMES, {"features": column_of(ROWS)}, ABOUT))
    return tmp_path


def content(path: Path) -> tuple[Any, ...]:
    """All that anybody takes from a store."""
    stored = open_store(path)
    return stored.names, dict(stored.metadata), np.concatenate(list(stored.chunks())).tobytes()


def flipped(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def spliced(data: bytes, draw: random.Random) -> bytes:
    at, source, length = draw.randrange(len(data)), draw.randrange(len(data)), draw.randint(1, 40)
    return data[:at] + data[source : source + length] + data[at + length :]


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    flipped,
    flipped,
    spliced,
    lambda data, draw: data[: draw.randrange(len(data))],
    lambda data, draw: data + draw.randbytes(draw.randint(1, 99)),
)


def test_no_mutation_changes_what_is_read(here: Path) -> None:
    draw, found = random.Random(12), 0
    for target in [*(f"f{suffix}" for suffix in STORE_SUFFIXES), "f.npy.json", "f.csv.json"]:
        path, store = here / target, here / target.removesuffix(".json")
        whole, before = path.read_bytes(), content(store)
        for index in range(60):
            path.write_bytes(MUTATIONS[index % len(MUTATIONS)](whole, draw))
            try:
                assert content(store) == before, target
            except DataError as error:
                assert str(store) in str(error) or path.name in str(error)
                found += 1
        path.write_bytes(whole)
    assert found > 360  # of 420; the others are in bytes without a meaning, such as a date in a zip archive


def test_the_command_line_says_damage_in_one_sentence(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "q.jpg").write_bytes(b"")
    for suffix in STORE_SUFFIXES:
        path = here / f"f{suffix}"
        whole = path.read_bytes()
        path.write_bytes(whole[:-3])
        for command in (["features", "--search", "q.jpg", path.name], ["probe", path.name]):
            capsys.readouterr()
            assert run(command) == 3
            said = capsys.readouterr()
            assert (said.out, said.err.count("\n")) == ("", 1)
            assert f"vgg: f{suffix}" in said.err


def without_digests(metadata: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metadata.items() if key not in ("sha256", "rows_sha256")}


def plain_npy(path: Path, array: np.ndarray[Any, Any], **changes: Any) -> Path:
    """As an older version wrote it, without digests."""
    np.save(path, array)
    sidecar(path).write_text(json.dumps({**ABOUT, "images": NAMES, "rows": 12, **changes}))
    return path


def test_digests_are_of_the_content_and_the_same_in_every_format(here: Path) -> None:
    metadata = [json.loads((here / "f.npy.json").read_text())]
    with np.load(here / "f.npz") as arrays:
        metadata.append(json.loads(str(arrays["metadata"])))
    metadata.append(dict(open_file(here / "f.safetensors").metadata))
    assert metadata[0]["rows_sha256"] == metadata[1]["rows_sha256"]
    assert metadata[0]["sha256"] == metadata[1]["sha256"]
    assert metadata[2] == ABOUT  # and none of them is handed on


@pytest.mark.parametrize(
    ("rows", "changes", "words"),
    [
        (ROWS, {}, None),
        (ROWS.astype(">f4"), {}, None),
        (ROWS.astype(np.float64), {}, None),
        (np.asfortranarray(ROWS), {}, "Fortran order"),
        (ROWS.astype(np.int64), {}, "type int64"),
        (ROWS.astype(complex), {}, "type complex128"),
        (np.full((12, 6), 1e300), {}, "not finite"),
        (ROWS[:-1], {}, "11 descriptors and the names of 12 images"),
        (ROWS[:, 0], {}, r"shape \[12\]"),
        (ROWS[:, :0], {}, "no descriptor"),
        (ROWS, {"rows": "12"}, "says '12' rows"),
        (ROWS, {"images": [*NAMES[:-1], 3]}, "11 is 3"),
        (ROWS, {"images": [*NAMES[:-1], NAMES[0]]}, "two descriptors of 'photos/0.jpg'"),
        (ROWS, {"images": [*NAMES[:-1], "\0"]}, "a character that is not allowed in names"),
        (ROWS, {"pool": ["gap"]}, "pool is"),
    ],
)
def test_stores_without_digests_are_looked_over_all_the_same(
    tmp_path: Path, rows: np.ndarray[Any, Any], changes: dict[str, Any], words: str | None
) -> None:
    path = plain_npy(tmp_path / "f.npy", rows, **changes)
    if words is None:
        np.testing.assert_array_equal(np.concatenate(list(open_store(path).chunks())), ROWS)
        return
    with pytest.raises(DataError, match=words):
        list(open_store(path).chunks())


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 6)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-12, 6)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (12, 6)}",
        "{'descr': '<f99999', 'fortran_order': False, 'shape': (12, 6)}",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (12, 6)}",
        "(" * 9000,
        "\xff",
    ],
)
def test_headers_of_npy_that_numpy_itself_stumbles_over(tmp_path: Path, header: str) -> None:
    path = plain_npy(tmp_path / "f.npy", ROWS)
    text = header.encode("latin1")
    path.write_bytes(b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text + ROWS.tobytes())
    with pytest.raises(DataError, match="cannot be read"):
        open_store(path)


def test_bfloat16_is_read_and_other_types_are_refused_by_name(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file as save_torch

    metadata = {**ABOUT, "images": json.dumps(NAMES)}
    rows = torch.from_numpy(ROWS).bfloat16()
    save_torch({"features": rows}, tmp_path / "b.safetensors", metadata)
    read = np.concatenate(list(open_store(tmp_path / "b.safetensors").chunks()))
    np.testing.assert_array_equal(read, rows.float().numpy())
    save_file({"features": ROWS.astype(np.int8)}, tmp_path / "i.safetensors", metadata)
    with pytest.raises(DataError, match="of the type I8"):
        open_store(tmp_path / "i.safetensors")


def test_nothing_unpacks_to_more_than_its_rows_need(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "z.npz", features=np.zeros((12, 500_000), np.float32), images=np.array(NAMES))
    with pytest.raises(DataError, match="compressed"):
        open_store(tmp_path / "z.npz")
    np.savez(tmp_path / "o.npz", features=ROWS, images=np.array(NAMES))
    members = {name: zipfile.ZipFile(tmp_path / "o.npz").read(name) for name in ("features.npy", "images.npy")}
    with zipfile.ZipFile(tmp_path / "more.npz", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data + b"\0" * 64)
    with pytest.raises(DataError, match="bytes and needs"):
        open_store(tmp_path / "more.npz")


def test_a_packed_parquet_file_is_refused_by_its_claims(tmp_path: Path) -> None:
    pq, pa = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    wide = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(64 * 300_000, np.float32)), 300_000)
    one = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(500_000, np.float32)), 1)
    repeated = pa.DictionaryArray.from_arrays(pa.array(np.zeros(500_000, np.int32)), ["x" * 9_000])
    for paths, rows, words in [
        (pa.array([str(index) for index in range(64)]), wide, "claim 64 rows of 300,000 numbers"),
        (repeated, one, "claim 500,000 rows"),
        (pa.array([*NAMES[:-1], NAMES[0]]), one[:12], "names an image twice"),
        (pa.array(list(range(12))), one[:12], "of int64, not of texts"),
        (pa.array(NAMES), one[:12].flatten(), "not of fixed-size lists"),
        (pa.array([*NAMES[:-1], None]), one[:12], "missing values"),
    ]:
        pq.write_table(pa.table({"path": paths, "features": rows}), tmp_path / "f.parquet", compression="zstd")
        with pytest.raises(DataError, match=words):
            open_store(tmp_path / "f.parquet")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: "", "first line"),
        (lambda text: text.split("\n", 1)[1], "first line"),
        (lambda text: text.replace(",", ";"), "first line"),
        (lambda text: text.rstrip("\n") + ",1\n", "row 12 has 7 numbers"),
        (lambda text: text.rsplit(",", 1)[0] + ",cat\n", "convert"),
        (lambda text: text.rsplit(",", 1)[0] + ",nan\n", "not finite"),
        (lambda text: text.rsplit(",", 1)[0] + ",1e99\n", "not finite"),
        (lambda text: text + '"', "end of data"),
        (lambda text: text.rstrip("\n") + "1" * 140_000 + "\n", "field"),
    ],
)
def test_lines_of_csv_that_are_no_rows(here: Path, change: Callable[[str], str], words: str) -> None:
    path = here / "f.csv"
    about = json.loads(sidecar(path).read_text())
    sidecar(path).write_text(json.dumps(without_digests(about)))
    text = path.read_text()
    assert content(path)[0] == NAMES
    path.write_text(change(text))
    with pytest.raises(DataError, match=words):
        content(path)


@pytest.mark.parametrize("suffix", STORE_SUFFIXES)
def test_what_is_no_regular_file_is_never_opened(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"fifo{suffix}")
    (tmp_path / f"zero{suffix}").symlink_to("/dev/zero")
    for name in ("fifo", "zero"):
        with pytest.raises(DataError, match="not a regular file"):
            open_store(tmp_path / f"{name}{suffix}")
    (tmp_path / f"empty{suffix}").touch()
    sidecar(tmp_path / f"empty{suffix}").write_text("{}")
    with pytest.raises(DataError, match="cannot be read"):
        open_store(tmp_path / f"empty{suffix}")
    if suffix in (".npy", ".csv"):
        sidecar(tmp_path / f"empty{suffix}").unlink()
        os.mkfifo(sidecar(tmp_path / f"empty{suffix}"))
        with pytest.raises(DataError, match="not a regular file"):
            open_store(tmp_path / f"empty{suffix}")


@pytest.mark.parametrize("suffix", STORE_SUFFIXES)
def test_what_the_machine_refuses_is_not_called_damage(
    here: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    def refused(path: Path) -> None:
        raise OSError(24, "Too many open files", str(path))

    monkeypatch.setattr("vggcli.features.read.READERS", {suffix: refused})
    with pytest.raises(OSError, match="Too many open files"):
        open_store(here / f"f{suffix}")
