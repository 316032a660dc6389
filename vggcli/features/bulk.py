"""Descriptors of a million images: in one file, or in shards with an index, with which a killed run goes on.

This is what `vgg features` does. Options are looked over, then the images, the places of the files and the network,
before anything is computed; rows go to the disk as they are finished, so that memory does not grow with their number.
"""

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import torch

from vggcli.colour import ColourStatistics
from vggcli.data.decode import ImageError, Place
from vggcli.data.find import find_source
from vggcli.data.left_out import note_remarks
from vggcli.data.paths import ImageList, listed_images
from vggcli.data.sources import load_split
from vggcli.device import pick_dtype, ready_device
from vggcli.errors import UsageError, counted
from vggcli.features.bulk_options import BulkOptions, output_place
from vggcli.features.extract import (
    Done,
    FeatureOptions,
    RowArray,
    check_options,
    default_norm,
    described,
    image_rows,
    row_shapes,
)
from vggcli.features.manifest import ALONE, Job, Part, inputs_hashes, open_folder
from vggcli.features.outcome import OneImage, Outcome, note_bad
from vggcli.features.read import SKIPPED_KEY
from vggcli.features.settings import HowMade, escaped
from vggcli.features.shards import drop_damaged, finish_shards, write_shards
from vggcli.features.spool import Spool
from vggcli.features.write import write_table
from vggcli.places import Places
from vggcli.progress import Progress, silent
from vggcli.weights.assumed import say_what_is_assumed
from vggcli.weights.checkpoint import load_checkpoint
from vggcli.weights.find import fetched, find_weights
from vggcli.weights.preprocessing import ExpectedPixels, read_pixels
from vggcli.zoo.network import VGG
from vggcli.zoo.scales import paper_scales

LOG = logging.getLogger("vggcli")


def describe_images(
    asked: BulkOptions,
    places: Places,
    progress: Progress = silent,
    part: Part = ALONE,
    stdin: IO[bytes] | None = None,
) -> Outcome | None:
    """All that is `asked`, or of the shards those of this `part`; None for all processes but the first. `stdin` is where
    `-` among the paths reads a list.

    Raises UsageError, DataError, WeightsError or MachineError, before anything is written, where options, images, places
    and weights do not fit.
    """
    asked.check(part.world)
    images = _data_images(asked, places, progress) if asked.data else listed_images(asked.paths, stdin)
    out = output_place(asked, images)
    work = _prepared(asked, images, places, progress, part)
    maps_CHW = None if asked.maps is None else _maps_of(work)
    outcome: Outcome | None
    if out is None:
        outcome = _one_image(work)
    elif asked.shard_size is None:
        outcome = _one_file(work, out, progress)
    else:
        outcome = _shards(work, out, asked.shard_size, part, progress)
    if outcome is None or maps_CHW is None:
        return outcome
    single = outcome.single or OneImage(images.names[0], images.path(0))
    return replace(outcome, single=replace(single, maps_CHW=maps_CHW))


def _data_images(asked: BulkOptions, places: Places, progress: Progress) -> ImageList:
    """The images of a set: of one split, or of the training and then the validation split."""
    assert asked.data is not None
    source = find_source(asked.data, places, asked.workers, progress)
    splits = [load_split(source.path, name) for name in ([asked.split] if asked.split else ["train", "val"])]
    note_remarks(*splits)
    return ImageList(splits[0].root, tuple(dict.fromkeys(name for split in splits for name in split.names)))


@dataclass(frozen=True)
class _Work:
    """A network, the images, and how rows are made of them."""

    network: VGG
    colour: ColourStatistics
    images: ImageList
    how: HowMade

    @property
    def options(self) -> FeatureOptions:
        return self.how.options


def _prepared(asked: BulkOptions, images: ImageList, places: Places, progress: Progress, part: Part) -> _Work:
    """The network loaded and the options checked against it."""
    name = asked.device
    if name == "auto" and part.world > 1 and part.local is not None and torch.cuda.is_available():
        name = f"cuda:{part.local % torch.cuda.device_count()}"
    device = ready_device(name)
    named = [] if asked.data else [name for name in images.names if name not in images.members]
    weights = fetched(find_weights(asked.weights, asked.arch, places), places, progress, named)
    pixels = None if asked.preprocessing is None else read_pixels(asked.preprocessing)
    network, checkpoint = load_checkpoint(weights, device, pixels)
    say_what_is_assumed(weights, checkpoint, places)
    options = FeatureOptions(
        layers=asked.layers,
        pool=asked.pool,
        scales=asked.scales or paper_scales(checkpoint.scale, asked.multi_scale),
        aggregate=asked.aggregate or "mean",
        norm=asked.norm or default_norm(asked.pool),
        flip=asked.pool != "none" if asked.flip is None else asked.flip,
        device=device,
        dtype=pick_dtype(asked.precision, device),
        batch_size=asked.batch_size,
        workers=min(asked.workers, len(images) if len(images) > 1 else 0),
    )
    check_options(network, options)
    channels, colour = checkpoint.training.get("channels"), checkpoint.preprocessing
    given = ExpectedPixels(channels, colour.mean, colour.divisor).to_json() if channels else None
    how = HowMade(options, asked.dtype or "float32", network.config.arch, weights, images.root, given)
    return _Work(network, colour, images, how)


def _maps_of(work: _Work) -> RowArray:
    """The map [C, H, W] of the only layer of the only image. Raises UsageError for several scales."""
    if len(work.options.scales) > 1:
        raise UsageError("maps are drawn at one scale; give one", "maps", "scales")
    options = replace(work.options, pool="none", flip=False, norm="none")
    (maps_NCHW,) = described(work.network, work.images, work.colour, options)
    maps_CHW: RowArray = maps_NCHW[0]
    return maps_CHW


def _one_image(work: _Work) -> Outcome:
    """The rows of the only image; nothing is written. Raises ImageError where it cannot be used."""
    started = time.perf_counter()
    rows: tuple[RowArray, ...] = ()
    turned = 0
    for result in image_rows(work.network, work.images, work.colour, work.options):
        if isinstance(result, ImageError):
            raise result
        turned += result.turned
        rows = tuple(values[0] for values in result.rows.layers) or rows
    shapes = tuple(row.shape for row in rows)
    single = OneImage(work.images.names[0], work.images.path(0), rows)
    return Outcome(work.how, 1, shapes, (), turned, None, time.perf_counter() - started, 1, single)


class _Count:
    """Tells how many views are done, and counts the images that EXIF had turned."""

    def __init__(self, scales: int, tell: Callable[[int], None]) -> None:
        self.scales, self.tell, self.turned = scales, tell, 0

    def __call__(self, results: Iterable[Done | ImageError]) -> Iterator[Done | ImageError]:
        for result in results:
            yield result
            self.tell(self.scales if isinstance(result, ImageError) else result.views)
            self.turned += 0 if isinstance(result, ImageError) else result.turned


def _one_file(work: _Work, out: Path, progress: Progress) -> Outcome:
    """All rows to one file, by way of a nameless temporary one beside it."""
    names, options = work.images.names, work.options
    started = time.perf_counter()
    with (
        Spool(out.parent, options.layers, names, work.how.dtype) as spool,
        progress("describing", len(names) * len(options.scales), "views") as tell,
    ):
        count = _Count(len(options.scales), tell)
        for result in count(image_rows(work.network, work.images, work.colour, options)):
            if isinstance(result, ImageError):
                spool.leave_out(result)
            else:
                spool.put(result.rows)
        bad = tuple((names[index], error.reason) for index, error in sorted(spool.bad.items()))
        if not spool.present.any():
            note_bad(bad)
        write_table(out, spool.table({**work.how.metadata, SKIPPED_KEY: json.dumps(bad)}))
        rows, shapes = int(spool.present.sum()), tuple(spool.shapes)
    return Outcome(work.how, rows, shapes, bad, count.turned, out, time.perf_counter() - started, len(names))


def _shards(work: _Work, out: Path, size: int, part: Part, progress: Progress) -> Outcome | None:
    """Rows in shards; those that are there already stay as they are. None for all processes but the first."""
    names, options, how = work.images.names, work.options, work.how
    hashes = inputs_hashes(names, (_file_size(work.images.path(index)) for index in range(len(names))), size)
    job = Job(out, names, size, options.layers, how.dtype, how.settings, how.metadata, hashes)
    open_folder(job, part)
    for reason in drop_damaged(job, part).values():
        LOG.info(f"{escaped(reason)}; computed again")
    missing, there = job.mine(part), len(job.kept(part))
    if there:
        shards = counted(there + len(missing), "shard")
        LOG.info(f"of {shards}, {there} {'is' if there == 1 else 'are'} there already; going on with the others")
    order = [index for number in missing for index in job.span(number)]
    started = time.perf_counter()
    with progress("describing", len(order) * len(options.scales), "views") as tell:
        count = _Count(len(options.scales), tell)
        results = image_rows(work.network, work.images, work.colour, options, order, block=size)
        shapes = row_shapes(check_options(work.network, options), options)
        for _ in count(write_shards(job, results if order else (), shapes)):
            pass
    if part.rank > 0:
        return None
    written = finish_shards(job)
    seconds = time.perf_counter() - started
    return Outcome(how, written.rows, written.shapes, written.skipped, count.turned, out, seconds, len(order))


def _file_size(place: Place) -> int:
    """The bytes of an image's file, -1 where it is not there."""
    if not isinstance(place, Path):
        return place.size
    try:
        return place.stat().st_size
    except (OSError, ValueError):
        return -1
