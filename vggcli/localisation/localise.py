"""Protocol 2 of Appendix A: boxes from every window of an image at every scale, merged within each of the five most
probable classes of a classifier.

Networks run over whole images. Each window of a map gives a box, and the classifier's map the posteriors at the same
window; the classes that are guessed are those of its posteriors for the whole image, as dense evaluation gives them.
Images are taken in blocks, of which the maps that wait for other scales take at most HELD_BYTES; the networks stay in
memory.

Shapes: N images, V views of each (with mirror images 2), K classes of the classifier, C of them guessed, F outputs of a
box network, H x W windows, M merged boxes.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from vggcli import paper
from vggcli.colour import ColourStatistics, normalise
from vggcli.data.decode import ImageError, Size, upright_size
from vggcli.data.image_set import ImageSet
from vggcli.data.test_batches import ViewBatch, test_batches
from vggcli.data.test_views import ViewPlan
from vggcli.data.voc import Box
from vggcli.device import computing
from vggcli.errors import WeightsError
from vggcli.evaluation.protocol import EvaluateOptions, Scores
from vggcli.localisation.candidates import Candidates, candidates, united
from vggcli.localisation.error import MOST_GUESSES
from vggcli.localisation.merging import Merged, merge_classes
from vggcli.zoo.inductor import compiled
from vggcli.zoo.layers import most_pixels
from vggcli.zoo.network import VGG
from vggcli.zoo.scales import passes_of, views_together

THRESHOLD = 0.2  # a match score has no unit; boxes of one size merge where their centres are within 0.07 of it
HELD_BYTES = 256 << 20


@dataclass(frozen=True)
class DenseNetwork:
    """A network that is run over whole images at the shorter sides `scales`, in pixels; `classes` are in the order of its
    outputs."""

    network: VGG
    colour: ColourStatistics
    classes: tuple[str, ...]
    scales: tuple[int, ...]


@dataclass(frozen=True)
class Guess:
    """A class and its box: `score` is the classifier's posterior for the image, `box` xyxy in pixels of the upright image,
    not clipped to it; `candidates` were merged into it, whose posteriors add up to `support`."""

    label: str
    score: float
    box: Box
    support: float
    candidates: int


@dataclass(frozen=True)
class Found:
    """What was found in an image: its `row` among the images, its `size`, the posteriors [K] of the whole of it, the
    `labels` of the at most five most probable classes, the most probable first, with their posteriors, and for these the
    candidates of each box network."""

    row: int
    size: Size
    posteriors_K: Tensor
    labels: tuple[str, ...]
    scores: tuple[float, ...]
    candidates: tuple[Candidates, ...]

    def merged(self, threshold: float, networks: Sequence[int] | None = None) -> list[Merged]:
        """The merged boxes of each label, of all box networks or of some of them, whose candidates are united first."""
        some = self.candidates if networks is None else [self.candidates[index] for index in networks]
        all_of_them = united(some)
        return merge_classes(all_of_them.boxes_LN4, all_of_them.scores_CN, threshold)

    def guesses(self, threshold: float, networks: Sequence[int] | None = None) -> tuple[Guess, ...]:
        """One guess for each label: its merged box of the highest accumulated score."""
        found = []
        for label, score, merged in zip(self.labels, self.scores, self.merged(threshold, networks), strict=True):
            left, top, right, bottom = merged.boxes_M4[0].tolist()
            box, support, count = (left, top, right, bottom), float(merged.scores_M[0]), int(merged.counts_M[0])
            found.append(Guess(label, score, box, support, count))
        return tuple(found)


@dataclass(frozen=True)
class _View:
    """One scale of an image: the outputs [V, F, H, W] of each box network that has this scale, and the classifiers' mean
    posteriors of the windows, [V, K, H, W], and of the whole, [K]; without classifiers these two are empty."""

    rescaled: Size
    outputs: dict[int, Tensor]
    windows_VKHW: Tensor
    posteriors_K: Tensor


@dataclass(frozen=True)
class Localiser:
    """Box networks, and what says the classes: the mean of the posteriors of `classifiers`, at the union of the scales of
    the box networks, and of `saved` scores, which are the mean of so many files; without either, all images are of the one
    class in `only`. PCR networks and classifiers have the same classes, in any order, and all networks the same crop.

    `flip` adds the boxes of the mirror image; `options.flip` averages the posteriors of the whole image with those of its
    mirror image. The scales and the protocol of `options` have no effect."""

    boxes: tuple[DenseNetwork, ...]
    classifiers: tuple[DenseNetwork, ...]
    saved: tuple[Scores, int] | None
    only: tuple[str, ...]
    flip: bool
    options: EvaluateOptions

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The K classes, in the order of the posteriors of `Found`."""
        if self.classifiers:
            return self.classifiers[0].classes
        return self.only if self.saved is None else self.saved[0].classes

    @cached_property
    def scales(self) -> tuple[int, ...]:
        """Those of all box networks, smallest first."""
        return tuple(sorted({scale for one in self.boxes for scale in one.scales}))

    @cached_property
    def _orders(self) -> list[Tensor]:
        """For each classifier where its outputs have the classes, int64 [K]."""
        places = [{label: index for index, label in enumerate(one.classes)} for one in self.classifiers]
        return [torch.tensor([at[label] for label in self.classes]) for at in places]

    @cached_property
    def _run(self) -> Callable[[VGG, Tensor], tuple[Tensor, Tensor]]:
        if not self.options.compile:
            return _window_outputs
        return compiled(_window_outputs, self.options.device, fixed=False)

    def found(
        self,
        images: ImageSet,
        progress: Callable[[int], None] = lambda views: None,
        rows: Sequence[int] | None = None,
    ) -> Iterator[Found | ImageError]:
        """What is found in each image (or in those at `rows`), as soon as all its views are in, or why it cannot be used.
        The labels and objects of `images` have no effect; saved scores are those of its names. `progress` is called with
        the number of views done.

        Raises WeightsError where an output is not finite.
        """
        together = [
            views_together(one.network.config, self.options.device, self.options.flip, self.options.batch_size)
            for one in (*self.boxes, *self.classifiers)
        ]
        pixels = min(most_pixels(one.network.config) for one in (*self.boxes, *self.classifiers))
        batches = test_batches(
            images,
            ViewPlan(self.scales, most_pixels=pixels),
            lambda height, width: min(fitting(height, width) for fitting in together),
            self.options.workers,
            self.options.device,
            rows,
            block=self._block(),
            decode=self.options.decode,
        )
        saved_at = {} if self.saved is None else {name: row for row, name in enumerate(self.saved[0].images)}
        waiting: dict[int, dict[int, _View]] = defaultdict(dict)
        for batch in batches:
            if isinstance(batch, ImageError):
                progress(len(self.scales))
                yield batch
                continue
            for row, view in zip(batch.indices, self._views(batch), strict=True):
                waiting[row][batch.scale_index] = view
                if len(waiting[row]) == len(self.scales):
                    views = [view for _, view in sorted(waiting.pop(row).items())]
                    size = images.sizes[row] if images.sizes else upright_size(images.path(row))[0]
                    saved_K = torch.ones(1) if self.only else None
                    if self.saved is not None:
                        saved_K = self.saved[0].posteriors_NK[saved_at[images.names[row]]]
                    yield self._finished(row, size, views, saved_K)
            progress(len(batch.indices))

    def _block(self) -> int:
        """How many images, twice as wide as high, have maps of HELD_BYTES in all."""
        views, classes, held = 2 if self.flip else 1, len(self.classes) if self.classifiers else 0, 0
        for scale in self.scales:
            least = self.boxes[0].network.config.crop // paper.STRIDE - 1
            windows = (2 * scale // paper.STRIDE - least) * (scale // paper.STRIDE - least)
            outputs = sum(one.network.config.outputs for one in self.boxes if scale in one.scales)
            held += 4 * views * windows * (outputs + classes)
        return max(1, HELD_BYTES // held)

    @torch.inference_mode()
    def _views(self, batch: ViewBatch) -> list[_View]:
        """Each view of a batch, of one scale and shape."""
        scale, views = self.scales[batch.scale_index], 2 if self.flip else 1
        outputs = {
            index: self._maps(one, batch.images_NHWC, self.flip)[0].cpu()
            for index, one in enumerate(self.boxes)
            if scale in one.scales
        }
        windows, wholes = [], []
        for one, order_K in zip(self.classifiers, self._orders, strict=True):
            windows_NVKHW, wholes_NVK = self._maps(one, batch.images_NHWC, self.options.flip)
            windows.append(windows_NVKHW[:, :views].softmax(2).cpu()[:, :, order_K])
            wholes.append(wholes_NVK.softmax(2).mean(1).cpu()[:, order_K])
        nothing = torch.zeros(len(batch.indices), 0)
        windows_NVKHW, posteriors_NK = (torch.stack(some).mean(0) if some else nothing for some in (windows, wholes))
        height, width = batch.images_NHWC.shape[1:3]
        return [
            _View((width, height), {at: maps[row] for at, maps in outputs.items()}, windows_NVKHW[row], whole_K)
            for row, whole_K in enumerate(posteriors_NK)
        ]

    def _maps(self, one: DenseNetwork, images_NHWC: Tensor, flip: bool) -> tuple[Tensor, Tensor]:
        """The outputs at each window, [N, V, F, H, W], and those of the mean of the last hidden layer, [N, V, F]."""
        views_NCHW, parts = normalise(images_NHWC, one.colour), []
        with computing(self.options.device, self.options.precision):
            for some in passes_of(one.network.config, views_NCHW, flip):
                parts.append(self._run(one.network, some))
        views = 2 if flip else 1
        maps, wholes = (torch.cat(some).float() for some in zip(*parts, strict=True))
        return maps.unflatten(0, (views, -1)).transpose(0, 1), wholes.unflatten(0, (views, -1)).transpose(0, 1)

    def _finished(self, row: int, size: Size, views: Sequence[_View], saved_K: Tensor | None) -> Found:
        """An image whose `views`, one for each of the scales, are in; `saved_K` are its saved posteriors."""
        whole_K = torch.stack([view.posteriors_K for view in views]).mean(0)
        posteriors_K = self._averaged(whole_K[:, None, None], saved_K)[:, 0, 0]
        if not torch.isfinite(posteriors_K).all():
            what = "the classifier's posteriors are not finite; its weights are damaged, or it needs a higher precision"
            raise WeightsError(what, "precision")
        scores_C, best_C = posteriors_K.topk(min(MOST_GUESSES, len(self.classes)))
        labels = tuple(self.classes[index] for index in best_C.tolist())
        found: list[list[Candidates]] = [[] for _ in self.boxes]
        for view in views:
            windows_VKHW = view.windows_VKHW if self.classifiers else [view.windows_VKHW] * 2
            windows = [self._averaged(windows_KHW, saved_K)[best_C] for windows_KHW in windows_VKHW]
            for index, outputs_VFHW in view.outputs.items():
                one = self.boxes[index]
                pcr, crop = one.network.config.boxes == "pcr", one.network.config.crop
                classes = [one.classes.index(label) if pcr else 0 for label in labels]
                found[index] += [
                    candidates(outputs_FHW, classes, windows[at], size, view.rescaled, crop, flip=at == 1)
                    for at, outputs_FHW in enumerate(outputs_VFHW)
                ]
        return Found(row, size, posteriors_K, labels, tuple(scores_C.tolist()), tuple(map(united, found)))

    def _averaged(self, posteriors_KHW: Tensor, saved_K: Tensor | None) -> Tensor:
        """The classifiers' mean posteriors, averaged with those of the saved scores; [K, 1, 1] of these alone."""
        if saved_K is None:
            return posteriors_KHW
        networks, files, saved_K11 = len(self.classifiers), self.saved[1] if self.saved else 1, saved_K[:, None, None]
        return (networks * posteriors_KHW + files * saved_K11) / (networks + files) if networks else saved_K11


def _window_outputs(network: VGG, views_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """The last layer's outputs at each window [N, F, H, W], and those of the whole view [N, F], as `network` gives them."""
    maps_NCHW = last_NCHW = views_NCHW
    for name, maps_NCHW in network.layer_maps(views_NCHW, ()):
        if name != "fc8":
            last_NCHW = maps_NCHW
    if network.config.head == "gap":  # whose last layer sees one pixel of pool5
        maps_NCHW = F.avg_pool2d(maps_NCHW, network.config.crop // paper.STRIDE, 1)
    return maps_NCHW, network.classify(last_NCHW.mean((2, 3)))
