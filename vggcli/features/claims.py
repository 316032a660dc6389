"""What a file of rows says of itself, before anything is believed: names, columns and metadata as its format has them."""

import errno
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from vggcli.features.write import CHUNK_ROWS, AnyArray, sidecar
from vggcli.npy_header import NpyHeader
from vggcli.records import read_record


@dataclass(frozen=True)
class ClaimedColumn:
    """Rows of one layer: the name of their type, their shape [N, ...], and `chunks`, which goes through them in order and
    raises ValueError, or another error of its library, where they are damaged."""

    dtype: str
    shape: tuple[int, ...]
    chunks: Callable[[], Iterator[AnyArray]]


@dataclass(frozen=True)
class Claims:
    """What a file holds; `metadata` with its digests. `of_bytes`: that of the rows is of the file, and was checked."""

    names: tuple[str, ...]
    columns: Mapping[str, ClaimedColumn]
    metadata: dict[str, str]
    of_bytes: bool = False


def is_of_the_machine(error: BaseException) -> bool:
    """Whether an error says nothing of the file: no permission, a failing disk, too little memory or
    too few files for this process."""
    refusals = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE)
    return isinstance(error, OSError) and (error.errno in refusals or "(os error 24)" in str(error))  # as Rust says it


def require_regular(path: Path) -> None:
    """Raises ValueError where `path` is not there or is anything that reading could wait at; a link may lead to a file."""
    if not path.is_file():
        raise ValueError(f"{path.name} is no regular file" if path.exists() else f"there is no {path.name}")


def sidecar_of(path: Path) -> dict[str, Any]:
    """The JSON object that lies beside a file. Raises ValueError where there is none."""
    beside = sidecar(path)
    require_regular(beside)
    try:
        return read_record(dict[str, Any], beside.read_bytes())
    except ValueError as error:
        raise ValueError(f"{beside.name}: {error}") from error


def texts_of(value: Any) -> dict[str, str]:
    """Metadata: texts by name, as a JSON text or what that says. Raises ValueError where `value` is anything else."""
    try:
        return read_record(dict[str, str], value)
    except ValueError as error:
        raise ValueError(f"its metadata are not texts by name: {error}") from error


def names_of(value: Any) -> tuple[str, ...]:
    """A list of names, as a JSON text or what that says. Raises ValueError where `value` is anything else."""
    try:
        return tuple(read_record(list[str], value))
    except ValueError as error:
        raise ValueError(f"its metadata do not list the names of its images: {error}") from error


def rows_of(opened: Callable[[], AbstractContextManager[IO[bytes]]], header: NpyHeader) -> Iterator[AnyArray]:
    """The rows that lie behind a header, a thousand at a time. Raises ValueError where there are fewer, or more follow."""
    row = math.prod(header.shape[1:]) * header.dtype.itemsize
    with opened() as file:
        file.read(header.start)
        for start in range(0, header.shape[0], CHUNK_ROWS):
            count = min(CHUNK_ROWS, header.shape[0] - start)
            some = file.read(count * row)
            if len(some) != count * row:
                raise ValueError("it is cut short")
            yield np.frombuffer(some, header.dtype).reshape(count, *header.shape[1:])
        if file.read(1):
            raise ValueError("bytes follow its last row")
