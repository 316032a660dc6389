"""Worker processes that decode: each is sent tasks over a socket of its own and answers in order, a few tasks ahead.

What is large in an answer lies in a nameless file in memory (memfd) whose handle is sent, so it is neither copied through
the socket nor needs room in /dev/shm; where the system has none, it goes through the socket.

Workers ignore signals, which are for the main process: it saves first. They end when their socket closes, however the
main process ended; and where one of them is killed, the main process is told at once.
"""

import atexit
import contextlib
import ctypes
import itertools
import mmap
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from io import BytesIO
from multiprocessing import connection, reduction
from typing import Any, TypeVar

import torch
from torch import Tensor

from vggcli.errors import MachineError

Task = TypeVar("Task")
Answer = TypeVar("Answer")

AHEAD = 4  # tasks that a worker has been sent and are not answered yet
IN_MEMORY = 1 << 16  # bytes from which an answer is sent as a file in memory
MAPPED = 1 << 20  # bytes from which it is used where it lies
END_SECONDS = 5.0  # seconds for a worker to end once it is told to
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM") if hasattr(signal, name))

_ends: set[connection.Connection] = set()  # the main process's, which a worker that is forked must not keep open


class WorkerLost(MachineError):
    """A worker ended before its time."""


def loaded(work: Callable[[Task], Answer], tasks: Iterable[Task], workers: int) -> Generator[Answer, None, None]:
    """What `work` makes of each of `tasks`, in order, computed ahead by `workers` processes (0: in this one). To be
    closed where it is used: an error's traceback would keep the processes.

    Raises what `work` raises, WorkerLost where a worker is killed, and MachineError where none can be started.
    """
    if not workers:
        yield from map(work, tasks)
        return
    coming = iter(tasks)
    _give_back_freed_memory()
    with contextlib.ExitStack() as running:
        started = [running.enter_context(_Worker(work)) for _ in range(workers)]
        waiting: deque[_Worker] = deque()
        for worker, task in zip(itertools.chain.from_iterable([started] * AHEAD), coming, strict=False):
            worker.send(task)
            waiting.append(worker)
        while waiting:
            worker = waiting.popleft()
            answer = worker.receive(started)
            for task in itertools.islice(coming, 1):
                worker.send(task)
                waiting.append(worker)
            yield answer


class _Worker:
    """One process and the main process's end of its socket; a context manager that ends it."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        try:
            context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
            self.socket, theirs = context.Pipe()
            _ends.add(self.socket)
            self.process: Any = context.Process(target=_serve, args=(work, theirs), daemon=True)
            atexit.register(self.end)  # before multiprocessing's own, which would wait for a worker that nobody told
            with warnings.catch_warnings(), _signals_held():
                warnings.simplefilter(
                    "ignore"
                )  # Python warns of forking beside threads; no worker touches what they do
                self.process.start()
            theirs.close()
        except OSError as error:
            raise MachineError(
                f"no decoding process can be started ({error.strerror}); give fewer of them", "workers"
            ) from error

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Close the socket, which ends the process, and wait for that."""
        atexit.unregister(self.end)
        self.socket.close()
        _ends.discard(self.socket)
        if self.process.pid is not None:
            self.process.join(END_SECONDS)
            if self.process.is_alive():
                self.process.kill()
                self.process.join()

    def send(self, task: Any) -> None:
        try:
            self.socket.send(task)
        except OSError:
            raise self._ended() from None

    def receive(self, everyone: "list[_Worker]") -> Any:
        """Its next answer. Raises what the work raised; MachineError where any of `everyone` ended."""
        watched = {worker.process.sentinel: worker for worker in everyone}
        ready = connection.wait([self.socket, *watched])
        if self.socket not in ready:
            raise watched[ready[0]]._ended()
        try:
            answer = _received(self.socket)
        except (EOFError, ConnectionError):
            raise self._ended() from None
        if isinstance(answer, _Failure):
            raise answer.error from _RemoteTraceback(answer.trace)
        return answer

    def _ended(self) -> WorkerLost:
        self.process.join(END_SECONDS)
        code = self.process.exitcode
        how = f"was killed (signal {-code})" if code is not None and code < 0 else f"ended (exit code {code})"
        return WorkerLost(
            f"a decoding process {how}, as happens where memory runs out; give fewer of them or a smaller batch size",
            *("workers", "batch_size"),
        )


class _Failure:
    """What the work raised, in place of an answer."""

    def __init__(self, error: Exception) -> None:
        self.trace = traceback.format_exc()
        try:
            pickle.loads(pickle.dumps(error))
            self.error = error
        except Exception:  # of a class that does not come back as it went
            self.error = RuntimeError(f"{type(error).__name__}: {error}")


class _RemoteTraceback(Exception):
    """Shows where a worker's error came from."""


def _serve(work: Callable[[Any], Any], socket: connection.Connection) -> None:
    """A worker's life."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    for end in _ends:
        end.close()
    torch.set_num_threads(1)
    if hasattr(os, "nice"):
        os.nice(10)  # on a busy machine the network has precedence
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_take, args=(socket, tasks), daemon=True).start()
    while True:
        try:
            answer = work(tasks.get())
        except Exception as error:  # it is the main process's to handle
            answer = _Failure(error)
        try:
            _send(socket, answer)
        except ConnectionError:
            os._exit(0)


def _take(socket: connection.Connection, tasks: "queue.SimpleQueue[Any]") -> None:
    """Put what arrives into `tasks`; when the main process has gone, or wants no more, end this one wherever it is."""
    try:
        while True:
            tasks.put(socket.recv())
    except (EOFError, OSError):
        os._exit(0)


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        """Tensors as the arrays that they are, which pickle can leave out of its text."""
        return (torch.from_numpy, (value.numpy(),)) if isinstance(value, Tensor) else NotImplemented


def _send(socket: connection.Connection, answer: Any) -> None:
    parts: list[memoryview] = []
    text = BytesIO()
    _Pickler(text, 5, buffer_callback=lambda buffer: parts.append(buffer.raw())).dump(answer)
    sizes = [part.nbytes for part in parts]
    file = _file_in_memory(parts) if sum(sizes) >= IN_MEMORY else None
    socket.send((text.getvalue(), sizes, file is not None))
    if file is None:
        for part in parts:
            socket.send_bytes(part)
    else:
        reduction.send_handle(socket, file, None)
        os.close(file)


def _file_in_memory(parts: list[memoryview]) -> int | None:
    """The handle of a nameless file that holds `parts` end to end, or None where the system has none to give."""
    try:
        file = os.memfd_create("vgg")
    except (AttributeError, OSError):
        return None
    try:
        with open(file, "wb", closefd=False) as whole:
            whole.writelines(parts)
    except OSError:
        os.close(file)
        return None
    return file


def _received(socket: connection.Connection) -> Any:
    text, sizes, in_memory = socket.recv()
    if not in_memory:
        parts = [memoryview(bytearray(size)) for size in sizes]
        for part in parts:
            socket.recv_bytes_into(part)
        return pickle.loads(text, buffers=parts)
    try:
        file = reduction.recv_handle(socket)
    except RuntimeError as error:  # the system closes a handle for which there is no room
        raise MachineError(
            "too many files are open; raise `ulimit -n`, or give fewer decoding processes", "workers"
        ) from error
    whole = _contents(file, sum(sizes))
    ends = list(itertools.accumulate(sizes))
    return pickle.loads(text, buffers=[whole[end - size : end] for end, size in zip(ends, sizes, strict=True)])


def _contents(file: int, size: int) -> memoryview:
    """The bytes of a file in memory, which is closed: where they lie, if they are many, for a mapping keeps a handle."""
    with open(file, "rb+", buffering=0) as whole:
        if size >= MAPPED:
            return memoryview(mmap.mmap(file, size, mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)))
        contents = bytearray(size)
        whole.seek(0)
        whole.readinto(contents)
        return memoryview(contents)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """While a process is forked, signals wait: they are for this one."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _give_back_freed_memory() -> None:
    """What glibc keeps of freed memory, back to the system: once workers are forked, it would be copied page by page
    when it is used again, which takes far longer than to ask for it anew."""
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
