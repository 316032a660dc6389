"""What is asked of `vgg features`: images, network, description and files, checked before any work is done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from vggcli.choices import Aggregate, Decode, Norm, Pool, Precision, RowType
from vggcli.data.outputs import check_outside, check_outside_folders
from vggcli.data.own_files import STORE_SUFFIXES
from vggcli.data.paths import ImageList
from vggcli.data.tars import SUFFIX
from vggcli.device import pick_precision
from vggcli.errors import UsageError, counted
from vggcli.features.extract import FeatureOptions
from vggcli.features.metadata import sidecar
from vggcli.features.write import arrow, check_format
from vggcli.files import try_to_write, writable_output
from vggcli.records import Ordinal, WorkerCount, check_fields
from vggcli.weights.checkpoint import Checkpoint
from vggcli.weights.preprocessing import ExpectedPixels, read_pixels
from vggcli.zoo.inductor import need_compiler
from vggcli.zoo.scales import paper_scales


@dataclass(frozen=True)
class BulkOptions:
    """What to describe, how, and where the rows go; None stands for the default. `maps` is where the caller will draw a
    single image's map.

    paths: images, folders, globs, .csv lists and tars; none where `data` names a set.
    weights: a run, a file or a published name; by default the newest run of `arch`.
    arch: the network whose newest run, or published weights, are taken.
    data: a folder, a CSV or the name of a known set, whose images are described.
    split: a part of `data`, by default "train" and then "val".
    preprocessing: "torchvision", "caffe", "keras" or a JSON file, for weights whose file does not say it.
    layer: one layer by name or several, after the ReLU; `fc7:pre` is before it.
    pool: over space: "gap" (mean), "gmp" (maximum) or "none" (the map as it is).
    scales: the shorter sides Q in pixels, by default the training S or the middle of its range.
    multi_scale: the paper's three scales.
    aggregate: how several scales make one row: "mean", "stack" or "max".
    norm: what a row is divided by last: "l2", "l1" or "none"; by default "l2" where maps are pooled.
    flip: average with the mirror image, by default where maps are pooled.
    out: a .safetensors, .npy, .npz, .parquet or .csv, or the folder of the shards.
    dtype: of the stored numbers: "float32" or "float16".
    shard_size: images of a shard; a later call completes what one that was stopped has begun.
    device: "auto", "cpu", "cuda", "cuda:1" or "mps".
    precision: of the heavy arithmetic: "auto", "fp32", "tf32", "bf16" or "fp16".
    compile: run the network by torch.compile, which pays on GPUs.
    batch_size: views in a forward pass, by default what suits the device.
    workers: processes that decode images; with 0 this process decodes.
    decode: where JPEGs are decoded: "cpu", or "gpu" (nvJPEG, whose pixels differ by a few levels).

    Raises UsageError for choices that do not exist.
    """

    paths: Sequence[str] = ()
    weights: Path | None = None
    arch: str | None = None
    data: str | None = None
    split: str | None = None
    preprocessing: str | ExpectedPixels | None = None
    layer: Sequence[str] = ("fc7",)
    pool: Pool = "gap"
    scales: Sequence[Ordinal] = ()
    multi_scale: bool = False
    aggregate: Aggregate | None = None
    norm: Norm | None = None
    flip: bool | None = None
    out: Path | None = None
    dtype: RowType | None = None
    shard_size: Ordinal | None = None
    maps: Path | None = None
    device: str = "auto"
    precision: Precision = "auto"
    compile: bool = False
    batch_size: Ordinal | None = None
    workers: WorkerCount = 0
    decode: Decode = "cpu"

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "BulkOptions":
        """The options among parameters by name, where None is the default."""
        return cls(**{one.name: given[one.name] for one in fields(cls) if given.get(one.name) is not None})

    @property
    def pixels(self) -> ExpectedPixels | None:
        """The preprocessing by its name or file. Raises UsageError where it means nothing."""
        return read_pixels(self.preprocessing) if isinstance(self.preprocessing, str) else self.preprocessing

    def settled(self, checkpoint: Checkpoint, device: torch.device) -> FeatureOptions:
        """How a network describes images with these options: the paper's scales, the mirror image and the L2 norm (Appendix
        B) are the defaults, but maps that are not pooled are neither averaged with the mirror image's nor normalised.

        Raises MachineError where nothing compiles for `device`.
        """
        if self.compile:
            need_compiler(device)
        pooled = self.pool != "none"
        return FeatureOptions(
            layers=tuple(self.layer),
            pool=self.pool,
            scales=tuple(self.scales) or paper_scales(checkpoint.scale, self.multi_scale),
            aggregate=self.aggregate or "mean",
            norm=self.norm or ("l2" if pooled else "none"),
            flip=pooled if self.flip is None else self.flip,
            device=device,
            precision=pick_precision(self.precision, device),
            compile=self.compile,
            batch_size=self.batch_size,
            workers=self.workers,
            decode=self.decode,
        )

    def check(self, processes: int) -> None:
        """Raises UsageError for options that contradict each other or have no effect."""
        if self.scales and self.multi_scale:
            raise UsageError("give either scales or the paper's three, not both", "scales", "multi_scale")
        if self.aggregate and len(self.scales) < 2 and not self.multi_scale:
            what = f"combining scales by {self.aggregate} has no effect on one scale"
            raise UsageError(f"{what}; give several", "aggregate", "scales")
        if self.paths and self.data:
            raise UsageError("give either PATHs or a data set, not both", "data")
        if self.split and not self.data:
            raise UsageError("a split has no effect without a data set", "split", "data")
        if not self.paths and not self.data:
            raise UsageError("there is nothing to describe: give images, folders, globs, or a data set", "data")
        if self.dtype and self.out is None:
            raise UsageError("a type of numbers has no effect without an output file", "dtype", "out")
        if self.shard_size and self.out is None:
            raise UsageError("a shard size has no effect without an output folder", "shard_size", "out")
        if processes > 1 and self.shard_size is None:
            raise UsageError(
                "processes that cannot reach each other divide the work by shards; give a shard size, or use torchrun",
                "shard_size",
            )


def output_place(asked: BulkOptions, images: ImageList) -> Path | None:
    """Where the rows go, None where they are those of a single image and go nowhere. Raises UsageError where that exists,
    lies among the inputs or cannot hold them, MachineError where the disk refuses."""
    outputs = [(name, path) for name, path in (("out", asked.out), ("maps", asked.maps)) if path is not None]
    one_file = asked.data and asked.data.lower().endswith((".csv", SUFFIX))  # beside which anything may lie
    searched = [] if one_file else [str(images.root)] if asked.data else list(asked.paths)
    check_outside_folders(outputs, searched, images.names if images.places is None else ())
    if asked.data and images.places is None:
        check_outside(outputs, images.root, images.names)
    if asked.maps is not None:
        if asked.maps.suffix.lower() != ".png":
            raise UsageError(f"{asked.maps}: give a name that ends in .png", "maps")
        writable_output(asked.maps, "maps")
        if len(images) > 1 or len(asked.layer) > 1:
            raise UsageError("maps are drawn of one layer of one image; give one of each", "maps")
    out = asked.out
    if out is None:
        if len(images) > 1:
            raise UsageError(f"there are {counted(len(images), 'image')}; give a file for their descriptors", "out")
        return None
    if asked.shard_size is not None:
        if out.suffix in STORE_SUFFIXES:
            what = f"{out}: shards are written to a folder of .safetensors files"
            raise UsageError(f"{what}; give a name without a suffix", "out", "shard_size")
        if not out.parent.is_dir():
            raise UsageError(f"there is no folder {out.parent} for {out}; make it first", "out")
        if not out.exists():
            try_to_write(out)
        arrow()
        return out
    out = out if out.suffix else out.with_name(f"{out.name}{STORE_SUFFIXES[0]}")
    check_format(out, asked.layer, asked.pool != "none")
    writable_output(out, "out")
    if out.suffix in (".npy", ".csv"):
        writable_output(sidecar(out), "out")
    return out
