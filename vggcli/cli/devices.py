"""`--devices N`, and what each of the processes that it or torchrun starts knows of the others.

`vgg COMMAND --devices N` starts itself N times by torch's own launcher, as `torchrun --nproc-per-node N -m vggcli COMMAND`
does, and leaves with the exit code of the process that failed first. Every process runs the same command; the first shows
progress and writes files, and of an error that several of them meet one process says one sentence.
"""

import inspect
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from vggcli.cli.signals import CODES, received
from vggcli.errors import ExitCode, MachineError, UsageError, counted

if TYPE_CHECKING:
    from vggcli.ranks import Ranks

FLAG = Annotated[
    int | None,
    Option(
        "--devices",
        min=1,
        metavar="N",
        rich_help_panel="Machine",
        help="Share the work among N processes on this machine, one for each GPU. (default: 1)",
    ),
]
SHUTDOWN_SECONDS = 60  # that processes have to save

_joined: "list[Ranks]" = []  # what `joined` gives, once it has been asked for
_claimed: list[bool] = []  # whether this process says what ended the job


@dataclass(frozen=True)
class Launch:
    """A command that is to be started in so many processes, on the kind of `device` that was named."""

    devices: int
    device: str


def on_devices(command: Callable[..., Any]) -> Callable[..., Any]:
    """`command` with the flag `--devices`: for more than one it gives a `Launch` in place of what it does."""
    signature = inspect.signature(command)
    parameter = inspect.Parameter("devices", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=FLAG)

    @wraps(command)
    def run(**given: Any) -> Any:
        devices, world = given.pop("devices"), _number("WORLD_SIZE")
        if ":" in given["device"] and (is_shared() or (devices or 1) > 1):
            raise UsageError(f"{given['device']} is a single device; give cuda, or leave it out", "device", "devices")
        if world is None and devices is not None and devices > 1:
            return Launch(devices, given["device"])
        if is_shared():
            os.environ.setdefault(
                "TORCH_CPP_LOG_LEVEL", "ERROR"
            )  # before torch: no traces of its own where links break
        if world is not None and devices not in (None, world):
            raise UsageError(
                f"{devices} devices were asked for among {world} processes; give {world} or none", "devices"
            )
        return command(**given)

    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), parameter])  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, "devices": FLAG}
    return run


def joined() -> "Ranks":
    """This process among those that torchrun (or another launcher that sets its variables) has started, connected to them.

    Raises UsageError where the variables contradict each other, MachineError where the others cannot be reached.
    """
    from vggcli.ranks import Ranks, join

    if not _joined:
        rank, world, local = (_number(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        if rank is None or world is None:
            _joined.append(Ranks())
        elif rank >= world:
            what = f"RANK={rank} and WORLD_SIZE={world} are not the number of a process and how many there are"
            raise UsageError(f"{what}; unset them, or use torchrun")
        elif world == 1:
            _joined.append(Ranks())
        elif "MASTER_ADDR" not in os.environ:
            _take_device(local or 0)
            _joined.append(Ranks(rank, world))
        else:
            _take_device(local or 0)
            address = os.environ["MASTER_ADDR"], _number("MASTER_PORT") or 29500
            hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
            _joined.append(join(rank, world, address, _number("TORCHELASTIC_RESTART_COUNT") or 0, hosted))
    return _joined[0]


def is_shared() -> bool:
    """Whether this is one of several processes."""
    return os.environ.get("WORLD_SIZE", "1") != "1"


def is_silent() -> bool:
    """Whether this process shows no notes, because the first one of its job shows them."""
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    return is_shared() and rank != "0" and rank.isdecimal() and world.isdecimal() and int(rank) < int(world)


def is_of_another(error: Exception) -> bool:
    """Whether an error is about another process of the job, or the connection to it."""
    if not _joined or _joined[0].link is None:
        return False
    from vggcli.ranks import RankLost, is_broken

    return isinstance(error, RankLost) or (isinstance(error, RuntimeError) and is_broken(error))


def speaks_last(own: bool) -> bool:
    """Whether this process is to say what ended the job: alone, or as the one that says it for all; an error that is not
    its `own` may have come from another."""
    link = _joined[0].link if _joined else None
    if not _claimed:
        apart = "MASTER_ADDR" not in os.environ  # no other process hears of its errors
        _claimed.append((apart or not is_silent()) if link is None else link.claim(own))
    return _claimed[0]


def lost_process() -> str | None:
    """What became of another process of the job that hangs, or has ended without saying why."""
    link = _joined[0].link if _joined else None
    if link is None or link.gone is not None:
        return None if link is None else str(link.gone)
    ended = link.ended()
    return f"{link.name(ended[0])} was killed, as happens when memory runs out" if ended else None


def leave(orderly: bool) -> None:
    """Take leave of the other processes, `orderly` where the work is done."""
    if _joined and _joined[0].link is not None:
        _joined[0].link.leave(orderly)
    _joined.clear()
    _claimed.clear()


def _number(name: str) -> int | None:
    """An environment variable as a number, None where it is not set. Raises UsageError where it is no number."""
    text = os.environ.get(name)
    if text is None:
        return None
    if not text.isdecimal():
        raise UsageError(f"{name}={text} is not a number; unset it, or use torchrun")
    return int(text)


def _take_device(local: int) -> None:
    """Let `cuda` mean a device of this process's own."""
    import torch

    if (count := torch.cuda.device_count()) > 0:
        torch.cuda.set_device(local % count)


def launched(launch: Launch, arguments: list[str]) -> int:
    """Run the command line `arguments` in several processes; the exit code of the first that failed.

    Raises MachineError where there are fewer devices, or all processes were killed.
    """
    import torch
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    name, devices = launch.device, launch.devices
    there = torch.cuda.device_count()
    if name in ("auto", "cuda") and 0 < there < devices:
        raise MachineError(f"this machine has {counted(there, 'CUDA device')}, not {devices}; give fewer", "devices")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // devices)))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SHUTDOWN_SECONDS))
    if hasattr(signal, "SIGTSTP"):  # Ctrl-Z: the processes need the store that this one holds
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    sys.stdout.flush()
    logging.disable(logging.CRITICAL)  # of the launcher; its processes say what there is to say
    try:
        with tempfile.TemporaryDirectory(prefix="vgg-") as logs:
            own: Any = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "run_id": f"vgg-{os.getpid()}"}
            config = LaunchConfig(1, 1, devices, DefaultLogsSpecs(log_dir=logs), max_restarts=0, **own)
            elastic_launch(config, sys.executable)("-m", "vggcli", *arguments)
        return ExitCode.OK
    except SignalException as error:
        return CODES.get(signal.Signals(error.sigval), ExitCode.TERMINATED)
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        if all(one.exitcode < 0 for one in error.failures.values()) and len(error.failures) == devices:
            raise MachineError(
                f"the processes were killed ({first.signal_name()}); use fewer, or free memory"
            ) from None
        return received() or (ExitCode.MACHINE if first.exitcode < 0 else first.exitcode)
    finally:
        logging.disable(logging.NOTSET)
