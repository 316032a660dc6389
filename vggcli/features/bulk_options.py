"""What is asked of `vgg features`: of the images, the network and the files, looked over before any work is done."""

from dataclasses import dataclass
from pathlib import Path

from vggcli.choices import Aggregate, Norm, Pool, Precision, RowType
from vggcli.data.outputs import check_outside, check_outside_folders
from vggcli.data.own_files import STORE_SUFFIXES
from vggcli.data.paths import ImageList
from vggcli.errors import UsageError, counted
from vggcli.features.extract import check_choices
from vggcli.features.write import check_format, parquet, sidecar
from vggcli.files import try_to_write, writable_output


@dataclass(frozen=True)
class BulkOptions:
    """Images by `paths` (files, folders, globs, lists, tars) or of a set `data`; weights, or the newest run of `arch`; of
    its `layers` rows, pooled over space and combined over `scales` (shorter sides in pixels; with `multi_scale` the
    paper's three). Rows go to a file `out`, or with a `shard_size` to shards in the folder `out`; those of a single image
    need no place. `maps` is a picture that the caller is going to draw of a single image. None is what suits it."""

    paths: tuple[str, ...] = ()
    weights: Path | None = None
    arch: str | None = None
    data: str | None = None
    split: str | None = None
    preprocessing: str | None = None
    layers: tuple[str, ...] = ("fc7",)
    pool: Pool = "gap"
    scales: tuple[int, ...] = ()
    multi_scale: bool = False
    aggregate: Aggregate | None = None
    norm: Norm | None = None
    flip: bool | None = None
    out: Path | None = None
    dtype: RowType | None = None
    shard_size: int | None = None
    maps: Path | None = None
    device: str = "auto"
    precision: Precision = "auto"
    batch_size: int | None = None
    workers: int = 0

    def check(self, processes: int) -> None:
        """Raises UsageError for options that contradict each other or have no effect."""
        check_choices(self.pool, self.aggregate, self.norm)
        if self.scales and self.multi_scale:
            raise UsageError(
                "scales of your own and the paper's contradict each other; give one", "scales", "multi_scale"
            )
        if self.aggregate and len(self.scales) < 2 and not self.multi_scale:
            what = f"combining scales by {self.aggregate} has no effect on one scale"
            raise UsageError(f"{what}; give several", "aggregate", "scales")
        if self.paths and self.data:
            raise UsageError("a data set stands in place of PATHs; give one of the two", "data")
        if self.split and not self.data:
            raise UsageError("a split has no effect without a data set", "split", "data")
        if not self.paths and not self.data:
            raise UsageError("there is nothing to describe: give images, folders, globs, or a data set", "data")
        if self.dtype and self.out is None:
            raise UsageError("a type of numbers has no effect without a file for them", "dtype", "out")
        if self.shard_size and self.out is None:
            raise UsageError("a size of shards has no effect without a folder for them", "shard_size", "out")
        if processes > 1 and self.shard_size is None:
            raise UsageError("several processes share the work by shards: give a size for these", "shard_size")


def output_place(asked: BulkOptions, images: ImageList) -> Path | None:
    """Where the rows go, None where they are those of a single image and go nowhere. Raises UsageError where that exists,
    lies among the inputs or cannot hold them, MachineError where the disk refuses."""
    _check_outside_inputs(asked, images)
    if asked.maps is not None:
        if asked.maps.suffix.lower() != ".png":
            raise UsageError(f"{asked.maps}: give a name that ends in .png", "maps")
        writable_output(asked.maps, "maps")
        if len(images) > 1 or len(asked.layers) > 1:
            raise UsageError("maps are drawn of one layer of one image; give one of each", "maps")
    if asked.out is None:
        if len(images) > 1:
            raise UsageError(f"there are {counted(len(images), 'image')}: say where their rows go", "out")
        return None
    if asked.shard_size is not None:
        _check_shards_place(asked.out)
        return asked.out
    out = asked.out if asked.out.suffix else asked.out.with_name(f"{asked.out.name}{STORE_SUFFIXES[0]}")
    check_format(out, asked.layers, asked.pool != "none")
    writable_output(out, "out")
    if out.suffix in (".npy", ".csv"):
        writable_output(sidecar(out), "out")
    return out


def _check_shards_place(out: Path) -> None:
    if out.suffix in STORE_SUFFIXES:
        raise UsageError(f"{out}: shards are a folder of .safetensors; name it without a suffix", "out", "shard_size")
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder {out.parent} for {out}; make it first", "out")
    if not out.exists():
        try_to_write(out)
    parquet()


def _check_outside_inputs(asked: BulkOptions, images: ImageList) -> None:
    """Raises UsageError for an output inside an input folder, or among the images of the data."""
    outputs = [(name, path) for name, path in (("out", asked.out), ("maps", asked.maps)) if path is not None]
    beside_csv = asked.data and asked.data.lower().endswith(".csv")  # beside which anything may lie
    searched = [] if beside_csv else [str(images.root)] if asked.data else list(asked.paths)
    check_outside_folders(outputs, searched, images.names)
    if asked.data:
        check_outside(outputs, images.root, images.names)
