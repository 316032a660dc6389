"""The README says what is true: its commands parse and (slow) work, its rooms are all there, its two commands are CI's."""

import hashlib
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.main import get_command

from tests.conftest import picture
from tests.weights.test_published import Response
from vggcli.cli.app import app, run
from vggcli.weights import published
from vggcli.weights.torch_names import to_framework
from vggcli.zoo.initialise import initialise
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = "\n".join(re.findall(r"```sh\n(.*?)```", README, flags=re.S))
COMMANDS = [
    shlex.split(found, comments=True)
    for found in re.findall(
        r"\bvgg ((?:train|finetune|eval|evaluate|ensemble|features|probe|predict|convert|data|models)\b[^\n&]*)", BLOCKS
    )
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_commands_in_the_readme_are_understood(words: list[str]) -> None:
    group = get_command(app)
    command = group.commands[words[0]]  # type: ignore[attr-defined]
    with command.make_context(words[0], words[1:]) as context:  # raises where an option is not known
        assert context.params


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) >= 8


SMALL = {  # what makes a command of the README small: a step or an epoch, of a narrow network
    "train --recipe tiny": "--width 0.0625 --max-steps 2",
    "train --resume": "--max-steps 2",
    "train": "--width 0.0625 --batch-size 4 --max-steps 1",
    "finetune": "--batch-size 4 --max-steps 1",
}


def small(words: list[str]) -> list[str]:
    line = shlex.join(words)
    added = next((flags for start, flags in SMALL.items() if line.startswith(start)), "")
    return [*words, *shlex.split(added)]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the README's commands name: photos/, boxes.csv, img.jpg, more/; and weights of a narrow network D, published."""
    for index in range(24):
        path = tmp_path / "photos" / f"class{index % 2}" / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(index % 2, index).resize((300, 240)).save(path)
    rows = [f"photos/class{index % 2}/{index}.jpg,class{index % 2},50,40,250,200" for index in range(24)]
    (tmp_path / "boxes.csv").write_text("\n".join(["path,label,xmin,ymin,xmax,ymax", *rows]) + "\n")
    for name in ("img.jpg", "more/x.jpg", "a.jpg", "b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture(1, 99).resize((300, 240)).save(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("VGG_DATA", raising=False)
    network = VGG(NetworkConfig("D", width=1 / 64))
    initialise(network, "he", 0)
    torch.save(to_framework(network.state_dict(), network.config, "torchvision"), "published.pth")
    content = Path("published.pth").read_bytes()
    file = f"vgg16-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    known = (
        replace(one, file=file) if (one.name, one.arch) == ("imagenet", "D") else one for one in published.PUBLISHED
    )
    monkeypatch.setattr(published, "PUBLISHED", tuple(known))
    monkeypatch.setattr(published, "open_https", lambda url: Response(content, len(content)))
    return tmp_path


@pytest.mark.slow
def test_the_two_commands_of_the_readme_work_on_the_embedded_set(photos: Path) -> None:
    first, second = COMMANDS[:2]
    assert (first, second) == (["train", "--recipe", "tiny"], ["eval", "--dense"])
    assert run(small(first)) == 0
    assert run(second) == 0
    measured = json.loads((photos / "runs" / "D-1" / "evaluations.jsonl").read_text())
    assert (measured["images"], measured["protocol"]) == (400, "dense")


@pytest.mark.slow
def test_the_readmes_commands_work_one_after_the_other(photos: Path) -> None:
    for words in COMMANDS[2:]:
        assert run(small(words)) == 0, shlex.join(words)
    runs = {path.name for path in (photos / "runs").iterdir()}
    assert runs >= {"A-1", "D-1", "D-2", "D-3"}  # trained, and twice fine-tuned
    made = "drawn/img.png photos.safetensors nearest.png vgg16.pth d.onnx"
    assert all((photos / name).stat().st_size for name in made.split())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the file that Image.open leaves open
def test_the_readmes_python_works(photos: Path) -> None:
    assert run(small(["train", "--data", "photos/", "--arch", "D"])) == 0
    code = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    assert len(code) == 1
    pytest.importorskip("pandas")
    found: dict[str, Any] = {}
    exec(code[0], found)
    assert len(found["frame"]) == 1
    assert sum(found["posteriors"].values()) == pytest.approx(1, rel=1e-5)
    assert found["rows"].shape == (2, 256)  # 4096 units, a sixteenth as wide
    assert found["rows"].dtype == "float32"
    assert (found["rows"] ** 2).sum(1) == pytest.approx([1, 1], rel=1e-4)


def test_every_room_is_in_the_readme_and_every_file_says_what_it_holds() -> None:
    rooms = re.search(r"## Where to read on\n(.*?)\n## ", README, flags=re.S)
    assert rooms is not None
    for path in (ROOT / "vggcli").rglob("*.py"):
        if path.name == "__init__.py" and path.parent.name != "vggcli":
            assert f"`{path.parent.name}/`" in rooms.group(1), path
        assert path.read_text(encoding="utf-8").startswith('"""'), path


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    assert len(README.splitlines()) <= 250
    for path in [ROOT / "README.md", *(ROOT / "vggcli").glob("*/README.md")]:
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), (path, link)


def test_ci_runs_the_readmes_test_command() -> None:
    assert re.findall(r"^python3 -m venv .*pytest$", README, flags=re.M)
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


def test_the_project_names_no_machine() -> None:
    for path in [
        *ROOT.glob("*.*"),
        *ROOT.glob("vggcli/**/*.py"),
        *ROOT.glob("examples/*"),
        *ROOT.glob("tests/**/*.py"),
    ]:
        if path.is_file() and path != Path(__file__):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"(?<![\w.])/(root|home|work|opt)/", text), path
