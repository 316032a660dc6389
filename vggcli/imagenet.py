"""ImageNet's 1000 classes (ILSVRC-2012): the WordNet IDs that its folders are named after, and torchvision's class names.

Both are in the order of the scores of published networks, which is that of the sorted IDs.
"""

import csv
from functools import cache
from importlib import resources


@cache
def imagenet_ids() -> tuple[str, ...]:
    """The 1000 WordNet IDs, n01440764 to n15075141."""
    return tuple(row["wordnet_id"] for row in _rows())


@cache
def imagenet_names() -> tuple[str, ...]:
    """The 1000 names, tench to toilet tissue; no two are the same."""
    return tuple(row["name"] for row in _rows())


def _rows() -> list[dict[str, str]]:
    table = resources.files("vggcli").joinpath("imagenet_classes.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(table.splitlines()))
