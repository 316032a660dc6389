"""Processes that share work: what they exchange, and how the others learn that one ended or hangs."""

import os
import signal
import time
from typing import Any

import pytest
import torch.distributed

from tests.processes import Store, forked, in_processes, results
from vggcli import link
from vggcli.errors import MachineError
from vggcli.ranks import ALONE, RankLost, Ranks, join, share_of


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes look after each other twenty times a second, and give up after eight tenths of one."""
    monkeypatch.setattr(link, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(link, "LOST_SECONDS", 0.8)


@pytest.mark.parametrize(("count", "world"), [(0, 2), (1, 3), (7, 3), (101, 2), (101, 3), (256, 3)])
def test_shares_are_all_of_it_in_order_and_differ_by_one_at_most(count: int, world: int) -> None:
    shares = [share_of(count, rank, world) for rank in range(world)]
    assert [one for share in shares for one in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_everything_is_its_own() -> None:
    assert list(ALONE.share(3)) == [0, 1, 2]
    assert ALONE.gathered("a") == ALONE.collected("a") == [ALONE.first_does(lambda: "a")]
    assert ALONE.summed(1.5, 2) == [1.5, 2]
    assert ALONE.is_first and ALONE.is_first_here and ALONE.local_world == 1


def test_what_processes_exchange_comes_by_rank() -> None:
    def work(ranks: Ranks) -> tuple[Any, ...]:
        mine: dict[str, Any] = {"rank": ranks.rank, "more": "x" * 1000 * ranks.rank}  # of different lengths
        together = ranks.gathered(mine), [len(one["more"]) for one in ranks.collected(mine)]
        first = ranks.first_does(lambda: f"from {ranks.rank}")
        order = []
        with ranks.first_before_others():
            order.append(time.monotonic())
        times = [one for (one,) in ranks.gathered(order)]
        return together, first, ranks.summed(0.1, ranks.rank), times[0] == min(times), ranks.local_world

    for rank, (together, first, summed, is_first, here) in enumerate(results(3, work)):
        assert [one["rank"] for one in together[0]] == [0, 1, 2]
        assert together[1] == ([0, 1000, 2000] if rank == 0 else [])
        assert (first, is_first, here) == ("from 0", True, 3)
        assert summed == [0.1 + 0.1 + 0.1, 3]  # in the order of the ranks


@pytest.mark.usefixtures("hasty")
def test_progress_counts_what_all_have_done() -> None:
    told: list[tuple[str, int]] = []

    class Shown:
        def __init__(self, title: str, total: int, unit: str) -> None:
            self.title = title

        def __enter__(self) -> "Shown":
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def __call__(self, more: int) -> None:
            told.append((self.title, more))

    def work(ranks: Ranks) -> list[tuple[str, int]]:
        with ranks.progress(Shown)("evaluating", 10, "images") as bar:
            bar(3)
            ranks.gathered(None)
            time.sleep(0.3)
            bar(2)
        return told

    first, second = results(2, work)
    assert second == []
    assert {title for title, _ in first} == {"evaluating"}
    assert sum(more for _, more in first) in (8, 10)


@pytest.mark.parametrize("doing", ["gathered", "summed", "first_does"])
def test_a_process_that_is_killed_is_an_error_that_names_it_in_the_others(doing: str) -> None:
    def work(ranks: Ranks) -> float:
        started = time.monotonic()
        if ranks.rank == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            if doing == "first_does":
                ranks.first_does(lambda: ranks.gathered(None) and "never")
            else:
                getattr(ranks, doing)(1)
        finally:
            assert time.monotonic() - started < 20
        return 0

    first, second, third = in_processes(3, work)
    assert third.signal == signal.SIGKILL
    for one in (first, second):
        assert isinstance(one.error, RankLost)
        assert "was killed" in str(one.error)
    assert "process 3 of 3 (PID" in str(first.error)


@pytest.mark.usefixtures("hasty")
def test_a_process_that_gives_no_sign_is_given_up_and_killed() -> None:
    def work(ranks: Ranks) -> None:
        ranks.gathered(None)
        time.sleep(0.3)
        if ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGSTOP)
        ranks.gathered(1)

    first, second = in_processes(2, work)
    assert second.signal == signal.SIGKILL
    assert isinstance(first.error, RankLost)
    assert "process 2 of 2 (PID" in str(first.error) and "no sign" in str(first.error)


@pytest.mark.usefixtures("hasty")
def test_a_process_that_is_behind_in_steps_is_given_up_unless_it_is_busy() -> None:
    def work(ranks: Ranks, busy: bool) -> None:
        ranks.summed(1)
        if ranks.rank == 1 and busy:
            with ranks.busy():
                time.sleep(1.2)
        elif ranks.rank == 1:
            time.sleep(30)
        ranks.summed(1)

    first, second = in_processes(2, lambda ranks: work(ranks, busy=True))
    assert first.error is None and second.error is None
    first, second = in_processes(2, lambda ranks: work(ranks, busy=False))
    assert isinstance(first.error, RankLost)
    assert second.signal == signal.SIGKILL


def test_one_process_says_what_ended_the_job() -> None:
    def work(ranks: Ranks) -> bool:
        assert ranks.link is not None
        return ranks.link.claim(own=ranks.rank == 2)

    assert results(3, work).count(True) == 1


def test_a_job_that_is_restarted_remembers() -> None:
    def work(ranks: Ranks) -> tuple[str | None, str | None]:
        before = ranks.remembered("run")
        ranks.gathered(None)
        if ranks.is_first:
            ranks.remember("run", "/runs/A-1")
        ranks.gathered(None)
        return before, ranks.remembered("run")

    assert results(2, work) == [(None, "/runs/A-1")] * 2


@pytest.mark.usefixtures("hasty")
def test_processes_that_are_all_stopped_for_a_while_go_on() -> None:
    def work(ranks: Ranks) -> list[float]:
        first, second = ranks.gathered(os.getpid())
        if ranks.is_first:
            stopped = f"kill -STOP {first} {second}; sleep 1.1; kill -CONT {first}; sleep 0.3; kill -CONT {second}"
            os.system(f"(sleep 0.2; {stopped}) &")
        for _ in range(30):
            time.sleep(0.04)
            found = ranks.summed(1)
        return found

    assert results(2, work) == [[2], [2]]


def test_a_process_that_leaves_while_the_others_connect_does_not_keep_them_waiting() -> None:
    store = Store()

    def work(rank: int) -> float:
        distributed: Any = torch.distributed
        other = distributed.PrefixStore("vgg/0", distributed.TCPStore("localhost", store.port, wait_for_workers=False))
        for key in ("here1", "left1"):
            other.set(key, "")
        began = time.monotonic()
        with pytest.raises(MachineError, match="one of them has left"):
            join(rank, 2, ("localhost", store.port), 0, hosted=True)
        return time.monotonic() - began

    (one,) = forked(1, work)
    assert one.error is None and one.value < 5
