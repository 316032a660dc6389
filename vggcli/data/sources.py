"""Reads a source of data: a list of images with class names, in a training and a validation split.

A source is a folder with train/ and val/, a folder with a folder for each class (split 80/20 by a hash of the relative
path, so the split is the same on every machine), a folder with Pascal VOC annotations, ILSVRC's own folders, a folder of
shards or one shard (tar files in the layout of WebDataset, train-*.tar and val-*.tar), or a CSV. The order of the classes
is that of their sorted names.
"""

from collections.abc import Iterable
from pathlib import Path

from vggcli.data.annotated import annotated_records
from vggcli.data.catalogue import KNOWN
from vggcli.data.class_folders import class_folder_records
from vggcli.data.csv_file import csv_records
from vggcli.data.ilsvrc import find_ilsvrc, ilsvrc_records
from vggcli.data.image_set import ImageSet, Record, joined
from vggcli.data.left_out import left_out_below, readable
from vggcli.data.shard_split import shard_split
from vggcli.data.shards import find_shards
from vggcli.data.splits import hashed, picked_role
from vggcli.data.voc import has_area, why_no_area
from vggcli.data.walking import IMAGE_SUFFIXES, images_below
from vggcli.errors import DataError, did_you_mean
from vggcli.regular_files import need_regular

__all__ = ["IMAGE_SUFFIXES", "ImageSet", "Record", "images_below", "load_split", "load_training", "load_whole"]


def load_split(source: Path, split: str, boxes: bool = False) -> ImageSet:
    """One split of `source`: "train", "val" (the first of val, validation, valid and test that exists), or a split by its
    own name. Its classes are those that occur in it. With `boxes`, which `checked_boxes` is to check, the annotations of
    ILSVRC's training images are read too.

    Raises DataError where the source has no such split or is damaged; without `boxes`, also for a box without area.
    """
    shards = find_shards(source)
    images = _records_split(source, split, boxes) if shards is None else shard_split(shards, split)
    if not len(images):
        raise DataError(f"the {split} split of {source} is empty: there is no image in it")
    for row, marked in () if boxes else enumerate(images.objects):
        for one in marked:
            if not has_area(one.box):
                raise DataError(f"{images.names[row]} of {source}: {one} {why_no_area(one.box)}; correct it")
    return images


def _records_split(source: Path, split: str, boxes: bool) -> ImageSet:
    """As `load_split`, for a source that is no shards."""
    remarks: list[str] = []
    if source.is_dir():
        records = _folder_split(source, split, remarks, boxes)
    elif source.is_file():
        records = _csv_split(source, split, remarks)
        source = source.parent
    else:
        need_regular(source, DataError)
        known = "; give a folder of class folders or shards, a CSV, shapes or the name of a set such as cifar10"
        near = did_you_mean(source.name, (*KNOWN, "shapes"))
        raise DataError(f"there is no folder or CSV file {source}{near or known}", "data")
    kept = sorted(records, key=lambda record: record.name)
    classes = tuple(sorted({record.label for record in kept}))
    order = {name: index for index, name in enumerate(classes)}
    return ImageSet(
        root=source,
        split=split,
        classes=classes,
        names=tuple(record.name for record in kept),
        labels=tuple(order[record.label] for record in kept),
        objects=tuple(record.objects for record in kept),
        remarks=tuple(remarks),
    )


def load_training(source: Path, boxes: bool = False) -> tuple[ImageSet, ImageSet]:
    """The two splits of `load_both`. Raises DataError, too, where there is only one class."""
    train, val = load_both(source, boxes)
    if len(train.classes) < 2:
        raise DataError(f"{source} has one class only, {train.classes[0]!r}; a classifier needs two or more")
    return train, val


def load_both(source: Path, boxes: bool = False) -> tuple[ImageSet, ImageSet]:
    """The training and the validation split of `load_split`, both with the training classes. Raises DataError for a class
    that has validation images but no training image; the reverse is accepted."""
    train, val = load_split(source, "train", boxes), load_split(source, "val", boxes)
    missing = sorted(set(val.classes) - set(train.classes))
    if missing:
        near = did_you_mean(missing[0], sorted(set(train.classes) - set(val.classes)) or train.classes)
        hint = f"{near} (then call both the same)" if near else ""
        raise DataError(f"class {missing[0]!r} of {source} has validation images but no training image{hint}")
    return train, val.with_classes(train.classes)


def load_whole(source: Path) -> ImageSet:
    """The training and the validation split joined, sorted by name. Raises DataError as `load_split` and `joined` do."""
    both = joined(load_split(source, "train"), load_split(source, "val"))
    return both.chosen(sorted(range(len(both)), key=lambda row: both.names[row]))


def _folder_split(source: Path, split: str, remarks: list[str], boxes: bool) -> Iterable[Record]:
    if (ilsvrc := find_ilsvrc(source)) is not None:
        return ilsvrc_records(ilsvrc, source, split, boxes)
    annotated = annotated_records(source, split, remarks)
    if annotated is None:
        return class_folder_records(source, split, remarks)
    remarks += left_out_below(source, own_only=True)
    return annotated


def _csv_split(path: Path, split: str, remarks: list[str]) -> Iterable[Record]:
    listed, roles = csv_records(path)
    records = readable(listed, path.parent, f"of {path}", remarks)
    if not roles:
        return hashed(records, split)
    role = picked_role(split, roles.values())
    return [record for record in records if roles[record.name] == role]
