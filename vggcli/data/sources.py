"""What --data means: a list of images with class names, in a training and a validation split.

A folder with train/ and val/, a folder with one folder a class (split 80/20 by a hash of the relative path, the same
anywhere), a folder with Pascal VOC annotations, or a CSV. Labels travel as names; the order of the classes is that of the
sorted names.
"""

import csv
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from vggcli.data.image_set import Box, ImageSet, Record, joined
from vggcli.data.voc import annotated_image, annotation_folder, by_stem, image_folder, listed_stems
from vggcli.errors import DataError

__all__ = ["Box", "ImageSet", "Record", "images_below", "load_split", "load_training", "load_whole"]

VALIDATION_NAMES = ("val", "validation", "valid", "test")
SPLIT_NAMES = ("train", *VALIDATION_NAMES)
LISTED_NAMES = (*SPLIT_NAMES, "trainval")  # the splits that a devkit's lists may name
VALIDATION_SHARE = 0.2
JUNK = frozenset({"__macosx", "thumbs.db", "desktop.ini"})
IMAGE_SUFFIXES = frozenset(".jpg .jpeg .jpe .jfif .png .webp .bmp .dib .tif .tiff .gif .ppm .pgm .pbm .pnm".split())
MAGIC = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"GIF8", b"P4", b"P5", b"P6")
BOX_COLUMNS = ("xmin", "ymin", "xmax", "ymax")


def load_split(source: Path, split: str) -> ImageSet:
    """One split of `source` ("train", "val" for whichever of val, validation, valid and test there is, or one of these by
    its own name). Its classes are those that occur in it. Raises DataError where the source cannot be read so."""
    if source.is_dir():
        records = _folder(source, split)
    elif source.is_file():
        records = _csv_split(source, split)
        source = source.parent
    else:
        raise DataError(
            f"there is no folder or CSV file {source}; give --data a folder of class folders, a CSV, shapes or the name "
            f"of a set such as cifar10"
        )
    kept = sorted(records, key=lambda record: record.name)
    if not kept:
        raise DataError(f"the {split} split of {source} is empty: there is no image in it")
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
    )


def load_training(source: Path) -> tuple[ImageSet, ImageSet]:
    """The training and the validation split, both with the training classes.

    A class without a validation image is accepted; raises DataError for a class without a training image.
    """
    train, val = load_split(source, "train"), load_split(source, "val")
    missing = sorted(set(val.classes) - set(train.classes))
    if missing:
        raise DataError(f"class {missing[0]!r} of {source} has validation images but no training image")
    if len(train.classes) < 2:
        raise DataError(f"{source} has one class only, {train.classes[0]!r}; a classifier needs two or more")
    return train, val.with_classes(train.classes)


def load_whole(source: Path) -> ImageSet:
    """The training and the validation split as one, sorted by name; for protocols that draw splits of their own. Raises
    DataError as `load_split` does."""
    both = joined(load_split(source, "train"), load_split(source, "val"))
    return both.chosen(sorted(range(len(both)), key=lambda row: both.names[row]))


def _folder(source: Path, split: str) -> Iterable[Record]:
    annotations = annotation_folder(source)
    if annotations is not None:
        return _annotated(source, annotations, split)
    folders = [name for name in SPLIT_NAMES if (source / name).is_dir()]
    return _split_folder(source, split, folders) if folders else _hashed(_class_folders(source, source), split)


def _annotated(source: Path, annotations: Path, split: str) -> Iterable[Record]:
    """Every image with a VOC annotation, in the splits that ImageSets/Main lists, else split by the hash. Its label is the
    class of its largest object, its boxes those of that class."""
    images = by_stem(images_below(image_folder(source)))
    lists = listed_stems(source, LISTED_NAMES)
    marked = {path.stem for path in annotations.glob("*.xml")}
    stems = lists[_one_of(split, lists, source)] if lists else sorted(marked | set(images))
    files = [annotations / f"{stem}.xml" for stem in stems]
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise DataError(f"{len(missing)} of the images of {source} have no annotation; the first would be {missing[0]}")
    records = []
    for file in files:
        path, objects = annotated_image(file, images)
        label = max(objects, key=lambda one: one.area).label
        boxes = tuple(one.box for one in objects if one.label == label)
        records.append(Record(path.relative_to(source).as_posix(), label, boxes, objects))
    return records if lists else _hashed(records, split)


def _one_of(split: str, present: Iterable[str], source: Path) -> str:
    """`split` as `source` calls it: itself, or for "val" the first of its other names that there is."""
    names = [split, *VALIDATION_NAMES] if split == "val" else [split]
    found = next((name for name in names if name in set(present)), None)
    if found is None:
        raise DataError(f"{source} has no split {split!r} (it has {', '.join(present)})")
    return found


def _split_folder(source: Path, split: str, folders: list[str]) -> Iterator[Record]:
    wanted = split if split in folders else None
    if wanted is None and split == "val":
        wanted = next((name for name in VALIDATION_NAMES if name in folders), None)
    if wanted is None:
        have = ", ".join(f"{name}/" for name in folders)
        raise DataError(f"{source} has no {split}/ folder (it has {have})")
    return _class_folders(source, source / wanted)


def _class_folders(source: Path, folder: Path) -> Iterator[Record]:
    """Every image below each class folder of `folder`, named relative to `source`."""
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not _is_junk(entry.name))
    if not names:
        raise DataError(f"{folder} holds no class folders; each class needs a folder of its own with its images")
    for name in names:
        empty = True
        for path in images_below(folder / name):
            empty = False
            yield Record(path.relative_to(source).as_posix(), name)
        if empty:
            raise DataError(f"the class folder {folder / name} holds no image; fill it or remove it")


def images_below(folder: Path) -> Iterator[Path]:
    """Every image below `folder`, junk aside; links are followed, but not in circles. Raises DataError for a folder that
    cannot be read."""
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_unreadable_folder):
        real = os.path.realpath(parent)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not _is_junk(name)]
        yield from (
            Path(parent, name) for name in files if not _is_junk(name) and _looks_like_image(Path(parent, name))
        )


def _unreadable_folder(error: OSError) -> None:
    raise DataError(f"the folder {error.filename} cannot be read: {(error.strerror or str(error)).lower()}") from error


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in JUNK


def _looks_like_image(path: Path) -> bool:
    """By suffix, or else by its first bytes: a file named like an image counts as one even if it turns out damaged."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4).startswith(MAGIC)


def _hashed(records: Iterable[Record], split: str) -> Iterator[Record]:
    """The records of one side of an 80/20 split by a hash of the relative path."""
    if split not in ("train", "val"):
        raise DataError(f"this source has no split {split!r}: it is divided into train and val by a hash of the paths")
    for record in records:
        digest = hashlib.sha256(record.name.encode(errors="surrogateescape")).digest()
        in_val = int.from_bytes(digest[:8], "big") < VALIDATION_SHARE * 2**64
        if in_val == (split == "val"):
            yield record


def _csv_split(path: Path, split: str) -> Iterator[Record]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            for needed in ("path", "label"):
                if needed not in columns:
                    raise DataError(
                        f"{path} has no column {needed!r}; its header must be path,label[,split][,{_BOXES}]"
                    )
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a CSV file: {error}") from error
    records: dict[str, Record] = {}
    splits: dict[str, str] = {}
    for line, row in enumerate(rows, start=2):
        record = _csv_record(path, line, row)
        known = records.get(record.name)
        if known is not None and known.label != record.label:
            raise DataError(f"{path}, line {line}: {record.name} has two labels, {known.label!r} and {record.label!r}")
        records[record.name] = record if known is None else replace(known, boxes=known.boxes + record.boxes)
        splits[record.name] = (row.get("split") or "").strip()
    if "split" not in columns:
        return _hashed(records.values(), split)
    wanted = {split} if split != "val" or "val" in splits.values() else _first_present(splits.values())
    return (record for record in records.values() if splits[record.name] in wanted)


_BOXES = ",".join(BOX_COLUMNS)


def _first_present(splits: Iterable[str]) -> set[str]:
    present = set(splits)
    return {next((name for name in VALIDATION_NAMES if name in present), "val")}


def _csv_record(path: Path, line: int, row: dict[str, str]) -> Record:
    name, label = (row["path"] or "").strip(), (row["label"] or "").strip()
    if not name or not label:
        raise DataError(f"{path}, line {line}: the path or the label is missing")
    values = [(row.get(column) or "").strip() for column in BOX_COLUMNS]
    if not any(values):
        return Record(name, label)
    try:
        xmin, ymin, xmax, ymax = (float(value) for value in values)
    except ValueError:
        raise DataError(f"{path}, line {line}: {_BOXES} must be four numbers") from None
    if not (xmin < xmax and ymin < ymax):
        raise DataError(f"{path}, line {line}: the box has no area (xmin < xmax and ymin < ymax)")
    return Record(name, label, ((xmin, ymin, xmax, ymax),))
