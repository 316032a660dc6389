"""What `vgg features` does behind its flags: paths become images, images rows, rows a file, shards or a summary."""

import json
import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vggcli import __version__
from vggcli.cli import options
from vggcli.cli.paths import ImageList, listed_images
from vggcli.data.augment import ColourStatistics
from vggcli.data.decode import ImageError
from vggcli.data.sources import load_split
from vggcli.errors import DataError, ExitCode, Interrupted, UsageError
from vggcli.features.describe import default_norm
from vggcli.features.extract import Done, FeatureOptions, check_options, described, image_rows, row_shapes
from vggcli.features.formats import SUFFIXES, check_format, parquet, sidecar, write_table
from vggcli.features.manifest import Job, Part, inputs_hashes, open_folder
from vggcli.features.pooling import Aggregate, Norm
from vggcli.features.shards import finish, write_shards
from vggcli.features.store import Spool
from vggcli.report.progress import Bar
from vggcli.report.tables import facts_table
from vggcli.zoo.checkpoint import Checkpoint, file_sha256, load_checkpoint
from vggcli.zoo.device import Precision, pick_dtype
from vggcli.zoo.layers import arch_of
from vggcli.zoo.network import VGG
from vggcli.zoo.scales import paper_scales

STRONGEST = 8  # channels that a summary names
LISTED_BAD = 50  # images that could not be used, by name on stderr


@dataclass(frozen=True)
class Asked:
    """The flags, as they were given; None is unset."""

    paths: tuple[str, ...]
    data: str | None
    split: str | None
    arch: str | None
    weights: Path | None
    layers: tuple[str, ...]
    gap: bool
    gmp: bool
    scales: tuple[int, ...]
    multi_scale: bool
    aggregate: Aggregate | None
    norm: Norm | None
    flip: bool | None
    out: Path | None
    dtype: str | None
    shard_size: int | None
    maps: Path | None
    device: str
    precision: Precision
    batch_size: int | None
    workers: int
    json: bool
    quiet: bool

    def check(self) -> None:
        """Raises UsageError for flags that contradict each other or have no effect."""
        if self.gap and self.gmp:
            raise UsageError("--gap and --gmp contradict each other; give one")
        if self.scales and self.multi_scale:
            raise UsageError("--scales and --multi-scale contradict each other; give one")
        if self.aggregate and len(self.scales) < 2 and not self.multi_scale:
            raise UsageError(f"--aggregate {self.aggregate} has no effect on one scale; give several with --scales")
        if self.paths and self.data:
            raise UsageError("--data stands in place of PATHs; give one of the two")
        if self.split and not self.data:
            raise UsageError("--split has no effect without --data")
        if not self.paths and not self.data:
            raise UsageError("there is nothing to describe: give images, folders, globs, or --data SRC")
        if self.dtype and self.out is None:
            raise UsageError("--dtype has no effect without --out")
        if self.shard_size and self.out is None:
            raise UsageError("--shard-size has no effect without --out, which names the folder of the shards")


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
        return {
            "layer": " ".join(one.layers),
            "pool": one.pool,
            "scales": list(one.scales),
            "aggregate": one.aggregate,
            "norm": one.norm,
            "flip": one.flip,
            "dtype": self.dtype,
            "arch": self.network.config.arch,
            "weights": _utf8(str(self.weights.resolve())),
            "weights_sha256": file_sha256(self.weights),
            "root": _root(self.images.root),
            "precision": str(one.dtype).removeprefix("torch."),
            "device": one.device.type,
            "batch_size": one.batch_size,
            "version": __version__,
        }

    @property
    def metadata(self) -> dict[str, str]:
        """The settings as the texts of a file."""
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in self.settings.items()}


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


def describe(asked: Asked) -> None:
    """Do it all, show what came of it, and list what could not be used. Raises DataError at the end where there is any."""
    asked.check()
    part = this_part()
    if part.world > 1 and asked.shard_size is None:
        raise UsageError(
            "several processes (WORLD_SIZE) share the work by shards: give --shard-size, or run one process"
        )
    images = data_images(asked) if asked.data else listed_images(asked.paths)
    out = output(asked, images)
    work = prepared(asked, images, part)
    with stoppable(asked.shard_size is not None):
        if asked.maps is not None:
            draw_maps(work, asked.maps)
        if out is None:
            show_one(work, asked)
            return
        quiet = asked.quiet or part.rank > 0
        outcome = shards(work, out, asked.shard_size, part, quiet) if asked.shard_size else one_file(work, out, quiet)
    if outcome is not None:
        show(work, outcome, asked)
        finished(outcome)


def this_part() -> Part:
    """Which process this is of those that torchrun has started, by its RANK and WORLD_SIZE."""
    rank, world = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if rank is None or world is None:
        return Part()
    if not (rank.isdecimal() and world.isdecimal() and int(rank) < int(world)):
        raise UsageError(
            f"RANK={rank} and WORLD_SIZE={world} are no place among processes; unset them, or use torchrun"
        )
    return Part(int(rank), int(world))


def data_images(asked: Asked) -> ImageList:
    """The images of --data: of one split, or of the training and then the validation split."""
    assert asked.data is not None
    source = options.data_source(asked.data, asked.workers, asked.quiet)
    splits = [load_split(source.path, name) for name in ([asked.split] if asked.split else ["train", "val"])]
    return ImageList(splits[0].root, tuple(dict.fromkeys(name for split in splits for name in split.names)))


def output(asked: Asked, images: ImageList) -> Path | None:
    """Where the rows go. Raises UsageError where that exists, lies among the inputs or cannot hold them."""
    folders = [Path(path) for path in asked.paths if Path(path).is_dir()] + ([images.root] if asked.data else [])
    for flag, path in (("--out", asked.out), ("--maps", asked.maps)):
        for folder in folders if path is not None else ():
            if path is not None and folder.resolve() in path.resolve().parents:
                raise UsageError(f"{flag} {path} lies inside the input folder {folder}; write it elsewhere")
    if asked.maps is not None:
        if asked.maps.suffix.lower() != ".png":
            raise UsageError(f"--maps {asked.maps}: give a name that ends in .png")
        options.writable_output(asked.maps, "--maps")
        if len(images) > 1 or len(asked.layers) > 1:
            raise UsageError("--maps draws one layer of one image; give one of each")
    if asked.out is None:
        if len(images) > 1:
            raise UsageError(f"there are {len(images)} images: say where their rows go with --out FILE.safetensors")
        return None
    if asked.shard_size is not None:
        if asked.out.suffix in SUFFIXES:
            raise UsageError(
                f"--out {asked.out}: --shard-size writes a folder of .safetensors; name it without a suffix"
            )
        if not asked.out.parent.is_dir():
            raise UsageError(f"--out {asked.out}: there is no folder {asked.out.parent}; make it first")
        parquet()
        return asked.out
    out = asked.out if asked.out.suffix else asked.out.with_name(f"{asked.out.name}{SUFFIXES[0]}")
    check_format(out, asked.layers, asked.gap or asked.gmp)
    options.writable_output(out, "--out")
    if out.suffix in (".npy", ".csv"):
        options.writable_output(sidecar(out), "--out")
    return out


def prepared(asked: Asked, images: ImageList, part: Part) -> Work:
    """The network loaded and the options checked against it."""
    pooled = asked.gap or asked.gmp
    name = asked.device
    local = os.environ.get("LOCAL_RANK", "")
    if name == "auto" and part.world > 1 and local.isdecimal():
        import torch

        name = f"cuda:{int(local) % torch.cuda.device_count()}" if torch.cuda.is_available() else name
    device = options.compute_device(name)
    weights = options.find_weights(asked.weights, arch_of(asked.arch or "D"))
    network, checkpoint = load_checkpoint(weights, device)
    opts = FeatureOptions(
        layers=asked.layers,
        pool="gap" if asked.gap else "gmp" if asked.gmp else "none",
        scales=asked.scales or paper_scales(checkpoint.scale, asked.multi_scale),
        aggregate=asked.aggregate or "mean",
        norm=asked.norm or default_norm("gap" if pooled else "none"),
        flip=pooled if asked.flip is None else asked.flip,
        device=device,
        dtype=pick_dtype(asked.precision, device),
        batch_size=asked.batch_size,
        workers=min(asked.workers, len(images) if len(images) > 1 else 0),
    )
    check_options(network, opts)
    return Work(network, checkpoint, weights, images, opts, asked.dtype or "float32")


@contextmanager
def stoppable(resumable: bool) -> Iterator[None]:
    """SIGINT and SIGTERM leave with a sentence that says what is there. Whole files stay; half-written ones are removed."""
    said = (
        "stopped; finished shards stay, and the same command goes on" if resumable else "stopped; nothing was written"
    )

    def handle(number: int, frame: object) -> None:
        raise Interrupted(said, ExitCode.TERMINATED)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(said) from None
    finally:
        signal.signal(signal.SIGTERM, before)


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
    missing = job.mine(part)
    there = len(range(part.rank, job.shards, part.world)) - len(missing)
    if there:
        options.note(f"{there} of {there + len(missing)} shards are there already; going on with the others")
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


def show(work: Work, outcome: Outcome, asked: Asked) -> None:
    """What was written and how, on stdout."""
    if asked.json:
        print(json.dumps(outcome_json(work, outcome)))
        return
    shapes = ", ".join("x".join(map(str, shape)) for shape in outcome.shapes)
    turned = f", {outcome.turned} turned upright by EXIF" if outcome.turned else ""
    bad = f", {len(outcome.bad)} could not be used" if outcome.bad else ""
    facts = {
        "rows": f"{outcome.rows} of {shapes} ({work.dtype}){bad}{turned}",
        **_how(work),
        "speed": f"{outcome.computed / max(outcome.seconds, 1e-9):.1f} images/s, {outcome.seconds:.1f} s",
        "written": str(outcome.written),
    }
    options.stdout_console().print(facts_table("Features", facts))


def outcome_json(work: Work, outcome: Outcome) -> dict[str, Any]:
    """The object of --json."""
    shapes = [list(shape) for shape in outcome.shapes]
    return {
        **work.settings,
        "images": outcome.rows,
        "skipped": [{"path": name, "reason": reason} for name, reason in outcome.bad],
        "turned": outcome.turned,
        "shape": shapes[0] if len(shapes) == 1 else shapes,
        "out": str(outcome.written) if outcome.written else None,
        "seconds": outcome.seconds,
        "images_per_second": outcome.computed / max(outcome.seconds, 1e-9),
    }


def _how(work: Work) -> dict[str, str]:
    one = work.options
    pools = {"gap": "averaged over space", "gmp": "maximum over space", "none": "the map as it is"}
    scales = f"Q = {', '.join(map(str, one.scales))}" + (f" ({one.aggregate})" if len(one.scales) > 1 else "")
    flip = ", mirror image averaged" if one.flip else ""
    return {
        "layer": f"{' '.join(one.layers)} of network {work.network.config.arch}; {pools[one.pool]}",
        "views": f"{scales}{flip}; norm {one.norm}",
        "weights": str(work.weights),
    }


def show_one(work: Work, asked: Asked) -> None:
    """A summary of the only image: size and length of its row, and its strongest channels; nothing is written."""
    started = time.perf_counter()
    with_turned = list(image_rows(work.network, work.images, work.colour, work.options))
    rows: list[np.ndarray[Any, Any]] = []
    turned = 0
    for result in with_turned:
        if isinstance(result, ImageError):
            raise result
        turned += result.turned
        rows = [values[0] for values in result.rows.layers] or rows
    shapes = tuple(row.shape for row in rows)
    outcome = Outcome(1, shapes, (), turned, None, time.perf_counter() - started, 1)
    if asked.json:
        several = len(rows) > 1
        values = [row.tolist() for row in rows]
        print(json.dumps({**outcome_json(work, outcome), "features": values if several else values[0]}))
        return
    facts = {"image": work.images.names[0] + (", turned upright by EXIF" if turned else "")}
    for name, row in zip(work.options.layers, rows, strict=True):
        facts[name] = _summary(row)
    options.stdout_console().print(facts_table("Features", {**facts, **_how(work)}))


def _summary(row: np.ndarray[Any, Any]) -> str:
    """Of [D] or [C, H, W]: size, length, share of zeros, and the strongest channels (by their mean over space)."""
    channels = row.reshape(len(row), -1).mean(1)
    order = np.argsort(-channels, kind="stable")[:STRONGEST]
    strongest = ", ".join(f"{index} ({channels[index]:.3g})" for index in order)
    size = "x".join(map(str, row.shape))
    return (
        f"{size}, L2 length {np.linalg.norm(row):.4g}, {(row == 0).mean():.0%} zeros; strongest channels: {strongest}"
    )


def draw_maps(work: Work, path: Path) -> None:
    """The strongest channels of the layer over the image, as a picture."""
    from vggcli.data.decode import read_image
    from vggcli.report.maps import save_maps

    opts = replace(work.options, pool="none", flip=False, norm="none", scales=work.options.scales[:1])
    if len(work.options.scales) > 1:
        raise UsageError("--maps draws one scale; give one with --scales")
    (maps_NCHW,) = described(work.network, work.images, work.colour, opts)
    save_maps(read_image(work.images.path(0)), maps_NCHW[0], work.options.layers[0], path)
    options.note(f"written: {path}")


def finished(outcome: Outcome) -> None:
    """List what could not be used. Raises DataError where there is any."""
    list_bad(outcome.bad)
    if outcome.bad:
        total = len(outcome.bad) + outcome.rows
        raise DataError(f"{len(outcome.bad)} of {total} files could not be used; see above")


def list_bad(bad: Sequence[tuple[str, str]]) -> None:
    """One line each for the first that could not be used."""
    for name, reason in bad[:LISTED_BAD]:
        options.note(f"not used: {_utf8(name)} cannot be used: {reason}")
    if len(bad) > LISTED_BAD:
        options.note(f"not used: {len(bad) - LISTED_BAD} more; what was written lists them all")


def _root(root: Path) -> str:
    """The folder that names are relative to, absolute. Raises UsageError where files cannot say it."""
    text = str(Path.cwd() / root)
    if text != _utf8(text):
        raise UsageError(
            f"the folder {_utf8(text)} is not named in UTF-8, which files of rows cannot say; work in another"
        )
    return text


def _utf8(text: str) -> str:
    """For people's eyes: bytes that are not UTF-8 as escapes."""
    return text.encode(errors="backslashreplace").decode()
