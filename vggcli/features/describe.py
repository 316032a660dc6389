"""Descriptors from Python: `Features` gives arrays, a row an image; `features` is the command, for a million images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vggcli.choices import Aggregate, Norm, Pool, Precision, RowType
from vggcli.device import pick_device, pick_dtype
from vggcli.errors import UsageError
from vggcli.features.bulk import describe_images
from vggcli.features.bulk_options import BulkOptions
from vggcli.features.extract import FeatureOptions, check_choices, check_options, default_norm, described
from vggcli.features.outcome import Outcome
from vggcli.places import Places
from vggcli.progress import Progress, silent
from vggcli.weights.checkpoint import load_checkpoint
from vggcli.weights.find import fetched, find_weights, weights_file
from vggcli.weights.preprocessing import ExpectedPixels, read_pixels
from vggcli.zoo.scales import paper_scales


@dataclass(frozen=True)
class _Paths:
    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, index: int) -> Path:
        return self.paths[index]


class Features:
    """A network that describes images, as `vgg features` does (Appendix B).

    `weights` is a run folder or a weights file; `layer` any name that `vgg models` lists, after its ReLU (`fc7:pre` for
    before); `pool` "gap" (mean over space), "gmp" (maximum) or "none" (the map as it is). `scales` are shorter sides in
    pixels, by default what the paper takes for the network's training scale, combined by `aggregate` "mean", "stack" or
    "max". `flip` averages with the mirror image (by default where rows are pooled), `norm` "l2", "l1" or "none" comes
    last (by default "l2" where rows are pooled). `preprocessing` is for weights whose file does not say it: "torchvision",
    "caffe", "keras" or a JSON file. With `places`, `weights` may be a published name too ("imagenet", of network `arch`).

    >>> describe = vggcli.Features("runs/D-1", layer="fc7", pool="gap")
    >>> rows_ND = describe(["a.jpg", "b.jpg"])
    >>> len(rows_ND)
    2

    Raises WeightsError, UsageError or MachineError (`vggcli.errors`) where these do not fit the network or the machine.
    """

    def __init__(
        self,
        weights: str | Path,
        layer: str = "fc7",
        pool: Pool = "gap",
        *,
        scales: Sequence[int] | None = None,
        aggregate: Aggregate = "mean",
        norm: Norm | None = None,
        flip: bool | None = None,
        device: str = "auto",
        precision: Precision = "auto",
        batch_size: int | None = None,
        workers: int = 0,
        preprocessing: str | ExpectedPixels | None = None,
        arch: str | None = None,
        places: Places | None = None,
    ) -> None:
        check_choices(pool, aggregate, norm)
        if not isinstance(layer, str):
            raise UsageError(f"give one layer by name, not {layer!r}; make a Features for each")
        if isinstance(scales, int | str):
            raise UsageError(f"give a list of scales, such as [{scales}]")
        if arch is not None and places is None:
            raise UsageError("a network has no effect without places, where its weights are looked for", "arch")
        where = pick_device(device)
        pixels = read_pixels(preprocessing) if isinstance(preprocessing, str) else preprocessing
        self.weights = Path(weights).expanduser()
        path = (
            weights_file(self.weights) if places is None else fetched(find_weights(self.weights, arch, places), places)
        )
        self.network, self.checkpoint = load_checkpoint(path, where, pixels)
        self.options = FeatureOptions(
            layers=(layer,),
            pool=pool,
            scales=tuple(scales or paper_scales(self.checkpoint.scale, several=False)),
            aggregate=aggregate,
            norm=default_norm(pool) if norm is None else norm,
            flip=pool != "none" if flip is None else flip,
            device=where,
            dtype=pick_dtype(precision, where),
            batch_size=batch_size,
            workers=workers,
        )
        check_options(self.network, self.options)

    def __repr__(self) -> str:
        one = self.options
        how = f"pool={one.pool!r}, scales={one.scales}, aggregate={one.aggregate!r}, norm={one.norm!r}, flip={one.flip}"
        return f"Features({str(self.weights)!r}, {one.layers[0]!r}, {how}) of network {self.network.config.arch}"

    def __call__(self, images: Sequence[str | Path]) -> NDArray[np.float32]:
        """The descriptors of image files, in their order: float32 [N, D], or [N, C, H, W] with the pool "none".

        Raises ImageError for the first image that cannot be used, DataError where maps differ in size.
        """
        if isinstance(images, str | Path):
            raise UsageError(f"give a list of images, such as [{str(images)!r}]")
        if not all(isinstance(image, str | Path) for image in images):
            raise UsageError("give the paths of images, as texts or Path objects")
        if not images:
            raise UsageError("give one image or more")
        paths = _Paths(tuple(Path(image) for image in images))
        return described(self.network, paths, self.checkpoint.preprocessing, self.options)[0]


def features(
    places: Places,
    paths: Sequence[str | Path],
    weights: str | Path | None = None,
    *,
    arch: str | None = None,
    data: str | None = None,
    split: str | None = None,
    preprocessing: str | None = None,
    layer: str | Sequence[str] = "fc7",
    pool: Pool = "gap",
    scales: Sequence[int] = (),
    multi_scale: bool = False,
    aggregate: Aggregate | None = None,
    norm: Norm | None = None,
    flip: bool | None = None,
    out: str | Path | None = None,
    dtype: RowType | None = None,
    shard_size: int | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    batch_size: int | None = None,
    workers: int = 0,
    progress: Progress = silent,
) -> Outcome:
    """Describe images, as `vgg features` does, and store a row each with its name in `out`; a single image needs no file,
    its rows are in the outcome. An image that cannot be used is listed there (`bad`, or `check()`) and stops no other.

    `paths` are images, folders, globs, .csv lists and tars (none, where `data` names a set); `weights` a run, a file or a
    published name, by default of the newest run of `arch` below `places.runs`; all else is as in `Features`, and `out` a
    .safetensors, .npy, .npz, .parquet or .csv, or with a `shard_size` the folder of shards, which goes on where it stopped.

    >>> found = vggcli.features(["photos/"], "runs/D-1", out="photos.npz")
    >>> found.rows, found.bad, found.to_json()["norm"]
    (36, (), 'l2')

    Raises UsageError, DataError, WeightsError or MachineError, before anything is written, where these do not fit.
    """
    asked = BulkOptions(
        paths=tuple(map(str, paths)),
        weights=None if weights is None else Path(weights),
        arch=arch,
        data=data,
        split=split,
        preprocessing=preprocessing,
        layers=(layer,) if isinstance(layer, str) else tuple(layer),
        pool=pool,
        scales=tuple(scales),
        multi_scale=multi_scale,
        aggregate=aggregate,
        norm=norm,
        flip=flip,
        out=None if out is None else Path(out),
        dtype=dtype,
        shard_size=shard_size,
        device=device,
        precision=precision,
        batch_size=batch_size,
        workers=workers,
    )
    outcome = describe_images(asked, places, progress)
    assert outcome is not None, "the first process has an outcome"
    return outcome
