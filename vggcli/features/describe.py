"""Descriptors from Python: `Features("runs/D-1")(["a.jpg", "b.jpg"])` is an array with a row an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vggcli.choices import Aggregate, Norm, Pool, Precision
from vggcli.colour import ColourStatistics
from vggcli.device import pick_device, pick_dtype
from vggcli.errors import UsageError
from vggcli.features.extract import FeatureOptions, check_options, described
from vggcli.weights.checkpoint import load_checkpoint
from vggcli.weights.find import weights_file
from vggcli.weights.preprocessing import Pixels, read_pixels
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
    "caffe", "keras" or a JSON file.

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
        preprocessing: str | Pixels | None = None,
    ) -> None:
        for name, value, known in (
            ("pool", pool, ("gap", "gmp", "none")),
            ("aggregate", aggregate, ("mean", "stack", "max")),
            ("norm", norm, (None, "l2", "l1", "none")),
        ):
            if value not in known:
                raise UsageError(f"there is no {name} {value!r}; give one of {', '.join(map(repr, known))}")
        if not isinstance(layer, str):
            raise UsageError(f"give one layer by name, not {layer!r}; make a Features for each")
        if isinstance(scales, int | str):
            raise UsageError(f"give a list of scales, such as [{scales}]")
        where = pick_device(device)
        pixels = read_pixels(preprocessing) if isinstance(preprocessing, str) else preprocessing
        self.network, self.checkpoint = load_checkpoint(weights_file(Path(weights).expanduser()), where, pixels)
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
        colour = ColourStatistics.from_json(self.checkpoint.preprocessing)
        paths = _Paths(tuple(Path(image) for image in images))
        return described(self.network, paths, colour, self.options)[0]


def default_norm(pool: Pool) -> Norm:
    """L2 for rows (Appendix B), nothing for maps as they are."""
    return "none" if pool == "none" else "l2"
