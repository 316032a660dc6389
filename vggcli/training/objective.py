"""What is learnt: classes by their cross-entropy, or boxes by the Euclidean loss (Appendix A).

An objective gives the loss of a micro-batch and how many of its outputs are right, and measures the validation split.

Shapes: N images, K classes.
"""

from collections import ChainMap
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from vggcli import paper
from vggcli.boxes import Region, cxcywh_to_xyxy, from_view, iou, to_view
from vggcli.choices import Boxes
from vggcli.data.decode import Size
from vggcli.data.image_set import ImageSet
from vggcli.data.test_views import centre_offsets, rescaled_size
from vggcli.data.training_batches import TrainingBatch
from vggcli.data.training_views import box_share
from vggcli.metrics import count_correct, error_rate
from vggcli.training.frozen import FrozenBatch
from vggcli.zoo.layers import NetworkConfig


@dataclass(frozen=True)
class Validation:
    """Measures of the validation split: the mean loss, and of classes top-1 and top-5 error, of boxes the error by
    protocol 1 of Appendix A (errors in per cent) and the mean IoU."""

    val_loss: float
    top1_error: float | None = None
    top5_error: float | None = None
    localisation_error: float | None = None
    mean_iou: float | None = None


class Objective(Protocol):
    """What a network is trained for."""

    def losses(self, outputs: Tensor, batch: TrainingBatch | FrozenBatch) -> tuple[Tensor, int]:
        """The summed loss of a micro-batch, and how many of its outputs are right."""

    def validation(self, images: ImageSet) -> "Tally":
        """What counts the outputs for `images`."""


class Tally(Protocol):
    """Counts outputs of a validation split."""

    def add(self, outputs: Tensor, rows: Sequence[int]) -> None:
        """Count the outputs for the images at `rows`."""

    def found(self) -> tuple[Any, ...]:
        """What was counted, for `take` in another process."""

    def take(self, found: Sequence[tuple[Any, ...]]) -> None:
        """Count what was `found` in all processes in place of what was counted in this one."""

    def result(self) -> Validation: ...


class Classification:
    """Class scores [N, K]: multinomial logistic regression (section 3.1)."""

    def losses(self, outputs: Tensor, batch: TrainingBatch | FrozenBatch) -> tuple[Tensor, int]:
        return F.cross_entropy(outputs, batch.labels_N, reduction="sum"), count_correct(
            outputs.detach(), batch.labels_N, 1
        )

    def validation(self, images: ImageSet) -> "ClassTally":
        return ClassTally(images)


@dataclass
class ClassTally:
    images: ImageSet
    correct1: int = 0
    correct5: int = 0
    loss_sum: float = 0.0

    def add(self, outputs: Tensor, rows: Sequence[int]) -> None:
        labels_N = torch.tensor([self.images.labels[row] for row in rows], device=outputs.device)
        self.loss_sum += float(F.cross_entropy(outputs, labels_N, reduction="sum"))
        self.correct1 += count_correct(outputs, labels_N, 1)
        self.correct5 += count_correct(outputs, labels_N, 5)

    def found(self) -> tuple[int, int, float]:
        return self.correct1, self.correct5, self.loss_sum

    def take(self, found: Sequence[tuple[int, int, float]]) -> None:
        correct1, correct5, loss_sum = zip(*found, strict=True)
        self.correct1, self.correct5, self.loss_sum = sum(correct1), sum(correct5), sum(loss_sum)

    def result(self) -> Validation:
        images = len(self.images)
        return Validation(self.loss_sum / images, error_rate(self.correct1, images), error_rate(self.correct5, images))


def true_boxes(outputs_NC: Tensor, labels_N: Tensor, kind: Boxes) -> Tensor:
    """The boxes [N, 4] of the true classes among a network's outputs [N, 4], or with "pcr" [N, 4K]."""
    if kind == "scr":
        return outputs_NC
    boxes_NK4: Tensor = outputs_NC.unflatten(1, (-1, 4))
    return boxes_NK4[torch.arange(len(outputs_NC), device=outputs_NC.device), labels_N]


@dataclass(frozen=True)
class BoxRegression:
    """Boxes cxcywh in the frame of the crop, those of the true class: half the squared distance to the box of the view, as
    Caffe's Euclidean loss has it. A view that shows less than half of its box is not learnt from. In validation it is the
    centre crop at `scale`, and the box nearest to the network's."""

    kind: Boxes
    scale: int
    crop: int

    def losses(self, outputs: Tensor, batch: TrainingBatch | FrozenBatch) -> tuple[Tensor, int]:
        assert isinstance(batch, TrainingBatch) and batch.boxes_N4 is not None and batch.learnt_N is not None
        boxes_N4 = true_boxes(outputs, batch.labels_N, self.kind)
        losses_N = (boxes_N4 - batch.boxes_N4).square().sum(1) / 2
        overlaps_NN = iou(cxcywh_to_xyxy(boxes_N4.detach()), cxcywh_to_xyxy(batch.boxes_N4))
        return losses_N[batch.learnt_N].sum(), int((overlaps_NN.diagonal() > paper.RIGHT_IOU).sum())

    def validation(self, images: ImageSet) -> "BoxTally":
        return BoxTally(images, self)


@dataclass
class BoxTally:
    """Counts boxes by protocol 1: `boxes` are those of the true class, xyxy as shares of the image, and `overlaps` their
    greatest IoU with a box of that class, both by row."""

    images: ImageSet
    regression: BoxRegression
    boxes: dict[int, Tensor] = field(default_factory=dict)
    overlaps: dict[int, float] = field(default_factory=dict)
    loss_sum: float = 0.0

    def add(self, outputs: Tensor, rows: Sequence[int]) -> None:
        labels_N = torch.tensor([self.images.labels[row] for row in rows], device=outputs.device)
        found_N4 = true_boxes(outputs, labels_N, self.regression.kind).cpu()
        for row, box_4 in zip(rows, found_N4, strict=True):
            size = self.images.sizes[row]
            region = torch.tensor(centre_region(size, self.regression.scale, self.regression.crop))
            true_M4 = torch.tensor([box_share(box, size) for box in self.images.own_boxes(row)])
            self.boxes[row] = from_view(box_4, region)
            self.overlaps[row] = float(iou(self.boxes[row][None], true_M4).max())
            self.loss_sum += float((box_4 - to_view(true_M4, region)).square().sum(1).min()) / 2

    def found(self) -> tuple[dict[int, Tensor], dict[int, float], float]:
        return self.boxes, self.overlaps, self.loss_sum

    def take(self, found: Sequence[tuple[dict[int, Tensor], dict[int, float], float]]) -> None:
        boxes, overlaps, loss_sum = zip(*found, strict=True)
        self.boxes, self.overlaps, self.loss_sum = dict(ChainMap(*boxes)), dict(ChainMap(*overlaps)), sum(loss_sum)

    def result(self) -> Validation:
        images, overlaps = len(self.images), self.overlaps.values()
        error = error_rate(sum(one > paper.RIGHT_IOU for one in overlaps), images)
        return Validation(self.loss_sum / images, localisation_error=error, mean_iou=fsum(overlaps) / images)


def centre_region(size: Size, scale: int, crop: int) -> Region:
    """The centre crop of an image of `size` rescaled to `scale`, as shares of its width and height."""
    width, height = rescaled_size(size, scale)
    top, left = centre_offsets((height, width), crop)
    return left / width, top / height, (left + crop) / width, (top + crop) / height


def mean_box(images: ImageSet, scale: int, crop: int) -> Tensor:
    """The mean of the boxes of each image's class, cxcywh in the frame of the centre crop at `scale`, float32 [4]; every
    image weighs as much."""
    shares, regions, weights = [], [], []
    for row, size in enumerate(images.sizes):
        boxes, region = images.own_boxes(row), centre_region(size, scale, crop)
        shares += [box_share(box, size) for box in boxes]
        regions += [region] * len(boxes)
        weights += [1 / len(boxes)] * len(boxes)
    shares_M4, regions_M4, weights_M = (torch.tensor(one, dtype=torch.float64) for one in (shares, regions, weights))
    return (weights_M @ to_view(shares_M4, regions_M4) / len(images)).float()


def objective_of(config: NetworkConfig, scale: int) -> Objective:
    """What a network of `config` is trained for; `scale` is Q in validation."""
    return Classification() if config.boxes is None else BoxRegression(config.boxes, scale, config.crop)
