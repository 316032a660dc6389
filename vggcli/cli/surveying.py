"""What is said of the data: the table of `vgg data`, which training begins with, and its notes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vggcli.cli import options
from vggcli.data.image_set import ImageSet
from vggcli.data.sources import load_both, load_split
from vggcli.data.survey import Survey, repeated, survey
from vggcli.defaults import worker_count
from vggcli.errors import DataError, counted
from vggcli.report.progress import Bar
from vggcli.report.tables import survey_table
from vggcli.report.text import printable

COMPARED = 20_000  # images of two splits that are compared by content before an evaluation; a second or less
UNEVEN = 3.0  # largest class over smallest from which it is said


def show_data(data: str | None, as_json: bool, quiet: bool) -> None:
    """`vgg data`: the table and its notes, or one JSON object, on stdout. Raises DataError for a source that is none."""
    source = options.data_source(data, worker_count(None), quiet)
    found = _looked_at(*load_both(source.path), quiet)
    if as_json:
        print(json.dumps(_object(source.name, found)))
        return
    options.stdout_console().print(survey_table(found))
    for line in notes(found):
        print(printable(line))


def say_data(train: ImageSet, val: ImageSet, quiet: bool) -> None:
    """The table (unless `quiet`) and its notes on stderr, before training."""
    found = _looked_at(train, val, quiet)
    if not quiet:
        options.stderr_console().print(survey_table(found))
    for line in notes(found):
        options.note(f"data: {line}")


def notes(found: Survey) -> list[str]:
    """What a table of classes does not show, a sentence each; nothing where all is well."""
    said = list(found.remarks)
    if len(found.classes) == 1:
        said.append("there is one class only; a classifier needs two or more")
    if found.imbalance >= UNEVEN:
        said.append(f"the largest class has {found.imbalance:.1f} times the training images of the smallest")
    if found.unreadable:
        said.append(f"{counted(len(found.unreadable), 'image')} cannot be read, such as {found.unreadable[0]}")
    if found.repeated:
        said.append(in_both(found.repeated, "validation"))
    if found.contradictory:
        count = counted(len(found.contradictory), "training image stands", "training images stand")
        first, second = found.contradictory[0]
        said.append(f"{count} in two classes, byte for byte, such as {first} and {second}; leave each in one")
    return said


def in_both(pairs: Sequence[tuple[str, str]], split: str) -> str:
    """That images of a split are training images, from their (training, other) names."""
    ours, theirs = pairs[0]
    count = counted(len(pairs), f"{split} image is a training image", f"{split} images are training images")
    return f"{count} too, byte for byte, such as {theirs} ({ours}); errors measured on them are too low"


def say_in_both(source: Path, images: ImageSet) -> None:
    """Say how many images that are about to be measured are training images of the same source too, where both splits
    together have at most COMPARED images; a source without a training split has nothing to compare with."""
    if len(images) > COMPARED or images.split == "train":
        return
    try:
        train = load_split(source, "train")
    except DataError:
        return
    if len(train) + len(images) > COMPARED:
        return
    known = set(train.names)  # a split that holds the training images by name is no copy of them
    pairs = [(ours, theirs) for ours, theirs in repeated(train, images) if theirs not in known]
    if pairs:
        name = "validation" if images.split == "val" else images.split
        options.note(f"data: {in_both(pairs, name)}")


def _looked_at(train: ImageSet, val: ImageSet, quiet: bool) -> Survey:
    with Bar(options.stderr_console(), "looking at the images", len(train) + len(val), "images", quiet) as bar:
        return survey(train, val, bar)


def _object(name: str, found: Survey) -> dict[str, Any]:
    rows = zip(found.classes, found.train, found.val, strict=True)
    return {
        "data": name,
        "train": sum(found.train),
        "val": sum(found.val),
        "classes": [{"class": label, "train": train, "val": val} for label, train, val in rows],
        "imbalance": round(found.imbalance, 3),
        "unreadable": len(found.unreadable),
        "unreadable_images": list(found.unreadable),
        "in_two_classes": len(found.contradictory),
        "in_two_classes_images": [list(pair) for pair in found.contradictory],
        "in_both": len(found.repeated),
        "in_both_images": [{"train": train, "val": val} for train, val in found.repeated],
        "remarks": list(found.remarks),
    }
