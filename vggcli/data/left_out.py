"""Images that are left out of a source, and what is said about them: those of formats that cannot be read here, and those
that this program wrote.

A class in which no other image is left is an error, as it would silently disappear.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from vggcli.data.extra_formats import HINTS
from vggcli.data.image_set import ImageSet, Record
from vggcli.data.own_files import Own
from vggcli.data.walking import files_below, unread_kind
from vggcli.errors import DataError, counted
from vggcli.progress import LOG


def note_remarks(*splits: ImageSet) -> None:
    """Log what was left out of splits, each remark once."""
    for remark in dict.fromkeys(remark for images in splits for remark in images.remarks):
        LOG.info(f"data: {remark}")


def unread_images(folder: Path, own: list[Own] | None = None) -> Iterator[tuple[Path, str]]:
    """Every image below `folder` that cannot be read here, with its format; `own` gets what this program wrote there."""
    return ((path, kind) for path in files_below(folder, own) if (kind := unread_kind(path)) is not None)


def left_out_below(folder: Path, own_only: bool = False) -> list[str]:
    """Sentences on what this program wrote below `folder` and, unless `own_only`, on images that cannot be read here."""
    own: list[Own] = []
    files = files_below(folder, own)
    kinds = [kind for path in files if not own_only and (kind := unread_kind(path)) is not None]
    said = [one.sentence() for one in sorted(own, key=lambda one: one.path)]
    return said + unread_sentences(kinds, f"below {folder}")


def unread_sentences(kinds: Iterable[str], where: str) -> list[str]:
    """One sentence for each format of images that cannot be read; `kinds` has the format of each of them."""
    return [
        f"{counted(count, f'{kind} image')} {where} cannot be read here and {'is' if count == 1 else 'are'} left out; "
        f"{HINTS[kind]}"
        for kind, count in Counter(kinds).items()
    ]


def readable(records: Iterable[Record], root: Path, where: str, remarks: list[str]) -> list[Record]:
    """The records, named relative to `root`, of images whose format can be read here; `remarks` gets the number of the
    others. Raises DataError for a class of which no image is left."""
    kept: list[Record] = []
    left_out: dict[str, list[str]] = {}  # formats by class
    for record in records:
        kind = unread_kind(root / record.name)
        if kind is None:
            kept.append(record)
        else:
            left_out.setdefault(record.label, []).append(kind)
    remarks += unread_sentences((kind for kinds in left_out.values() for kind in kinds), where)
    for label in sorted(left_out.keys() - {record.label for record in kept}):
        said = unread_sentences(left_out[label], where)[0]
        raise DataError(f"the class {label!r} has no image that can be read: {said}")
    return kept
