"""The README says what is true: its commands parse, its file map is complete, its two commands are CI's."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from vggcli.cli.app import app

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


def test_every_file_of_the_package_is_in_the_file_map() -> None:
    files = re.search(r"## Files\n(.*?)\n## ", README, flags=re.S)
    assert files is not None
    for path in (ROOT / "vggcli").rglob("*.py"):
        if path.name not in ("__init__.py", "__main__.py"):
            assert path.relative_to(ROOT / "vggcli").as_posix() in files.group(1), path


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
