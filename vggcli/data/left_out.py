"""Images that are left out, counted and said, wherever they lie: of formats that cannot be read here, or our own.

A class of nothing else is an error, as it would vanish.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from vggcli.data.extra_formats import HINTS
from vggcli.data.image_set import ImageSet, Record
from vggcli.data.own_files import Own, own_sentences
from vggcli.data.walking import files_below, unread_kind
from vggcli.errors import DataError, counted
from vggcli.progress import LOG


def note_remarks(*splits: ImageSet) -> None:
    """Note what was left out of splits, each thing once."""
    for remark in dict.fromkeys(remark for images in splits for remark in images.remarks):
        LOG.info(f"data: {remark}")


def unread_images(folder: Path, own: list[Own] | None = None) -> Iterator[tuple[Path, str]]:
    """Every image below `folder` that cannot be read here, junk aside, with its format. What this program wrote is put
    into `own`."""
    for path in files_below(folder, own):
        kind = unread_kind(path)
        if kind is not None:
            yield path, kind


def unread_below(folder: Path) -> list[str]:
    """One sentence for each format of which files lie below `folder` and cannot be read here."""
    return unread_sentences((kind for _, kind in unread_images(folder)), f"below {folder}")


def left_out_below(folder: Path) -> list[str]:
    """One sentence for each thing of this program's below `folder`, then those of `unread_below`."""
    own: list[Own] = []
    unread = unread_sentences((kind for _, kind in unread_images(folder, own)), f"below {folder}")
    return own_sentences(own) + unread


def own_below(folder: Path) -> list[str]:
    """One sentence for each thing of this program's below `folder`, which is left out."""
    own: list[Own] = []
    for _ in files_below(folder, own):
        pass
    return own_sentences(own)


def unread_sentences(kinds: Iterable[str], where: str) -> list[str]:
    """What is said of images that are not read, each given by its format: a sentence for each of these, with the count."""
    return [
        f"{counted(count, f'{kind} image')} {where} cannot be read here and {'is' if count == 1 else 'are'} not used; "
        f"{HINTS[kind]}"
        for kind, count in Counter(kinds).items()
    ]


def readable(records: Iterable[Record], root: Path, where: str, remarks: list[str]) -> list[Record]:
    """The records, named relative to `root`, whose images can be read here as far as their format goes; the others are
    said in `remarks`. Raises DataError for a class of which none is left."""
    kept: list[Record] = []
    left_out: dict[str, list[str]] = {}  # formats by class
    for record in records:
        kind = unread_kind(root / record.name)
        if kind is None:
            kept.append(record)
        else:
            left_out.setdefault(record.label, []).append(kind)
    remarks += unread_sentences((kind for kinds in left_out.values() for kind in kinds), where)
    lost = sorted(left_out.keys() - {record.label for record in kept})
    if lost:
        said = unread_sentences(left_out[lost[0]], where)[0]
        raise DataError(f"the class {lost[0]!r} has no image that can be read: {said}")
    return kept
