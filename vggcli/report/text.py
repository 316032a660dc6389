"""Names with any characters, made safe to show on any terminal and in any font."""

import unicodedata
from pathlib import PurePath

from rich.cells import cell_len, set_cell_size

UNSEEN = ("Cc", "Cs", "Zl", "Zp")  # control characters, escaped bytes of file names, line and paragraph separators
TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # the direction of writing


def printable(text: str) -> str:
    r"""`text` on one line: what a terminal would obey or cannot show becomes an escape, such as \x1b or \udcff."""
    return "".join(
        ascii(sign)[1:-1] if sign in TURNING or unicodedata.category(sign) in UNSEEN else sign for sign in text
    )


def elided(text: str, width: int) -> str:
    """`text` in at most `width` columns of a terminal: if it is too long, its middle is left out."""
    if cell_len(text) <= width:
        return text
    half = width // 2
    return f"{set_cell_size(text, width - half - 1)}…{set_cell_size(text[::-1], half)[::-1]}"


def last_parts(path: PurePath | str) -> str:
    """The last two parts of a path, printable: enough to tell runs and data apart in a title."""
    return printable("/".join(PurePath(path).parts[-2:]))
