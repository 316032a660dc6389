"""ILSVRC's own folders, as Kaggle ships them: images in Data/CLS-LOC, Pascal VOC XML in Annotations/CLS-LOC, and, beside
the folder of both, LOC_val_solution.csv. Classes are WordNet IDs.

Training images are labelled by their folders, and about half of them have XML. Validation images are labelled by their XML,
or by LOC_val_solution.csv where they have none. Test images have no labels.
"""

import csv
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from vggcli.data.class_folders import records_below
from vggcli.data.image_set import Record
from vggcli.data.listed_text import decoded_text
from vggcli.data.splits import picked, role_of
from vggcli.data.voc import MarkedObject, read_annotation, read_box
from vggcli.data.walking import folders_in, images_below, is_junk
from vggcli.errors import DataError
from vggcli.records import shown
from vggcli.regular_files import need_regular

IMAGES = Path("Data", "CLS-LOC")
ANNOTATIONS = Path("Annotations", "CLS-LOC")
SOLUTION = "LOC_val_solution.csv"
SOLUTION_HEADER = ["ImageId", "PredictionString"]

Objects = tuple[MarkedObject, ...]


def find_ilsvrc(source: Path) -> Path | None:
    """The folder with ILSVRC's Data and Annotations, for a `source` that is it, holds it as ILSVRC/, or is its Data or
    Data/CLS-LOC; otherwise None."""
    for folder in (source / "ILSVRC", source, source.parent, source.parent.parent):
        if (folder / IMAGES).is_dir() and (folder / IMAGES).is_relative_to(source):
            return folder
    return None


def ilsvrc_records(ilsvrc: Path, source: Path, split: str, boxes: bool) -> list[Record]:
    """The images of one split, named relative to `source`; the XML of images that are labelled by their folder is read only
    with `boxes`. Raises DataError for a split without labels, and for an image that neither XML nor CSV gives one class."""
    name = picked(split, folders_in(ilsvrc / IMAGES), ilsvrc / IMAGES)
    if role_of(name) == "test":
        raise DataError(f"the {name} images of ILSVRC have no labels; use its train or its val images")
    folder, annotations = ilsvrc / IMAGES / name, ilsvrc / ANNOTATIONS / name
    if folders_in(folder):
        records = records_below(source, folder)
        files = _files_by_stem(annotations) if boxes else {}
        return [replace(one, objects=_marked(files, PurePosixPath(one.name).stem)) for one in records]
    files, solution = _files_by_stem(annotations), _solution(ilsvrc)
    found = []
    for path in images_below(folder):
        objects, guess = _marked(files, path.stem), solution.get(path.stem, ())
        labels = next((one for own in (objects, guess) if len(one := {each.label for each in own}) == 1), None)
        if labels is None:
            places = f"neither {annotations / path.stem}.xml nor {SOLUTION} beside {ilsvrc}"
            raise DataError(f"{path} has no label: {places} gives it one class; add or correct either")
        found.append(Record(path.relative_to(source).as_posix(), labels.pop(), objects or guess))
    return found


def _files_by_stem(folder: Path) -> dict[str, str]:
    """The XML files below `folder`."""
    found = {}
    for parent, _, names in os.walk(folder):
        found.update({name[:-4]: f"{parent}/{name}" for name in names if name.endswith(".xml") and not is_junk(name)})
    return found


def _marked(files: Mapping[str, str], stem: str) -> Objects:
    return read_annotation(Path(files[stem]))[1] if stem in files else ()


def _solution(ilsvrc: Path) -> dict[str, Objects]:
    """The objects that LOC_val_solution.csv lists, by the stem of the image; empty without that file."""
    path = next((one / SOLUTION for one in (ilsvrc.parent, ilsvrc) if (one / SOLUTION).exists()), None)
    if path is None:
        return {}
    need_regular(path, DataError)
    rows = csv.reader(decoded_text(path.read_bytes()).splitlines())
    if (header := next(rows, [])) != SOLUTION_HEADER:
        raise DataError(f"{path} begins with {shown(','.join(header))}, not with {','.join(SOLUTION_HEADER)}")
    found = {}
    for line, row in enumerate(rows, start=2):
        words = row[1].split() if len(row) == 2 else []
        if not words or len(words) % 5:
            raise DataError(f"{path}, line {line} is not an image and, for each object, its class and four numbers")
        objects = (words[start : start + 5] for start in range(0, len(words), 5))
        what = f"{path}, line {line}: the box"
        found[row[0]] = tuple(MarkedObject(label, read_box(what, corners)) for label, *corners in objects)
    return found
