"""Rows in shards: a folder of .safetensors files, each with the rows of `shard_size` images, and an index of all of them.

A shard appears whole when it is done, so the folder itself says how far the work has come. Several processes may divide
the shards among them; the first process writes the index when all shards are there.
"""

import itertools
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vggcli.data.decode import ImageError, none_usable
from vggcli.errors import DataError
from vggcli.features.extract import Rows, check_alike
from vggcli.features.manifest import INDEX, POLL_SECONDS, Job, shard_name
from vggcli.features.read import SKIPPED_KEY, open_file, skipped_of
from vggcli.features.spool import stored
from vggcli.features.table import AnyArray, Table, column_names, column_of
from vggcli.features.write import arrow, name_array, name_type, write_table
from vggcli.files import replacing, sweep
from vggcli.ranks import Ranks

INDEX_ROWS = 10_000  # written at a time
REMOVAL_SECONDS = 60.0  # in which another process removes those of its earlier shards that are damaged

Shard = dict[int, tuple[AnyArray, ...] | ImageError]  # by image, its row of each layer, or why it has none


def write_shards(
    job: Job, results: Iterable[Rows | ImageError], shapes: Sequence[tuple[int, ...]] | None
) -> Iterator[Rows | ImageError]:
    """Write each shard as soon as all its images have a row or a reason; hands every result on, for progress. `shapes` are
    those of a row of each layer, where they are known beforehand.

    Raises DataError where unpooled maps differ in size, MachineError where the disk refuses.
    """
    growing: dict[int, Shard] = {}
    for result in results:
        indices = (result.index,) if isinstance(result, ImageError) else result.indices
        touched = set()
        for place, index in enumerate(indices):
            assert index is not None
            number = index // job.manifest.shard_size
            touched.add(number)
            growing.setdefault(number, {})[index] = (
                result
                if isinstance(result, ImageError)
                else tuple(stored(rows[place], job.dtype, job.names[index]) for rows in result.layers)
            )
        for number in touched:
            if len(growing[number]) == len(job.manifest.span(number)):
                try:
                    _write_shard(job, number, growing.pop(number), shapes)
                except BaseException:  # a signal, too, in the middle of making or removing a working folder
                    sweep(job.folder)
                    raise
        yield result


def _write_shard(job: Job, number: int, shard: Shard, shapes: Sequence[tuple[int, ...]] | None) -> None:
    kept = {index: rows for index, rows in sorted(shard.items()) if not isinstance(rows, ImageError)}
    names, columns = [job.names[index] for index in kept], {}
    for layer, key in enumerate(column_names(job.layers)):
        rows = [layers[layer] for layers in kept.values()]
        for name, row in zip(names, rows, strict=True):
            check_alike(name, row.shape, names[0], rows[0].shape)
        none = np.zeros((0, *(shapes[layer] if shapes else (0, 0, 0))), job.dtype)
        columns[key] = column_of(np.stack(rows) if rows else none)
    skipped = [[job.names[at], bad.reason] for at, bad in sorted(shard.items()) if isinstance(bad, ImageError)]
    write_table(job.path(number), Table(names, columns, {**job.manifest.metadata, SKIPPED_KEY: json.dumps(skipped)}))


@dataclass(frozen=True)
class ShardFacts:
    """What one shard or all of them hold: the number of rows, the shape of a row of each layer, and (name, reason) of each
    image without a row."""

    rows: int
    shapes: tuple[tuple[int, ...], ...]
    skipped: tuple[tuple[str, str], ...]


def drop_damaged(job: Job, ranks: Ranks) -> list[str]:
    """Read through the shards of one process that are there already, every row of them, and remove those that are damaged
    or not what is asked, so that they are computed again: what is wrong with each."""
    dropped = []
    for number in job.mine(ranks, written=True):
        try:
            _shard_facts(job, number)
            for column in open_file(job.path(number)).columns.values():
                for _ in column.chunks():
                    pass
        except DataError as error:
            dropped.append(str(error))
            job.path(number).unlink(missing_ok=True)
    return dropped


def finish_shards(job: Job) -> ShardFacts:
    """Wait until every shard is there (other processes write some), and write the index. For the first process.

    Raises DataError where the maps of two shards differ in size, or a shard is damaged and is not made again.
    """
    found = [_facts_when_there(job, number) for number in range(job.manifest.shards)]
    filled = [(number, facts) for number, facts in enumerate(found) if facts.rows]
    for number, facts in filled:
        for mine, first in zip(facts.shapes, filled[0][1].shapes, strict=True):
            check_alike(str(job.path(number)), mine, str(job.path(filled[0][0])), first)
    skipped = tuple(pair for facts in found for pair in facts.skipped)
    _write_index(job, dict(skipped))
    if not filled:
        raise none_usable(len(job.names), skipped[0])
    return ShardFacts(sum(facts.rows for facts in found), filled[0][1].shapes, skipped)


def _facts_when_there(job: Job, number: int) -> ShardFacts:
    """The facts of a shard that another process may still have to write, or to remove first because it is damaged."""
    deadline = time.monotonic() + REMOVAL_SECONDS
    while True:
        if job.path(number).is_file():
            try:
                return _shard_facts(job, number)
            except DataError:
                if time.monotonic() > deadline:
                    raise
        time.sleep(POLL_SECONDS)


def _shard_facts(job: Job, number: int) -> ShardFacts:
    """What a shard says. Raises DataError where that is not what the job asks of it; its rows are not looked at."""
    path, span = job.path(number), job.manifest.span(number)
    found = open_file(path)
    skipped, about = skipped_of(path, found.metadata)
    bad = {name for name, _ in skipped}
    keys = column_names(job.layers)
    if (
        about != job.manifest.metadata
        or sorted(found.columns) != sorted(keys)
        or {column.dtype for column in found.columns.values()} != {job.dtype}
        or list(found.names) != [job.names[index] for index in span if job.names[index] not in bad]
        or len(bad) != len(span) - len(found.names)
    ):
        raise DataError(
            f"{path} is damaged, or belongs to another folder: its names or settings are not those asked for"
        )
    shapes = [found.columns[key].shape for key in keys]
    return ShardFacts(shapes[0][0], tuple(shape[1:] for shape in shapes), skipped)


def _write_index(job: Job, reasons: Mapping[str, str]) -> None:
    """Every image in order: path, shard and row, or the reason why it has none. Equal shards give equal bytes, so an index
    that was damaged is restored."""
    pa, kind = arrow(), name_type(job.names)
    schema = pa.schema([("path", kind), ("shard", pa.string()), ("row", pa.int64()), ("reason", pa.string())])
    with (
        replacing(job.folder / INDEX) as temporary,
        pa.parquet.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        entries = _index_entries(job, reasons)
        while some := list(itertools.islice(entries, INDEX_ROWS)):
            names, *others = zip(*some, strict=True)
            columns = [pa.array(values, entry.type) for values, entry in zip(others, list(schema)[1:], strict=True)]
            writer.write_table(pa.table([name_array(names, kind), *columns], schema=schema))


def _index_entries(job: Job, reasons: Mapping[str, str]) -> Iterator[tuple[str, str | None, int | None, str | None]]:
    for number in range(job.manifest.shards):
        row = 0
        for index in job.manifest.span(number):
            name = job.names[index]
            reason = reasons.get(name)
            if reason is not None:
                yield name, None, None, reason.encode(errors="backslashreplace").decode()
                continue
            yield name, shard_name(number), row, None
            row += 1
