"""How `help()` shows the functions of the package: types by their plain names, and a line for every keyword."""

import inspect
import re
import types
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from vggcli.progress import Progress, silent

PROGRESS = (
    "progress: called with a title, a total and its unit, gives a context manager (see `vggcli.progress.Progress`)."
)
_LINE = re.compile(r"^([a-z_]\w*): (.+)$", re.MULTILINE)


class _Plain:
    """A text that stands in a signature as it is."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def plain_type(annotation: Any) -> str:
    """A type as people write it, without what only checks need: `int | None`, `'paper' | 'tiny'`, `Progress`."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation == Progress:
        return "Progress"
    if origin is Annotated:
        return plain_type(inner[0])
    if origin is Literal:
        return " | ".join(map(repr, inner))
    if origin in (Union, types.UnionType):
        return " | ".join(map(plain_type, inner))
    if annotation is types.NoneType:
        return "None"
    name = getattr(origin or annotation, "__name__", str(annotation))
    return f"{name}[{', '.join(map(plain_type, inner))}]" if inner else name


def plain_signature(signature: inspect.Signature) -> inspect.Signature:
    """The same signature for reading: with plain types, and functions as defaults by their names."""
    empty = inspect.Parameter.empty
    shown = [
        one.replace(
            annotation=empty if one.annotation is empty else _Plain(plain_type(one.annotation)),
            default=_Plain("silent") if one.default is silent else one.default,
        )
        for one in signature.parameters.values()
    ]
    return signature.replace(parameters=shown, return_annotation=_Plain(plain_type(signature.return_annotation)))


def keyword_lines(kind: type) -> dict[str, str]:
    """The lines `name: what it is` in the docstrings of a dataclass and of those that it extends, by the names of its
    fields."""
    texts = [inspect.cleandoc(vars(one).get("__doc__") or "") for one in reversed(kind.__mro__)]
    found = {name: f"{name}: {what}" for text in texts for name, what in _LINE.findall(text)}
    return {one.name: found[one.name] for one in fields(kind) if one.name in found}


def described(function: Callable[..., Any], *kinds: type) -> str:
    """The docstring of `function` with a line for each of its keywords that are fields of `kinds`, and for `progress`."""
    names, text = inspect.signature(function).parameters, inspect.cleandoc(function.__doc__ or "")
    known = {name: line for kind in kinds for name, line in keyword_lines(kind).items()} | {"progress": PROGRESS}
    lines = [known[name] for name in names if name in known]
    return "\n".join([text, "", "Keywords:", *(f"    {line}" for line in lines)]) if lines else text
