"""The manifest of a folder of shards: it says what the folder will hold, and a run that continues it must ask for the same.

The manifest has the settings that decide every bit of the rows, a hash of the inputs of each shard, and one of itself.
Of several processes, number k modulo their number writes shard k.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vggcli.data.own_files import MANIFEST
from vggcli.errors import MachineError, UsageError, counted
from vggcli.files import machine_error, sweep, write_text
from vggcli.ranks import Ranks
from vggcli.records import RECORD, Ordinal, Sha256, read_record

INDEX = "index.parquet"  # beside the manifest
MANIFEST_FORMAT = 1
POLL_SECONDS = 0.2
MANIFEST_SECONDS = 60.0  # that the other processes wait for the first one's manifest


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says: the number of images, how many of them each shard takes, the settings that decide every
    bit of the rows, and for each shard a hash of its inputs."""

    __pydantic_config__ = RECORD

    images: Ordinal
    shard_size: Ordinal
    settings: dict[str, Any]
    inputs: list[Sha256]
    format: int
    sha256: Sha256 | None = None  # of all else; older versions wrote none

    @property
    def shards(self) -> int:
        return -(-self.images // self.shard_size)

    @property
    def metadata(self) -> dict[str, str]:
        """The settings as each shard has them."""
        return texts(self.settings)

    def span(self, number: int) -> range:
        """The images of a shard."""
        return range(number * self.shard_size, min((number + 1) * self.shard_size, self.images))

    def to_json(self) -> dict[str, Any]:
        """With its own digest."""
        fields = {key: value for key, value in vars(self).items() if key != "sha256"}
        return {**fields, "sha256": hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()}


def texts(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as the texts of a file."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}


def shard_name(number: int) -> str:
    """What shard `number`, counted from 0, is called."""
    return f"shard-{number:05d}.safetensors"


@dataclass(frozen=True)
class Job:
    """A folder of shards to be written: the `names` of all images, the layers and the type of their rows, the manifest."""

    folder: Path
    names: Sequence[str]
    layers: tuple[str, ...]
    dtype: str
    manifest: Manifest

    def path(self, number: int) -> Path:
        return self.folder / shard_name(number)

    def mine(self, ranks: Ranks, written: bool) -> list[int]:
        """The shards of one process that are there already (`written`), or those that are not."""
        numbers = range(ranks.rank, self.manifest.shards, ranks.world)
        return [number for number in numbers if self.path(number).is_file() == written]


def inputs_hashes(names: Sequence[str], sizes: Iterable[int], shard_size: int) -> list[str]:
    """For each shard a SHA-256 of the names and file sizes of its images."""
    digests = []
    for number, (name, length) in enumerate(zip(names, sizes, strict=True)):
        if number % shard_size == 0:
            digests.append(hashlib.sha256())
        digests[-1].update(f"{name}\0{length}\n".encode(errors="surrogateescape"))
    return [digest.hexdigest() for digest in digests]


def open_folder(job: Job, ranks: Ranks) -> None:
    """Make the folder with its manifest, or check that the one that is there was begun with the same job, and remove what a
    killed process left half-written.

    Raises UsageError where it holds anything else, naming what differs; MachineError where it cannot be written, or the
    first process does not write it.
    """
    manifest = job.folder / MANIFEST
    deadline = time.monotonic() + MANIFEST_SECONDS
    while ranks.rank > 0 and not manifest.is_file():
        if time.monotonic() > deadline:
            raise MachineError(f"the first process wrote no {manifest}; check that all processes see the same folder")
        time.sleep(POLL_SECONDS)
    if manifest.is_file():
        try:
            found = read_manifest(manifest)
        except (OSError, ValueError) as error:
            raise UsageError(f"{manifest} cannot be used ({error}); give another name", "out") from error
        _check_same(job, found)
    else:
        _make_folder(job.folder)
        write_text(manifest, json.dumps(job.manifest.to_json(), indent=1) + "\n")
    sweep(job.folder)


def _make_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} exists already and is not a folder; give another name", "out")
    if folder.is_dir():
        sweep(folder)
        found = next(folder.iterdir(), None)
        if found is not None:
            raise UsageError(f"{folder} holds other files ({found.name}) and no {MANIFEST}; give another name", "out")
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise machine_error(folder, error) from error


def read_manifest(path: Path) -> Manifest:
    """The manifest in a file. Raises ValueError where that is damaged, or no manifest."""
    found = read_record(Manifest, path.read_bytes(), partly=True)
    if found.format != MANIFEST_FORMAT:
        raise ValueError(f"it has format {found.format}, and this version reads format {MANIFEST_FORMAT}")
    if len(found.inputs) != found.shards:
        raise ValueError(f"it has {len(found.inputs)} hashes of inputs for {found.shards} shards")
    if found.sha256 and found.sha256 != found.to_json()["sha256"]:
        raise ValueError("its content is not what was written (SHA-256 mismatch)")
    return found


def _check_same(job: Job, found: Manifest) -> None:
    """Raises UsageError that shows the differences between what a folder was begun with and what is asked now."""
    wanted = job.manifest
    then, now = ({**one.settings, "shard_size": one.shard_size, "images": one.images} for one in (found, wanted))
    differences = [
        f"{name} was {_shown(then.get(name))} and is {_shown(now.get(name))}"
        for name in dict.fromkeys([*sorted({*found.settings, *wanted.settings}), "shard_size", "images"])
        if then.get(name) != now.get(name)
    ]
    if found.shard_size == wanted.shard_size:
        pairs = enumerate(zip(found.inputs, wanted.inputs, strict=False))
        changed = [number for number, (before, after) in pairs if before != after]
        if changed:
            span = wanted.span(changed[0])
            names = f"{job.names[span[0]]} … {job.names[span[-1]]}"
            more = f", and those of {counted(len(changed) - 1, 'more shard')}" if len(changed) > 1 else ""
            differences.append(f"images {span[0] + 1} to {span[-1] + 1} ({names}) have other names or sizes{more}")
    if differences:
        raise UsageError(
            f"{job.folder} was begun with other inputs or settings: {'; '.join(differences)}; "
            f"ask for the same again, or give another name",
            "out",
        )


def _shown(value: Any) -> str:
    return "unset" if value is None else " ".join(map(str, value)) if isinstance(value, list) else str(value)
