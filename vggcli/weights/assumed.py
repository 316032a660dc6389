"""What is assumed of weights of another framework whose file does not say it: preprocessing, operations, classes."""

import re
from collections.abc import Sequence
from pathlib import Path

from vggcli.errors import WeightsError
from vggcli.imagenet import imagenet_names
from vggcli.places import Places
from vggcli.progress import LOG
from vggcli.weights.checkpoint import Checkpoint
from vggcli.weights.published import published_file

_SHOWN_CLASSES = 12  # of an assumed order


def assumed_classes(weights: Path, checkpoint: Checkpoint, classes: Sequence[str]) -> tuple[str, ...]:
    """The data's `classes` in the order that is assumed for weights without class names: sorted, as torchvision lists
    folders, or in natural order (2 before 10), as timm does. It is logged, since it cannot be checked.

    Raises WeightsError where the weights have another number of classes.
    """
    count = checkpoint.config.classes
    if len(classes) != count:
        raise WeightsError(f"{weights} has {count} classes without names, but the data have {len(classes)}")
    natural = checkpoint.training.get("framework") == "timm"
    order = tuple(sorted(classes, key=_natural_key) if natural else sorted(classes))
    shown = ", ".join(order if count <= _SHOWN_CLASSES else (*order[: _SHOWN_CLASSES - 1], "…", order[-1]))
    how = "natural order, as timm lists folders" if natural else "sorted order"
    LOG.info(f"{weights} does not name its classes; the data's {count} are assumed, in {how}: {shown}")
    return order


def _natural_key(name: str) -> list[tuple[bool, int, str]]:
    """timm's natural order: digits count as numbers, and case is ignored."""
    parts = re.split(r"(\d+)", name.lower())
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]


def say_what_is_assumed(weights: Path, checkpoint: Checkpoint, places: Places) -> None:
    """Log what is assumed of weights of another framework (preprocessing, operations, classes) where their file does not
    say it, and where the preprocessing comes from."""
    if framework := checkpoint.training.get("framework"):
        mean, divisor = checkpoint.preprocessing.mean, checkpoint.preprocessing.divisor
        divisors = divisor if isinstance(divisor, tuple) else (divisor,)
        shown = [", ".join(f"{value:g}" for value in values) for values in (mean, divisors)]
        what = f"does not say which preprocessing it expects; {framework}'s is assumed"
        if channels := checkpoint.training.get("channels"):
            what = f"gets the preprocessing that was given ({channels}, shown here as RGB)"
        elif channels := checkpoint.training.get("pixels"):
            what = f"itself says which preprocessing it expects ({channels}, shown here as RGB)"
        LOG.info(f"{weights} {what}: RGB mean {shown[0]}, divisor {shown[1]}")
        if checkpoint.training.get("operations") == "assumed":
            LOG.info(f"{weights} does not list its operations; VGG's are assumed (same padding, ReLU, 2x2 max pooling)")
        if checkpoint.classes == imagenet_names() and published_file(weights, places.weights) is None:
            LOG.info(f"{weights} does not name its 1000 classes; ImageNet's are assumed")
