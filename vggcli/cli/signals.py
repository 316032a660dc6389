"""The one place for signals. SIGTERM and SIGHUP end a command as Ctrl-C does, through whatever cleans up behind it; what
saves first asks here whether it should. Worker processes take no notice of any.

What a signal raises can be lost, where a library catches everything (as pydantic does while it builds a validator) or in
what Python calls as it forks, or end the program hard, where a library written in C++ is being imported. So it waits for
the end of these, and is raised again, after a while, until the program ends. A signal that is ignored (`nohup`, a job in
the background) stays so.
"""

import signal
import sys
from collections.abc import Callable, Iterator
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
WAITED_FOR = ("importlib._bootstrap", "multiprocessing.popen_fork", "pydantic")  # how their names begin: modules whose
# functions are not to be interrupted
SOON = 0.05  # seconds until it is seen again whether they have ended
AGAIN = 3.0  # seconds after which a signal that was lost is raised once more
ALARM = getattr(signal, "SIGALRM", None)

_received: list[ExitCode] = []


class Terminated(BaseException):
    """SIGTERM or SIGHUP came; no Exception, so that nothing takes it for an error of its own."""


def prepare_signals() -> None:
    """Let SIGINT raise KeyboardInterrupt, and SIGTERM and SIGHUP Terminated. At the program's start."""
    _received.clear()
    for number in CODES:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _raise)
    if ALARM is not None:
        signal.signal(ALARM, _raise)
    sys.unraisablehook = _unless_raised_here  # what is lost in a destructor comes again


def ignore_signals() -> None:
    """From here on the program ends by itself, in a moment."""
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
def asked_to_stop(said: Callable[[], None]) -> Iterator[list[ExitCode]]:
    """A list that signals put their exit codes into, for what stops by itself where it can, and `said` tells whoever sent
    the first one so; a second SIGINT interrupts at once."""
    asked = list(_received)
    if ALARM is not None:
        signal.setitimer(signal.ITIMER_REAL, 0)  # what was lost before is asked for now

    def handle(number: int, frame: FrameType | None) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(CODES[signal.Signals(number)])
        said()

    heard = [number for number in CODES if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in heard}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
