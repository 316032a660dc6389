"""Pascal VOC annotations: the objects that an XML file marks in its image, and the lists of the images of each split.

Files are not trusted: a document type (and with it entities) is refused, and so are files larger than an annotation can
be. An annotation belongs to the image of the same stem, as in the devkit, whatever file name it states.
"""

import codecs
import math
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from vggcli.data.listed_text import listed_names
from vggcli.data.walking import KNOWN_SUFFIXES, composed, is_junk
from vggcli.errors import DataError
from vggcli.records import cut, shown
from vggcli.regular_files import need_regular

LISTS = Path("ImageSets", "Main")  # in the devkit: a text file for each split, with one stem a line
MAX_BYTES = 4 << 20  # a real annotation has some kilobytes
CLASS_MARK = re.compile(r"\s+(-1|0|1)$")  # after a stem in the devkit's lists: whether the image shows a class
DECLARED = re.compile(rb"<\?xml[^>]*?encoding\s*=\s*[\"']([\w.-]+)[\"']")
WIDE_ENCODINGS = (  # multi-byte encodings that the parser does not support and that Python decodes in one pass
    "big5", "big5hkscs", "cp932", "cp949", "cp950", "euc_jp", "euc_kr", "gb18030", "gb2312", "gbk", "hz", "iso2022_jp",
    "iso2022_kr", "johab", "shift_jis", "shift_jis_2004", "shift_jisx0213", "utf-32", "utf-32-be", "utf-32-le", "utf-7",
)  # fmt: skip
CORNERS = ("xmin", "ymin", "xmax", "ymax")


Box = tuple[float, float, float, float]  # pixels, in the order of CORNERS
Size = tuple[int, int]  # pixels: width, height


@dataclass(frozen=True, slots=True)
class MarkedObject:
    """An object in an image: its class name, its box, whether it is difficult, and the size of the image that its
    annotation states, if it does."""

    label: str
    box: Box
    difficult: bool = False
    stated: Size | None = field(default=None, compare=False)

    @property
    def area(self) -> float:
        """Square pixels; 0 where the box is empty, inverted or not finite."""
        xmin, ymin, xmax, ymax = self.box
        return (xmax - xmin) * (ymax - ymin) if has_area(self.box) else 0.0

    def __str__(self) -> str:
        return f"the box of its {shown(self.label)} ({','.join(f'{corner:g}' for corner in self.box)})"


def why_no_area(box: Box) -> str:
    """What is wrong with a box for which `has_area` is false."""
    if not all(map(math.isfinite, box)):
        return "has a corner that is not finite"
    return "has no area (xmin < xmax and ymin < ymax)"


def has_area(box: Box) -> bool:
    """Whether a box is finite and neither empty nor inverted."""
    xmin, ymin, xmax, ymax = box
    return -math.inf < xmin < xmax < math.inf and -math.inf < ymin < ymax < math.inf


def label_of(objects: Iterable[MarkedObject]) -> str:
    """The class of the largest object, which is that of the image where it needs one."""
    return max(objects, key=lambda one: one.area).label


def annotation_files(folder: Path) -> dict[str, Path]:
    """The XML files in a folder (not below it) by their stems, without hidden ones such as the ._ files of macOS."""
    files = (path for path in folder.iterdir() if path.suffix.lower() == ".xml" and not is_junk(path.name))
    return {composed(path.stem): path for path in files}


def listed_stems(source: Path, names: Iterable[str], stems: Collection[str]) -> dict[str, list[str]]:
    """Those splits among `names` that ImageSets/Main lists, each with the stems of its images; empty without lists. A line
    is one of `stems`, which may contain spaces, or a file name of an image, and may end in the devkit's mark (1, 0 or -1).

    Raises DataError where a list cannot be read.
    """
    known, lists = tuple(names), dict[str, Path]()
    for path in sorted((source / LISTS).glob("*")):
        name = path.stem.casefold()
        if path.suffix.lower() == ".txt" and path.is_file() and name in known:
            if name in lists:
                raise DataError(f"{source / LISTS} has {lists[name].name} and {path.name}; remove one of them")
            lists[name] = path
    return {name: _listed(lists[name], stems) for name in known if name in lists}


def _listed(path: Path, stems: Collection[str]) -> list[str]:
    try:
        lines = [composed(line.strip()) for line in listed_names(path.read_bytes())]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be read as a list: {error}; save it as UTF-8") from error
    found = []
    for line in lines:
        unmarked = CLASS_MARK.sub("", line)
        named = [PurePosixPath(name) for name in (line, unmarked)]
        files = [path.stem for path in named if path.suffix.lower() in KNOWN_SUFFIXES]
        found.append(next((stem for stem in (line, unmarked, *files) if stem in stems), unmarked))
    return found


def by_stem(images: Iterable[Path]) -> dict[str, list[Path]]:
    """Images by the stem of their file names."""
    found: dict[str, list[Path]] = {}
    for path in sorted(images):
        found.setdefault(composed(path.stem), []).append(path)
    return found


def annotated_image(annotation: Path, images: Mapping[str, list[Path]]) -> tuple[Path, tuple[MarkedObject, ...]]:
    """The image of an annotation, from `images` by stem, and the marked objects in the order of the file.

    Raises DataError where the annotation cannot be read, marks nothing, or belongs to no image or to several.
    """
    stated, objects = read_annotation(annotation)
    found = images.get(composed(annotation.stem), [])
    if len(found) > 1:
        found = [path for path in found if path.name == stated] or found
    if not found:
        raise DataError(f"{annotation} has no image: none is called {annotation.stem}")
    if len(found) > 1:
        raise DataError(f"{annotation} could belong to {found[0]} or to {found[1]}; rename one of them")
    if not objects:
        raise DataError(f"{annotation} marks no object, so its image has no label; mark one, or remove both files")
    return found[0], objects


def read_annotation(path: Path) -> tuple[str, tuple[MarkedObject, ...]]:
    """The file name that an annotation states (or an empty text) and its objects.

    Raises DataError where it is not a regular file, too large, not XML, or declares a document type, and where an object
    has no name or not four numbers as its box.
    """
    need_regular(path, DataError)
    if path.stat().st_size > MAX_BYTES:
        raise DataError(f"{path} is larger than an annotation can be ({MAX_BYTES >> 20} MB)")
    raw = path.read_bytes()
    try:
        try:
            root = _parsed(raw)
        except ValueError:  # a multi-byte encoding, which the parser does not support
            declared = DECLARED.match(raw)
            if declared is None or codecs.lookup(declared[1].decode("ascii")).name not in WIDE_ENCODINGS:
                raise LookupError("its encoding is not supported") from None
            root = _parsed(raw.decode(declared[1].decode("ascii")))
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: an encoding that does not exist
        hint = (
            "; save it as UTF-8"
            if isinstance(error, UnicodeError | LookupError) or "invalid token" in str(error)
            else ""
        )
        raise DataError(f"{path} cannot be read as an annotation: {error}{hint}") from error
    if root.tag != "annotation":
        raise DataError(f"{path} is not a Pascal VOC annotation: its root is <{cut(root.tag)}>, not <annotation>")
    stated = (root.findtext("filename") or "").strip()
    size = _size(root.findtext("size/width") or "", root.findtext("size/height") or "")
    return stated, tuple(_marked(path, element, size) for element in root.findall("object"))


def _parsed(document: bytes | str) -> ElementTree.Element:
    parser = ElementTree.XMLParser(target=_NoDocumentType())
    parser.feed(document)
    root: ElementTree.Element = parser.close()
    return root


class _NoDocumentType(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ElementTree.ParseError("it declares a document type, which is refused; remove its DOCTYPE")


@lru_cache(1 << 12)  # equal sizes and numbers of many annotations are kept in memory once
def _size(width: str, height: str) -> Size | None:
    try:
        return int(width), int(height)
    except ValueError:
        return None


_number = lru_cache(1 << 12)(float)


def _marked(path: Path, element: ElementTree.Element, size: Size | None) -> MarkedObject:
    label = (element.findtext("name") or "").strip()
    if not label:
        raise DataError(f"{path} marks an object without a name")
    corners = [element.findtext(f"bndbox/{corner}") or "" for corner in CORNERS]
    difficult = (element.findtext("difficult") or "").strip() == "1"
    return MarkedObject(sys.intern(label), read_box(f"{path}: the box of its {shown(label)}", corners), difficult, size)


def read_box(what: str, corners: Sequence[str]) -> Box:
    """The box with these `corners`, in the order of CORNERS; it may lie anywhere, and have no area. Raises DataError, which
    calls it `what`, if they are not four numbers."""
    try:
        xmin, ymin, xmax, ymax = map(_number, corners)
    except ValueError:
        raise DataError(f"{what} is not four numbers ({','.join(CORNERS)}), but {cut(','.join(corners))}") from None
    return xmin, ymin, xmax, ymax
