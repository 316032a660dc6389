"""Worker processes that decode images: each is sent tasks over a socket of its own, a few ahead, and answers in order.

Large parts of an answer are put into an anonymous file in memory (memfd) whose handle is sent, so they are not copied
through the socket and need no space in /dev/shm. Systems without such files use the socket.

Workers ignore signals, which the main process handles: it saves first. They end when their socket closes, whatever ended
the main process; and the main process notices at once when a worker is killed.
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

AHEAD = 4  # unanswered tasks of each worker
CHUNK = 16  # images that a worker is sent at once
IN_MEMORY = 1 << 16  # bytes; larger answers are sent as a file in memory
MAPPED = 1 << 20  # bytes; larger files in memory are mapped, not copied
END_SECONDS = 5.0  # seconds that a worker has to end
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM") if hasattr(signal, name))

_ends: set[connection.Connection] = set()  # of the main process; forked workers must close their copies


class WorkerLost(MachineError):
    """A worker ended unexpectedly."""


def chunked(items: Iterable[Task]) -> Iterator[list[Task]]:
    """`items` in lists of CHUNK, the last of which may be shorter."""
    remaining = iter(items)
    while chunk := list(itertools.islice(remaining, CHUNK)):
        yield chunk


def loaded(work: Callable[[Task], Answer], tasks: Iterable[Task], workers: int) -> Generator[Answer, None, None]:
    """The results of `work` for each of `tasks`, in order, computed ahead by `workers` processes (0: in this one). Close
    it after use (`contextlib.closing`), or the traceback of an error keeps the processes alive.

    Raises what `work` raises, WorkerLost where a worker is killed, and MachineError where none can be started.
    """
    if not workers:
        yield from map(work, tasks)
        return
    coming = iter(tasks)
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        # After the fork, freed memory that glibc keeps would be copied page by page; allocating it anew is far faster.
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.ExitStack() as running:
        started = [running.enter_context(contextlib.closing(_Worker(work))) for _ in range(workers)]
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
    """A worker process and the main process's end of its socket."""

    def __init__(self, work: Callable[[Any], Any]) -> None:
        try:
            context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
            self.socket, theirs = context.Pipe()
            _ends.add(self.socket)
            self.process: Any = context.Process(target=_serve, args=(work, theirs), daemon=True)
            atexit.register(self.close)  # before multiprocessing's own handler, which would wait for the worker
            with warnings.catch_warnings(), _signals_held():
                warnings.simplefilter("ignore")  # about forking with threads, whose state no worker uses
                self.process.start()
            theirs.close()
        except OSError as error:
            reason = f"no worker process can be started ({error.strerror}); use fewer workers"
            raise MachineError(reason, "workers") from error

    def close(self) -> None:
        """Close the socket, which ends the process, and wait until it has ended."""
        atexit.unregister(self.close)
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
        """The worker's next answer. Raises what its work raised, and WorkerLost where any of `everyone` ended."""
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
        reason = f"a worker process {how}, as happens when memory runs out; use fewer workers or a smaller batch size"
        return WorkerLost(reason, "workers", "batch_size")


class _RemoteTraceback(Exception):
    """The traceback in the worker, as the cause of its error."""


class _Failure:
    """An error that the work raised, sent instead of an answer."""

    def __init__(self, error: Exception) -> None:
        self.trace = traceback.format_exc()
        try:
            pickle.loads(pickle.dumps(error))
            self.error = error
        except Exception:  # of a class that cannot be pickled and restored
            self.error = RuntimeError(f"{type(error).__name__}: {error}")


def _serve(work: Callable[[Any], Any], socket: connection.Connection) -> None:
    """The main loop of a worker process."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    for end in _ends:
        end.close()
    torch.set_num_threads(1)
    if hasattr(os, "nice"):
        os.nice(10)  # so that the network comes first on a busy machine
    tasks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_take, args=(socket, tasks), daemon=True).start()
    while True:
        try:
            answer = work(tasks.get())
        except Exception as error:  # which the main process handles
            answer = _Failure(error)
        try:
            _send(socket, answer)
        except ConnectionError:
            os._exit(0)


def _take(socket: connection.Connection, tasks: "queue.SimpleQueue[Any]") -> None:
    """Put what arrives into `tasks`; end this process at once when the main process has ended or closed the socket."""
    try:
        while True:
            tasks.put(socket.recv())
    except (EOFError, OSError):
        os._exit(0)


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        """Pickles tensors as arrays, whose data pickle can send outside the stream."""
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
    """The handle of an anonymous file in memory with `parts` one after another, or None where there can be none."""
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
    except RuntimeError as error:  # over the limit of open files, the system closes the handle
        raise MachineError("too many files are open; raise `ulimit -n`, or use fewer workers", "workers") from error
    whole = _contents(file, sum(sizes))
    ends = list(itertools.accumulate(sizes))
    return pickle.loads(text, buffers=[whole[end - size : end] for end, size in zip(ends, sizes, strict=True)])


def _contents(file: int, size: int) -> memoryview:
    """The bytes of a file in memory, which is closed. Only large files are mapped, because a mapping keeps a handle."""
    with open(file, "rb+", buffering=0) as whole:
        if size >= MAPPED:
            return memoryview(mmap.mmap(file, size, mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)))
        contents = bytearray(size)
        whole.seek(0)
        whole.readinto(contents)
        return memoryview(contents)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Block signals while a process is forked, because they are meant for this process."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
