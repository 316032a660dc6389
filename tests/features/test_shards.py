"""Shards killed at any moment, divided among processes, asked for anew: the same bytes, or the difference is said."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from tests.features.stores import checkpoint, network, pictures
from vggcli.cli.app import run
from vggcli.errors import DataError
from vggcli.features.read import open_store

pq = pytest.importorskip("pyarrow.parquet")
COMMAND = ["features", "photos", "--gap", "--weights", "w.safetensors", "--shard-size", "3", "-q", "-j", "0"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with weights and ten images in photos/, one of which cannot be used: four shards."""
    monkeypatch.chdir(tmp_path)
    checkpoint(Path("w.safetensors"), network())
    pictures(Path("photos"), 10)
    Path("photos/004.jpg").write_bytes(b"no image")
    return tmp_path


def content(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() if path.is_file() else b"" for path in Path(folder).iterdir()}


def test_shards_hold_every_row_and_the_index_every_image(here: Path) -> None:
    assert run([*COMMAND, "--out", "s"]) == 3  # one could not be used
    assert sorted(content("s")) == [
        "index.parquet",
        "manifest.json",
        *(f"shard-0000{number}.safetensors" for number in range(4)),
    ]
    assert run(["features", "photos", "--gap", "--weights", "w.safetensors", "--out", "one.safetensors", "-q"]) == 3
    with safe_open("one.safetensors", framework="pt") as file:
        whole = dict(zip(json.loads(file.metadata()["images"]), file.get_tensor("features"), strict=True))
        assert json.loads(file.metadata()["skipped"])[0][0] == "photos/004.jpg"
    index = pq.read_table("s/index.parquet").to_pylist()
    assert [entry["path"] for entry in index] == [f"photos/{number:03d}.jpg" for number in range(10)]
    for entry in index:
        if entry["path"] == "photos/004.jpg":
            assert (entry["shard"], entry["row"]) == (None, None)
            assert "not an image" in entry["reason"]
            continue
        assert entry["reason"] is None
        with safe_open(f"s/{entry['shard']}", framework="pt") as file:
            row = file.get_tensor("features")[entry["row"]]
            assert json.loads(file.metadata()["images"])[entry["row"]] == entry["path"]
        assert (row - whole[entry["path"]]).abs().max() < 1e-6


KILLER = """
import os, signal, sys, torch
torch.set_num_threads(1)  # as the run it is compared with: the order of sums depends on the threads
from vggcli import files
real, count = files._flush, [0]
def counted(path):
    count[0] += 1
    if count[0] == {number}:
        os.kill(os.getpid(), signal.SIGKILL)
    real(path)
files._flush = counted
from vggcli.cli.app import run
from vggcli.errors import DataError
from vggcli.features.read import open_store
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "number", [4, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, 7)), 11]
)  # first shard in place, manifest, third, index
def test_a_kill_at_any_moment_changes_no_bit(here: Path, number: int) -> None:
    assert run([*COMMAND, "--out", "straight"]) == 3
    command = [sys.executable, "-c", KILLER.format(number=number), *COMMAND, "--out", "killed"]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    left = set(content("killed"))
    assert any(name.endswith(".tmp") for name in left)
    assert run([*COMMAND, "--out", "killed", "-j", "2"]) == 3
    assert content("killed") == content("straight")  # and nothing half-written stays
    assert run([*COMMAND, "--out", "killed"]) == 3  # a finished folder has nothing left to do
    assert content("killed") == content("straight")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--gmp", "pool was gap and is gmp"),
        ("--scales 44", "scales was 40 and is 44"),
        ("--norm l1 --layer fc6", "layer was fc7 and is fc6; norm was l2 and is l1"),
        ("--weights other.safetensors", "weights_sha256 was"),
        ("--shard-size 4", "shard_size was 3 and is 4"),
        ("--decode gpu", "decode was cpu and is gpu"),
        ("more", "images was 10 and is 12"),
        ("changed", "images 7 to 9 (photos/006.jpg … photos/008.jpg) have other names or sizes"),
    ],
)
def test_other_inputs_weights_or_settings_are_refused_with_the_difference(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, flags: str, words: str
) -> None:
    monkeypatch.setattr("vggcli.features.bulk.need_decoder", lambda decode, device: None)
    assert run([*COMMAND, "--out", "s"]) == 3
    before = content("s")
    checkpoint(Path("other.safetensors"), network(seed=1))
    command = [word for word in COMMAND if word != "--gap" or "--gmp" not in flags]
    if flags == "more":
        pictures(Path("photos"), 12)
        Path("photos/004.jpg").write_bytes(b"no image")
    elif flags == "changed":
        Path("photos/007.jpg").write_bytes(Path("photos/001.jpg").read_bytes() + b"more")
    else:
        command += flags.split()
    assert run([*command, "--out", "s"]) == 2
    assert words in capsys.readouterr().err
    assert content("s") == before


def test_processes_divide_the_work_and_the_result_is_the_same(here: Path) -> None:
    assert run([*COMMAND, "--out", "one"]) == 3
    code = "import sys, torch; torch.set_num_threads(1); from vggcli.cli.app import run; sys.exit(run(sys.argv[1:]))"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, *COMMAND, "--out", "several"],
            env={**os.environ, "RANK": str(rank), "WORLD_SIZE": "3", "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL,
        )
        for rank in (2, 1, 0)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 3]
    assert content("several") == content("one")


def test_processes_without_shards_are_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert run(["features", "photos", "--gap", "--weights", "w.safetensors", "--out", "f.npy"]) == 2
    assert "--shard-size" in capsys.readouterr().err


def test_sigterm_leaves_whole_shards_and_says_so(here: Path) -> None:
    pictures(Path("photos"), 400)
    command = ["1" if word == "3" else word for word in COMMAND] + ["--out", "s"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vggcli", *command], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    while not Path("s/shard-00002.safetensors").exists() and process.poll() is None:
        time.sleep(0.005)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert "the same command continues" in said
    assert not [name for name in content("s") if name.endswith(".tmp")]
    assert len(content("s")) < 402


def test_a_shard_without_any_row_is_still_a_shard(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3, 6):
        Path(f"photos/{number:03d}.jpg").write_bytes(b"no image")
    assert run([*COMMAND, "--out", "s", "--json"]) == 3
    result = json.loads(capsys.readouterr().out)
    assert (result["images"], len(result["skipped"])) == (7, 3)
    with safe_open("s/shard-00001.safetensors", framework="pt") as file:
        assert file.get_tensor("features").shape == (0, 512)


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        ("--out s.npy", 2, "a folder of .safetensors files"),
        ("--out none/s", 2, "there is no folder none"),
        ("--out full", 2, "holds other files"),
        ("", 2, "no effect without an output folder (--shard-size, --out)"),
        ("--out photos/s", 2, "inside the input folder photos"),
    ],
)
def test_held_wrong(here: Path, capsys: pytest.CaptureFixture[str], flags: str, code: int, words: str) -> None:
    Path("full").mkdir()
    Path("full/x").touch()
    assert run([*COMMAND, *flags.split()]) == code
    assert words in capsys.readouterr().err
    assert list(Path("full").iterdir()) == [Path("full/x")]


def flipped(path: str, place: int) -> None:
    """One bit of a file is another."""
    content = bytearray(Path(path).read_bytes())
    content[place] ^= 4
    Path(path).write_bytes(content)


def test_shards_that_are_not_what_was_written_are_made_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*COMMAND, "--out", "s"]) == 3
    straight = content("s")
    flipped("s/shard-00000.safetensors", -1)  # of a row
    flipped("s/shard-00001.safetensors", len(straight["shard-00001.safetensors"]) // 9)  # of the header
    Path("s/shard-00002.safetensors").write_bytes(straight["shard-00003.safetensors"])
    Path("s/shard-00003.safetensors").write_bytes(b"x")
    flipped("s/index.parquet", 99)
    capsys.readouterr()
    assert run([*COMMAND, "--out", "s"]) == 3
    said = capsys.readouterr().err
    assert said.count("computed again") == 4
    assert "shard-00000.safetensors cannot be read" in said
    assert content("s") == straight
    for damaged in (
        "{",
        "[" * 100_000,
        '{"format": 1}',
        straight["manifest.json"].decode().replace('"images": 10', '"images": 11'),
    ):
        Path("s/manifest.json").write_text(damaged)
        assert run([*COMMAND, "--out", "s"]) == 2
        assert "manifest.json cannot be used" in capsys.readouterr().err


def test_shards_of_a_version_without_digests_are_kept(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*COMMAND, "--out", "s"]) == 3
    for path in Path("s").glob("*.safetensors"):
        without_digests(path)
    manifest = json.loads(Path("s/manifest.json").read_text())
    del manifest["sha256"]
    Path("s/manifest.json").write_text(json.dumps(manifest))
    before = content("s")
    capsys.readouterr()
    assert run([*COMMAND, "--out", "s"]) == 3
    assert "computed again" not in capsys.readouterr().err
    assert content("s") == before
    assert run(["features", "--search", "photos/002.jpg", "s", "--top", "1"]) == 0


def without_digests(path: Path) -> None:
    with safe_open(path, framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = {name: text for name, text in file.metadata().items() if "sha256" not in name or "weights" in name}
    save_file(tensors, path, metadata)


def test_a_folder_that_is_not_whole_is_never_searched(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*COMMAND, "--out", "s"]) == 3
    assert run([*COMMAND, "--out", "other", "--scales", "44"]) == 3
    assert run([*["photos/00[0-3].jpg" if word == "photos" else word for word in COMMAND], "--out", "fewer"]) == 0
    for name, source, words in [
        ("shard-00002.safetensors", None, "lacks 1 of its 4 shards, the first shard-00002.safetensors"),
        ("index.parquet", None, "lacks index.parquet"),
        ("index.parquet", "s/manifest.json", "index.parquet is damaged"),
        ("index.parquet", "fewer/index.parquet", "index.parquet is damaged .it does not match the shards"),
        ("manifest.json", None, "holds no manifest.json"),
        ("shard-00001.safetensors", "s/shard-00003.safetensors", "1 rows and should have 3"),
        ("shard-00002.safetensors", "s/shard-00000.safetensors", "both have a descriptor of 'photos/000.jpg'"),
        ("shard-00003.safetensors", "other/shard-00003.safetensors", "made with other settings than manifest.json"),
        ("manifest.json", "other/manifest.json", "made with other settings than manifest.json"),
        ("manifest.json", "s/shard-00000.safetensors", "manifest.json is damaged"),
    ]:
        before = Path("s", name).read_bytes()
        Path("s", name).unlink()
        if source is not None:
            Path("s", name).write_bytes(Path(source).read_bytes())
        with pytest.raises(DataError, match=words):
            open_store(Path("s"))
        Path("s", name).write_bytes(before)
    found = 0
    for place in range(4, 404, 8):
        flipped("s/index.parquet", place)
        try:
            open_store(Path("s"))  # bounds in a page's statistics decide nothing
        except DataError as error:
            assert "index.parquet is damaged" in str(error)
            found += 1
        flipped("s/index.parquet", place)
    assert found > 30
    Path("s/index.parquet").unlink()
    for command in (["features", "--search", "photos/002.jpg", "s"], ["probe", "s", "--data", "photos"]):
        capsys.readouterr()
        assert run(command) == 3
        assert "s is not finished" in capsys.readouterr().err
