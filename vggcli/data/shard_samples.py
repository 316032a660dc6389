"""The samples of a shard: a tar in the layout of WebDataset, in which the files of a sample share a key, their path up to
the first dot of the file name.

A sample has one image. Its class is in KEY.cls, as a name or a number; else it is the folder of the image in the tar,
unless that is named like a split or a folder of images; else `label`, `class` or `cls` in KEY.json; else the class of its
largest object. KEY.json marks objects as Pascal VOC does, in pixels of the image:

    {"objects": [{"class": "dog", "box": [xmin, ymin, xmax, ymax]}]}

An object may have "difficult": true, and a sample the "size" [width, height] of the image that was marked. Whatever else
these files hold, and other files, are ignored.
"""

import posixpath
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from vggcli.data.annotated import IMAGE_FOLDERS
from vggcli.data.extra_formats import kind_named, kind_of
from vggcli.data.splits import role_of
from vggcli.data.tars import TarMember, image_members
from vggcli.data.voc import CORNERS, MAX_BYTES, Box, MarkedObject, Size, read_box
from vggcli.data.walking import HEAD_BYTES, IMAGE_SUFFIXES, KNOWN_SUFFIXES, begins_like_image, composed
from vggcli.errors import DataError
from vggcli.records import parsed, shown

CLASS, ANNOTATION = "cls", "json"
SUFFIXES = frozenset((*KNOWN_SUFFIXES, f".{CLASS}", f".{ANNOTATION}"))
LABELS = ("label", "class", "cls")  # in KEY.json
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
LONGEST_CLASS = 4096  # bytes of a .cls

Label = str | int  # the name of a class, or its number, which is at least 0


@dataclass(frozen=True, slots=True)
class Marked:
    """An object whose class may be a number."""

    label: Label
    box: Box
    difficult: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """An image in a shard: its path there, its bytes, its class, its objects, the size that KEY.json states for it, and its
    format if that is one that cannot be read everywhere."""

    name: str
    offset: int
    size: int
    label: Label
    objects: tuple[Marked, ...] = ()
    stated: Size | None = None
    kind: str | None = None


def shard_samples(archive: Path) -> list[Sample]:
    """The samples of a shard, sorted by the names of their images.

    Raises DataError, naming the shard and the file in it, for a tar that `image_members` refuses, a sample of two images,
    a class of no image, an image without a class, and for a class or an object that cannot be read.
    """
    found: dict[str, dict[str, TarMember]] = {}
    for member in image_members(archive, SUFFIXES):
        name = posixpath.normpath(member.name).lstrip("/")
        if name.split("/")[0] == "..":
            raise DataError(f"{archive} holds {member.name}, whose path leads out of it; pack it without that")
        folder, base = posixpath.split(name)
        stem, _, ending = base.partition(".")
        ending = ending.lower()
        if ending not in (CLASS, ANNOTATION):
            if name.lower().endswith((f".{CLASS}", f".{ANNOTATION}")):
                continue  # of other parts of a sample, as in KEY.mask.json
            ending = "image"
        files = found.setdefault(posixpath.join(folder, stem), {})
        if ending in files:
            one = "image" if ending == "image" else f".{ending}"
            both = f"{files[ending].name} and {member.name}"
            what = f"{archive} has two files ({both}) as the {one} of one sample"
            raise DataError(f"{what}, since their paths are equal up to the first dot of the name; rename one")
        files[ending] = TarMember(archive, name, member.offset, member.size)
    with archive.open("rb") as file:
        samples = [_sample(file, files) for files in found.values() if _has_image(files)]
    return sorted(samples, key=lambda one: one.name)


def _has_image(files: dict[str, TarMember]) -> bool:
    if "image" not in files and CLASS in files:
        raise DataError(f"{files[CLASS]} is the class of no image; add the image, or remove this")
    return "image" in files


def _sample(file: BinaryIO, files: dict[str, TarMember]) -> Sample:
    image, said = files["image"], _said(file, files.get(ANNOTATION))
    objects, size = _objects(files, said)
    label = _label(file, image, files.get(CLASS), said, objects)
    return Sample(image.name, image.offset, image.size, label, objects, size, _kind(image))


def _label(
    file: BinaryIO, image: TarMember, stated: TarMember | None, said: dict[str, Any], objects: tuple[Marked, ...]
) -> Label:
    if stated is not None:
        return _read_class(file, stated)
    folder = posixpath.basename(posixpath.dirname(image.name))
    if folder and role_of(folder) is None and folder.casefold() not in IMAGE_FOLDERS:
        return composed(folder)
    for key in LABELS:
        if said.get(key) is not None:
            return _named(f"{image}: the {key} in its .json", said[key])
    if objects:
        areas = [MarkedObject("", one.box).area for one in objects]
        return objects[areas.index(max(areas))].label
    raise DataError(f"{image} has no class; add a .cls, put it into a folder of its class, or add a label to its .json")


def _read_class(file: BinaryIO, member: TarMember) -> Label:
    raw = _read(file, member, LONGEST_CLASS, "the name of a class")
    try:
        text = raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{member} is not a text in UTF-8 (byte {error.start}); write a class name or a number"
        ) from None
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    return _named(str(member), text)


def _named(what: str, label: Any) -> Label:
    """A class from JSON or text. Raises DataError, which calls it `what`, for anything but a name or a number."""
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < 10**9:
        return label
    name = composed(label.strip()) if isinstance(label, str) else ""
    if not name or CONTROL.search(name):
        raise DataError(f"{what} is {shown(label)}, not the name or number of a class; correct it")
    return name


def _said(file: BinaryIO, annotation: TarMember | None) -> dict[str, Any]:
    if annotation is None:
        return {}
    try:
        found = parsed(_read(file, annotation, MAX_BYTES, "an annotation"))
    except ValueError as error:
        raise DataError(f"{annotation} cannot be read as an annotation: {error}") from None
    if not isinstance(found, dict):
        raise DataError(f'{annotation} is not a JSON object, as {{"objects": [...]}}')
    return found


def _objects(files: dict[str, TarMember], said: dict[str, Any]) -> tuple[tuple[Marked, ...], Size | None]:
    marked, size = said.get("objects") or [], said.get("size")
    if not marked:
        return (), None
    where = files[ANNOTATION]
    if not isinstance(marked, list):
        raise DataError(f"{where}: its objects are {shown(marked)}, not a list")
    if size is not None and not (isinstance(size, list) and len(size) == 2 and all(type(one) is int for one in size)):
        raise DataError(f"{where}: its size is {shown(size)}, not [width, height]")
    return tuple(_marked(where, one) for one in marked), None if size is None else (size[0], size[1])


def _marked(where: TarMember, one: Any) -> Marked:
    if not isinstance(one, dict) or not {"class", "box"} <= one.keys():
        raise DataError(f'{where}: an object is {shown(one)}, not {{"class": ..., "box": [{", ".join(CORNERS)}]}}')
    label = _named(f"{where}: the class of an object", one["class"])
    what, box = f"{where}: the box of its {shown(label)}", one["box"]
    if not isinstance(box, list) or any(type(corner) not in (int, float) for corner in box):
        raise DataError(f"{what} is {shown(box)}, not four numbers ({','.join(CORNERS)})")
    return Marked(label, read_box(what, [str(corner) for corner in box]), one.get("difficult") is True)


def _read(file: BinaryIO, member: TarMember, at_most: int, what: str) -> bytes:
    if member.size > at_most:
        raise DataError(f"{member} has {member.size} bytes, more than {what} can have ({at_most})")
    file.seek(member.offset)
    return file.read(member.size)


def _kind(image: TarMember) -> str | None:
    """The format of an image that cannot be read everywhere."""
    if posixpath.splitext(image.name)[1].lower() in IMAGE_SUFFIXES:
        return None
    head = image.read(HEAD_BYTES)
    return None if begins_like_image(head) else kind_of(head) or kind_named(image.name)
