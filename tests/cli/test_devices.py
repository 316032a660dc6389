"""Commands that several processes share: one display, one set of files, the same results, and one sentence for an
error."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_train import SMALL
from tests.processes import Said, Store, commands
from vggcli.cli.app import run
from vggcli.weights.checkpoint import load_tensors

QUIET = ("-j", "0", "-q")


def shared(folder: Path, world: int, *arguments: str) -> str:
    """What the first of several processes prints; the others print nothing, and none fails."""
    said = commands(folder, world, *arguments)
    assert [one.code for one in said] == [0] * world, [one.err for one in said]
    assert all(one.out == one.err == "" for one in said[1:])
    return said[0].out


def alone(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert run([*arguments]) == 0
    return capsys.readouterr().out


def figures(text: str) -> dict[str, object]:
    """What `--json` prints, times aside."""
    return {name: value for name, value in json.loads(text).items() if "second" not in name}


def test_evaluations_predictions_and_descriptors_are_those_of_one_process(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_folder = Path("runs/A-1")
    shutil.copy(photos / "val" / "class0" / "0.jpg", photos / "val" / "class0" / "bad.jpg")
    (photos / "val" / "class0" / "bad.jpg").write_bytes(b"no image")
    for views in ([], ["--dense", "--scales", "40", "48"]):
        command = ["eval", "--arch", "A", "--data", str(photos), "--skip-bad", "--json", *views, *QUIET]
        assert figures(shared(tmp_path, 3, *command)) == figures(alone(capsys, *command))
    assert len((run_folder / "evaluations.jsonl").read_text().splitlines()) == 4  # one each
    shutil.copytree(run_folder, "runs/A-2")
    fused = ["ensemble", "runs/A-1", "runs/A-2", "--data", str(photos), "--skip-bad", "--json", *QUIET]
    first, second = json.loads(shared(tmp_path, 3, *fused)), json.loads(alone(capsys, *fused))
    assert (first["correct_top1"], first["images"]) == (second["correct_top1"], second["images"])
    outs = []
    for name in ("shared", "alone"):
        files = [f"{name}.safetensors", f"{name}.csv", f"{name}-classes.csv"]
        for out in files:
            what = ["predict"] if "classes" in out else ["features", "--gap"]
            command = [*what, str(photos / "train"), "--arch", "A", "--out", out, *QUIET]
            shared(tmp_path, 3, *command) if name == "shared" else alone(capsys, *command)
        outs += [Path(out).read_bytes() for out in files]
    assert outs[:3] == outs[3:]


def test_training_prints_once_and_writes_one_run(photos: Path, tmp_path: Path) -> None:
    command = ["train", "--data", str(photos), *SMALL[:-2], "--epochs", "2", "-j", "0", "--out", "run"]
    first, second = commands(tmp_path, 2, *command)
    assert (first.code, second.code, second.out, second.err) == (0, 0, "", "")
    assert first.err.count("epoch  1:") == 1 and "on each of 2 devices" in first.err
    assert len(Path("run/log.jsonl").read_text().splitlines()) == 2
    tuned = ["finetune", "--weights", "run", "--data", str(photos), "--layers", "last", "--cache-features", "--json"]
    shown = json.loads(shared(tmp_path, 3, *tuned, "--max-steps", "2", "--out", "tuned", *QUIET))
    assert shown["last"]["step"] == 2


def sentences(said: list[Said]) -> list[str]:
    return [line for one in said for line in one.err.splitlines() if line.startswith("vgg: ")]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["eval", "--weights", "nowhere"], 4, "nowhere"),
        (["eval", "--arch", "A", "--scales", "7"], 2, "--scales"),
        (["eval", "--arch", "A", "--data", "missing/"], 3, "missing"),
        (["train", "--recipe", "nonsense"], 2, "nonsense"),
        (["train", "--device", "cuda:1"], 2, "cuda:1 is a single device"),
        (["eval", "--devices", "3"], 2, "3 devices were asked for among 2 processes"),
        (["probe", "x.safetensors"], 2, "`vgg probe` works in one process"),
        (["features", "--search", "a.jpg", "x.safetensors"], 2, "--search"),
    ],
)
def test_what_is_wrong_in_all_processes_is_said_once(
    photos: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    said = commands(tmp_path, 2, *arguments)
    assert {one.code for one in said} <= {code, 5} and said[0].code == code
    (sentence,) = sentences(said)
    assert message in sentence


def test_a_rank_that_there_cannot_be_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("RANK", "5"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "localhost")):
        monkeypatch.setenv(name, value)
    assert run(["eval", "--arch", "A"]) == 2
    assert "RANK=5 and WORLD_SIZE=2 are not" in capsys.readouterr().err


def test_an_image_that_one_process_cannot_read_is_said_by_that_one(photos: Path, tmp_path: Path) -> None:
    (photos / "val" / "class2" / "3.jpg").write_bytes(b"no image")  # the last, of the second process
    said = commands(tmp_path, 2, "eval", "--arch", "A", "--data", str(photos), *QUIET)
    assert said[1].code == 3
    (sentence,) = sentences(said)
    assert "class2/3.jpg" in sentence


def test_a_job_that_is_restarted_goes_on_with_its_run(photos: Path, tmp_path: Path) -> None:
    store = Store()
    command = ["train", "--data", str(photos), *SMALL[:-2], "--epochs", "3", "-j", "0"]
    broken = photos / "train" / "class0" / "5.jpg"
    whole = broken.read_bytes()
    first = commands(tmp_path, 2, *command, "--max-steps", "2", store=store)
    assert first[0].code == 0
    log = Path("runs/A-2/log.jsonl").read_text()
    plan = json.loads(Path("runs/A-2/config.json").read_text())
    Path("runs/A-2/config.json").write_text(json.dumps({**plan, "max_steps": None}))
    again = commands(tmp_path, 2, *command, "--max-steps", "2", attempt=1, store=store)
    assert again[0].code == 0, again[0].err
    assert not Path("runs/A-3").exists()
    assert whole == broken.read_bytes()
    assert len(Path("runs/A-2/log.jsonl").read_text().splitlines()) == 3 > len(log.splitlines())


def launched(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "vggcli", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


def test_devices_starts_as_many_processes(photos: Path) -> None:
    command = ["train", "--data", str(photos), *SMALL[:-2], "--epochs", "1", "--devices", "2", "--out", "run", *QUIET]
    done = launched(*command)
    assert done.returncode == 0, done.stderr
    assert "on each of 2 devices" in done.stderr and done.stdout.count("Network A") == 1


@pytest.mark.slow
def test_devices_leaves_with_the_code_of_the_process_that_failed_and_its_sentence(photos: Path) -> None:
    done = launched("eval", "--devices", "2", "--weights", "nowhere")
    assert (done.returncode, len(done.stderr.splitlines())) == (4, 1)


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, 5)])
def test_signals_save_what_was_learnt(photos: Path, sent: signal.Signals, code: int) -> None:
    """SIGTERM and SIGINT to the launcher, SIGKILL to one of its processes."""
    command = [
        "train",
        "--data",
        str(photos),
        *SMALL[:-2],
        "--epochs",
        "400",
        "--devices",
        "2",
        "--out",
        "run",
        "-j",
        "0",
    ]
    with subprocess.Popen([sys.executable, "-m", "vggcli", *command], stderr=subprocess.PIPE, text=True) as job:
        assert job.stderr is not None
        lines = iter(job.stderr.readline, "")
        assert any(line.startswith("epoch  2:") for line in lines)
        listed = subprocess.run(["pgrep", "-P", str(job.pid)], capture_output=True, text=True, check=True)
        target = job.pid if sent != signal.SIGKILL else int(listed.stdout.split()[-1])
        os.kill(target, sent)
        rest = list(lines)
        assert job.wait(60) == code
    assert len([line for line in rest if line.startswith("vgg: ")]) == 1
    assert load_tensors(Path("run/last.safetensors"), None)
