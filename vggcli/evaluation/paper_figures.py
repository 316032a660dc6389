"""The paper's published errors for what was measured, where images (ImageNet's validation set), network, scales and views
are the paper's."""

from collections.abc import Mapping, Sequence
from typing import Any

from vggcli import paper
from vggcli.evaluation.result import Evaluation
from vggcli.imagenet import imagenet_ids, imagenet_names


def imagenet_validation(classes: Sequence[str], images: int) -> bool:
    """Whether they are ImageNet's validation set: 50,000 images of its 1,000 classes, by WordNet ID or by name."""
    known = sorted(classes) in (sorted(imagenet_ids()), sorted(imagenet_names()))
    return known and images == paper.IMAGENET_VALIDATION


def paper_member(about: Mapping[str, Any], protocol: str) -> paper.Member | None:
    """The network of `about` (fields of `Evaluation.to_json`) as the paper's tables name it, or None where it is not one of
    the paper's or `protocol` took other views: without flips, or by another grid of crops."""
    network = about.get("network")
    if not network or not about.get("flip"):
        return None
    if (network["crop"], network["width"], network["head"]) != (paper.CROP, 1.0, "fc"):
        return None
    scales = tuple(sorted(about["scales"]))
    if "multi-crop" in protocol and about["crops"] != 2 * paper.CROP_GRID**2 * len(scales):
        return None
    low, high = network["scale"]
    return str(about["arch"]), (low, high), scales


def published_result(
    evaluation: Evaluation, classes: Sequence[str], table: int | None = None, protocol: str | None = None
) -> paper.PublishedResult | None:
    """The paper's result for the same network, training scale, protocol and test scales; of any of Tables 3 to 5, or of
    `table` alone. `protocol` is that of a part of the evaluation."""
    if not imagenet_validation(classes, evaluation.images + evaluation.skipped):
        return None
    protocol = protocol or evaluation.protocol
    key = (paper_member(evaluation.to_json(), protocol), protocol)
    same = (one for one in paper.RESULTS if ((one.arch, one.scale, one.test_scales), one.protocol) == key)
    return next((one for one in same if table in (None, one.table)), None)


def published_fusion(about: Sequence[Mapping[str, Any]], protocol: str) -> paper.FusionResult | None:
    """The row of Table 6 for the same networks, in any order, and protocol. The caller checks that the images are
    ImageNet's."""
    members = sorted(str(paper_member(one, protocol)) for one in about)
    same = (row for row in paper.TABLE6 if sorted(map(str, row.members)) == members)
    return next((row for row in same if row.protocol == protocol), None)
