"""What `vgg features` does behind its flags: paths become images, flags what is asked of a network, and both rows."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from vggcli.choices import Aggregate, Norm, Precision
from vggcli.cli import options
from vggcli.cli.signals import Terminated
from vggcli.cli.storing import Work, finished, one_file, shards
from vggcli.cli.summarising import draw_maps, show, show_one
from vggcli.data.outputs import check_outside, check_outside_folders
from vggcli.data.paths import ImageList, listed_images
from vggcli.data.sources import load_split
from vggcli.device import pick_dtype
from vggcli.errors import ExitCode, Interrupted, UsageError, counted
from vggcli.features.describe import default_norm
from vggcli.features.extract import FeatureOptions, check_options
from vggcli.features.manifest import Part
from vggcli.features.write import SUFFIXES, check_format, parquet, sidecar
from vggcli.files import try_to_write, writable_output
from vggcli.weights.assumed import say_what_is_assumed
from vggcli.weights.checkpoint import load_checkpoint
from vggcli.weights.find import fetched, find_weights
from vggcli.zoo.scales import paper_scales


@dataclass(frozen=True)
class Asked:
    """The flags, as they were given; None is unset."""

    paths: tuple[str, ...]
    data: str | None
    split: str | None
    arch: str | None
    weights: Path | None
    preprocessing: str | None
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
            show_one(work, asked.json)
            return
        quiet = asked.quiet or part.rank > 0
        outcome = shards(work, out, asked.shard_size, part, quiet) if asked.shard_size else one_file(work, out, quiet)
    if outcome is not None:
        show(work, outcome, asked.json)
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
    options.note_remarks(*splits)
    return ImageList(splits[0].root, tuple(dict.fromkeys(name for split in splits for name in split.names)))


def output(asked: Asked, images: ImageList) -> Path | None:
    """Where the rows go. Raises UsageError where that exists, lies among the inputs or cannot hold them."""
    _check_places(asked, images)
    if asked.maps is not None:
        if asked.maps.suffix.lower() != ".png":
            raise UsageError(f"--maps {asked.maps}: give a name that ends in .png")
        writable_output(asked.maps, "maps")
        if len(images) > 1 or len(asked.layers) > 1:
            raise UsageError("--maps draws one layer of one image; give one of each")
    if asked.out is None:
        if len(images) > 1:
            raise UsageError(
                f"there are {counted(len(images), 'image')}: say where their rows go with --out FILE.safetensors"
            )
        return None
    if asked.shard_size is not None:
        if asked.out.suffix in SUFFIXES:
            raise UsageError(
                f"--out {asked.out}: --shard-size writes a folder of .safetensors; name it without a suffix"
            )
        if not asked.out.parent.is_dir():
            raise UsageError(f"--out {asked.out}: there is no folder {asked.out.parent}; make it first")
        if not asked.out.exists():
            try_to_write(asked.out)
        parquet()
        return asked.out
    out = asked.out if asked.out.suffix else asked.out.with_name(f"{asked.out.name}{SUFFIXES[0]}")
    check_format(out, asked.layers, asked.gap or asked.gmp)
    writable_output(out, "out")
    if out.suffix in (".npy", ".csv"):
        writable_output(sidecar(out), "out")
    return out


def _check_places(asked: Asked, images: ImageList) -> None:
    """Raises UsageError for an output inside an input folder, or among the images of the data."""
    outputs = [(flag, path) for flag, path in (("out", asked.out), ("maps", asked.maps)) if path is not None]
    folders = [Path(path) for path in asked.paths if Path(path).is_dir()] + ([images.root] if asked.data else [])
    for flag, path in outputs:
        for folder in folders:
            if folder.resolve() in path.resolve().parents:
                raise UsageError(f"{flag} {path} lies inside the input folder {folder}; write it elsewhere")
    if asked.data:
        check_outside(outputs, images.root, images.names)
    else:
        check_outside_folders(outputs, asked.paths, images.names)


def prepared(asked: Asked, images: ImageList, part: Part) -> Work:
    """The network loaded and the options checked against it."""
    pooled = asked.gap or asked.gmp
    name = asked.device
    local = os.environ.get("LOCAL_RANK", "")
    if name == "auto" and part.world > 1 and local.isdecimal():
        name = f"cuda:{int(local) % torch.cuda.device_count()}" if torch.cuda.is_available() else name
    device = options.compute_device(name)
    named = [] if asked.data else [name for name in images.names if name not in images.members]
    weights = fetched(
        find_weights(asked.weights, asked.arch, options.places()),
        options.places(),
        options.progress(asked.quiet),
        named,
    )
    network, checkpoint = load_checkpoint(weights, device, options.pixels_of(asked.preprocessing))
    say_what_is_assumed(weights, checkpoint, options.places())
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

    try:
        yield
    except (KeyboardInterrupt, Terminated) as error:
        code = ExitCode.TERMINATED if isinstance(error, Terminated) else ExitCode.INTERRUPTED
        raise Interrupted(said, code) from None
