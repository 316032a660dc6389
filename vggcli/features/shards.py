"""Rows in shards: a folder of .safetensors files, each with the rows of so many images, and an index of all of them.

A shard appears whole when it is done, so the folder itself says how far the work has come. Several processes may share
the work, shard by shard; the first of them writes the index when all shards are there.
"""

import importlib
import itertools
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vggcli.data.decode import ImageError
from vggcli.errors import DataError, counted
from vggcli.features.extract import Done, check_alike
from vggcli.features.manifest import INDEX, POLL_SECONDS, Job, Part, shard_name
from vggcli.features.read import SKIPPED_KEY, open_file, skipped_of
from vggcli.features.spool import stored, tensor_names
from vggcli.features.write import AnyArray, Table, column_of, name_array, name_type, parquet, write_table
from vggcli.files import replacing

INDEX_ROWS = 10_000  # written at a time
REMOVAL_SECONDS = 60.0  # in which a process finds out that its shards of last time are damaged


@dataclass
class _Growing:
    """A shard in the making."""

    rows: dict[int, tuple[AnyArray, ...]] = field(default_factory=dict)
    bad: dict[int, ImageError] = field(default_factory=dict)


def write_shards(
    job: Job, results: Iterable[Done | ImageError], shapes: Sequence[tuple[int, ...]] | None
) -> Iterator[Done | ImageError]:
    """Write each shard as soon as all its images have a row or a reason; hands every result on, for progress. `shapes` are
    those of a row of each layer, where they are known beforehand.

    Raises DataError where maps as they are differ in size, MachineError where the disk refuses.
    """
    growing: dict[int, _Growing] = {}
    for result in results:
        indices = (result.index,) if isinstance(result, ImageError) else result.rows.indices
        touched = set()
        for place, index in enumerate(indices):
            assert index is not None
            shard = growing.setdefault(index // job.size, _Growing())
            touched.add(index // job.size)
            if isinstance(result, ImageError):
                shard.bad[index] = result
            else:
                name = job.names[index]
                shard.rows[index] = tuple(stored(rows[place], job.dtype, name) for rows in result.rows.layers)
        for number in touched:
            if len(growing[number].rows) + len(growing[number].bad) == len(job.span(number)):
                _write_shard(job, number, growing.pop(number), shapes)
        yield result


def _write_shard(job: Job, number: int, shard: _Growing, shapes: Sequence[tuple[int, ...]] | None) -> None:
    kept = sorted(shard.rows)
    columns = {}
    for layer, key in enumerate(tensor_names(job.layers)):
        rows = [shard.rows[index][layer] for index in kept]
        for index, row in zip(kept, rows, strict=True):
            check_alike(job.names[index], row.shape, job.names[kept[0]], rows[0].shape)
        none = np.zeros((0, *(shapes[layer] if shapes else (0, 0, 0))), job.dtype)
        columns[key] = column_of(np.stack(rows) if rows else none)
    skipped = [[job.names[index], shard.bad[index].reason] for index in sorted(shard.bad)]
    metadata = {**job.metadata, SKIPPED_KEY: json.dumps(skipped)}
    write_table(job.path(number), Table([job.names[index] for index in kept], columns, metadata))


@dataclass(frozen=True)
class Written:
    """What shards hold: images with a row, the shape of a row of each layer, and (name, reason) of the other images."""

    rows: int
    shapes: tuple[tuple[int, ...], ...]
    skipped: tuple[tuple[str, str], ...]


def drop_damaged(job: Job, part: Part) -> dict[int, str]:
    """Look through the shards of one process that are there already, every row of them, and remove those that are not what
    was asked or what was written, so that they are made again: their numbers, and what is wrong with each."""
    dropped = {}
    for number in job.kept(part):
        try:
            _shard_facts(job, number)
            for column in open_file(job.path(number)).columns.values():
                for _ in column.chunks():
                    pass
        except DataError as error:
            dropped[number] = str(error)
            job.path(number).unlink(missing_ok=True)
    return dropped


def finish_shards(job: Job) -> Written:
    """Wait until every shard is there (other processes write some), and write the index. For the first process.

    Raises DataError where the maps of two shards differ in size, or a shard is damaged and nobody makes it again.
    """
    found = [_facts_when_there(job, number) for number in range(job.shards)]
    filled = [(number, facts) for number, facts in enumerate(found) if facts.rows]
    for number, facts in filled:
        for mine, first in zip(facts.shapes, filled[0][1].shapes, strict=True):
            check_alike(str(job.path(number)), mine, str(job.path(filled[0][0])), first)
    _write_index(job, [dict(facts.skipped) for facts in found])
    skipped = tuple(pair for facts in found for pair in facts.skipped)
    if not filled:
        raise DataError(
            f"none of the {counted(len(job.names), 'image')} can be used; the first: {skipped[0][0]}: {skipped[0][1]}"
        )
    return Written(sum(facts.rows for facts in found), filled[0][1].shapes, skipped)


def _facts_when_there(job: Job, number: int) -> Written:
    """A shard that another process is to make may be there still as a damaged one, which that process removes first."""
    deadline = time.monotonic() + REMOVAL_SECONDS
    while True:
        if job.path(number).is_file():
            try:
                return _shard_facts(job, number)
            except DataError:
                if time.monotonic() > deadline:
                    raise
        time.sleep(POLL_SECONDS)


def _shard_facts(job: Job, number: int) -> Written:
    """What a shard says. Raises DataError where that is not what the job asks of it; its rows are not looked at."""
    path = job.path(number)
    found = open_file(path)
    try:
        skipped = skipped_of(found.metadata)
    except ValueError as error:
        raise DataError(f"{path} is damaged: {error}") from error
    bad = {name for name, _ in skipped}
    about = {key: text for key, text in found.metadata.items() if key != SKIPPED_KEY}
    keys = tensor_names(job.layers)
    if (
        about != dict(job.metadata)
        or sorted(found.columns) != sorted(keys)
        or {column.dtype for column in found.columns.values()} != {job.dtype}
        or list(found.names) != [job.names[index] for index in job.span(number) if job.names[index] not in bad]
        or len(bad) != len(job.span(number)) - len(found.names)
    ):
        raise DataError(f"{path} is damaged, or of another folder: its names or settings are not those of this shard")
    shapes = [found.columns[key].shape for key in keys]
    return Written(shapes[0][0], tuple(shape[1:] for shape in shapes), skipped)


def _write_index(job: Job, bad: Sequence[Mapping[str, str]]) -> None:
    """Every image in order: path, shard and row, or the reason why it has none. Equal shards give equal bytes, so an index
    that was damaged is mended."""
    pa = importlib.import_module("pyarrow")
    kind = name_type(job.names)
    schema = pa.schema([("path", kind), ("shard", pa.string()), ("row", pa.int64()), ("reason", pa.string())])
    with replacing(job.folder / INDEX) as temporary, _index_writer(temporary, schema) as writer:
        entries = _index_entries(job, bad)
        while some := list(itertools.islice(entries, INDEX_ROWS)):
            names, *others = zip(*some, strict=True)
            columns = [pa.array(values, entry.type) for values, entry in zip(others, list(schema)[1:], strict=True)]
            writer.write_table(pa.table([name_array(names, kind), *columns], schema=schema))


def _index_writer(path: Path, schema: Any) -> Any:
    return parquet().ParquetWriter(path, schema, compression="zstd", write_page_checksum=True)


def _index_entries(
    job: Job, bad: Sequence[Mapping[str, str]]
) -> Iterator[tuple[str, str | None, int | None, str | None]]:
    for number in range(job.shards):
        row = 0
        for index in job.span(number):
            name = job.names[index]
            reason = bad[number].get(name)
            if reason is not None:
                yield name, None, None, reason.encode(errors="backslashreplace").decode()
                continue
            yield name, shard_name(number), row, None
            row += 1
