"""The processes that share the work of one command, each on a device of its own, numbered by rank.

They are connected by torch.distributed (`join`): gloo on the CPU, NCCL on CUDA.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from vggcli.errors import MachineError
from vggcli.link import Link, RankLost, is_broken
from vggcli.progress import Progress, silent

__all__ = ["ALONE", "RankLost", "Ranks", "is_broken", "join", "share_of"]

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process's `rank` among the `world` processes of a job; without a `link` it is alone, or works without talking to
    the others."""

    rank: int = 0
    world: int = 1
    link: Link | None = None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that shows progress and writes files."""
        return self.rank == 0

    @property
    def is_first_here(self) -> bool:
        """Whether this is the first process of the job on its machine."""
        return self.link is None or self.link.neighbours[0] == self.rank

    @property
    def local_world(self) -> int:
        """How many processes of the job this machine has."""
        return 1 if self.link is None else len(self.link.neighbours)

    def share(self, count: int) -> range:
        """Which of `count` things are for this process: the shares of all ranks differ by at most one."""
        return share_of(count, self.rank, self.world)

    def gathered(self, value: T) -> list[T]:
        """The `value` of every process, by rank; all must call it."""
        return [value] if self.link is None else self.link.gathered(value)

    def collected(self, value: T) -> list[T]:
        """As `gathered`, for the first process; the others get an empty list."""
        return [value] if self.link is None else self.link.gathered(value, everywhere=False)

    def summed(self, *numbers: float) -> list[float]:
        """The sum of each of `numbers` over all processes, the same bits in each; for steps that take all of them as long.
        Raises RankLost where one is LOST_SECONDS behind."""
        return list(numbers) if self.link is None else self.link.summed(numbers)

    def first_does(self, work: Callable[[], T]) -> T:
        """What `work` returns in the first process, where alone it is done."""
        return work() if self.link is None else self.link.broadcast(work if self.is_first else None)

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Fill `tensors`, which are as many and of the same shapes in every process, with those of the first."""
        if self.link is not None:
            with self.talking(), torch.no_grad():
                for tensor in tensors:
                    plain = tensor.contiguous()
                    dist.broadcast(plain, 0)
                    tensor.copy_(plain)

    def remember(self, key: str, value: str) -> None:
        """Keep a text for later attempts of a job that its launcher restarts."""
        if self.link is not None:
            self.link.remember(key, value)

    def remembered(self, key: str) -> str | None:
        """What an earlier attempt of the job, or this one, has kept."""
        return None if self.link is None else self.link.remembered(key)

    @contextmanager
    def first_before_others(self) -> Iterator[None]:
        """The block runs in the first process, and then in all others, which find what it has left on the disk."""
        if not self.is_first:
            self.gathered(None)
        with self.busy():
            yield
        if self.is_first:
            self.gathered(None)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """What this process does alone while others may wait for it in `summed`, however long that takes."""
        if self.link is not None:
            self.link.busy += 1
        try:
            yield
        finally:
            if self.link is not None:
                self.link.busy -= 1

    @contextmanager
    def talking(self) -> Iterator[None]:
        """For torch's own collectives: where another process ends in the middle of one, RankLost is raised."""
        if self.link is None:
            yield
            return
        try:
            yield
        except RuntimeError as error:
            if not is_broken(error):
                raise
            raise self.link.lost_one() from error

    def progress(self, progress: Progress) -> Progress:
        """`progress` in the first process, counting what is done in all of them; nothing in the others."""
        return progress if self.link is None else self.link.progress(progress if self.is_first else silent)


ALONE = Ranks()


def share_of(count: int, rank: int, world: int) -> range:
    """As `Ranks.share`, of any rank."""
    return range(count * rank // world, count * (rank + 1) // world)


def join(rank: int, world: int, address: tuple[str, int], attempt: int, hosted: bool) -> Ranks:
    """Connect to the other processes of a job, whose store is at `address` (`hosted` by its launcher, else by its first
    process); `attempt` counts the restarts of the job. Raises MachineError where they cannot be reached."""
    try:
        return Ranks(rank, world, Link(rank, world, address, attempt, hosted))
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise MachineError(f"the {world} processes of this job cannot reach each other: {reason}") from error
