"""Files and folders that appear whole or not at all: made in a hidden folder beside their place, flushed, then renamed."""

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

TRIAL_BYTES = 4096  # written to find out whether a place takes files


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; when the block ends well, the file there is flushed and renamed to `path`, else removed. It lies
    in a hidden folder of its own beside `path`, where a library's own temporary files end too. What a program that was
    killed left of earlier tries is removed first.

    Raises MachineError where the disk is full or the folder cannot be written; `path` is then as it was.
    """
    try:
        with working_folder(path) as folder:
            temporary = folder / path.name
            yield temporary
            temporary.chmod(0o666 & ~_umask())
            _flush(temporary)
            temporary.replace(path)
            _flush(path.parent)
    except OSError as error:
        raise machine_error(path, error) from error


@contextlib.contextmanager
def appearing(folder: Path, marker: str) -> Iterator[Path]:
    """A hidden folder to fill; when the block ends well it is renamed to `folder`, else removed. Where another process was
    first, and `folder` holds `marker` already, that one stays. Raises OSError where the disk refuses."""
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
    """A hidden folder beside `path` for what is to become it, removed at the end. Raises OSError where the disk refuses."""
    sweep(path.parent, f".{glob.escape(path.name)}.*.tmp")
    folder, held = _held_folder(path)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        let_go(held)


def _held_folder(path: Path) -> tuple[Path, int | None]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
        with contextlib.suppress(Busy, FileNotFoundError):  # swept by another in this moment
            return folder, lock(folder)


def sweep(folder: Path, pattern: str = ".*.tmp") -> None:
    """Remove what killed programs left half-written in `folder`: what nobody holds of the names that fit `pattern`."""
    for left in folder.glob(pattern):
        try:
            held = lock(left)
        except (Busy, OSError):
            continue
        if held is None:
            return  # nothing is known here of who is still at work
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
    """Add one line to a text file and flush it to disk; earlier lines are never touched."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
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
    """`path` for a new file, after a trial in its folder, so that no work is done for a place that refuses it; `names`
    are the parameters that name it.

    Raises UsageError where it exists or its folder does not, MachineError where the disk is full or does not let write.
    """
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} exists already; remove it or give another name", *names)
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} for {path}; make it first", *names)
    try_to_write(path)
    return path


def try_to_write(path: Path) -> None:
    """Write a little under the name of `path`, beside it, and remove it. Raises MachineError where that fails, OSError
    where the name is too long."""
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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
