"""Several processes that share a piece of work, forked from the test's own, so that nothing is imported again."""

import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed

from vggcli.cli.app import run
from vggcli.cli.signals import prepare_signals
from vggcli.ranks import Ranks, join

_FORK: Any = multiprocessing.get_context("fork")
MOST_SECONDS = 60.0  # until processes that do not end are killed


@dataclass(frozen=True)
class Ended:
    """How a process ended: what its work returned, or raised, or the `signal` that killed it."""

    value: Any = None
    error: BaseException | None = None
    signal: int = 0


@dataclass(frozen=True)
class Said:
    """The exit code of a command (minus the signal that killed it), and what it printed."""

    code: int
    out: str
    err: str


class Store:
    """A store of a job at `port`, held by a process of its own (its threads must not be in a process that forks), until it
    is no longer used."""

    def __init__(self) -> None:
        self.held, theirs = _FORK.Pipe()
        _FORK.Process(target=self._hold, args=(theirs,), daemon=True).start()
        theirs.close()
        self.port = int(self.held.recv())

    def _hold(self, theirs: Any) -> None:
        self.held.close()
        distributed: Any = torch.distributed
        store = distributed.TCPStore("localhost", 0, None, is_master=True, wait_for_workers=False)
        theirs.send(store.port)
        theirs.poll(None)  # until the other end is closed
        os._exit(0)


def in_processes(world: int, work: Callable[[Ranks], Any]) -> list[Ended]:
    """`work` in so many processes that are connected, each with its own rank."""
    store = Store()

    def joined(rank: int) -> Any:
        ranks = join(rank, world, ("localhost", store.port), 0, hosted=True)
        try:
            return work(ranks)
        finally:
            assert ranks.link is not None
            ranks.link.leave(orderly=False)

    return forked(world, joined)


def results(world: int, work: Callable[[Ranks], Any]) -> list[Any]:
    """What `work` returns in each process; raises what one raises."""
    ended = in_processes(world, work)
    for one in ended:
        if one.error is not None:
            raise one.error
    assert not any(one.signal for one in ended)
    return [one.value for one in ended]


def commands(folder: Path, world: int, *arguments: str, attempt: int = 0, store: "Store | None" = None) -> list[Said]:
    """A command line in so many processes, as torchrun starts them with its own store; what they print is kept in files in
    `folder`."""
    store = store or Store()

    def command(rank: int) -> int:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
        os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(store.port)}
        os.environ |= {"TORCHELASTIC_RESTART_COUNT": str(attempt), "TORCHELASTIC_USE_AGENT_STORE": "True"}
        for number, name in ((1, "out"), (2, "err")):
            file = os.open(folder / f"{name}-{rank}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            os.dup2(file, number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
        prepare_signals()
        code = run(list(arguments))
        sys.stdout.flush()
        return code

    texts = [[(folder / f"{name}-{rank}") for name in ("out", "err")] for rank in range(world)]
    ended = forked(world, command)
    return [
        Said(-one.signal if one.signal else one.value, *(path.read_text(encoding="utf-8") for path in paths))
        for one, paths in zip(ended, texts, strict=True)
    ]


def forked(world: int, work: Callable[[int], Any]) -> list[Ended]:
    """`work`, given its number, in so many forked processes."""
    pipes = [_FORK.Pipe(duplex=False) for _ in range(world)]

    def begin(number: int) -> None:
        torch.set_num_threads(1)  # threads of the parent are not in the child
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            ended = Ended(work(number))
        except BaseException as error:
            ended = Ended(error=error)
        pipes[number][1].send_bytes(pickle.dumps(ended))  # tensors too, whole
        os._exit(0)

    started = [_FORK.Process(target=begin, args=(number,)) for number in range(world)]
    for one in started:
        one.start()
    for _, end in pipes:
        end.close()
    found = []
    try:
        for one, (pipe, _) in zip(started, pipes, strict=True):
            assert pipe.poll(MOST_SECONDS), "a process does not end"
            try:
                found.append(pickle.loads(pipe.recv_bytes()))
                one.join()
            except EOFError:
                one.join()
                found.append(Ended(signal=-(one.exitcode or 0)))
    finally:
        for one in started:
            one.kill()
            one.join()
    return found
