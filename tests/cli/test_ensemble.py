"""`vgg ensemble` from the command line."""

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import trained_in
from tests.cli.test_train import train
from tests.conftest import MakeFolder
from vggcli.cli.app import run


@pytest.fixture(scope="module")
def fusible(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `trained_in` makes it, with two runs."""
    return trained_in(tmp_path_factory.mktemp("fusible"), "0", "1")


@pytest.fixture
def photos(fusible: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of photos with two runs trained on it below the current folder."""
    for name in ("photos", "here"):
        shutil.copytree(fusible / name, tmp_path / name)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "photos"


def fused(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, object]:
    capsys.readouterr()
    assert run(["ensemble", "-q", "--json", *flags]) == 0
    result = json.loads(capsys.readouterr().out)
    assert isinstance(result, dict)
    return result


def test_runs_and_saved_scores_mix(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data", str(photos)]
    assert run(["eval", "--weights", "runs/A-1", *data, "--dense", "--save-scores", "a.safetensors", "-q"]) == 0
    assert run(["eval", "--weights", "runs/A-2", *data, "--dense", "--save-scores", "b.safetensors", "-q"]) == 0
    saved = fused(capsys, "a.safetensors", "b.safetensors")
    mixed = fused(capsys, "a.safetensors", "runs/A-2", *data, "--dense")
    fresh = fused(capsys, "runs/A-1", "runs/A-2/best.safetensors", *data, "--dense", "--save-scores", "c.safetensors")
    assert saved["top1_error"] == mixed["top1_error"] == fresh["top1_error"]
    assert fresh["protocol"] == "dense"
    assert fresh["images"] == 12
    members = fresh["members"]
    assert isinstance(members, list)
    assert [one["name"] for one in members] == ["runs/A-1", "runs/A-2/best.safetensors"]
    assert {"top1_error", "top5_error", "weights_sha256", "protocol", "scales"} <= set(members[0])
    again = fused(capsys, "c.safetensors", "a.safetensors", "b.safetensors")
    assert again["top1_error"] == saved["top1_error"]
    pairs = again["pairs"]
    assert isinstance(pairs, list)
    assert len(pairs) == 3


def test_the_table_shows_members_pairs_and_the_whole(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(photos, "--epochs", "1", "--seed", "2") == 0
    capsys.readouterr()
    assert run(["ensemble", "runs/A-1", "runs/A-2", "runs/A-3", "--data", str(photos), "-q"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("pair") == 3
    assert shown.count("A, centre-crop at Q = ") == 3
    assert "3 members" in shown
    assert "top-1" in shown
    assert "top-5" not in shown  # of three classes


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ("runs/A-1", 2, "two members"),
        ("runs/A-1 runs/A-1", 2, "named twice"),
        ("runs/A-1 nowhere", 4, "nowhere"),
        ("runs/A-1 runs/A-2 --scales 31", 2, "smallest usable Q is 32"),
        (
            "a.safetensors b.safetensors --dense",
            2,
            "has no effect where every member is a file of saved scores (--dense)",
        ),
        (
            "a.safetensors b.safetensors --device cpu",
            2,
            "has no effect where every member is a file of saved scores (--device)",
        ),
        (
            "a.safetensors b.safetensors --precision fp32",
            2,
            "has no effect where every member is a file of saved scores (--precision)",
        ),
        (
            "a.safetensors b.safetensors -b 2",
            2,
            "has no effect where every member is a file of saved scores (--batch-size)",
        ),
        (
            "a.safetensors b.safetensors -j 0",
            2,
            "has no effect where every member is a file of saved scores (--workers)",
        ),
        ("a.safetensors other.safetensors", 3, "different images"),
    ],
)
def test_each_wrong_command_line_is_refused(
    photos: Path, capsys: pytest.CaptureFixture[str], flags: str, code: int, message: str
) -> None:
    data = ["--data", str(photos), "-q"]
    for name, run_folder, split in (("a", "A-1", "val"), ("b", "A-2", "val"), ("other", "A-1", "train")):
        scores = ["--save-scores", f"{name}.safetensors", "--split", split]
        assert run(["eval", "--weights", f"runs/{run_folder}", *data, *scores]) == 0
    extra = [] if "safetensors" in flags else data
    assert run(["ensemble", *flags.split(), *extra]) == code
    said = capsys.readouterr().err
    assert message in said
    assert said.splitlines()[-1].startswith("vgg: ")


def test_other_classes_are_exit_4(photos: Path, make_folder: MakeFolder, capsys: pytest.CaptureFixture[str]) -> None:
    other = make_folder("other", classes=4)
    assert run(["ensemble", "runs/A-1", "runs/A-2", "--data", str(other)]) == 4
    assert "'class3'" in capsys.readouterr().err


def test_images_that_are_left_out_are_said(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "val" / "class0" / "0.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    runs = [str(path) for path in sorted(Path("runs").iterdir())]
    assert run(["ensemble", *runs[:2], "--data", str(photos), "--skip-bad", "-q", "-j", "0"]) == 0
    said = capsys.readouterr()
    assert "left out: " in said.err
    assert "11 images (1 left out)" in " ".join(said.out.split())


@pytest.mark.parametrize("cut", [slice(0, 500), slice(0, -8)])
def test_a_damaged_scores_file_is_called_one(photos: Path, capsys: pytest.CaptureFixture[str], cut: slice) -> None:
    assert run(["eval", "--weights", "runs/A-1", "--data", str(photos), "--save-scores", "a.safetensors", "-q"]) == 0
    raw = Path("a.safetensors").read_bytes()
    start = raw.find(b'"protocol":"')  # safetensors writes its entries in any order
    assert start > 0
    Path("b.safetensors").write_bytes(raw[: max(start + 20, cut.stop)] if cut.stop > 0 else raw[cut])
    capsys.readouterr()
    assert run(["ensemble", "a.safetensors", "b.safetensors"]) == 4
    said = capsys.readouterr().err
    assert "b.safetensors is a scores file that is damaged or cut short (" in said
    assert "checkpoint" not in said
