"""The one place for signals. SIGTERM and SIGHUP end a command as Ctrl-C does, through whatever cleans up behind it; what
saves first asks here whether it should. Worker processes take no notice of any.

A SIGHUP that is ignored (`nohup`) stays so.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from vggcli.errors import ExitCode

CODES = {
    getattr(signal, name): code
    for name, code in (
        ("SIGINT", ExitCode.INTERRUPTED),
        ("SIGTERM", ExitCode.TERMINATED),
        ("SIGHUP", ExitCode.TERMINATED),
    )
    if hasattr(signal, name)
}


class Terminated(BaseException):
    """SIGTERM or SIGHUP came; no Exception, so that nothing takes it for an error of its own."""


def prepare_signals() -> None:
    """Let SIGTERM and SIGHUP raise Terminated, once. At the program's start."""
    for number in CODES:
        if number != signal.SIGINT and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _terminate)


def ignore_signals() -> None:
    """From here on the program ends by itself, in a moment."""
    for number in CODES:
        signal.signal(number, signal.SIG_IGN)


def _terminate(number: int, frame: FrameType | None) -> None:
    for other in CODES:
        if other != signal.SIGINT:
            signal.signal(other, signal.SIG_IGN)
    raise Terminated


@contextmanager
def asked_to_stop() -> Iterator[list[ExitCode]]:
    """A list that signals put their exit codes into, for what stops by itself where it can; a second SIGINT interrupts at
    once."""
    asked: list[ExitCode] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(CODES[signal.Signals(number)])

    hung_up = getattr(signal, "SIGHUP", None)
    kept = {hung_up} if hung_up and signal.getsignal(hung_up) == signal.SIG_IGN else set()
    before = {number: signal.signal(number, handle) for number in CODES if number not in kept}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
