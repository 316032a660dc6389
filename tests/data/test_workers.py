"""Worker processes answer in order, end with the program however it ends, and are missed when they are killed."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from vggcli.data import workers as module
from vggcli.data.workers import loaded
from vggcli.errors import MachineError


def running(process: int) -> bool:
    """Whether it is there and not just waiting for its parent to take notice of its end."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def arrays(task: int) -> tuple[torch.Tensor, np.ndarray, list[torch.Tensor], int]:
    large = torch.full((task % 3, 700, 500), task, dtype=torch.uint8)  # of no byte, small and large
    return large, np.arange(task, dtype=np.float64), [torch.tensor([task]), torch.zeros(0)], task


@pytest.mark.parametrize("in_memory", [True, False])
def test_answers_come_in_order_and_can_be_written_to(in_memory: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create")
    for task, (large, small, several, same) in zip(range(40), loaded(arrays, range(40), 3), strict=True):
        assert same == task
        assert large.shape == (task % 3, 700, 500)
        assert bool((large == task).all())
        large.zero_()
        assert small.tolist() == list(range(task))
        assert [one.tolist() for one in several] == [[task], []]


def test_tasks_are_taken_as_they_are_needed() -> None:
    taken = []
    answers = loaded(abs, (taken.append(task) or task for task in range(1000)), 2)  # type: ignore[func-returns-value]
    assert [next(answers) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(taken) == 2 * module.AHEAD + 5
    answers.close()


def test_what_the_work_raises_is_raised() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        list(loaded(int, ["1", "2", "three", "4"], 2))


@dataclass(frozen=True)
class Slow:
    """Says its process, then sleeps."""

    seconds: float = 60.0

    def __call__(self, task: int) -> int:
        time.sleep(self.seconds if task else 0)
        return os.getpid()


def test_a_worker_that_is_killed_is_missed_at_once() -> None:
    with closing(loaded(Slow(), [0, 0, 1, 1], 2)) as answers:
        next(answers)
        os.kill(next(answers), signal.SIGKILL)  # the other one is asked next
        started = time.monotonic()
        with pytest.raises(MachineError, match=r"worker process was killed \(signal 9\).*fewer workers"):
            next(answers)
        assert time.monotonic() - started < 30


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_workers_take_no_notice_of_signals(number: str) -> None:
    with closing(loaded(Slow(0.2), [0, 1, 1], 1)) as answers:
        worker = next(answers)
        os.kill(worker, getattr(signal, number))
        assert list(answers) == [worker, worker]


def test_workers_end_when_they_are_closed_in_the_middle_of_their_work() -> None:
    answers = loaded(Slow(), [0, 1, 1], 1)
    worker = next(answers)
    answers.close()
    assert not running(worker)


MAIN = """
import os, sys, time
from vggcli.data.workers import loaded
def work(task):
    time.sleep(task)
    return os.getpid()
first, second = loaded(work, [0, 60], 2), loaded(work, [0, 60], 2)  # whose workers know the first ones' sockets
print(next(first), next(second), flush=True)
{end}
"""


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "raise ValueError"])
def test_workers_end_with_the_program_however_it_ends(end: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", MAIN.format(end=end)], capture_output=True, text=True, timeout=50, check=False
    )
    assert found.stderr.count("Traceback") == ("raise" in end)
    workers = [int(worker) for worker in found.stdout.split()]
    deadline = time.monotonic() + 10
    while any(map(running, workers)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(workers) == 2
    assert not any(map(running, workers))


def test_a_machine_without_room_for_a_process_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", none_left)
    with pytest.raises(MachineError, match="no worker process can be started .*fewer workers"):
        next(loaded(abs, [1], 2))
