"""Standard input, output and error, made safe whatever they are connected to: characters that their encoding lacks become
plain ones, what is written to a closed standard error is dropped, and a note that cannot be written stops no work.

Results that cannot be written to standard output are an error, which is raised once.
"""

import atexit
import codecs
import errno
import io
import os
import select
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from vggcli.errors import MachineError

PLAIN = {"…": "...", "█": "#", "²": "2", "±": "+-", "×": "x", "→": "->", "•": "*", **dict.fromkeys("–—━╸", "-")}
HANDLER = "plain"
STDOUT = 1


def prepare_streams() -> None:
    """Make both streams safe to write any text to, and standard input safe to read. Once, at the program's start."""
    codecs.register_error(HANDLER, _plain)
    _fill_closed()
    sys.stdin = sys.stdin or Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 (for as long as the program runs)
    sys.stdout = _prepared(sys.stdout, Results)
    sys.stderr = _prepared(sys.stderr, Notes)
    atexit.register(_flush_results)


def _flush_results() -> None:
    """Say that results could not be written, unless an error has said so; Python would print a traceback instead."""
    try:
        sys.stdout.flush()
    except MachineError as error:
        print(f"vgg: {error}", file=sys.stderr)
    except (OSError, ValueError):  # the reader has gone, or it is closed
        pass


def _fill_closed() -> None:
    """Open the null device for each of the three that is closed: a file opened later would get its number, and with it what
    libraries write there. That of standard output is read-only, so that results written to it are an error."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):  # the lowest number that is free, which is this one
                os.open(os.devnull, os.O_RDONLY if number == STDOUT else os.O_RDWR)


def _prepared(stream: TextIO | None, kind: "type[Results | Notes]") -> TextIO:
    if stream is None:  # closed when the program was started
        if kind is Notes:
            return Path(os.devnull).open("w", encoding="utf-8")
        closed: io.RawIOBase = Results(STDOUT, "w", closefd=False)
        return io.TextIOWrapper(io.BufferedWriter(closed), "utf-8", HANDLER)
    try:
        number = stream.fileno()
    except (OSError, ValueError):  # not a file of the operating system: a notebook's or a test's
        return stream
    with suppress(OSError):
        stream.flush()
    raw: io.RawIOBase = kind(number, "w", closefd=False)
    lines = stream.isatty() or kind is Notes
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, HANDLER, line_buffering=lines)


class Notes(io.FileIO):
    """Progress and notes: what cannot be written (the disk is full, the pipe or terminal closed) is dropped."""

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        """Returns at least 1 byte of `data` as written, never an error."""
        with suppress(OSError):
            return super().write(data) or len(data)
        return len(data)


class Results(io.FileIO):
    """Results: where the reader has gone or the disk refuses, an error is raised once; what follows is dropped."""

    lost = False

    def write(self, data: "bytes | bytearray | memoryview") -> int:  # type: ignore[override]
        """Waits while a pipe is full. Raises BrokenPipeError where its reader has gone, MachineError for anything else."""
        while not self.lost:
            try:
                written = super().write(data)
            except BrokenPipeError:
                self.lost = True
                raise
            except OSError as error:
                self.lost = True
                reason = "it is closed" if error.errno == errno.EBADF else (error.strerror or str(error)).lower()
                raise MachineError(
                    f"cannot write the results to standard output: {reason}; write them elsewhere"
                ) from error
            if written is not None:
                return written
            select.select([], [self.fileno()], [])
        return len(data)


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(PLAIN.get(sign, "?") for sign in error.object[error.start : error.end]), error.end
