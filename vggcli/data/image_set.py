"""The images of one split with their names, class names and boxes, whatever source they are from."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vggcli.data.packed_names import chosen_names, names_after
from vggcli.data.tars import Place, TarMember, TarPlaces
from vggcli.data.voc import Box, MarkedObject, Size
from vggcli.errors import DataError, WeightsError, counted, did_you_mean
from vggcli.imagenet import imagenet_ids, imagenet_names


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a source: its path relative to the source (POSIX), its class name, and the objects marked in it."""

    name: str
    label: str
    objects: tuple[MarkedObject, ...] = ()


@dataclass(frozen=True)
class ImageSet:
    """One split: `names` are paths relative to `root`, `labels` are indices of `classes`, and `objects` has a tuple for
    each image with the objects of all classes that are marked in it, empty where none is. Their boxes are as the source has
    them; `checked_boxes` gives them in the image as it is read, and the `sizes` of the images so (width, height), which are
    otherwise not known. `remarks` say what was left out of the source. Images in tar files have `places`, and names that
    begin with the file's."""

    root: Path
    split: str
    classes: tuple[str, ...]
    names: Sequence[str]
    labels: tuple[int, ...]
    objects: tuple[tuple[MarkedObject, ...], ...]
    remarks: tuple[str, ...] = ()
    sizes: tuple[Size, ...] = ()
    places: TarPlaces | None = None

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Place:
        name = self.names[index]
        return self.root / name if self.places is None else self.places.member(index, name)

    @property
    def file_names(self) -> Sequence[str]:
        """The names of the images that are files of their own."""
        return self.names if self.places is None else ()

    def own_boxes(self, index: int) -> tuple[Box, ...]:
        """The boxes of an image's own class in it."""
        label = self.classes[self.labels[index]]
        return tuple(one.box for one in self.objects[index] if one.label == label)

    @property
    def has_objects(self) -> bool:
        """Whether an object is marked in any image."""
        return any(self.objects)

    def fingerprint(self, sizes: bool = True) -> str:
        """A SHA-256 of the names, the class names, checked boxes and, with `sizes`, the sizes of the files (-1 if missing):
        equal for sets of the same images, as far as that is known without reading them."""
        digest = hashlib.sha256()
        for index, (name, label) in enumerate(zip(self.names, self.labels, strict=True)):
            size = f"\0{size_of(self.path(index))}" if sizes else ""
            boxes = f"\0{self.own_boxes(index)}" if self.sizes else ""
            digest.update(f"{name}\0{self.classes[label]}{size}{boxes}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def with_classes(self, classes: tuple[str, ...]) -> "ImageSet":
        """The same images with labels as indices of other `classes`, which must include every class that has an image."""
        order = {name: index for index, name in enumerate(classes)}
        return replace(self, classes=classes, labels=tuple(order[self.classes[label]] for label in self.labels))

    def chosen(self, rows: Sequence[int]) -> "ImageSet":
        """The images at `rows`, in that order, with the same classes."""
        return replace(
            self,
            names=chosen_names(self.names, rows),
            labels=tuple(self.labels[row] for row in rows),
            objects=tuple(self.objects[row] for row in rows),
            sizes=tuple(self.sizes[row] for row in rows) if self.sizes else (),
            places=None if self.places is None else self.places.chosen(rows),
        )

    def classes_used(self) -> list[str]:
        """The names of the classes that have an image, sorted."""
        return sorted({self.classes[label] for label in set(self.labels)})


def with_names(images: ImageSet, classes: tuple[str, ...]) -> ImageSet:
    """`images` with ImageNet's class names in place of its WordNet IDs, if `classes` are these names."""
    if classes != imagenet_names() or not set(images.classes) <= set(imagenet_ids()):
        return images
    name_of = dict(zip(imagenet_ids(), imagenet_names(), strict=True))
    return replace(
        images,
        classes=tuple(name_of[wordnet_id] for wordnet_id in images.classes),
        objects=tuple(
            tuple(replace(one, label=name_of.get(one.label, one.label)) for one in marked) for marked in images.objects
        ),
    )


def match_classes(images: ImageSet, classes: tuple[str, ...]) -> ImageSet:
    """`images` with labels as indices of the weights' `classes`; folders named by ImageNet's WordNet IDs are matched with
    its class names. Raises WeightsError with the first classes that the weights do not have."""
    images = with_names(images, classes)
    unknown = [name for name in images.classes_used() if name not in set(classes)]
    if unknown:
        lacking, have = (", ".join(map(repr, some[:3])) + ", …" * (len(some) > 3) for some in (unknown, classes))
        what = f"{len(unknown)} of the data's classes ({lacking}); they have {len(classes)}: {have}"
        raise WeightsError(f"the weights lack {what}{did_you_mean(unknown[0], classes)}")
    return images.with_classes(classes)


def size_of(place: Place) -> int:
    """The bytes of an image, -1 where it is not there."""
    if isinstance(place, TarMember):
        return place.size
    try:
        return place.stat().st_size
    except (OSError, ValueError):
        return -1


def joined(one: ImageSet, other: ImageSet) -> ImageSet:
    """Two splits of a source joined, with the classes of both. Raises DataError where they share an image."""
    shared = set(one.names) & set(other.names)
    if shared:
        what = f"{counted(len(shared), 'image')}, such as {min(shared)}; use splits that do not"
        raise DataError(f"the splits {one.split} and {other.split} of {one.root} share {what}")
    classes = tuple(sorted({*one.classes, *other.classes}))
    first, second = one.with_classes(classes), other.with_classes(classes)
    return replace(
        first,
        split=f"{one.split}+{other.split}",
        names=names_after(first.names, second.names),
        labels=first.labels + second.labels,
        objects=first.objects + second.objects,
        remarks=tuple(dict.fromkeys(one.remarks + other.remarks)),
        places=first.places.joined(second.places) if first.places and second.places else None,
    )
