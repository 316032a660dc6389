"""`vgg train` from the command line: run folders, replays, signals, kills at any moment, and each way to hold it wrong."""

import errno
import io
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import vggcli
from tests.conftest import MakeFolder, picture, write_photos
from tests.training.sessions import assert_same_bits
from vggcli import files
from vggcli.cli.app import run
from vggcli.data import workers
from vggcli.data.decode import ImageError
from vggcli.metrics import count_correct
from vggcli.training import memory, objective
from vggcli.training.run import hold_run, let_go_of_run
from vggcli.weights.checkpoint import load_checkpoint, save_tensors

SMALL = "--arch A --crop 32 --scale 36 --width 0.0625 -b 8 --epochs 2 --init he --lr 0.01 -j 0".split()


def train(photos: Path, *more: str) -> int:
    return run(["train", "--data", str(photos), *SMALL, "-q", *more])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_a_run_folder_holds_what_the_interface_names(
    make_folder: MakeFolder, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(make_folder()) == 0
    folder = here / "runs" / "A-1"
    files = {path.name for path in folder.iterdir() if not path.name.startswith("resume-")}
    assert files == {"config.json", "log.jsonl", "best.safetensors", "last.safetensors", "curves.png", "views.png"}
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    keys = "epoch step loss top1_error top5_error val_loss learning_rate images_per_second seconds"
    assert set(lines[0]) == {*keys.split(), "training_error"}
    with Image.open(folder / "views.png") as views, Image.open(folder / "curves.png") as curves:
        assert views.width >= 8 * 96
        assert curves.size == (1200, 1050)
    said = capsys.readouterr()
    assert str(folder) in said.err
    assert said.out.splitlines()[-1] == "next: vgg eval --weights runs/A-1 --dense"
    assert run(["eval", "--weights", "runs/A-1", "--dense", "-q", "-j", "0"]) == 0
    assert train(make_folder("more")) == 0
    assert (here / "runs" / "A-2").is_dir()


def test_a_config_replays_a_run_and_a_flag_beside_it_wins(make_folder: MakeFolder, here: Path) -> None:
    photos = make_folder()
    assert train(photos, "--seed", "7", "--out", "first") == 0
    assert run(["train", "--config", "first/config.json", "--out", "again", "-q"]) == 0
    assert_same_bits(here / "first", here / "again")
    assert run(["train", "--config", "first/config.json", "--epochs", "1", "--out", "short", "-q"]) == 0
    assert len((here / "short" / "log.jsonl").read_text().splitlines()) == 1


def test_json_is_one_object_on_stdout(make_folder: MakeFolder, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(make_folder(), "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["epochs"] == 2
    assert result["run"] == str(here / "runs" / "A-1")


def test_training_longer_equals_having_trained_longer(make_folder: MakeFolder, here: Path) -> None:
    photos = make_folder()
    assert train(photos, "--out", "long", "--epochs", "3") == 0
    assert train(photos, "--out", "short") == 0
    assert run(["train", "--resume", "short", "-q"]) == 2  # it has finished its epochs
    assert run(["train", "--resume", "short", "--epochs", "3", "-q", "-j", "2"]) == 0
    assert_same_bits(here / "long", here / "short")


def test_resume_takes_the_newest_run(make_folder: MakeFolder, here: Path) -> None:
    photos = make_folder()
    for _ in range(2):
        assert train(photos, "--max-steps", "2") == 0
    assert run(["train", "--resume", "--max-steps", "4", "-q"]) == 0
    steps = [
        json.loads((here / "runs" / name / "log.jsonl").read_text().splitlines()[-1])["step"] for name in ("A-1", "A-2")
    ]
    assert steps == [2, 4]


def test_net_as_layers_start_a_deeper_net(
    make_folder: MakeFolder, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = make_folder()
    assert train(photos) == 0
    assert train(photos, "--arch", "B", "--init-from", "runs/A-1") == 0
    assert "conv3_2" in capsys.readouterr().err
    assert train(photos, "--arch", "B", "--init-from", "runs/A-1", "--width", "0.125") == 4
    assert "conv1_1" in capsys.readouterr().err
    two = make_folder(name="two", classes=2)
    assert train(two, "--arch", "B", "--init-from", "runs/A-1") == 0
    assert "fc8 is new: runs/A-1/best.safetensors has other classes" in capsys.readouterr().err


KILLER = """
import os, signal, sys, torch
torch.set_num_threads(1)  # as the run it is compared with: the order of sums depends on the threads
from vggcli.{module} import {name} as real
import vggcli.{patched} as where
count = [0]
def counted(*arguments):
    count[0] += 1
    if count[0] == {number}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
where.{name} = counted
from vggcli.cli.app import run
sys.exit(run(sys.argv[1:]))
"""
COUNT = {
    "module": "metrics",
    "name": "count_correct",
    "patched": "training.objective",
}  # 3 in training, 2 in validation
SAVE = {"module": "files", "name": "_flush", "patched": "files"}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Photos, and a run on them that nobody stopped."""
    root = tmp_path_factory.mktemp("straight")
    photos = write_photos(root / "photos")
    assert train(photos, "--out", str(root / "run")) == 0
    return photos, root / "run"


@pytest.mark.parametrize(
    ("place", "number"),
    [
        *((COUNT, 9), (SAVE, 11)),
        pytest.param(COUNT, 7, marks=pytest.mark.slow),
        *(pytest.param(SAVE, number, marks=pytest.mark.slow) for number in (3, 15, 19)),
    ],
)
def test_a_kill_at_any_moment_and_a_resume_change_no_bit(
    straight: tuple[Path, Path], here: Path, place: dict[str, str], number: int
) -> None:
    photos, whole = straight
    command = ["train", "--data", str(photos), *SMALL, "-q", "--out", "killed"]
    killed = subprocess.run([sys.executable, "-c", KILLER.format(**place, number=number), *command], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (here / "killed" / "last.safetensors").exists() == (place is not SAVE or number != 3)
    assert run(["train", "--resume", "killed", "-q", "-j", "2"]) == 0
    assert_same_bits(whole, here / "killed")
    assert len(list((here / "killed").iterdir())) == len(list(whole.iterdir()))  # nothing half-written stays


@pytest.mark.parametrize("kept", [0, 1])
def test_a_kill_between_the_last_save_and_the_log_is_made_good(
    make_folder: MakeFolder, here: Path, capsys: pytest.CaptureFixture[str], kept: int
) -> None:
    assert train(make_folder(), "--out", "run") == 0
    before = {name: (here / "run" / name).read_bytes() for name in ("log.jsonl", "last.safetensors")}
    (here / "run" / "log.jsonl").write_bytes(b"".join(before["log.jsonl"].splitlines(keepends=True)[:kept]))
    (here / "run" / "curves.png").unlink()
    capsys.readouterr()
    assert run(["train", "--resume", "run"]) == 0
    assert "best" in capsys.readouterr().out
    assert {name: (here / "run" / name).read_bytes() for name in before} == before
    assert (here / "run" / "curves.png").exists()
    assert run(["train", "--resume", "run"]) == 2  # now there is nothing left to do
    assert "has trained 2 epochs already" in capsys.readouterr().err


def test_a_run_has_one_writer(make_folder: MakeFolder, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(make_folder(), "--out", "run", "--epochs", "1") == 0
    before = (here / "run" / "last.safetensors").read_bytes()
    held = hold_run(here / "run")
    assert run(["train", "--resume", "run", "--epochs", "2", "-q"]) == 5
    assert f"run is being written by process {os.getpid()}" in capsys.readouterr().err
    assert (here / "run" / "last.safetensors").read_bytes() == before
    let_go_of_run(here / "run", held)
    assert run(["train", "--resume", "run", "--epochs", "2", "-q"]) == 0
    assert not list((here / "run").glob(".*"))


def test_a_config_that_differs_from_the_checkpoint_is_said_with_both_values(
    make_folder: MakeFolder, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(make_folder(), "--out", "run", "--max-steps", "1") == 0
    text = (here / "run" / "config.json").read_text()
    for field, value, message in (
        ("seed", 7, "says seed 7 and * 0;"),
        ("arch", "B", "says arch B and * A;"),
        ("precision", "fp32", "says precision fp32 and * auto;"),
        ("decode", "gpu", "says decode gpu and * cpu;"),
        ("init_from", "x", "says init_from x and * None;"),
        ("layers", "fc", "says layers fc and * all;"),
        ("recipe.batch_size", 4, "says batch_size 4 and * 8;"),
        ("recipe.scale", [36, 40], "says scale 36 40 and * 36 36;"),
        ("recipe.learning_rate", 0.5, "says learning_rate 0.5 and * 0.01;"),
    ):
        fields = json.loads(text)
        (fields["recipe"] if field.startswith("recipe.") else fields)[field.rpartition(".")[2]] = value
        (here / "run" / "config.json").write_text(json.dumps(fields))
        assert run(["train", "--resume", "run", "--max-steps", "3", "-q"]) == 4
        assert fnmatch(capsys.readouterr().err, f"*{message}*")


@pytest.mark.parametrize("damage", ["bit", "empty", "another"])
def test_a_state_whose_momentum_is_not_its_own_is_refused(
    make_folder: MakeFolder, here: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    photos = make_folder()
    assert train(photos, "--out", "run", "--max-steps", "1") == 0
    (momentum,) = (here / "run").glob("resume-*")
    if damage == "bit":
        raw = bytearray(momentum.read_bytes())
        raw[-9] ^= 1
        momentum.write_bytes(raw)
    elif damage == "empty":
        save_tensors(momentum, {}, {"vgg": "{}"})
    else:
        assert train(photos, "--out", "other", "--max-steps", "1", "--seed", "1") == 0
        momentum.write_bytes((here / "other" / momentum.name).read_bytes())
    before = {path.name: path.read_bytes() for path in (here / "run").iterdir()}
    assert run(["train", "--resume", "run", "--max-steps", "3", "-q"]) == 4
    assert momentum.name in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (here / "run").iterdir()} == before


@pytest.mark.parametrize("how", ["removed", "link that leads nowhere", "folder"])
def test_a_run_that_has_lost_what_it_saved_is_not_begun_again(
    make_folder: MakeFolder, here: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    assert train(make_folder(), "--out", "run", "--max-steps", "1") == 0
    last = here / "run" / "last.safetensors"
    last.unlink()
    if how == "folder":
        last.mkdir()
    elif how != "removed":
        last.symlink_to("/nowhere/last.safetensors")
    before = sorted(path.name for path in (here / "run").iterdir())
    log = (here / "run" / "log.jsonl").read_text()
    assert run(["train", "--resume", "run", "-q", "--max-steps", "3"]) == 4
    assert "which it has saved, is missing" in capsys.readouterr().err
    assert sorted(path.name for path in (here / "run").iterdir()) == before
    assert (here / "run" / "log.jsonl").read_text() == log


def test_the_best_weights_of_a_run_are_its_own(
    make_folder: MakeFolder, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = make_folder()
    assert train(photos, "--out", "run", "--max-steps", "1") == 0
    assert train(photos, "--out", "other", "--max-steps", "1", "--seed", "5") == 0
    best = here / "run" / "best.safetensors"
    raw = best.read_bytes()
    for content, message in (
        ((here / "other" / "best.safetensors").read_bytes(), "belongs to another run"),
        (raw[:-1], "best.safetensors cannot be read"),
        (raw[:-5] + bytes([raw[-5] ^ 16]) + raw[-4:], "best.safetensors is damaged"),
    ):
        best.write_bytes(content)
        assert run(["train", "--resume", "run", "-q", "--max-steps", "3"]) == 4
        assert message in capsys.readouterr().err
    best.unlink()
    assert run(["train", "--resume", "run", "-q", "--max-steps", "2"]) == 0
    assert "the best.safetensors of " in capsys.readouterr().err


@pytest.mark.parametrize("change", ["moved", "replaced"])
@pytest.mark.parametrize("kind", ["training", "validation"])
def test_other_images_are_no_part_of_a_run(
    make_folder: MakeFolder, here: Path, capsys: pytest.CaptureFixture[str], kind: str, change: str
) -> None:
    photos = make_folder()
    assert train(photos, "--out", "run", "--max-steps", "1") == 0
    split = photos / ("train" if kind == "training" else "val")
    if change == "moved":
        (split / "class0" / "1.jpg").rename(split / "class1" / "9.jpg")
    else:
        Image.new("RGB", (50, 50)).save(split / "class0" / "1.jpg")
    assert run(["train", "--resume", "run", "-q", "--max-steps", "3"]) == 3
    assert f"the {kind} images of" in capsys.readouterr().err


def test_a_run_begins_again_from_the_same_donor_only(
    make_folder: MakeFolder, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = make_folder()
    assert train(photos, "--out", "donor", "--max-steps", "1") == 0
    assert train(photos, "--arch", "B", "--init-from", "donor", "--out", "run", "--epochs", "1") == 0
    for left in [*(here / "run").glob("*.safetensors"), here / "run" / "log.jsonl"]:
        left.unlink()
    assert run(["train", "--resume", "run", "-q"]) == 0
    assert run(["train", "--config", "run/config.json", "--out", "copy", "-q"]) == 0
    assert_same_bits(here / "run", here / "copy")
    for left in [*(here / "run").glob("*.safetensors"), here / "run" / "log.jsonl"]:
        left.unlink()
    shutil.rmtree(here / "donor")
    assert train(photos, "--out", "donor", "--max-steps", "1", "--seed", "1") == 0
    capsys.readouterr()
    for command in (["--resume", "run"], ["--config", "run/config.json"]):
        assert run(["train", *command, "-q"]) == 4
        assert "has changed since the run began" in capsys.readouterr().err
    assert run(["train", "--config", "run/config.json", "--init-from", "donor", "--out", "other", "-q"]) == 0


@pytest.mark.parametrize("flags", [["--arch", "D", "--width", "1"], ["--batch-size", "8", "--micro-batch", "8"]])
def test_training_that_no_memory_here_can_hold_is_refused_before_it_begins(
    make_folder: MakeFolder,
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
) -> None:
    monkeypatch.setattr(memory, "_total_bytes", lambda device: 2.5e6)
    assert train(make_folder(), *flags) == 5
    assert f"and the memory is 0.0025 GB; give a smaller {flags[-2][2:]} ({flags[-2]})" in capsys.readouterr().err
    assert not (here / "runs").exists()


def test_a_lock_is_a_file_of_the_run_and_no_link(
    make_folder: MakeFolder, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(make_folder(), "--out", "run", "--max-steps", "1") == 0
    (here / "precious").write_text("keep me")
    for target in ("precious", "nowhere"):
        (here / "run" / ".lock").symlink_to(here / target)
        assert run(["train", "--resume", "run", "-q", "--max-steps", "3"]) == 5
        assert "run/.lock, which is no regular file; remove it" in capsys.readouterr().err
        (here / "run" / ".lock").unlink()
    assert (here / "precious").read_text() == "keep me"


def test_a_resumed_run_keeps_its_micro_batch_whatever_memory_is_free(
    make_folder: MakeFolder, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = make_folder()
    for name in ("straight", "stopped"):
        monkeypatch.setattr(memory, "_system_bytes", lambda pages, unknown: 1e6 if "AV" in pages else unknown)
        assert train(photos, "--out", name, *(["--max-steps", "4"] if name == "stopped" else [])) == 0
    taken = json.loads((here / "straight" / "config.json").read_text())["micro_batch"]
    assert 1 < taken < 8
    monkeypatch.setattr(memory, "_system_bytes", lambda pages, unknown: 1e9 if "AV" in pages else unknown)
    assert run(["train", "--resume", "stopped", "--epochs", "2", "-q"]) == 0
    assert_same_bits(here / "straight", here / "stopped")
    assert run(["train", "--config", "straight/config.json", "--out", "again", "-q", "-j", "0"]) == 0
    assert_same_bits(here / "straight", here / "again")


def test_skip_bad_leaves_images_out_and_lists_them(
    make_folder: MakeFolder, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = make_folder()
    for name in ("train/class0/1.jpg", "val/class2/0.jpg"):
        (photos / name).write_bytes((photos / name).read_bytes()[:300])
    assert train(photos, "--out", "run", "--skip-bad", "--max-steps", "1") == 0
    shown = capsys.readouterr()
    said = shown.err
    assert "left out: 2 images of 36 that cannot be used" in said
    assert "train/class0/1.jpg: " in said
    assert "views.png, skipped.json" in shown.out
    assert "; steps of 8 images, 8 at a time\n" in said
    listed = json.loads((here / "run" / "skipped.json").read_text())
    assert [name for name, _ in listed] == ["train/class0/1.jpg", "val/class2/0.jpg"]
    (here / "run" / "skipped.json").write_text('[["train/class0/1.jpg", 3]]')
    assert run(["train", "--resume", "run", "--epochs", "2", "-q", "-j", "0"]) == 4
    (here / "run" / "skipped.json").write_text(json.dumps(listed))
    assert run(["train", "--resume", "run", "--epochs", "2", "-q", "-j", "0"]) == 0
    mended = make_folder("mended")
    for name in ("train/class0/1.jpg", "val/class2/0.jpg"):
        (mended / name).unlink()
    assert train(mended, "--out", "without") == 0
    assert_same_bits(here / "without", here / "run")
    for path in (photos / "train" / "class1").iterdir():
        path.write_bytes(b"no image")
    assert train(photos, "--skip-bad", "--out", "none") == 3
    assert "no train image of class 'class1' can be used" in capsys.readouterr().err
    only_val = make_folder("only-val")
    for path in (only_val / "val" / "class1").iterdir():
        path.write_bytes(b"no image")
    assert train(only_val, "--skip-bad", "--out", "less", "--max-steps", "1") == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_everyone_saves_and_leaves(
    make_folder: MakeFolder, here: Path, number: signal.Signals, code: int
) -> None:
    command = [sys.executable, "-m", "vggcli", "train", "--data", str(make_folder()), *SMALL, "--epochs", "100000"]
    command += ["--out", "run", "-j", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    log = here / "run" / "log.jsonl"
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n") >= 2) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "vgg train --resume" in said.splitlines()[-1]
    assert "Traceback" not in said
    steps = json.loads(log.read_text().splitlines()[-1])["step"]
    assert run(["train", "--resume", "run", "--epochs", str(steps // 3 + 2), "-q"]) == 0


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ("--arch F", 2, "there is no network 'F'"),
        ("--scale 30", 2, "smallest usable S is 32"),
        ("--scale 40 --scale-jitter 36 40", 2, "contradict"),
        ("--scale-jitter 40 36", 2, "contradict"),
        ("--init he --init-std 0.1", 2, "has no effect on the initialisation he, only on gaussian (--init-std)"),
        ("--dropout 1", 2, "the dropout 1 must be at least 0 and below 1 (--dropout)"),
        ("--lr 0", 2, "the learning rate 0 must be above 0 and at most 3e+38 (--lr)"),
        ("--lr fast", 2, "--lr"),
        ("--wdith 1", 2, "--wdith"),
        ("--device cuda:7", 5, "cuda:7"),
        ("--device tpu", 2, "tpu"),
        ("--init-from nowhere", 4, "nowhere is not there"),
        ("--data nowhere", 3, "nowhere"),
        ("--head gap --dropout 0.1", 2, "no hidden FC layers (--dropout, --head)"),
        ("--recipe tiny --config x.json", 2, "contradict"),
        ("--config x.json", 2, "x.json"),
        ("--resume nowhere", 2, "has no effect; begin a new run with it (--scale, "),
        ("--out full", 2, "full exists already"),
    ],
)
def test_bad_command_lines_are_one_sentence_and_leave_nothing(
    make_folder: MakeFolder, here: Path, capsys: pytest.CaptureFixture[str], flags: str, code: int, message: str
) -> None:
    (here / "full").mkdir()
    (here / "full" / "file").touch()
    assert train(make_folder(), *flags.split()) == code
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err
    assert said.err.splitlines()[-1].startswith("vgg: ")
    assert not (here / "runs").exists()


def test_resume_refuses_other_data_and_flags_without_effect(
    make_folder: MakeFolder, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "--resume"]) == 4
    assert "no run to resume" in capsys.readouterr().err
    assert train(make_folder(), "--max-steps", "1") == 0
    other = make_folder("other", train=9)
    assert run(["train", "--resume", "--data", str(other), "--max-steps", "9", "-q"]) == 3
    assert "not those" in capsys.readouterr().err
    for flags in ("--lr 0.1", "--seed 1", "--recipe tiny", "--out x", "--init-from y"):
        assert run(["train", "--resume", *flags.split()]) == 2
        assert f"has no effect; begin a new run with it ({flags.split()[0]})" in capsys.readouterr().err
    assert run(["train", "--resume", "runs/A-1", "--arch", "A"]) == 2


def test_a_broken_photo_is_exit_3_and_named(
    make_folder: MakeFolder, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = make_folder()
    (photos / "val" / "class2" / "1.jpg").write_bytes(b"\xff\xd8\xff")
    assert train(photos) == 3
    assert "val/class2/1.jpg" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_exit_5(
    make_folder: MakeFolder, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "runs").write_text("a file where a folder is wanted")
    assert train(make_folder()) == 5
    assert "cannot write runs: not a directory; choose another place" in capsys.readouterr().err


@pytest.mark.parametrize("full", ["views.png", "best.safetensors", "log.jsonl", "curves.png"])
def test_a_full_disk_says_how_to_go_on(
    make_folder: MakeFolder,
    here: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    full: str,
) -> None:
    photos, flush = make_folder(), files._flush

    def no_space(path: Path) -> None:
        if path.name == full and path.stat().st_size:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(path)

    monkeypatch.setattr(files, "_flush", no_space)
    assert train(photos, "--out", "run") == 5
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"no space left on the disk of {here}/run/{full}" in said
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert run([*said.partition("`vgg ")[2].partition("`")[0].split(), "-q", "-j", "0"]) == 0
    assert len((here / "run" / "log.jsonl").read_text().splitlines()) == 2


def test_a_worker_that_is_killed_saves_and_says_how_to_go_on(
    make_folder: MakeFolder, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = make_folder()
    assert train(photos, "--out", "straight", "--epochs", "3") == 0
    seen = [0]

    def killing(*given: Any) -> int:
        seen[0] += 1
        if seen[0] == 6:  # the first step of the second epoch
            for child in multiprocessing.active_children():
                os.kill(child.pid or 0, signal.SIGKILL)
        return count_correct(*given)

    monkeypatch.setattr(objective, "count_correct", killing)
    monkeypatch.setattr(workers, "AHEAD", 1)
    assert train(photos, "--out", "run", "-j", "2", "--epochs", "3") == 5
    said = capsys.readouterr().err
    assert "a worker process was killed (signal 9)" in said
    assert "vgg train --resume" in said.splitlines()[-1]
    assert "Traceback" not in said
    assert load_checkpoint(here / "run" / "last.safetensors")[1].training["step"] >= 3
    assert run(["train", "--resume", "run", "-q", "-j", "0"]) == 0
    assert_same_bits(here / "straight", here / "run")


def test_an_error_in_the_middle_of_decoding_is_one_sentence(make_folder: MakeFolder, here: Path) -> None:
    photos = make_folder(train=4)
    large = io.BytesIO()  # so that the workers are still decoding then
    picture(0, 0).resize((1200, 900)).save(large, "JPEG", quality=95)
    for path in photos.glob("train/*/*.jpg"):
        path.write_bytes(large.getvalue())
    broken = photos / "train" / "class2" / "0.jpg"
    broken.write_bytes(broken.read_bytes()[:-200] + b"\xff\xd9")
    command = [sys.executable, "-m", "vggcli", "train", "--data", str(photos), *SMALL, "-j", "2", "-q", "--out", "run"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 3
    said = f"{broken} cannot be used: it is damaged or cut short (its data end early)"
    assert [line for line in found.stderr.splitlines() if not line.startswith("data: ")] == [
        f"vgg: {said}; repair it, or leave it out with --skip-bad"
    ]


@pytest.mark.parametrize("text", ["{", "[]", '{"recipe": {}, "sead": 1}', None])
def test_a_damaged_config_is_the_runs_fault_where_it_is_resumed_and_the_command_lines_where_it_is_named(
    make_folder: MakeFolder, here: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    assert train(make_folder(), "--out", "run", "--max-steps", "1") == 0
    config = here / "run" / "config.json"
    config.unlink()
    if text is not None:
        config.write_text(text)
    capsys.readouterr()
    assert run(["train", "--resume", "run", "--max-steps", "3", "-q"]) == 4
    said = capsys.readouterr().err
    assert "config.json" in said
    assert "--config" not in said
    assert "back" in said
    assert run(["train", "--config", str(config), "-q"]) == 2


def test_a_log_that_was_cut_is_repaired_with_a_note(
    make_folder: MakeFolder, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(make_folder(), "--out", "run", "--epochs", "1") == 0
    log = here / "run" / "log.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole[:-20])
    capsys.readouterr()
    assert run(["train", "--resume", "run", "--epochs", "2", "-q"]) == 0
    assert capsys.readouterr().err.count("log.jsonl was missing, cut short or changed; it is written again") == 1
    assert log.read_bytes().startswith(whole)
    assert run(["train", "--resume", "run", "--epochs", "3", "-q"]) == 0
    assert "written again" not in capsys.readouterr().err


def test_a_run_beside_the_class_folders_is_never_read_as_data_and_one_among_images_is_refused(
    make_folder: MakeFolder, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = make_folder()
    for out in ("train/class0/run", "train/run"):
        assert train(photos, "--out", str(photos / out), "--max-steps", "1") == 2
        assert "would be read as data later; write it elsewhere (--out)" in capsys.readouterr().err
    for number in range(2):
        assert train(photos, "--out", str(photos / f"run{number}"), "--max-steps", "1") == 0
        assert "; 24 training and 12 validation images;" in capsys.readouterr().err
    assert train(photos, "--max-steps", "1") == 0
    assert capsys.readouterr().err.count("is a run of vgg and is left out") == 2


@pytest.mark.parametrize("command", ["finetune --weights runs/A-1", "eval --weights runs/A-1 --split train"])
def test_every_command_that_meets_a_damaged_image_says_how_to_leave_it_out(
    photos: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    broken = photos / "train" / "class0" / "1.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    assert run([*command.split(), "--data", str(photos), "-q", "-j", "0"]) == 3
    assert capsys.readouterr().err.endswith("; repair it, or leave it out with --skip-bad\n")
    with pytest.raises(ImageError, match="leave it out with skip_bad=True$"):
        vggcli.train(photos, "A", recipe="tiny")
    with pytest.raises(ImageError, match="leave it out with skip_bad=True$"):
        vggcli.evaluate("runs/A-1", photos, split="train")
