"""Names that may hold anything, as any terminal and any font can show them."""

import unicodedata

UNSEEN = ("Cc", "Cs", "Zl", "Zp")  # control characters, escaped bytes of file names, and what ends a line
TURNING = frozenset(  # the direction of what follows
    "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)


def printable(text: str) -> str:
    r"""`text` on one line: what a terminal would obey or cannot show becomes an escape, such as \x1b or \udcff."""
    return "".join(ascii(sign)[1:-1] if unseen(sign) else sign for sign in text)


def unseen(sign: str) -> bool:
    """Whether a character is none that is shown."""
    return sign in TURNING or unicodedata.category(sign) in UNSEEN
