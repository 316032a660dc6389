"""Small sets with Pascal VOC annotations, as tests make them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.conftest import picture

Marked = tuple[str, tuple[float, float, float, float], int]  # class name, box, difficult


def annotation(filename: str, objects: Sequence[Marked]) -> str:
    """The text of an XML file."""
    marks = "".join(
        f"<object><name>{name}</name><pose>Left</pose><difficult>{difficult}</difficult><bndbox><xmin>{box[0]}</xmin>"
        f"<ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox>"
        f"<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part></object>"
        for name, box, difficult in objects
    )
    size = "<size><width>48</width><height>64</height><depth>3</depth></size>"
    return f"<annotation><folder>x</folder><filename>{filename}</filename>{size}{marks}</annotation>"


def voc_set(
    root: Path, images: Mapping[str, Sequence[Marked]], annotations: str = "Annotations", pictures: str = "JPEGImages"
) -> Path:
    """A folder with one JPEG and one XML file for each stem of `images`."""
    for folder in (annotations, pictures):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for index, (stem, objects) in enumerate(images.items()):
        picture(index % 3, index).save(root / pictures / f"{stem}.jpg")
        (root / annotations / f"{stem}.xml").write_text(annotation(f"{stem}.jpg", objects))
    return root


def listed(root: Path, **splits: Sequence[str]) -> Path:
    """The same with ImageSets/Main naming the stems of each split."""
    folder = root / "ImageSets" / "Main"
    folder.mkdir(parents=True)
    for name, stems in splits.items():
        (folder / f"{name}.txt").write_text("".join(f"{stem}\n" for stem in stems))
    (folder / "dog_train.txt").write_text("one  1\n")  # the devkit has such lists too
    return root
