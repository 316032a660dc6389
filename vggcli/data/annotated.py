"""Folders of images with Pascal VOC XML: the annotations in a folder of their own or beside the images, for the whole set
or for each split.

What could be read in two ways is an error that says so.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vggcli.data.extra_formats import EXTRA_SUFFIXES
from vggcli.data.image_set import Record
from vggcli.data.left_out import readable, unread_images
from vggcli.data.splits import SPLIT_NAMES, VALIDATION_NAMES, hashed, picked, role_of
from vggcli.data.voc import LISTS, annotated_image, annotation_files, by_stem, listed_stems
from vggcli.data.walking import IMAGE_SUFFIXES, composed, folders_in, images_below
from vggcli.errors import DataError, counted

ANNOTATION_FOLDERS = ("annotations", "annots", "annotation", "labels", "xml", "xmls")  # in any case
IMAGE_FOLDERS = ("jpegimages", "images", "image", "imgs", "img")
LISTED_NAMES = (*SPLIT_NAMES, "trainval")  # the splits that a devkit's lists may name


@dataclass(frozen=True)
class VocPlace:
    """Where images with annotations lie: the folder with the images in it or anywhere below it, the folder of the
    annotations, and these by stem."""

    images: Path
    annotations: Path
    files: Mapping[str, Path]


def annotated_records(source: Path, split: str, remarks: list[str]) -> Iterable[Record] | None:
    """The images of one split of a set of this kind, or None where `source` is none. The split is what ImageSets/Main
    lists, or the folders say, else that by the hash. What is left out is said in `remarks`.

    An image's label is the class of its largest object, its boxes those of that class. Raises DataError where the set
    could be read in two ways, and as `annotated_image` does.
    """
    whole = _place(source)
    if whole and (source / LISTS).is_dir():
        images = _images(whole)
        lists = listed_stems(source, LISTED_NAMES, {*whole.files, *images})
        if lists:
            return _records(source, whole, images, lists[_one_of(split, lists, source)], remarks)
    own = {name: place for name in _split_folders(source) if (place := _place(source / name))}
    if own and whole:
        name = min(own)
        raise DataError(
            f"{source} has annotations in {whole.annotations} and, for {name}/ alone, in {own[name].annotations}; move one "
            f"of these away"
        )
    parts = own or _shared(source)
    if parts:
        name = picked(split, sorted({*parts, *_split_folders(source)}), source)
        if name not in parts:
            raise DataError(f"{source / name} has no Pascal VOC annotations where {min(parts)}/ has some; add them")
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
        have = "has" if len(missing) == 1 else "have"
        raise DataError(
            f"{counted(len(missing), 'image')} of {source} {have} no annotation; the first would be {missing[0]}"
        )
    records = []
    for stem in sorted(stems):
        path, objects = annotated_image(place.files[stem], images)
        label = max(objects, key=lambda one: one.area).label
        boxes = tuple(one.box for one in objects if one.label == label)
        records.append(Record(path.relative_to(source).as_posix(), label, boxes, objects))
    return readable(records, source, f"of {place.images}", remarks)


def _images(place: VocPlace) -> dict[str, list[Path]]:
    """The images of `place` by stem, those that cannot be read here too."""
    return by_stem([*images_below(place.images), *(path for path, _ in unread_images(place.images))])


def _place(folder: Path) -> VocPlace | None:
    """Where `folder` has annotations: in a folder called so, or beside the images, each with the stem of one."""
    inner = folders_in(folder)
    pictures = _image_folder(folder, inner)
    found = [one for one in _annotation_folders(folder, inner) if annotation_files(one)]
    for one in () if found else dict.fromkeys((folder, pictures)):
        files = annotation_files(one)
        if files and not files.keys().isdisjoint(composed(path.stem) for path in pictures.iterdir() if _is_image(path)):
            found.append(one)
    if not found:
        return None
    if len(found) > 1:
        raise DataError(f"{folder} has annotations in {found[0]} and in {found[1]}; move those of one away")
    if found[0] == pictures == folder:
        _check_no_folders(folder, inner)
    return VocPlace(pictures, found[0], annotation_files(found[0]))


def _check_no_folders(folder: Path, inner: Iterable[str]) -> None:
    """Raises DataError where `folder`, with annotations beside its images, also has folders of images."""
    deeper = next((name for name in inner if next(images_below(folder / name), None)), None)
    if deeper is not None:
        raise DataError(
            f"{folder} holds images with annotations beside them and a folder of images, {deeper}/; move one of the two "
            f"away, or the annotated images into a folder of their own"
        )


def _shared(source: Path) -> dict[str, VocPlace]:
    """The splits of a set with a folder for each split only among its images, or also among its annotations."""
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


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES | EXTRA_SUFFIXES


def _one_of(split: str, present: Iterable[str], source: Path) -> str:
    """`split` as the lists of `source` call it: itself, or for "val" the first of its other names that there is."""
    names = [split, *VALIDATION_NAMES] if split == "val" else [split]
    found = next((name for name in names if name in set(present)), None)
    if found is None:
        raise DataError(f"{source} has no split {split!r} (it has {', '.join(present)})")
    return found
