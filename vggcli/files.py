"""Files and folders that are written whole or not at all: made in a hidden folder beside them, flushed, then renamed."""

import contextlib
import errno
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vggcli.errors import MachineError, UsageError
from vggcli.locks import Busy, let_go, lock

TRIAL_BYTES = 4096  # written to find out whether files can be written somewhere


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to. When the block ends without an error, the file there is flushed and renamed to `path`; otherwise
    it is removed. It is in a hidden folder of its own beside `path`, so temporary files of other libraries are removed
    with it. What killed programs left of earlier attempts is removed first.

    Raises MachineError where the disk is full or the folder cannot be written; `path` is then unchanged.
    """
    try:
        with working_folder(path) as folder:
            temporary = folder / path.name
            yield temporary
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o666 & ~mask)
            _flush(temporary)
            temporary.replace(path)
            _flush(path.parent)
    except OSError as error:
        raise machine_error(path, error) from error


@contextlib.contextmanager
def appearing(folder: Path, marker: str) -> Iterator[Path]:
    """A hidden folder to fill. When the block ends without an error it is renamed to `folder`; otherwise it is removed. A
    `folder` with the file `marker`, which another process finished first, stays. Raises OSError where the disk refuses."""
    with working_folder(folder) as hidden:
        temporary = hidden / folder.name
        temporary.mkdir()
        yield temporary
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / marker).exists():
                raise


@contextlib.contextmanager
def working_folder(path: Path) -> Iterator[Path]:
    """A hidden, locked folder beside `path` to prepare it in, removed at the end. Raises OSError where the disk refuses."""
    sweep(path.parent, f".{glob.escape(path.name)}.*.tmp")
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        with contextlib.suppress(Busy, FileNotFoundError):  # another process may remove it before it is locked
            held = lock(folder)
            break
    try:
        yield folder
    finally:
        try:
            shutil.rmtree(folder, ignore_errors=True)
        finally:  # also where a signal cuts that off: whoever sweeps then removes the rest
            let_go(held)


def sweep(folder: Path, pattern: str = ".*.tmp") -> None:
    """Remove what killed programs left in `folder`: everything that matches `pattern` and that no process has locked."""
    for left in folder.glob(pattern):
        try:
            held = lock(left)
        except (Busy, OSError):
            continue
        if held is None:
            return  # without locks, nothing says which processes are still at work
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
        let_go(held)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all; escaped bytes of file names are written as they were."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def append_line(path: Path, line: str) -> None:
    """Add one line to a text file and flush it to disk; earlier lines are never touched, and one that was cut off ends."""
    try:
        with path.open("a+b") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            cut_off = file.read(1) not in (b"", b"\n")
            file.write((("\n" if cut_off else "") + f"{line}\n").encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise machine_error(path, error) from error


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def writable_output(path: Path, *names: str) -> Path:
    """`path` for a new file, after a test that its folder can be written, so that no work is lost on one that cannot;
    `names` are the parameters that it comes from.

    Raises UsageError where `path` exists or its folder does not, MachineError where the disk is full or cannot be written.
    """
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} exists already; remove it or give another name", *names)
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} for {path}; create it first", *names)
    try_to_write(path)
    return path


def try_to_write(path: Path) -> None:
    """Test that `path` can be written. Raises MachineError where it cannot, OSError where its name is too long."""
    try:
        with working_folder(path) as folder:
            (folder / path.name).write_bytes(bytes(TRIAL_BYTES))
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise
        raise machine_error(path, error) from error


def machine_error(path: Path, error: OSError) -> MachineError:
    """The sentence for a file that could not be written."""
    if error.errno == errno.ENOSPC:
        return MachineError(f"no space left on the disk of {path}; free some or write elsewhere")
    reason = (error.strerror or str(error)).lower()
    advice = "move it away" if error.errno in (errno.EISDIR, errno.ENOTEMPTY, errno.ELOOP) else "choose another place"
    return MachineError(f"cannot write {path}: {reason}; {advice}")


def _flush(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open a folder to flush it
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
