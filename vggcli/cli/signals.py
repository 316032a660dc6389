"""The one place that handles signals. SIGTERM and SIGHUP end a command as Ctrl-C does, by an exception, so that everything
is cleaned up; training, which saves first, uses `asked_to_stop`. Worker processes ignore all three.

The exception can be lost, where a library catches everything (as pydantic does while it builds a validator) or in what
Python calls as it forks; and it crashes the program while a library written in C++ is being imported. So it waits until
these have ended, and is raised again every few seconds until the program ends. A signal that is ignored (`nohup`, a job
in the background) stays ignored.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from vggcli.errors import ExitCode

_NAMED = {"SIGINT": ExitCode.INTERRUPTED, "SIGTERM": ExitCode.TERMINATED, "SIGHUP": ExitCode.TERMINATED}
CODES = {getattr(signal, name): code for name, code in _NAMED.items() if hasattr(signal, name)}
WAITED_FOR = ("importlib._bootstrap", "multiprocessing.popen_fork", "pydantic")  # modules that must not be interrupted
SOON = 0.05  # seconds until the next look whether they have ended
AGAIN = 3.0  # seconds after which a signal that was lost is raised once more
ALARM = getattr(signal, "SIGALRM", None)

_received: list[ExitCode] = []


class Terminated(BaseException):
    """SIGTERM or SIGHUP came. No subclass of Exception, so that no `except Exception` catches it."""


def prepare_signals() -> None:
    """Let SIGINT raise KeyboardInterrupt, and SIGTERM and SIGHUP raise Terminated. Called once, at the start."""
    _received.clear()
    for number in CODES:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _raise)
    if ALARM is not None:
        signal.signal(ALARM, _raise)
    sys.unraisablehook = _unless_raised_here  # one raised in a destructor is lost, and raised again later


def ignore_signals() -> None:
    """Called just before the program ends by itself."""
    for number in CODES:
        signal.signal(number, signal.SIG_IGN)
    if ALARM is not None:
        signal.setitimer(signal.ITIMER_REAL, 0)


def received() -> ExitCode | None:
    """The exit code of the signal that came last, None where none did."""
    return _received[-1] if _received else None


def _raise(number: int, frame: FrameType | None) -> None:
    if number != ALARM:
        _received.append(CODES[signal.Signals(number)])
    if ALARM is not None:
        waits = _must_wait(frame)
        signal.setitimer(signal.ITIMER_REAL, SOON if waits else AGAIN)
        if waits:
            return
    raise KeyboardInterrupt if received() == ExitCode.INTERRUPTED else Terminated


def _must_wait(frame: FrameType | None) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith(WAITED_FOR):
            return True
        frame = frame.f_back
    return False


def _unless_raised_here(lost: "sys.UnraisableHookArgs", /) -> None:
    if lost.exc_type not in (Terminated, KeyboardInterrupt):
        sys.__unraisablehook__(lost)


@contextmanager
def asked_to_stop(said: Callable[[], None], at_once: bool = True) -> Iterator[list[ExitCode]]:
    """A list that signals append their exit codes to, for a loop that looks at it and stops by itself; `said` is called at
    the first signal, and a second SIGINT raises KeyboardInterrupt `at_once`."""
    asked = list(_received)
    if ALARM is not None:
        signal.setitimer(signal.ITIMER_REAL, 0)  # `asked` holds what came before

    def handle(number: int, frame: FrameType | None) -> None:
        if asked and at_once and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(CODES[signal.Signals(number)])
        if len(asked) == 1:
            said()

    heard = [number for number in CODES if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
