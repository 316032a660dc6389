"""Descriptors of a million images: in one file, or in shards with an index, which a killed run can continue.

This is what `vgg features` does. Options, images, output files and network are checked before anything is computed; rows
are written to the disk as they are finished, so that memory does not grow with their number.
"""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from vggcli.colour import ColourStatistics
from vggcli.data.decode import ImageError
from vggcli.data.decode_on_device import need_decoder
from vggcli.data.find import find_source
from vggcli.data.image_set import size_of
from vggcli.data.left_out import note_remarks
from vggcli.data.packed_names import names_after
from vggcli.data.paths import ImageList, listed_images
from vggcli.data.sources import load_split
from vggcli.device import ready_device
from vggcli.errors import UsageError, counted
from vggcli.features.bulk_options import BulkOptions, output_place
from vggcli.features.extract import RowArray, check_options, described, image_rows, row_shapes
from vggcli.features.manifest import MANIFEST_FORMAT, Job, Manifest, inputs_hashes, open_folder, texts
from vggcli.features.map_sizes import check_map_sizes
from vggcli.features.outcome import OneImage, Outcome, note_bad
from vggcli.features.read import SKIPPED_KEY
from vggcli.features.settings import HowMade, escaped
from vggcli.features.shards import drop_damaged, finish_shards, write_shards
from vggcli.features.spool import Spool
from vggcli.features.write import write_table
from vggcli.places import Places
from vggcli.progress import LOG, Progress, silent
from vggcli.ranks import ALONE, Ranks
from vggcli.weights.assumed import say_what_is_assumed
from vggcli.weights.checkpoint import load_checkpoint
from vggcli.weights.find import fetched, find_weights
from vggcli.weights.preprocessing import ExpectedPixels
from vggcli.zoo.network import VGG


def describe_images(
    asked: BulkOptions,
    places: Places,
    progress: Progress = silent,
    ranks: Ranks = ALONE,
    stdin: IO[bytes] | None = None,
) -> Outcome | None:
    """Describe all images that are `asked` for. Several processes share the images, or the shards; all but the first get
    None. `stdin` is where `-` among the paths reads a list.

    Raises UsageError, DataError, WeightsError or MachineError, before anything is written, where options, images, output
    files and weights do not fit.
    """
    asked.check(1 if ranks.link is not None else ranks.world)
    with ranks.first_before_others():
        images = _data_images(asked, places, progress) if asked.data else None
    images = images or ranks.first_does(lambda: listed_images(asked.paths, stdin))
    out = output_place(asked, images)
    with ranks.first_before_others():
        work = _prepared(asked, images, places, progress)
    if work.how.options.pool == "none" and len(images) > 1:
        with progress("looking at the images' sizes", len(images), "images") as tell:
            check_map_sizes(work.network, images, work.how.options, tell)
    maps_CHW = _maps_of(work) if asked.maps is not None and ranks.is_first else None
    outcome: Outcome | None
    if out is None:
        outcome = _one_image(work) if ranks.is_first else None
    elif asked.shard_size is None:
        outcome = _one_file(work, out, progress, ranks)
    else:
        outcome = _shards(work, out, asked.shard_size, ranks, progress)
    if outcome is None or maps_CHW is None:
        return outcome
    single = outcome.single or OneImage(images.names[0], images.path(0))
    return replace(outcome, single=replace(single, maps_CHW=maps_CHW))


def _data_images(asked: BulkOptions, places: Places, progress: Progress) -> ImageList:
    """The images of a data set: of one split, or of the training and then the validation split."""
    assert asked.data is not None
    source = find_source(asked.data, places, asked.workers, progress)
    splits = [load_split(source.path, name) for name in ([asked.split] if asked.split else ["train", "val"])]
    note_remarks(*splits)
    first, *others = splits
    if first.places is None:
        return ImageList(first.root, tuple(dict.fromkeys(name for split in splits for name in split.names)))
    names, members = first.names, first.places
    for other in others:  # shards are of one split, so that no image is in two
        assert other.places is not None
        names, members = names_after(names, other.names), members.joined(other.places)
    return ImageList(first.root, names, places=members)


@dataclass(frozen=True)
class _Work:
    """A network, the images, and how they are described."""

    network: VGG
    colour: ColourStatistics
    images: ImageList
    how: HowMade


def _prepared(asked: BulkOptions, images: ImageList, places: Places, progress: Progress) -> _Work:
    """Load the network and check the options against it."""
    device = ready_device(asked.device)
    need_decoder(asked.decode, device)
    named = [] if asked.data else [name for name in images.names if name not in images.members]
    weights = fetched(find_weights(asked.weights, asked.arch, places), places, progress, named)
    network, checkpoint = load_checkpoint(weights, device, asked.pixels)
    say_what_is_assumed(weights, checkpoint, places)
    workers = min(asked.workers, len(images) if len(images) > 1 else 0)
    options = replace(asked.settled(checkpoint, device), workers=workers)
    check_options(network, options)
    channels, colour = checkpoint.training.get("channels"), checkpoint.preprocessing
    given = ExpectedPixels(channels, colour.mean, colour.divisor).to_json() if channels else None
    how = HowMade(options, asked.dtype or "float32", network.config.arch, weights, images.root, given)
    return _Work(network, colour, images, how)


def _maps_of(work: _Work) -> RowArray:
    """The map [C, H, W] of the only layer of the only image. Raises UsageError for several scales."""
    if len(work.how.options.scales) > 1:
        raise UsageError("maps are drawn at one scale; give one", "maps", "scales")
    options = replace(work.how.options, pool="none", flip=False, norm="none")
    (maps_NCHW,) = described(work.network, work.images, work.colour, options)
    maps_CHW: RowArray = maps_NCHW[0]
    return maps_CHW


def _one_image(work: _Work) -> Outcome:
    """The rows of the only image; nothing is written. Raises ImageError where it cannot be used."""
    started = time.perf_counter()
    rows: tuple[RowArray, ...] = ()
    turned = 0
    for result in image_rows(work.network, work.images, work.colour, work.how.options):
        if isinstance(result, ImageError):
            raise result
        turned += result.turned
        rows = tuple(values[0] for values in result.layers) or rows
    shapes = tuple(row.shape for row in rows)
    single = OneImage(work.images.names[0], work.images.path(0), rows)
    return Outcome(work.how, 1, shapes, (), turned, None, time.perf_counter() - started, 1, single)


def _one_file(work: _Work, out: Path, progress: Progress, ranks: Ranks) -> Outcome | None:
    """Write all rows to one file, by way of a nameless temporary one beside it; each process has one for its share of the
    images, and the first takes the rows of all."""
    names, how, options = work.images.names, work.how, work.how.options
    settings = texts(how.settings)  # with the hash of the weights as they were loaded, not as they are at the end
    started, turned = time.perf_counter(), 0
    with (
        Spool(out.parent, options.layers, names, how.dtype) as spool,
        ranks.progress(progress)("describing", len(names) * len(options.scales), "views") as tell,
    ):
        for result in image_rows(work.network, work.images, work.colour, options, ranks.share(len(names))):
            if isinstance(result, ImageError):
                spool.leave_out(result)
                tell(len(options.scales))
            else:
                spool.put(result)
                tell(result.views)
                turned += result.turned
        turned = sum(ranks.gathered(turned))
        spool.take_all(ranks)
        if not ranks.is_first:
            return None
        bad = tuple((names[index], error.reason) for index, error in sorted(spool.bad.items()))
        if len(names) > 1 and not spool.present.any():  # of one image the error says all
            note_bad(bad)
        write_table(out, spool.table({**settings, SKIPPED_KEY: json.dumps(bad)}))
        rows, shapes = int(spool.present.sum()), tuple(spool.shapes)
    return Outcome(how, rows, shapes, bad, turned, out, time.perf_counter() - started, len(names))


def _shards(work: _Work, out: Path, size: int, ranks: Ranks, progress: Progress) -> Outcome | None:
    """Write rows in shards, keeping those that are there already; None for all processes but the first."""
    names, how, options = work.images.names, work.how, work.how.options
    hashes = inputs_hashes(names, (size_of(work.images.path(index)) for index in range(len(names))), size)
    manifest = Manifest(len(names), size, how.settings, hashes, MANIFEST_FORMAT)
    job = Job(out, names, options.layers, how.dtype, manifest)
    open_folder(job, ranks)
    for reason in drop_damaged(job, ranks):
        LOG.info(f"{escaped(reason)}; computed again")
    missing, there = job.mine(ranks, written=False), len(job.mine(ranks, written=True))
    if there:
        shards = counted(there + len(missing), "shard")
        LOG.debug(f"of {shards}, {there} {'exists' if there == 1 else 'exist'} already; computing the others")
    order = [index for number in missing for index in manifest.span(number)]
    started, turned = time.perf_counter(), 0
    with progress("describing", len(order) * len(options.scales), "views") as tell:
        results = image_rows(work.network, work.images, work.colour, options, order, block=size)
        shapes = row_shapes(check_options(work.network, options), options)
        for result in write_shards(job, results if order else (), shapes):
            if isinstance(result, ImageError):
                tell(len(options.scales))
            else:
                tell(result.views)
                turned += result.turned
    if not ranks.is_first:
        return None
    written = finish_shards(job)
    seconds = time.perf_counter() - started
    return Outcome(how, written.rows, written.shapes, written.skipped, turned, out, seconds, len(order))
