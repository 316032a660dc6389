"""Draws the terminal as the README shows it: `python examples/pictures.py FILE.svg vgg eval --dense --per-class`.

The command's own colours and tables are kept; rich exports them as SVG. Notes and progress are left out, the current folder
is shown as ~, and the font is whatever monospaced one the reader has. `mistakes.png` is the `worst.png` of the same run:
`vgg train --recipe tiny --arch A`, then `vgg eval --dense --arch A --worst 8`.
"""

import io
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 100


def terminal_output(command: list[str]) -> str:
    """What `command` writes to a terminal of COLUMNS columns, with its escape sequences."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    process = subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL, env=environment)
    os.close(theirs)
    pieces = []
    try:
        while piece := os.read(ours, 65536):
            pieces.append(piece)
    except OSError:  # how a terminal says on Linux that its other end is closed
        pass
    if process.wait():
        sys.exit(f"{shlex.join(command)} ended with {process.returncode}")
    return b"".join(pieces).decode().replace("\r\n", "\n")


def main() -> None:
    """The picture that the command line asks for."""
    target, command = Path(sys.argv[1]), sys.argv[2:]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {shlex.join(command)}", style="bold"))
    shown = terminal_output(command).replace(str(Path.cwd()), "~")
    console.print(Text.from_ansi("\n".join(line.rstrip() for line in shown.rstrip().splitlines())))
    drawn = console.export_svg(title=shlex.join(command[:2]))
    target.write_text(re.sub(r" *@font-face \{.*?\n    \}\n", "", drawn, flags=re.S), encoding="utf-8")


if __name__ == "__main__":
    main()
