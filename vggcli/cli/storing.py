"""How `vgg features` stores rows: all in one file, or in shards with an index that a killed run goes on with."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vggcli import __version__
from vggcli.cli import options
from vggcli.colour import ColourStatistics
from vggcli.data.decode import ImageError
from vggcli.data.paths import ImageList
from vggcli.errors import DataError, UsageError, counted
from vggcli.features.extract import Done, FeatureOptions, check_options, image_rows, row_shapes
from vggcli.features.manifest import Job, Part, inputs_hashes, open_folder, texts
from vggcli.features.shards import drop_damaged, finish, write_shards
from vggcli.features.spool import Spool
from vggcli.features.write import write_table
from vggcli.files import file_sha256
from vggcli.report.progress import Bar
from vggcli.weights.checkpoint import Checkpoint
from vggcli.weights.preprocessing import Pixels
from vggcli.zoo.network import VGG

LISTED_BAD = 50  # images that could not be used, by name on stderr


@dataclass(frozen=True)
class Work:
    """The network, what it is asked for, and the images: all that rows are made from."""

    network: VGG
    checkpoint: Checkpoint
    weights: Path
    images: ImageList
    options: FeatureOptions
    dtype: str

    @property
    def colour(self) -> ColourStatistics:
        return ColourStatistics.from_json(self.checkpoint.preprocessing)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Everything beside the images that decides a row, as JSON."""
        one = self.options
        given = {"preprocessing": self.given_pixels} if self.given_pixels else {}
        return {
            **given,
            "layer": " ".join(one.layers),
            "pool": one.pool,
            "scales": list(one.scales),
            "aggregate": one.aggregate,
            "norm": one.norm,
            "flip": one.flip,
            "dtype": self.dtype,
            "arch": self.network.config.arch,
            "weights": readable(str(self.weights.resolve())),
            "weights_sha256": file_sha256(self.weights),
            "root": _root(self.images.root),
            "precision": str(one.dtype).removeprefix("torch."),
            "device": one.device.type,
            "batch_size": one.batch_size,
            "version": __version__,
        }

    @property
    def given_pixels(self) -> dict[str, Any] | None:
        """The preprocessing that was given for weights whose file does not say it, as JSON."""
        channels, colour = self.checkpoint.training.get("channels"), self.checkpoint.preprocessing
        return Pixels(channels, colour["mean"], colour["divisor"]).to_json() if channels else None

    @property
    def metadata(self) -> dict[str, str]:
        """The settings as the texts of a file."""
        return texts(self.settings)


@dataclass(frozen=True)
class Outcome:
    """What came of it: rows and their shapes, what could not be used, how many images EXIF had turned (in this run)."""

    rows: int
    shapes: tuple[tuple[int, ...], ...]
    bad: tuple[tuple[str, str], ...]
    turned: int
    written: Path | None
    seconds: float
    computed: int  # images in this run


class _Count:
    """Tells a bar what is done, and counts images: those without a row, and those that EXIF had turned."""

    def __init__(self, scales: int, bar: Bar) -> None:
        self.scales, self.bar, self.turned = scales, bar, 0

    def __call__(self, results: Iterable[Done | ImageError]) -> Iterator[Done | ImageError]:
        for result in results:
            yield result
            self.bar(self.scales if isinstance(result, ImageError) else result.views)
            self.turned += 0 if isinstance(result, ImageError) else result.turned


def one_file(work: Work, out: Path, quiet: bool) -> Outcome:
    """All rows to one file, by way of a nameless temporary one beside it."""
    names, opts = work.images.names, work.options
    started = time.perf_counter()
    total = len(names) * len(opts.scales)
    with (
        Spool(out.parent, opts.layers, names, work.dtype) as spool,
        Bar(options.stderr_console(), "describing", total, "views", quiet) as bar,
    ):
        count = _Count(len(opts.scales), bar)
        for result in count(image_rows(work.network, work.images, work.colour, opts)):
            if isinstance(result, ImageError):
                spool.leave_out(result)
            else:
                spool.put(result.rows)
        bad = tuple((names[index], error.reason) for index, error in sorted(spool.bad.items()))
        if not spool.present.any():
            list_bad(bad)
        metadata = {**work.metadata, "skipped": json.dumps(bad)}
        write_table(out, spool.table(metadata))
        rows, shapes = int(spool.present.sum()), tuple(spool.shapes)
    seconds = time.perf_counter() - started
    return Outcome(rows, shapes, bad, count.turned, out, seconds, len(names))


def shards(work: Work, out: Path, size: int, part: Part, quiet: bool) -> Outcome | None:
    """Rows in shards; those that are there already stay as they are. None for all processes but the first."""
    names, opts = work.images.names, work.options
    sizes = (_size(work.images, index) for index in range(len(names)))
    hashes = inputs_hashes(names, sizes, size)
    job = Job(out, names, size, opts.layers, work.dtype, work.settings, work.metadata, hashes)
    open_folder(job, part)
    for reason in drop_damaged(job, part).values():
        options.note(f"{readable(reason)}; computed again")
    missing = job.mine(part)
    there = len(range(part.rank, job.shards, part.world)) - len(missing)
    if there:
        options.note(
            f"of {counted(there + len(missing), 'shard')}, {there} {'is' if there == 1 else 'are'} there "
            f"already; going on with the others"
        )
    order = [index for number in missing for index in job.span(number)]
    started = time.perf_counter()
    with Bar(options.stderr_console(), "describing", len(order) * len(opts.scales), "views", quiet) as bar:
        count = _Count(len(opts.scales), bar)
        results = image_rows(work.network, work.images, work.colour, opts, order, block=size)
        shapes = row_shapes(check_options(work.network, opts), opts)
        for _ in count(write_shards(job, results if order else (), shapes)):
            pass
    if part.rank > 0:
        return None
    written = finish(job)
    seconds = time.perf_counter() - started
    return Outcome(written.rows, written.shapes, written.skipped, count.turned, out, seconds, len(order))


def _size(images: ImageList, index: int) -> int:
    """The bytes of an image's file, -1 where it is not there."""
    place = images.path(index)
    if not isinstance(place, Path):
        return place.size
    try:
        return place.stat().st_size
    except (OSError, ValueError):
        return -1


def finished(outcome: Outcome) -> None:
    """List what could not be used. Raises DataError where there is any."""
    list_bad(outcome.bad)
    if outcome.bad:
        total = len(outcome.bad) + outcome.rows
        raise DataError(f"{len(outcome.bad)} of {counted(total, 'file')} could not be used; see above")


def list_bad(bad: Sequence[tuple[str, str]]) -> None:
    """One line each for the first that could not be used."""
    for name, reason in bad[:LISTED_BAD]:
        options.note(f"not used: {readable(name)} cannot be used: {reason}")
    if len(bad) > LISTED_BAD:
        options.note(f"not used: {len(bad) - LISTED_BAD} more; what was written lists them all")


def _root(root: Path) -> str:
    """The folder that names are relative to, absolute. Raises UsageError where files cannot say it."""
    text = str(Path.cwd() / root)
    if text != readable(text):
        raise UsageError(
            f"the folder {readable(text)} is not named in UTF-8, which files of rows cannot say; work in another"
        )
    return text


def readable(text: str) -> str:
    """For people's eyes: bytes that are not UTF-8 as escapes."""
    return text.encode(errors="backslashreplace").decode()
