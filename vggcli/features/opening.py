"""A store opened: one file, or a folder of shards that is whole, of one job, and each of whose shards is what it was."""

import importlib.util
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vggcli.errors import DataError
from vggcli.features.found import is_of_the_machine
from vggcli.features.manifest import INDEX, MANIFEST, Manifest, read_manifest, shard_name
from vggcli.features.read import Stored, open_rows
from vggcli.features.table_files import index_rows
from vggcli.features.write import Array
from vggcli.records import read_record

SKIPPED = "skipped"  # metadata of a file: JSON, [name, reason] of each image without a row


def open_store(path: Path) -> Stored:
    """The rows that a file or a folder of shards holds. Raises DataError where it is no store, is damaged or not finished,
    names an image twice, or holds several layers, maps or no row."""
    return _shards(path) if path.is_dir() else open_rows(path)


def _shards(folder: Path) -> Stored:
    manifest = _manifest(folder)
    missing = [n for n in range(manifest.shards) if not (folder / shard_name(n)).is_file()]
    if missing or not (folder / INDEX).is_file():
        what = (
            f"{len(missing)} of its {manifest.shards} shards, the first {shard_name(missing[0])}" if missing else INDEX
        )
        raise DataError(
            f"{folder} is not finished, it lacks {what}; give the command that made it again, and it goes on from there"
        )
    shards, names = [], dict[str, Path]()
    for number in range(manifest.shards):
        path = folder / shard_name(number)
        shards.append(open_rows(path, may_be_empty=True))
        _check_shard(path, shards[-1], manifest, number, shards[0].width)
        twice = next((name for name in shards[-1].names if name in names), None)
        if twice is not None:
            raise DataError(f"{names[twice]} and {path} both have a descriptor of {twice!r}; one is a copy")
        names.update(dict.fromkeys(shards[-1].names, path))
    if not names:
        raise DataError(f"{folder} holds no descriptor")
    _check_index(folder / INDEX, shards)

    def chunks() -> Iterator[Array]:
        for shard in shards:
            yield from shard.chunks()

    about = {name: text for name, text in shards[0].metadata.items() if name != SKIPPED}
    return Stored(tuple(names), shards[0].width, about, chunks)


def _manifest(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(f"{folder} holds no {MANIFEST}, so it is no folder of shards that `vgg features` wrote")
    try:
        return read_manifest(path)
    except (OSError, ValueError) as error:
        if is_of_the_machine(error):
            raise
        raise DataError(f"{path} is damaged ({error}); make the shards again") from error


def _check_index(path: Path, shards: Sequence[Stored]) -> None:
    """Raises DataError where the index does not say what the shards hold. Nothing here needs it, so neither pyarrow."""
    if importlib.util.find_spec("pyarrow") is None:
        return
    held = (
        (name, shard_name(number), row) for number, shard in enumerate(shards) for row, name in enumerate(shard.names)
    )
    try:
        if any(entry != other for entry, other in itertools.zip_longest(index_rows(path), held)):
            raise ValueError("it does not say what the shards hold")
    except (ValueError, LookupError, AttributeError, TypeError, OSError) as error:
        if is_of_the_machine(error):
            raise
        raise DataError(
            f"{path} is damaged ({error}); give the command that made it again, and it is written anew"
        ) from error


def _check_shard(path: Path, shard: Stored, manifest: Manifest, number: int, width: int) -> None:
    """Raises DataError where a shard is not the one that the manifest means."""
    images = min(manifest.shard_size, manifest.images - number * manifest.shard_size)
    try:
        rows = images - len(skipped_of(shard.metadata))
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}") from error
    if len(shard.names) != rows:
        raise DataError(
            f"{path} has {len(shard.names)} rows and should have {rows}; it is of another folder, or damaged"
        )
    if {key: text for key, text in shard.metadata.items() if key != SKIPPED} != manifest.metadata:
        raise DataError(
            f"{path} was made with other settings than {MANIFEST} says; it is of another folder, or damaged"
        )
    if shard.width != width:
        raise DataError(f"{path} has rows of {shard.width} numbers and the first shard of {width}")


def skipped_of(metadata: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Names and reasons of the images that have no row. Raises ValueError where the metadata do not say them."""
    try:
        return tuple(read_record(list[tuple[str, str]], metadata.get(SKIPPED, "")))
    except ValueError as error:
        raise ValueError(f"it does not say which images have no row: {error}") from error
