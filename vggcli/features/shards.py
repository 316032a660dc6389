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

import numpy as np
from safetensors import SafetensorError, safe_open

from vggcli.data.decode import ImageError
from vggcli.errors import DataError, UsageError, counted
from vggcli.features.extract import Done, check_alike
from vggcli.features.formats import Array, Table, column_of, name_array, name_type, parquet, write_table
from vggcli.features.manifest import INDEX, POLL_SECONDS, Job, shard_name
from vggcli.features.store import stored, tensor_names
from vggcli.files import replacing

INDEX_ROWS = 10_000  # written at a time


@dataclass
class _Growing:
    """A shard in the making."""

    rows: dict[int, tuple[Array, ...]] = field(default_factory=dict)
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
    metadata = {**job.metadata, "skipped": json.dumps(skipped)}
    write_table(job.path(number), Table([job.names[index] for index in kept], columns, metadata))


@dataclass(frozen=True)
class Written:
    """What shards hold: images with a row, the shape of a row of each layer, and (name, reason) of the other images."""

    rows: int
    shapes: tuple[tuple[int, ...], ...]
    skipped: tuple[tuple[str, str], ...]


def finish(job: Job) -> Written:
    """Wait until every shard is there (other processes write some), and write the index. For the first process.

    Raises DataError where the maps of two shards differ in size, UsageError where a shard cannot be read.
    """
    for number in range(job.shards):
        while not job.path(number).is_file():
            time.sleep(POLL_SECONDS)
    found = [_shard_facts(job, number) for number in range(job.shards)]
    filled = [(number, facts) for number, facts in enumerate(found) if facts.rows]
    for number, facts in filled:
        for mine, first in zip(facts.shapes, filled[0][1].shapes, strict=True):
            check_alike(str(job.path(number)), mine, str(job.path(filled[0][0])), first)
    if not (job.folder / INDEX).is_file():
        _write_index(job, [dict(facts.skipped) for facts in found])
    skipped = tuple(pair for facts in found for pair in facts.skipped)
    if not filled:
        raise DataError(
            f"none of the {counted(len(job.names), 'image')} can be used; the first: {skipped[0][0]}: {skipped[0][1]}"
        )
    return Written(sum(facts.rows for facts in found), filled[0][1].shapes, skipped)


def _shard_facts(job: Job, number: int) -> Written:
    try:
        with safe_open(job.path(number), framework="numpy") as file:
            skipped = tuple((str(name), str(reason)) for name, reason in json.loads(file.metadata()["skipped"]))
            shapes = [tuple(file.get_slice(key).get_shape()) for key in tensor_names(job.layers)]
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise UsageError(
            f"{job.path(number)} is damaged ({error}); remove it and give the same command again"
        ) from error
    return Written(shapes[0][0], tuple(shape[1:] for shape in shapes), skipped)


def _write_index(job: Job, bad: Sequence[Mapping[str, str]]) -> None:
    """Every image in order: path, shard and row, or the reason why it has none."""
    pq, pa = parquet(), importlib.import_module("pyarrow")
    kind = name_type(job.names)
    schema = pa.schema([("path", kind), ("shard", pa.string()), ("row", pa.int64()), ("reason", pa.string())])
    with replacing(job.folder / INDEX) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        entries = _index_entries(job, bad)
        while some := list(itertools.islice(entries, INDEX_ROWS)):
            names, *others = zip(*some, strict=True)
            columns = [pa.array(values, entry.type) for values, entry in zip(others, list(schema)[1:], strict=True)]
            writer.write_table(pa.table([name_array(names, kind), *columns], schema=schema))


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
