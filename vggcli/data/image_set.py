"""The images of one split with their names, class names and boxes: what every source becomes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vggcli.data.voc import MarkedObject
from vggcli.errors import DataError, WeightsError, counted
from vggcli.imagenet import imagenet_ids, imagenet_names

Box = tuple[float, float, float, float]  # xmin, ymin, xmax, ymax in pixels of the upright image


@dataclass(frozen=True)
class Record:
    """One image of a source: its path relative to the source (POSIX), its class name, the boxes of that class, if any, and
    every object that is marked in it, of whichever class, if the source marks objects."""

    name: str
    label: str
    boxes: tuple[Box, ...] = ()
    objects: tuple[MarkedObject, ...] = ()


@dataclass(frozen=True)
class ImageSet:
    """One split: `names` are paths relative to `root`, `labels` index `classes`, `boxes` has one tuple an image, of the
    boxes of its label. `objects` has one tuple an image, of every class, where the source marks objects, else none.
    `remarks` say what of the source was left out."""

    root: Path
    split: str
    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: tuple[int, ...]
    boxes: tuple[tuple[Box, ...], ...]
    objects: tuple[tuple[MarkedObject, ...], ...] = ()
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        return self.root / self.names[index]

    def fingerprint(self, sizes: bool = True) -> str:
        """A SHA-256 of the names, class names and, with `sizes`, bytes of the files (-1 where one is not there): equal
        where two sets hold the same images, as far as that is known without reading them."""
        digest = hashlib.sha256()
        for index, (name, label) in enumerate(zip(self.names, self.labels, strict=True)):
            size = f"\0{_bytes(self.path(index))}" if sizes else ""
            digest.update(f"{name}\0{self.classes[label]}{size}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def with_classes(self, classes: tuple[str, ...]) -> "ImageSet":
        """The same images with their labels as indices of `classes`, which must hold every class that occurs."""
        order = {name: index for index, name in enumerate(classes)}
        return replace(self, classes=classes, labels=tuple(order[self.classes[label]] for label in self.labels))

    def chosen(self, rows: Sequence[int]) -> "ImageSet":
        """The images at `rows`, in that order, with the same classes."""
        return replace(
            self,
            names=tuple(self.names[row] for row in rows),
            labels=tuple(self.labels[row] for row in rows),
            boxes=tuple(self.boxes[row] for row in rows),
            objects=tuple(self.objects[row] for row in rows) if self.objects else (),
        )

    def classes_used(self) -> list[str]:
        """The names of the classes that have an image, sorted."""
        return sorted({self.classes[label] for label in set(self.labels)})


def match_classes(images: ImageSet, classes: tuple[str, ...]) -> ImageSet:
    """`images` with labels in the order of the weights' `classes`; ImageNet's folders, named by WordNet IDs, are matched
    with its class names. Raises WeightsError naming the first classes that the weights do not know."""
    if classes == imagenet_names() and set(images.classes) <= set(imagenet_ids()):
        name_of = dict(zip(imagenet_ids(), imagenet_names(), strict=True))
        images = replace(images, classes=tuple(name_of[wordnet_id] for wordnet_id in images.classes))
    unknown = [name for name in images.classes_used() if name not in set(classes)]
    if unknown:
        shown = ", ".join(repr(name) for name in unknown[:3]) + (", …" if len(unknown) > 3 else "")
        known = ", ".join(repr(name) for name in classes[:3]) + (", …" if len(classes) > 3 else "")
        raise WeightsError(
            f"the weights do not know {len(unknown)} of the data's classes ({shown}); they know {len(classes)}: {known}"
        )
    return images.with_classes(classes)


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def joined(one: ImageSet, other: ImageSet) -> ImageSet:
    """Two splits of a source as one, with the classes of both. Raises DataError where they share an image."""
    shared = set(one.names) & set(other.names)
    if shared:
        raise DataError(
            f"the splits {one.split} and {other.split} of {one.root} share {counted(len(shared), 'image')}, "
            f"such as {min(shared)}; "
            f"take two that do not"
        )
    classes = tuple(sorted({*one.classes, *other.classes}))
    first, second = one.with_classes(classes), other.with_classes(classes)
    return replace(
        first,
        split=f"{one.split}+{other.split}",
        names=first.names + second.names,
        labels=first.labels + second.labels,
        boxes=first.boxes + second.boxes,
        objects=first.objects + second.objects if first.objects and second.objects else (),
        remarks=tuple(dict.fromkeys(one.remarks + other.remarks)),
    )
