"""Folders of images with Pascal VOC XML: the annotations are in a folder of their own or beside the images, for the whole
data set or for each split.

A folder that could be read in two ways is an error that says so.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vggcli.data.image_set import Record
from vggcli.data.left_out import readable, unread_images
from vggcli.data.splits import SPLIT_NAMES, VALIDATION_NAMES, hashed, picked, role_of
from vggcli.data.voc import LISTS, annotated_image, annotation_files, by_stem, label_of, listed_stems
from vggcli.data.walking import KNOWN_SUFFIXES, composed, folders_in, images_below
from vggcli.errors import DataError, counted, did_you_mean

ANNOTATION_FOLDERS = ("annotations", "annots", "annotation", "labels", "xml", "xmls")  # in any case
IMAGE_FOLDERS = ("jpegimages", "images", "image", "imgs", "img")


@dataclass(frozen=True)
class VocPlace:
    """A folder of images (in it or anywhere below), the folder of their annotations, and the annotation files by stem."""

    images: Path
    annotations: Path
    files: Mapping[str, Path]


def annotated_records(source: Path, split: str, remarks: list[str]) -> Iterable[Record] | None:
    """The images of one split of `source`, or None where it has no annotations. The splits are those that ImageSets/Main
    lists or that the folders are named after; otherwise they are made by a hash. `remarks` gets what is left out.

    The label of an image is the class of its largest object. Raises DataError where the annotations could be read in two
    ways, and as `annotated_image` does.
    """
    whole = _place(source)
    if whole and (source / LISTS).is_dir():
        images = _images(whole)
        lists = listed_stems(source, (*SPLIT_NAMES, "trainval"), {*whole.files, *images})
        listed = [name for name in (split, *(VALIDATION_NAMES if split == "val" else ())) if name in lists]
        if lists and not listed:
            raise DataError(f"{source} has no split {split!r} (it has {', '.join(lists)}){did_you_mean(split, lists)}")
        if lists:
            return _records(source, whole, images, lists[listed[0]], remarks)
    own = {name: place for name in _split_folders(source) if (place := _place(source / name))}
    if own and whole:
        name = min(own)
        places = f"{whole.annotations} and, for {name}/ only, in {own[name].annotations}"
        raise DataError(f"{source} has annotations in {places}; move one of these away")
    parts = own or _shared(source)
    if parts:
        name = picked(split, sorted({*parts, *_split_folders(source)}), source)
        if name not in parts:
            raise DataError(f"{source / name} has no Pascal VOC annotations, but {min(parts)}/ has some; add them")
        return _records(source, parts[name], images := _images(parts[name]), {*parts[name].files, *images}, remarks)
    if whole is None:
        return None
    images = _images(whole)
    return hashed(_records(source, whole, images, {*whole.files, *images}, remarks), split)


def _records(
    source: Path, place: VocPlace, images: Mapping[str, list[Path]], stems: Collection[str], remarks: list[str]
) -> list[Record]:
    missing = [place.annotations / f"{stem}.xml" for stem in sorted(stems) if stem not in place.files]
    if missing:
        count = counted(len(missing), f"image of {source} has", f"images of {source} have")
        raise DataError(f"{count} no annotation; the first missing one is {missing[0]}")
    records = []
    for stem in sorted(stems):
        path, objects = annotated_image(place.files[stem], images)
        records.append(Record(path.relative_to(source).as_posix(), label_of(objects), objects))
    return readable(records, source, f"of {place.images}", remarks)


def _images(place: VocPlace) -> dict[str, list[Path]]:
    """The images of `place` by stem, including those of formats that cannot be read here."""
    return by_stem([*images_below(place.images), *(path for path, _ in unread_images(place.images))])


def _place(folder: Path) -> VocPlace | None:
    """Where `folder` has annotations: in a folder named after them, or beside images of the same stems; None if nowhere."""
    inner = folders_in(folder)
    pictures = _image_folder(folder, inner)
    found = [one for one in _annotation_folders(folder, inner) if annotation_files(one)]
    for one in () if found else dict.fromkeys((folder, pictures)):
        files = annotation_files(one)
        named = (composed(path.stem) for path in pictures.iterdir() if path.suffix.lower() in KNOWN_SUFFIXES)
        if files and not files.keys().isdisjoint(named):
            found.append(one)
    if not found:
        return None
    if len(found) > 1:
        raise DataError(f"{folder} has annotations in {found[0]} and in {found[1]}; move one of the two away")
    if found[0] == pictures == folder:
        deeper = next((name for name in inner if next(images_below(folder / name), None)), None)
        if deeper is not None:
            what = f"{folder} holds images with annotations beside them and a folder of images, {deeper}/"
            raise DataError(f"{what}; move one of the two away, or the annotated images into a folder of their own")
    return VocPlace(pictures, found[0], annotation_files(found[0]))


def _shared(source: Path) -> dict[str, VocPlace]:
    """The splits where the folder of images, and perhaps also that of the annotations, has a folder for each split."""
    inner = folders_in(source)
    pictures = _image_folder(source, inner)
    parts: dict[str, VocPlace] = {}
    used: set[str] = set()
    for annotations in _annotation_folders(source, inner):
        files = annotation_files(annotations)
        for name in _split_folders(pictures):
            own = annotations / name
            mine = annotation_files(own) if own.is_dir() else {}
            if not mine:
                mine = {stem: files[stem] for stem in by_stem(images_below(pictures / name)) if stem in files}
                used |= mine.keys()
            if mine:
                parts[name] = VocPlace(pictures / name, own if own.is_dir() else annotations, mine)
        if parts and files.keys() - used:
            first = files[min(files.keys() - used)]
            raise DataError(f"{first} has no image in {' or '.join(f'{name}/' for name in parts)} of {pictures}")
    return parts


def _split_folders(folder: Path) -> list[str]:
    return [name for name in folders_in(folder) if role_of(name)]


def _image_folder(folder: Path, inner: Iterable[str]) -> Path:
    named = [name for name in inner if name.casefold() in IMAGE_FOLDERS]
    return folder / min(named, key=lambda name: IMAGE_FOLDERS.index(name.casefold())) if named else folder


def _annotation_folders(folder: Path, inner: Iterable[str]) -> list[Path]:
    return [folder / name for name in inner if name.casefold() in ANNOTATION_FOLDERS]
