"""Standard output and standard error, whatever they are: signs that their encoding lacks become plain ones, and a stream
that is closed swallows what is written to it."""

import codecs
import os
import sys
from pathlib import Path

PLAIN = {
    "…": "...",
    "█": "#",
    "²": "2",
    "±": "+-",
    "×": "x",
    "→": "->",
    "–": "-",
    "—": "-",
    "•": "*",
    "━": "-",
    "╸": "-",
}
HANDLER = "plain"


def prepare_streams() -> None:
    """Make both streams safe to write any text to. Once, at the program's start."""
    codecs.register_error(HANDLER, _plain)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started the program
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 (for as long as the program runs)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=HANDLER)


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end
