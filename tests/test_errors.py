"""Numbers with what they count."""

import ast
import itertools
from pathlib import Path

import pytest

from vggcli.errors import counted, did_you_mean

PACKAGE = Path(__file__).parents[1] / "vggcli"


@pytest.mark.parametrize(("number", "text"), [(0, "0 images"), (1, "1 image"), (2, "2 images"), (11, "11 images")])
def test_one_is_told_from_many(number: int, text: str) -> None:
    assert counted(number, "image") == text


def test_many_may_be_spelt_out() -> None:
    assert [counted(n, "class", "classes") for n in (1, 3)] == ["1 class", "3 classes"]


def test_no_length_is_put_before_images_or_files_as_it_is() -> None:
    """A `{len(...)} images` says "1 images" some day."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else []
            for before, after in itertools.pairwise(parts):
                if isinstance(before, ast.FormattedValue) and isinstance(after, ast.Constant):
                    value = before.value
                    length = isinstance(value, ast.Call) and ast.unparse(value.func) == "len"
                    words = str(after.value).split()
                    assert not (length and words and words[0].strip(",;.") in ("images", "files")), f"{path}: {words}"


def test_the_nearest_of_known_names_is_suggested_in_any_case() -> None:
    assert did_you_mean("Hats", ["cat", "HAT", "coat"]) == ", did you mean HAT?"
    assert did_you_mean("hats", ["boat"]) == did_you_mean("hats", []) == ""
