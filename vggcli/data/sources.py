"""What --data means: a list of images with class names, in a training and a validation split.

A folder with train/ and val/, a folder with one folder a class (split 80/20 by a hash of the relative path, the same
anywhere), a folder with Pascal VOC annotations, or a CSV. Labels travel as names; the order of the classes is that of the
sorted names.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from vggcli.data.annotated import annotated_records
from vggcli.data.csv_file import csv_records
from vggcli.data.image_set import Box, ImageSet, Record, joined
from vggcli.data.splits import hashed, picked, picked_role, role_of
from vggcli.data.unread import readable, unread_below
from vggcli.data.walking import IMAGE_SUFFIXES, composed, folders_in, images_below, images_in
from vggcli.errors import DataError, counted

__all__ = ["IMAGE_SUFFIXES", "Box", "ImageSet", "Record", "images_below", "load_split", "load_training", "load_whole"]


def load_split(source: Path, split: str) -> ImageSet:
    """One split of `source` ("train", "val" for whichever of val, validation, valid and test there is, or one of these by
    its own name). Its classes are those that occur in it. Raises DataError where the source cannot be read so."""
    remarks: list[str] = []
    named = source
    if source.is_dir():
        records = _folder(source, split, remarks)
    elif source.is_file():
        records = _csv_split(source, split, remarks)
        source = source.parent
    else:
        raise DataError(
            f"there is no folder or CSV file {source}; give --data a folder of class folders, a CSV, shapes or the name "
            f"of a set such as cifar10"
        )
    kept = sorted(records, key=lambda record: record.name)
    if not kept:
        raise DataError(f"the {split} split of {named} is empty: there is no image in it")
    classes = tuple(sorted({record.label for record in kept}))
    order = {name: index for index, name in enumerate(classes)}
    marked = any(record.objects for record in kept)
    return ImageSet(
        root=source,
        split=split,
        classes=classes,
        names=tuple(record.name for record in kept),
        labels=tuple(order[record.label] for record in kept),
        boxes=tuple(record.boxes for record in kept),
        objects=tuple(record.objects for record in kept) if marked else (),
        remarks=tuple(remarks),
    )


def load_training(source: Path) -> tuple[ImageSet, ImageSet]:
    """The training and the validation split, as `load_both` gives them. Raises DataError where there is one class only."""
    train, val = load_both(source)
    if len(train.classes) < 2:
        raise DataError(f"{source} has one class only, {train.classes[0]!r}; a classifier needs two or more")
    return train, val


def load_both(source: Path) -> tuple[ImageSet, ImageSet]:
    """The training and the validation split, both with the training classes.

    A class without a validation image is accepted; raises DataError for a class without a training image.
    """
    train, val = load_split(source, "train"), load_split(source, "val")
    missing = sorted(set(val.classes) - set(train.classes))
    if missing:
        alike = next((name for name in train.classes if name.casefold() == missing[0].casefold()), None)
        hint = f" (the training class is called {alike!r}; call both the same)" if alike else ""
        raise DataError(f"class {missing[0]!r} of {source} has validation images but no training image{hint}")
    return train, val.with_classes(train.classes)


def load_whole(source: Path) -> ImageSet:
    """The training and the validation split as one, sorted by name; for protocols that draw splits of their own. Raises
    DataError as `load_split` does."""
    both = joined(load_split(source, "train"), load_split(source, "val"))
    return both.chosen(sorted(range(len(both)), key=lambda row: both.names[row]))


def _folder(source: Path, split: str, remarks: list[str]) -> Iterable[Record]:
    annotated = annotated_records(source, split, remarks)
    if annotated is not None:
        return annotated
    names = folders_in(source)
    splits = [name for name in names if role_of(name)]
    remarks += _loose(source) + unread_below(source)
    if _are_splits(source, splits, names):
        folder = source / picked(split, splits, source)
        inner = folders_in(folder)
        if len(inner) == 1 and role_of(inner[0]) == role_of(folder.name):  # seg_train/seg_train, as unpacked
            folder /= inner[0]
        remarks += _loose(folder)
        return _class_folders(source, folder, may_be_empty=role_of(folder.name) != "train")
    return hashed(_class_folders(source, source), split)


def _are_splits(source: Path, splits: list[str], names: list[str]) -> bool:
    """Whether the folders `splits`, which are called like splits, are such: they hold folders; or else are classes. Raises
    DataError where they could be both."""
    if any(folders_in(source / name) for name in splits):
        return True
    shown = ", ".join(f"{name}/" for name in splits)
    roles = {role_of(name) for name in splits}
    if splits and (len(splits) == len(names) or ("train" in roles and len(roles) > 1)):
        raise DataError(
            f"{shown} of {source} are called like splits but hold no class folders: give each split a folder for each "
            f"class, or, where these are classes, put all of them into {source / 'train'} and some images into val/"
        )
    return False


def _loose(folder: Path) -> list[str]:
    """The remark that images lie beside the class folders of `folder`, where some do."""
    count = images_in(folder)
    verbs = "belongs to no class folder and is" if count == 1 else "belong to no class folder and are"
    return [f"{counted(count, 'image')} right in {folder} {verbs} not used"] if count else []


def _class_folders(source: Path, folder: Path, may_be_empty: bool = False) -> Iterator[Record]:
    """Every image below each class folder of `folder`, named relative to `source`."""
    names = folders_in(folder)
    if not names:
        raise DataError(f"{folder} holds no class folders; each class needs a folder of its own with its images")
    for name in names:
        _check_no_splits(folder / name)
        empty = True
        for path in images_below(folder / name):
            empty = False
            yield Record(path.relative_to(source).as_posix(), composed(name))
        if empty and not may_be_empty:
            unread = unread_below(folder / name)
            what = f"holds no image that can be read: {unread[0]}" if unread else "holds no image; fill it or remove it"
            raise DataError(f"the class folder {folder / name} {what}")


def _check_no_splits(folder: Path) -> None:
    """Raises DataError where a class folder holds a training split and another, as a whole set does."""
    found = {role_of(name): name for name in folders_in(folder) if role_of(name)}
    if "train" in found and len(found) > 1:
        shown = " and ".join(f"{name}/" for name in sorted(found.values()))
        raise DataError(
            f"{folder} holds {shown}: if it is a set of its own, give --data {folder}; if it is a class, its splits belong "
            f"outside it, as in {found['train']}/{folder.name}/"
        )


def _csv_split(path: Path, split: str, remarks: list[str]) -> Iterable[Record]:
    listed, roles = csv_records(path)
    records = readable(listed, path.parent, f"of {path}", remarks)
    if not roles:
        return hashed(records, split)
    role = picked_role(split, roles.values())
    return [record for record in records if roles[record.name] == role]
