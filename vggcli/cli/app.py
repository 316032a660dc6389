"""`vgg`: registers the commands, and turns every error that they raise into one sentence and an exit code."""

import errno
import logging
import os
import re
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer import Option
from typer.main import get_command

from vggcli import __version__
from vggcli.cli import devices
from vggcli.cli.convert import convert
from vggcli.cli.data import data
from vggcli.cli.ensemble import ensemble
from vggcli.cli.evaluate import evaluate
from vggcli.cli.features import features
from vggcli.cli.finetune import finetune
from vggcli.cli.greedy import GreedyCommand
from vggcli.cli.help import Front
from vggcli.cli.models import models
from vggcli.cli.predict import predict
from vggcli.cli.probe import probe
from vggcli.cli.runs import runs
from vggcli.cli.signals import Terminated, received
from vggcli.cli.train import train
from vggcli.defaults import convolution
from vggcli.errors import IN_PYTHON, ExitCode, Interrupted, UsageError, VGGError, did_you_mean
from vggcli.regular_files import need_local
from vggcli.report.text import printable
from vggcli.zoo.compiled import choose, kernels_in_use

app = typer.Typer(
    name="vgg",
    cls=Front,
    help="Train, measure and use the networks of Simonyan and Zisserman (ICLR 2015). "
    "First: vgg train --recipe tiny --arch A, then vgg eval --arch A --dense",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    rich_markup_mode="rich",
)

SHARED = ("train", "finetune", "evaluate", "eval", "ensemble", "features", "predict")  # among several processes
FLAGS = {"learning_rate": "lr", "pool": "gap or --gmp"}  # of parameters whose flag has another name
STOPPED = "stopped by a signal"
RED, PLAIN = "\x1b[31m", "\x1b[0m"  # on a terminal
KEPT_WHOLE = re.compile(r"`[^`]*`|\d %")  # on one line of a terminal, where they fit: commands, numbers with their unit
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ESTALE)
NO_MEMORY = (
    *("out of memory", "can't allocate memory", "annot allocate memory", "bad_alloc", "unable to mmap"),
    "failed to map segment",  # of a library
)


def _version(asked: bool) -> None:
    if asked:
        kernels = kernels_in_use()
        print(f"vgg {__version__}")
        print(f"3x3 convolution on a CPU: {f'compiled, {kernels.name}' if kernels else 'by PyTorch'}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        Option("--version", callback=_version, is_eager=True, help="Print the version and the convolution in use."),
    ] = False,
) -> None:
    """Holds the options of `vgg` itself; the help text is the app's."""


def _register(name: str, function: Callable[..., Any], example: str, hidden: bool = False) -> None:
    """Its line in `vgg --help` is the first sentence of its docstring."""
    first = " ".join((function.__doc__ or "").partition(". ")[0].split())
    app.command(name, cls=GreedyCommand, short_help=first, epilog=f"Example: {example}", hidden=hidden)(function)


_register("train", train, "vgg train --arch D --scale-jitter 256 512 --data photos/")
_register("finetune", finetune, "vgg finetune --weights imagenet --arch D --data photos/ --layers fc --cache-features")
_register("evaluate", evaluate, "vgg evaluate --arch E --scales 256 384 512 --dense")
_register("eval", evaluate, "vgg eval --arch E --scales 256 384 512 --dense", hidden=True)
_register("ensemble", ensemble, "vgg ensemble runs/D-1 runs/E-1 dense.safetensors --dense --scales 256 384 512")
_register("features", features, "vgg features photos/ --gap --scales 256 384 512 --out photos.safetensors")
_register("probe", probe, "vgg probe D.safetensors E.safetensors --data caltech101 --protocol caltech")
_register("predict", predict, "vgg predict photos/ --arch D --dense --out classes.csv")
_register("convert", convert, "vgg convert vgg16.pth d.safetensors")
_register("runs", runs, "vgg runs --json")
_register("data", data, "vgg data photos/")
_register("models", models, "vgg models D --crop 64 --width 0.25")


class _Notes(logging.Handler):
    """Print every note of the libraries as a line on stderr, in the first of several processes."""

    def emit(self, record: logging.LogRecord) -> None:
        if not devices.is_silent():
            _tell(record.getMessage())


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code. The one error boundary."""
    code = _run(arguments)
    devices.leave(orderly=code == ExitCode.OK)
    return code


def _run(arguments: list[str]) -> int:
    log = logging.getLogger("vggcli")
    if not any(isinstance(one, _Notes) for one in log.handlers):
        log.addHandler(_Notes())
    log.setLevel(logging.DEBUG)
    try:
        choose(convolution())
        result = _dispatch(arguments)
        if isinstance(result, devices.Launch):
            return devices.launched(result, arguments)
        sys.stdout.flush()
        if result == ExitCode.INTERRUPTED:  # some versions of typer return it for a KeyboardInterrupt
            raise KeyboardInterrupt
        return result if isinstance(result, int) else ExitCode.OK
    except (KeyboardInterrupt, typer.Abort):
        return _fail("interrupted", ExitCode.INTERRUPTED, own=False)
    except Terminated:
        return _fail(STOPPED, ExitCode.TERMINATED, own=False)
    except (BrokenPipeError, SystemExit):  # the reader of our output has gone; rich then raises SystemExit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Interrupted as error:
        return _fail(str(error), error.exit_code, own=False)
    except Exception as error:
        code = received()
        if code is not None:  # a library that a signal interrupts may raise anything
            return _fail(STOPPED, code, own=False)
        if devices.is_of_another(error):
            return _fail(str(error), ExitCode.MACHINE, own=False)
        if not isinstance(error, VGGError):
            return _other(error, arguments)
        return _fail(_with_flags(error), error.exit_code)


def _with_flags(error: VGGError) -> str:
    """The message with the flags that it is about: in place of what it says for Python (`skip_bad=True`), or at its end."""
    message, others = str(error), []
    for name in error.options:
        flag = f"--{FLAGS.get(name, name).replace('_', '-')}"
        if f"{name}=True" in message:
            message = message.replace(f"{name}=True", flag)
        else:
            others.append(flag)
    return f"{message} ({', '.join(others)})" if others else message


def _dispatch(arguments: list[str]) -> Any:
    if "" in arguments:
        raise UsageError("an argument is empty (a shell variable that is not set?); leave it out or give a value")
    for argument in arguments:
        need_local(re.sub("^--[a-z-]+=", "", argument))
    command: Any = get_command(app)
    name = arguments[0] if arguments else ""
    if name and not name.startswith("-") and name not in command.commands:
        raise UsageError(f"there is no command {name!r}{did_you_mean(name, command.commands) or '; see `vgg --help`'}")
    if name in command.commands and {"-h", "--help"} & set(arguments):  # whatever else is on the line
        return command.commands[name].main(args=["--help"], prog_name=f"vgg {name}", standalone_mode=False)
    if name in command.commands and name not in SHARED and devices.is_shared():
        raise UsageError(f"`vgg {name}` works in one process; start it without torchrun")
    return command.main(args=arguments, prog_name="vgg", standalone_mode=False)


def _other(error: Exception, arguments: list[str]) -> int:
    if callable(getattr(error, "format_message", None)):  # the option parser's own errors
        if type(error).__name__ == "NoArgsIsHelpError":
            return ExitCode.USAGE
        from vggcli.records import plain_words

        given = [name for name in arguments[:1] if not name.startswith("-")]  # _dispatch knows the command
        command = " ".join(["vgg", *given])
        if hasattr(error, "possibilities"):
            name = error.option_name  # type: ignore[attr-defined]
            near = did_you_mean(name, error.possibilities or ())
            return _fail(f"there is no flag {name}{near or f'; see `{command} --help`'}", ExitCode.USAGE)
        message = str(error.format_message()).rstrip(".")  # type: ignore[attr-defined]
        message = re.sub("Input should be (.*)", lambda found: f"give {plain_words(found[1])}", message)
        message = message.replace("Value error, ", "")
        return _fail(f"{message}; see `{command} --help`", ExitCode.USAGE)
    refused = _refused(error)
    if refused is not None:
        return _fail(refused, ExitCode.MACHINE)
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        name = os.fsdecode(error.filename or "a name")
        return _fail(f"{name[:60]}… is longer than the name of a file can be; give a shorter one", ExitCode.USAGE)
    if devices.speaks_last(own=True):
        traceback.print_exc()
    return _fail("this is a bug in vgg; please report it with the lines above", ExitCode.BUG)


def _refused(error: BaseException) -> str | None:
    """The sentence for an error of the machine (memory, disk, processes), whichever library raised it; None for others."""
    number, text = getattr(error, "errno", None), str(error)
    if number in (errno.EMFILE, errno.ENFILE) or "Too many open files" in text:
        return "too many open files; raise the limit with `ulimit -n`, or give fewer --workers"
    if isinstance(error, MemoryError) or number == errno.ENOMEM or any(words in text for words in NO_MEMORY):
        return (
            "out of memory; try a smaller --micro-batch, --batch-size or --crop, or raise the limit with `ulimit -v` where "
            "there is one"
        )
    if number == errno.EAGAIN or "can't start new thread" in text:
        return "no more processes or threads may be started; raise the limit with `ulimit -u`, or give --workers 0"
    if isinstance(error, OSError) and number in REFUSALS:
        return f"{os.fsdecode(error.filename or 'the disk')}: {(error.strerror or text).lower()}"
    return None


def _fail(message: str, code: int, own: bool = True) -> int:
    """Say what ended the command, unless another process of the job does; a signal, or an error that is not this process's
    `own`, may come from one that was killed."""
    lost = None if own else devices.lost_process()
    if lost is not None:
        whole = lost if message in (STOPPED, "interrupted") else f"{lost}: {message}"
        message, code = message if lost in message else whole, ExitCode.MACHINE
    if devices.speaks_last(own):
        _tell(f"vgg: {' '.join(IN_PYTHON.sub('', message).split())}", RED)
    return code


def _tell(text: str, colour: str = "") -> None:
    """A line on stderr, which a terminal breaks between words and, but for NO_COLOR, shows in `colour`."""
    text = printable(text)
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        text = KEPT_WHOLE.sub(lambda found: found[0].replace(" ", "\0") if len(found[0]) < width else found[0], text)
        text = textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False).replace("\0", " ")
        text = f"{colour}{text}{PLAIN}" if colour and not os.environ.get("NO_COLOR") else text
    print(text, file=sys.stderr, flush=True)
