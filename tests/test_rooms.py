"""The order of the rooms, the speed of help, and that the project speaks of itself alone."""

import ast
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "vggcli"
ORDER = (
    "errors regular_files paper results choices progress link ranks signatures servers locks files places defaults records "
    "npy_header imagenet device colour boxes metrics zoo data weights training evaluation features probe localisation "
    "report api cli __main__"
).split()


def imports_of(path: Path) -> set[str]:
    """Rooms that a file imports, function-local imports too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names if node.module == "vggcli"]
        found |= {name.split(".")[1] for name in names if name.startswith("vggcli.")}
    return found - {"__version__"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    parts = path.relative_to(PACKAGE).parts
    room = parts[0].removesuffix(".py")
    if room == "__init__":
        return  # the Python interface, imported on first use
    above = ORDER[ORDER.index(room) + 1 :]
    assert not imports_of(path) & set(above)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["train", "--help"],
        ["finetune", "--help"],
        ["eval", "--help"],
        ["convert", "--help"],
        ["ensemble", "--help"],
        ["probe", "--help"],
        ["features", "--help"],
        ["predict", "--help"],
        ["runs", "--help"],
        ["data", "--help"],
        ["models", "--help"],
        ["models"],
        ["models", "D"],
    ],
)
def test_help_and_the_table_of_networks_do_not_import_torch(arguments: list[str]) -> None:
    code = f"import sys; from vggcli.cli.app import run; run({arguments!r}); print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip().endswith("False")
    assert ("Usage" if "--help" in arguments else "conv3_1" if "D" in arguments else "vgg16") in result.stdout


def library_files() -> list[Path]:
    """All but the command line and what stands in for it."""
    above = ("cli", "__main__.py", "defaults.py")
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] not in above]


def texts_of(path: Path) -> list[str]:
    """The texts of a file but its docstrings, with {} for what is put into them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = set()
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):  # a docstring
            skipped.add(node.value)
        if isinstance(node, ast.JoinedStr):
            skipped |= set(node.values)
            parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            found.append("".join(str(part) for part in parts))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in skipped:
            found.append(node.value)
    return found


def test_libraries_name_no_flag_but_in_a_whole_command() -> None:
    for path in library_files():
        for text in texts_of(path):
            assert not re.search(r"(?<![\w-])--[a-z]", re.sub(r"vgg [^`]*", "", text)), (path, text)


def test_libraries_never_print_exit_or_read_the_environment() -> None:
    for path in library_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in ("print", "sys.exit", "exit", "os.getenv"), path
            assert not (isinstance(node, ast.Attribute) and ast.unparse(node) == "os.environ"), path


@pytest.mark.slow
def test_help_takes_at_most_three_times_the_imports_it_needs() -> None:
    def seconds(*command: str) -> float:
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([sys.executable, *command], capture_output=True, check=True)
            best = min(best, time.perf_counter() - start)
        return best

    assert seconds("-m", "vggcli", "--help") < 3 * seconds("-c", "import typer, rich")
