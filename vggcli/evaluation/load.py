"""A trained network with all that is needed to use it: its classes, preprocessing and device."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from PIL import Image

from vggcli.choices import Precision
from vggcli.colour import ColourStatistics
from vggcli.data.decode import OpenedImage
from vggcli.data.image_set import ImageSet
from vggcli.errors import UsageError
from vggcli.evaluation.options import MeasureOptions
from vggcli.evaluation.protocol import EvaluateOptions, Scores, image_posteriors
from vggcli.places import Places
from vggcli.progress import LOG, Progress, silent
from vggcli.records import shown
from vggcli.weights.assumed import say_what_is_assumed
from vggcli.weights.checkpoint import Checkpoint, load_checkpoint, need_classifier
from vggcli.weights.find import check_published_classifier, fetched, find_weights
from vggcli.zoo.network import VGG


@dataclass(frozen=True, repr=False)
class Classifier:
    """A network in evaluation mode; `classes` are in the order of its scores, numbers from 0 where its file has no names;
    `options` are the views it takes of an image; `checkpoint` is the metadata in its file `weights`."""

    network: VGG
    classes: tuple[str, ...]
    colour: ColourStatistics
    options: EvaluateOptions
    checkpoint: Checkpoint
    weights: Path

    @overload
    def __call__(self, images: Image.Image) -> dict[str, float]: ...

    @overload
    def __call__(self, images: Sequence[Image.Image]) -> list[dict[str, float]]: ...

    def __call__(self, images: Image.Image | Sequence[Image.Image]) -> dict[str, float] | list[dict[str, float]]:
        """The posterior of every class for a Pillow image, or for each of several, the most probable class first. What
        `Image.open` gives is decoded, made upright and rescaled as `vgg predict` does it, to the last bit; no image is
        changed.

        Raises ImageError for an image that is damaged, empty or over 100 megapixels.
        """
        if isinstance(images, Image.Image):
            return self([images])[0]
        several = isinstance(images, Sequence) and not isinstance(images, str)
        if not several or not all(isinstance(image, Image.Image) for image in images):
            raise UsageError(f"give Pillow images, such as Image.open('photo.jpg'), not {shown(images)}")
        if not images:
            return []
        names = tuple(f"image {index}" for index in range(len(images)))
        count = len(images)
        held = _OpenedSet(Path(), "", self.classes, names, (0,) * count, ((),) * count, opened=tuple(images))
        scores = image_posteriors(self.network, held, self.colour, self.options)
        return [dict(row) for row in ranked(scores, len(self.classes))]

    def __repr__(self) -> str:
        config, options = self.checkpoint.config, self.options
        scales = ", ".join(map(str, options.scales))
        return (
            f"<network {config.arch} of {len(self.classes)} classes, crop {config.crop}, width {config.width:g}, on "
            f"{options.device}; {options.protocol} at Q = {scales}; from {self.weights}>"
        )


@dataclass(frozen=True)
class _OpenedSet(ImageSet):
    """Images in memory, in place of those of a data source."""

    opened: tuple[Image.Image, ...] = ()

    def path(self, index: int) -> OpenedImage:  # type: ignore[override]
        return OpenedImage(self.names[index], self.opened[index])


def ranked(scores: Scores, top: int) -> list[tuple[tuple[str, float], ...]]:
    """For each image the `top` most probable classes with their posteriors, the most probable first."""
    values_NK, order_NK = scores.posteriors_NK.topk(min(top, len(scores.classes)), dim=1)
    return [
        tuple((scores.classes[k], value) for k, value in zip(order, values, strict=True))
        for order, values in zip(order_NK.tolist(), values_NK.tolist(), strict=True)
    ]


def load(
    places: Places,
    weights: str | Path | None = None,
    *,
    arch: str | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    preprocessing: str | None = None,
    progress: Progress = silent,
) -> Classifier:
    """The network in `weights` (a run folder, a file, a published name, or None for the newest run of network `arch`),
    ready to be called on Pillow images.

    Raises UsageError, WeightsError or MachineError for whatever cannot be used.

    >>> network = vggcli.load("runs/A-1", device="cpu")
    >>> posteriors = network(PIL.Image.open("photo.jpg"))
    >>> sorted(posteriors)
    ['class0', 'class1', 'class2']
    """
    asked = MeasureOptions(device=device, precision=precision, preprocessing=preprocessing)
    file = find_weights(None if weights is None else Path(weights), arch, places)
    return opened(file, asked, places, progress)


def opened(
    weights: Path, asked: MeasureOptions, places: Places, progress: Progress = silent, images: Sequence[str] = ()
) -> Classifier:
    """The network in the file `weights`, with the views of `asked`; notes what is assumed where the file does not say it.
    Published weights are fetched only where all of `images` exist.

    Raises WeightsError where it cannot be used or has no classifier, UsageError for options that do not suit it.
    """
    resolved = asked.resolved
    check_published_classifier(weights, places)
    file = fetched(weights, places, progress, images)
    network, checkpoint = load_checkpoint(file, resolved.device, resolved.pixels)
    need_classifier(weights, checkpoint)
    say_what_is_assumed(weights, checkpoint, places)
    options = asked.for_network(checkpoint)
    if not checkpoint.classes:
        LOG.info(f"{weights} does not name its classes; they are shown as numbers from 0, in the order of its scores")
    classes = checkpoint.classes or tuple(map(str, range(checkpoint.config.classes)))
    return Classifier(network, classes, checkpoint.preprocessing, options, checkpoint, weights)
