"""Names and metadata as the files of descriptors have them, in JSON, checked before they are used."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from vggcli.records import read_record

T = TypeVar("T")


def sidecar(path: Path) -> Path:
    """The file beside a .npy with its names and metadata, or beside a .csv with its metadata: the same name and .json."""
    return path.with_name(f"{path.name}.json")


def read_sidecar(path: Path) -> dict[str, Any]:
    """The JSON object in the file beside a .npy or a .csv. Raises ValueError where there is none."""
    beside = sidecar(path)
    if not beside.is_file():  # a link may lead to a file; anything else might block when it is read
        raise ValueError(f"{beside.name} is not a regular file" if beside.exists() else f"there is no {beside.name}")
    return read_part(dict[str, Any], beside.read_bytes(), beside.name)


def read_names(value: Any) -> tuple[str, ...]:
    """A list of names, as JSON or already parsed. Raises ValueError where `value` is anything else."""
    return tuple(read_part(list[str], value, "its metadata do not list the names of its images"))


def read_metadata(value: Any) -> dict[str, str]:
    """Texts by name, as JSON or already parsed. Raises ValueError where `value` is anything else."""
    return read_part(dict[str, str], value, "its metadata are not texts by name")


def read_part(kind: type[T], value: Any, wrong: str) -> T:
    """As `read_record`, with `wrong` before the reason of a ValueError."""
    try:
        return read_record(kind, value)
    except ValueError as error:
        raise ValueError(f"{wrong}: {error}") from error


def first_of(names: Iterable[str]) -> str:
    """The first four of some names, for a message."""
    several = list(names)
    return ", ".join(several[:4]) + (", …" if len(several) > 4 else "") or "nothing"
