"""Damage to files, from a seed: bytes that flip, go or come, and JSON whose fields are of another type, gone, double, huge
or deep."""

import json
import random
from collections.abc import Iterator
from typing import Any

WRONG: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 1.5, 10**9, 10**23, 1e308, float("nan"), float("inf"), -float("inf"), "", "1", "x" * 5000,
    "\ud800", "a\udcffb", "\0", "\x1b[31m", "../../x", [], [1], {}, {"a": 1}, [[]] * 3, ["a", "a"],
)  # fmt: skip
DEEP = 50_000  # levels


def damaged(raw: bytes, draw: random.Random) -> bytes:
    """A copy of a file in which something has changed."""
    place, other = sorted((draw.randrange(len(raw) + 1), draw.randrange(len(raw) + 1)))
    kind = draw.choice(("flip", "flip", "flips", "cut", "lost", "more", "zeros", "end"))
    if kind in ("flip", "flips"):
        changed = bytearray(raw)
        for _ in range(1 if kind == "flip" else draw.randint(2, 40)):
            changed[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
        return bytes(changed)
    if kind == "zeros":
        return raw[:place] + bytes(other - place) + raw[other:]
    made = draw.randbytes(draw.randint(1, 40))
    kept = {"cut": raw[:place], "lost": raw[:place] + raw[other:], "more": raw[:place] + made + raw[place:]}
    return kept.get(kind, raw + made)


def paths(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where each value inside a JSON value lies; of a list, its first and last."""
    items = value.items() if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else ()
    for key, inner in [*items][:1] + [*items][-1:] if isinstance(value, list) else items:
        yield (*above, key)
        yield from paths(inner, (*above, key))


def changed_json(value: Any, draw: random.Random) -> str:
    """The text of `value` with one field that is wrong."""
    path = draw.choice(list(paths(value)))
    kind = draw.choice(("wrong", "wrong", "wrong", "wrong", "gone", "double", "new", "deep", "digits"))
    copy = json.loads(json.dumps(value))
    place = copy
    for key in path[:-1]:
        place = place[key]
    mark, last = "A MARK", path[-1]
    if kind == "gone":
        del place[last]
        return json.dumps(copy)
    if kind == "new":
        (place if isinstance(place, dict) else copy)["new"] = draw.choice(WRONG)
        return json.dumps(copy)
    if kind == "wrong":
        place[last] = draw.choice(WRONG)
        return json.dumps(copy)
    if kind == "double" and isinstance(place, dict):
        inner = json.dumps(place[last])
        place[last] = mark
        return json.dumps(copy).replace(f'"{mark}"', f"{inner}, {json.dumps(last)}: {inner}")
    place[last] = mark
    return json.dumps(copy).replace(f'"{mark}"', "7" * 5000 if kind == "digits" else "[" * DEEP + "]" * DEEP)
