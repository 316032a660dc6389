"""The connections of one process to the others of its job.

A process that ends breaks its connections, which is an error in all others at once; one that hangs is found by the beats
that each of them leaves in the job's store, which its launcher holds: it is lost after LOST_SECONDS without one, and then
killed where it runs on the same machine. Waiting for others never blocks signals.
"""

import contextlib
import os
import pickle
import platform
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from vggcli.errors import MachineError
from vggcli.progress import Progress

T = TypeVar("T")
_STORES: Any = dist  # which does not say that it exports them

LOST_SECONDS = 60.0  # without a sign of a process
BEAT_SECONDS = 2.0
TORCH_SECONDS = 60.0  # that torch's own collectives and its store wait
MEET_SECONDS = 600.0  # that the first process to come waits for the last: to import torch may take minutes
READY_SECONDS = 10.0  # between the first and the last that then connects
CLAIM_SECONDS = 1.0  # that each process leaves those of lower ranks to say what they have in common
MOST_CLAIM_SECONDS = 5.0
LONGEST_PAUSE = 0.02  # seconds between two looks whether the others have come
KILLED = "was killed, as happens when memory runs out; use fewer devices, workers or images at once"
FOREVER = timedelta(days=365)  # for waits that beats watch over


class RankLost(MachineError):
    """Another process of the job ended or hangs."""


@dataclass
class _Seen:
    """What a process was last seen to publish, and when (seconds of this one's clock)."""

    beat: str = ""
    time: float = field(default_factory=time.monotonic)

    def numbers(self) -> list[int]:
        """Its signs of life in `summed`, whether it is busy, its bar and how much of that is done."""
        return [int(one) for one in self.beat.split()[1:]] or [0, 1, 0, 0]


class Link:
    """The connections of one process to all others of its job."""

    def __init__(self, rank: int, world: int, address: tuple[str, int], attempt: int, hosted: bool) -> None:
        self.rank, self.world, self.address, self.attempt = rank, world, address, attempt
        self.store = _STORES.TCPStore(
            *address, None, is_master=not hosted and rank == 0, wait_for_workers=False, timeout=_seconds(TORCH_SECONDS)
        )
        self.own = _STORES.PrefixStore(f"vgg/{attempt}", self.store)
        try:
            self._meet("here", MEET_SECONDS)
        except BaseException:
            self._say_goodbye()
            raise
        with _signals_held():  # one that left in the middle would keep the others waiting
            self._meet("ready", READY_SECONDS)
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            group = _STORES.PrefixStore("group", self.own)
            dist.init_process_group(backend, store=group, rank=rank, world_size=world, timeout=_seconds(TORCH_SECONDS))
            self.group: Any = dist.new_group(backend="gloo", timeout=FOREVER)
        self.busy, self.signs, self.bar, self.done = 0, 0, 0, 0
        self.gone: RankLost | None = None
        self.closed = threading.Event()
        self.places: list[tuple[str, int, str]] = [("", 0, "")] * world  # host, process, and whose numbers these are
        self.seen = {other: _Seen() for other in range(world) if other != rank}
        self.places = self.gathered((platform.node(), os.getpid(), _namespace()))
        self.thread = threading.Thread(target=self._beat, daemon=True)
        self.thread.start()

    def _meet(self, where: str, seconds: float) -> None:
        """Wait until all processes have come to a place, which has a name. Raises RuntimeError where one leaves before."""
        self.own.set(f"{where}{self.rank}", "")
        until, others = time.monotonic() + seconds, [rank for rank in range(self.world) if rank != self.rank]
        while not self.own.check([f"{where}{rank}" for rank in range(self.world)]):
            if any(self.own.check([f"left{rank}"]) for rank in others):
                raise RuntimeError("one of them has left")
            if time.monotonic() > until:
                raise RuntimeError(f"not all have come within {seconds:.0f} s")
            time.sleep(LONGEST_PAUSE)

    @property
    def neighbours(self) -> list[int]:
        """The ranks on this machine, and in the same container."""
        host, _, numbers = self.places[self.rank]
        return [rank for rank, place in enumerate(self.places) if (place[0], place[2]) == (host, numbers)]

    def _beat(self) -> None:
        """Publish this process's beats, and watch those of the others."""
        count, woke = 0, time.monotonic()
        try:
            store = _STORES.TCPStore(*self.address, None, wait_for_workers=False, timeout=_seconds(TORCH_SECONDS))
            own = _STORES.PrefixStore(f"vgg/{self.attempt}", store)
            while True:
                count += 1
                if time.monotonic() - woke > LOST_SECONDS:  # this process was stopped, and perhaps the others too
                    for seen in self.seen.values():
                        seen.time = time.monotonic()
                woke = time.monotonic()
                own.set(f"beat{self.rank}", f"{count} {self.signs} {self.busy} {self.bar} {self.done}")
                for rank, seen in self.seen.items():
                    beat = own.get(f"beat{rank}").decode() if own.check([f"beat{rank}"]) else ""
                    if beat != seen.beat:
                        seen.beat, seen.time = beat, time.monotonic()
                    elif time.monotonic() - seen.time > LOST_SECONDS and not own.check([f"left{rank}"]):
                        self.gone = self.gone or self._hangs(rank)
                if self.closed.wait(BEAT_SECONDS):
                    return
        except RuntimeError:
            if not self.closed.is_set():
                self.gone = RankLost("the process that started this job has ended; start it again")

    def _behind(self) -> RankLost | None:
        """What is said of a process that has not come to the sum that this one waits in, and is not busy."""
        states = {rank: seen.numbers() for rank, seen in self.seen.items()}
        ranks = [rank for rank, (signs, busy, *_) in states.items() if signs < self.signs and not busy]
        return self._hangs(ranks[0]) if ranks else None

    def _hangs(self, rank: int) -> RankLost:
        if rank in self.neighbours:
            with contextlib.suppress(OSError):
                os.kill(self.places[rank][1], signal.SIGKILL)
        return RankLost(
            f"{self.name(rank)} has given no sign for {LOST_SECONDS:.0f} s and was ended; look at its machine"
        )

    def name(self, rank: int) -> str:
        """What a process is called in messages."""
        host, number, _ = self.places[rank]
        return f"process {rank + 1} of {self.world} (PID {number} on {host})"

    def check(self) -> None:
        """Raises RankLost where another process is."""
        if self.gone is not None:
            raise self.gone

    def lost_one(self) -> RankLost:
        """The error for a connection that broke: which process has ended is known where it was on this machine."""
        until = time.monotonic() + 2 * BEAT_SECONDS
        while self.gone is None and time.monotonic() < until:
            if ended := self.ended():
                return RankLost(f"{self.name(ended[0])} {KILLED}")
            if self.left():
                break
            time.sleep(0.05)
        how = "has left" if self.left() else KILLED
        return self.gone or RankLost(f"one of the {self.world} processes {how}")

    def ended(self) -> list[int]:
        """The processes on this machine that are no more, and have not said that they leave."""
        gone = {rank for rank in self.neighbours if rank != self.rank and not _runs(self.places[rank][1])}
        return sorted(gone - set(self.left()))

    def left(self) -> list[int]:
        """The other processes that have said that they leave."""
        with contextlib.suppress(RuntimeError):  # the store has gone
            return [rank for rank in self.seen if self.own.check([f"left{rank}"])]
        return []

    def _wait(self, work: Any, together: bool = False) -> None:
        """Wait for a collective. Raises RankLost where another process ends or hangs, or does not come though all are to
        come `together`. Time in which this process itself was stopped does not count."""
        pause, looked, waited = 1e-4, time.monotonic(), 0.0
        while not work.is_completed():
            time.sleep(pause)
            pause = min(1.3 * pause, LONGEST_PAUSE)
            if pause == LONGEST_PAUSE and time.monotonic() - looked > BEAT_SECONDS:
                looked, waited = time.monotonic(), waited + BEAT_SECONDS
                if together and waited > LOST_SECONDS:
                    self.gone = self.gone or self._behind()
                self.check()
        try:
            work.wait()
        except RuntimeError as error:
            raise self.lost_one() from error

    def summed(self, numbers: Sequence[float]) -> list[float]:
        """As `Ranks.summed`."""
        self.check()
        self.signs += 1
        mine = torch.tensor(numbers, dtype=torch.float64)
        found = [torch.empty_like(mine) for _ in range(self.world)]
        together = self.signs > 1  # the first step compiles
        self._wait(dist.all_gather(found, mine, group=self.group, async_op=True), together)
        return torch.stack(found).sum(0).tolist()  # in the order of the ranks, which is the same everywhere

    def gathered(self, value: T, everywhere: bool = True) -> list[T]:
        """As `Ranks.gathered`; not `everywhere`, as `Ranks.collected`."""
        mine = _packed(value)
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world)]
        self._wait(dist.all_gather(sizes, torch.tensor([len(mine)]), group=self.group, async_op=True))
        longest = max(int(size) for size in sizes)
        mine = torch.cat([mine, torch.zeros(longest - len(mine), dtype=torch.uint8)])
        receives = everywhere or self.rank == 0
        found = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.world)] if receives else []
        if everywhere:
            self._wait(dist.all_gather(found, mine, group=self.group, async_op=True))
        else:
            self._wait(dist.gather(mine, found or None, group=self.group, async_op=True))
        return [pickle.loads(bytes(one[: int(size)].numpy())) for one, size in zip(found, sizes, strict=False)]

    def broadcast(self, work: Callable[[], T] | None) -> T:
        """As `Ranks.first_does`; `work` is None in all processes but the first."""
        value: Any = None if work is None else work()
        packed = torch.empty(0, dtype=torch.uint8) if work is None else _packed(value)
        size = torch.tensor([len(packed)])
        self._wait(dist.broadcast(size, 0, group=self.group, async_op=True))
        packed = torch.empty(int(size), dtype=torch.uint8) if work is None else packed
        self._wait(dist.broadcast(packed, 0, group=self.group, async_op=True))
        return value if work is not None else pickle.loads(bytes(packed.numpy()))  # type: ignore[no-any-return]

    def progress(self, progress: Progress) -> Progress:
        """As `Ranks.progress`."""

        @contextmanager
        def counted(title: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
            self.bar, self.done, shown = self.bar + 1, 0, 0
            with progress(title, total, unit) as bar:

                def tell(more: int) -> None:
                    nonlocal shown
                    self.done += more
                    others = [seen.numbers() for seen in self.seen.values()]
                    done = min(total, self.done + sum(done for *_, at, done in others if at == self.bar))
                    bar(max(0, done - shown))
                    shown = max(shown, done)

                yield tell

        return counted

    def claim(self, own: bool) -> bool:
        """Whether this process is the one to say what ended the job: the first to claim it. One whose error is not its
        `own` (it was stopped, or lost another) comes after those of lower ranks."""
        self._say_goodbye()
        until = time.monotonic() + (0 if own else min(CLAIM_SECONDS * self.rank, MOST_CLAIM_SECONDS))
        try:
            while time.monotonic() < until and not self.own.check(["said"]):
                time.sleep(0.05)
            return bool(self.own.add("said", 1) == 1)
        except RuntimeError:  # the store has gone
            return self.rank == 0

    def remember(self, key: str, value: str) -> None:
        """Keep a text for later attempts of the job."""
        self.store.set(f"vgg/{key}", value)

    def remembered(self, key: str) -> str | None:
        """What `remember` kept, also in an earlier attempt."""
        return self.store.get(f"vgg/{key}").decode() if self.store.check([f"vgg/{key}"]) else None

    def leave(self, orderly: bool) -> None:
        """Say that this process ends by itself; connections are closed where all have come to an `orderly` end."""
        self._say_goodbye()
        self.closed.set()
        self.thread.join(BEAT_SECONDS)  # a thread that is in the store as the program ends would abort it
        if orderly:
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()

    def _say_goodbye(self) -> None:
        with contextlib.suppress(RuntimeError):  # the store has gone
            self.own.set(f"left{self.rank}", "")


def _packed(value: Any) -> Tensor:
    return torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8)


def _seconds(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Signals wait until the end of the block."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _namespace() -> str:
    """What tells containers apart that count their processes apart; empty where the system has none."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _runs(number: int) -> bool:
    """Whether a process runs; one that has ended and is not yet buried does not."""
    try:
        os.kill(number, 0)
        status = Path(f"/proc/{number}/stat").read_text(encoding="ascii", errors="replace")
        return status.rpartition(")")[2].split()[0] not in "ZX"
    except ProcessLookupError:
        return False
    except (OSError, IndexError):  # no such folder on this system, or another user's process
        return True


def is_broken(error: RuntimeError) -> bool:
    """Whether an error is of a connection to another process."""
    kinds = tuple(getattr(dist, name) for name in ("DistBackendError", "DistNetworkError") if hasattr(dist, name))
    return isinstance(error, kinds) or any(name in str(error).lower() for name in ("gloo", "nccl", "connection closed"))
