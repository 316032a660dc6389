"""ILSVRC's localisation error: an image is right where one of at most five guesses, each a class and a box, has the image's
class and a box that overlaps some instance of it with an IoU above 1/2 (strictly).

Shapes: G guesses, M instances of the image's class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any

from torch import Tensor

from vggcli import paper
from vggcli.boxes import iou
from vggcli.metrics import error_rate

MOST_GUESSES = 5  # an image, in ILSVRC


@dataclass(frozen=True)
class ImageOutcome:
    """What became of the guesses for one image: `label` is its class, `guessed` whether a guess has that class, `iou` the
    greatest IoU of such a guess with an instance (0 without one)."""

    label: str
    guessed: bool
    iou: float

    @property
    def right(self) -> bool:
        return self.iou > paper.RIGHT_IOU


def image_outcome(labels: Sequence[str], boxes_G4: Tensor, label: str, instances_M4: Tensor) -> ImageOutcome:
    """The outcome for an image of the class `label`, whose instances are `instances_M4` (at least one), after at most five
    guesses of the classes `labels` with `boxes_G4`; all boxes are xyxy in the same pixels."""
    assert len(labels) == len(boxes_G4) <= MOST_GUESSES and len(instances_M4)
    rows = [row for row, guess in enumerate(labels) if guess == label]
    if not rows:
        return ImageOutcome(label, False, 0.0)
    return ImageOutcome(label, True, float(iou(boxes_G4[rows].double(), instances_M4.double()).max()))


@dataclass(frozen=True)
class Localisation:
    """The localisation error of a set of images, in per cent, with the counts behind it: `correct` images are right, in
    `guessed` images a guess has the image's class. `mean_iou` is that of the best box, from 0 to 1, over all images (0
    where no guess has the class)."""

    images: int
    correct: int
    guessed: int
    mean_iou: float

    @property
    def localisation_error(self) -> float:
        return error_rate(self.correct, self.images)

    @property
    def classification_part(self) -> float:
        """The part of the error where no guess has the image's class."""
        return error_rate(self.guessed, self.images)

    @property
    def box_part(self) -> float:
        """The rest of the error: a guess has the class, but none of those a right box."""
        return 100.0 * (self.guessed - self.correct) / self.images

    @property
    def mean_iou_guessed(self) -> float:
        """The mean IoU over the images in which a guess has the class; 0 where there is none."""
        return self.mean_iou * self.images / max(1, self.guessed)

    def to_json(self) -> dict[str, Any]:
        """The fields, and the figures that follow from them."""
        derived = ("localisation_error", "classification_part", "box_part", "mean_iou_guessed")
        return {**vars(self), **{name: getattr(self, name) for name in derived}}


def localisation(outcomes: Sequence[ImageOutcome]) -> Localisation:
    """The error over at least one image."""
    correct, guessed = (sum(getattr(outcome, name) for outcome in outcomes) for name in ("right", "guessed"))
    return Localisation(len(outcomes), correct, guessed, fsum(outcome.iou for outcome in outcomes) / len(outcomes))


def localisation_by_class(outcomes: Sequence[ImageOutcome]) -> dict[str, Localisation]:
    """The error over the images of each class that has one, by class, in alphabetical order."""
    by_label: dict[str, list[ImageOutcome]] = {}
    for outcome in outcomes:
        by_label.setdefault(outcome.label, []).append(outcome)
    return {label: localisation(some) for label, some in sorted(by_label.items())}


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """The two-sided p-value of McNemar's exact test: how likely two results, each right or wrong on the same images, are to
    differ as much as these or more, if neither were better."""
    only_first, only_second = (
        sum(one and not other for one, other in zip(*pair, strict=True)) for pair in ((first, second), (second, first))
    )
    differing = only_first + only_second
    ways = tail = 1  # of 2^differing: in how many 0 of them are of one side, and so on
    for fewer in range(min(only_first, only_second)):
        ways = ways * (differing - fewer) // (fewer + 1)
        tail += ways
    return min(1.0, 2 * tail / (1 << differing))
