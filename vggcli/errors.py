"""The error family and its exit codes.

Every error that a user can cause is a VGGError whose message is one sentence: it names the thing that is wrong and says
what to do. The command line prints that sentence with the flags that it is about, and ends with the exit code. Any other
exception is a bug.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from enum import IntEnum


def counted(number: int, one: str, many: str = "") -> str:
    """A number and what it counts: `1 image`, `2 images`; `many` is the plural where that is not `one` with an s."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`, did you mean X?`, where X is the one of `known` that is most like `name`, in any case; nothing where none is."""
    folded = {one.casefold(): one for one in known}
    near = get_close_matches(name.casefold(), folded, n=1)
    return f", did you mean {folded[near[0]]}?" if near else ""


IN_PYTHON = re.compile(r" \(in Python: `[^`]*`\)")  # what the command line leaves out of a message


def command_or_python(command: str, python: str) -> str:
    """Advice for both kinds of user: a command, which the command line shows alone, and the same in Python."""
    return f"`{command}` (in Python: `{python}`)"


class ExitCode(IntEnum):
    """The exit codes of the command line."""

    OK = 0
    BUG = 1  # the only case that shows a traceback
    USAGE = 2  # the command line is wrong
    DATA = 3  # the data are wrong
    WEIGHTS = 4  # the weights are wrong
    MACHINE = 5  # the machine refuses
    INTERRUPTED = 130  # SIGINT, state saved first
    TERMINATED = 143  # SIGTERM, state saved first


class VGGError(Exception):
    """An error that the user can correct, raised as one of the subclasses below. `options` are the names of the parameters
    that the message is about, or that would help: the command line adds their flags. A message that says what to write in
    Python, as `skip_bad=True`, is shown there with the flag in its place."""

    exit_code = ExitCode.BUG

    def __init__(self, message: str, *options: str) -> None:
        super().__init__(message)
        self.options = options


class UsageError(VGGError):
    """The command line, or the arguments of a library function, are wrong."""

    exit_code = ExitCode.USAGE


class DataError(VGGError):
    """Images, labels or numbers made from them are missing, unreadable, inconsistent or not finite."""

    exit_code = ExitCode.DATA


class WeightsError(VGGError):
    """Weights are missing, corrupt, or of another network or class set."""

    exit_code = ExitCode.WEIGHTS


class MachineError(VGGError):
    """The machine refuses or lacks something: no space, no permission, no such device, no network, out of memory."""

    exit_code = ExitCode.MACHINE


class Interrupted(VGGError):
    """A signal asked the program to stop; whatever can be resumed was saved before this was raised."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.INTERRUPTED) -> None:
        super().__init__(message)
        self.exit_code = exit_code
