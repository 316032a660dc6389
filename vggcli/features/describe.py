"""Descriptors from Python: `Features` gives arrays, a row for each image, which may be in memory; `features` does what
`vgg features` does."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vggcli.choices import Aggregate, Decode, Norm, Pool, Precision, RowType
from vggcli.data.decode import OpenedImage, Origin
from vggcli.data.decode_on_device import need_decoder
from vggcli.data.paths import texts_of
from vggcli.device import pick_device
from vggcli.errors import UsageError
from vggcli.features.bulk import describe_images
from vggcli.features.bulk_options import BulkOptions
from vggcli.features.extract import check_options, described, row_shapes
from vggcli.features.outcome import Outcome
from vggcli.places import Places
from vggcli.progress import Progress, silent
from vggcli.weights.checkpoint import load_checkpoint
from vggcli.weights.find import fetched, find_weights, weights_file
from vggcli.weights.preprocessing import ExpectedPixels

Given = str | PurePath | Image.Image | NDArray[np.uint8]  # an image


class Features:
    """A network that describes images, as `vgg features` does (Appendix B).

    `weights` is a run folder or a weights file; `layer` any name that `vgg models` lists, after its ReLU (`fc7:pre` for
    before); `pool` "gap" (mean over space), "gmp" (maximum) or "none" (the whole map). `scales` are shorter sides in
    pixels, by default what the paper takes for the network's training scale, combined by `aggregate` "mean", "stack" or
    "max". `flip` averages with the mirror image (by default where maps are pooled); rows are divided by their `norm` last,
    "l2", "l1" or "none" (by default "l2" where maps are pooled). `preprocessing` is for weights whose file does not say it:
    "torchvision", "caffe", "keras" or a JSON file; `decode` is where JPEG files are decoded, "cpu" or
    "gpu". With `places`, `weights` may be a published name too ("imagenet", of network `arch`).

    Images are paths, Pillow images or arrays uint8 [H, W, 3], RGB; a list of them gives a row for each, one alone its row:

    >>> describe = vggcli.Features("runs/D-1", layer="fc7", pool="gap")
    >>> describe(["a.jpg", PIL.Image.open("b.jpg")]).shape
    (2, 512)
    >>> describe(numpy.asarray(PIL.Image.open("a.jpg"))).shape
    (512,)

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
        compile: bool = False,
        batch_size: int | None = None,
        workers: int = 0,
        decode: Decode = "cpu",
        preprocessing: str | ExpectedPixels | None = None,
        arch: str | None = None,
        places: Places | None = None,
    ) -> None:
        given = dict(locals())
        if not isinstance(layer, str):
            raise UsageError(f"give one layer by name, not {layer!r}; make a Features for each")
        if arch is not None and places is None:
            raise UsageError("a network has no effect without places in which to look for its weights", "arch")
        asked = BulkOptions.of({**given, "weights": Path(weights), "layer": [layer]})
        where, self.weights = pick_device(device), Path(weights).expanduser()
        need_decoder(decode, where)
        at = self.weights
        path = weights_file(at) if places is None else fetched(find_weights(at, arch, places), places)
        self.network, self.checkpoint = load_checkpoint(path, where, asked.pixels)
        self.options = asked.settled(self.checkpoint, where)
        self.outputs = check_options(self.network, self.options)

    def __repr__(self) -> str:
        one, shapes = self.options, row_shapes(self.outputs, self.options)
        how = f"pool={one.pool!r}, scales={one.scales}, aggregate={one.aggregate!r}, norm={one.norm!r}, flip={one.flip}"
        size = f"{shapes[0][0]} numbers" if shapes else f"a map of {self.outputs[0].channels} channels"
        network = f"network {self.network.config.arch}, {size} an image"
        return f"Features({str(self.weights)!r}, {one.layers[0]!r}, {how}): {network}"

    def __call__(self, images: Given | Iterable[Given]) -> NDArray[np.float32]:
        """The descriptors of images, in their order: float32 [N, D], or [N, C, H, W] with the pool "none"; of one image
        that is not in a list [D] or [C, H, W]. An image is a path, a Pillow image, or an array uint8 [H, W, 3], RGB; what
        `Image.open` gives is made upright as a file is. No image is changed.

        Raises UsageError for anything else, ImageError for the first image that cannot be used, DataError where unpooled
        maps differ in size.
        """
        if isinstance(images, str | PurePath | Image.Image | np.ndarray):
            alone: NDArray[np.float32] = self([images])[0]
            return alone
        held = _Held(tuple(_origin(image, f"image {index}") for index, image in enumerate(images)))
        if not len(held):
            raise UsageError("give one image or more")
        in_memory = any(isinstance(origin, OpenedImage) for origin in held.origins)
        options = (
            replace(self.options, workers=0) if in_memory else self.options
        )  # which would get copies of all images
        return described(self.network, held, self.checkpoint.preprocessing, options)[0]


@dataclass(frozen=True)
class _Held:
    """The images of a call."""

    origins: tuple[Origin, ...]

    def __len__(self) -> int:
        return len(self.origins)

    def path(self, index: int) -> Origin:
        return self.origins[index]


def _origin(image: Given, name: str) -> Origin:
    """What an image can be read from; `name` is that of one in memory."""
    if isinstance(image, str | PurePath):
        return Path(image)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            shape = f"{image.dtype} [{', '.join(map(str, image.shape))}]"
            raise UsageError(f"{name} is an array {shape}; give RGB arrays of uint8 [height, width, 3], in a list")
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image):
        what = f"{name} is {type(image).__name__}"
        raise UsageError(f"{what}; give paths, Pillow images or RGB arrays of uint8 [height, width, 3]")
    return OpenedImage(name, image)


def features(
    places: Places,
    paths: str | Path | Sequence[str | Path],
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
    compile: bool = False,
    batch_size: int | None = None,
    workers: int = 0,
    decode: Decode = "cpu",
    progress: Progress = silent,
) -> Outcome:
    """Describe images, as `vgg features` does, and write a row for each with its name to `out`. A single image needs no
    file: its rows are in the outcome. An image that cannot be used is listed there (`bad`, `check()`) and stops no other.

    >>> found = vggcli.features(["photos/"], "runs/D-1", out="photos.npz")
    >>> found.rows, found.bad, found.to_json()["norm"]
    (36, (), 'l2')

    Raises UsageError, DataError, WeightsError or MachineError, before anything is written, where these do not fit.
    """
    asked = dict(locals())
    given = {
        **asked,
        "paths": texts_of(paths),
        "weights": None if weights is None else Path(weights),
        "layer": [layer] if isinstance(layer, str) else layer,
        "out": None if out is None else Path(out),
    }
    outcome = describe_images(BulkOptions.of(given), places, progress)
    assert outcome is not None, "the first process has an outcome"
    return outcome
