"""Folders with one folder a class, in folders of splits or in one that is split by the hash.

A folder is told by its name, else by what lies in it; where neither decides, that is said.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vggcli.data.image_set import Record
from vggcli.data.left_out import left_out_below, unread_below
from vggcli.data.splits import hashed, loose_role, picked, role_of
from vggcli.data.walking import composed, folders_in, images_below, images_in
from vggcli.errors import DataError, counted


def class_folder_records(source: Path, split: str, remarks: list[str]) -> Iterable[Record]:
    """The images of one split of `source`, named relative to it, with the class that their folder says. What is left out,
    or taken for something without certainty, is said in `remarks`.

    Raises DataError where there is no such split, a class without an image, or a folder that could be two things.
    """
    names = folders_in(source)
    remarks += _loose(source) + left_out_below(source)
    splits = _splits(source, names, remarks)
    if not splits:
        return hashed(_records(source, source), split)
    folder = source / picked(split, sorted(splits), source, splits.get)
    role, inner = splits[folder.name], folders_in(folder)
    if len(inner) == 1 and role_of(inner[0]) == role:  # seg_train/seg_train, as unpacked
        folder /= inner[0]
    remarks += _loose(folder) + _beside(source, names, splits)
    return _records(source, folder, may_be_empty=role != "train")


def _splits(source: Path, names: Sequence[str], remarks: list[str]) -> dict[str, str]:
    """The folders that are splits, with their roles; none where all are classes: those called like splits that hold
    folders, or else all that hold the same folders and whose names have a word for a split in them."""
    called = {name: role for name in names if (role := role_of(name)) is not None}
    if any(folders_in(source / name) for name in called):
        return called
    _check_not_both(source, called, names)
    if not _hold_the_same(source, names):
        return {}
    called = {name: role for name in names if (role := loose_role(name)) is not None}
    if "train" in called.values():
        return called
    shown, inner = (", ".join(f"{name}/" for name in some[:3]) for some in (names, folders_in(source / names[0])))
    remarks.append(
        f"{shown} of {source} hold the same folders ({inner}) and are taken for classes; where they are splits, call them "
        f"train/ and val/"
    )
    return {}


def _check_not_both(source: Path, splits: dict[str, str], names: Sequence[str]) -> None:
    """Raises DataError where `splits`, folders without folders, could be splits or classes."""
    roles = set(splits.values())
    if splits and (len(splits) == len(names) or ("train" in roles and len(roles) > 1)):
        shown = ", ".join(f"{name}/" for name in splits)
        raise DataError(
            f"{shown} of {source} are called like splits but hold no class folders: give each split a folder for each "
            f"class, or, where these are classes, put all of them into {source / 'train'} and some images into val/"
        )


def _hold_the_same(source: Path, names: Sequence[str]) -> bool:
    """Whether there are two or more folders that hold folders of the same names and no images beside them."""
    inner = {frozenset(folders_in(source / name)) for name in names}
    return len(names) > 1 and len(inner) == 1 and all(inner) and not any(images_in(source / name) for name in names)


def _beside(source: Path, names: Sequence[str], splits: dict[str, str]) -> list[str]:
    """The remark that folders with images stand beside the splits, where some do."""
    others = [
        name for name in names if name not in splits and next(images_below(source / name, True), None) is not None
    ]
    shown = ", ".join(f"{name}/" for name in others[:3])
    return [f"{shown} beside the splits of {source} is no split, and its images are not used"] if others else []


def _loose(folder: Path) -> list[str]:
    """The remark that images lie beside the class folders of `folder`, where some do."""
    count = images_in(folder)
    verbs = "belongs to no class folder and is" if count == 1 else "belong to no class folder and are"
    return [f"{counted(count, 'image')} right in {folder} {verbs} not used"] if count else []


def _records(source: Path, folder: Path, may_be_empty: bool = False) -> Iterator[Record]:
    """Every image below each class folder of `folder`, named relative to `source`."""
    names = folders_in(folder)
    if not names:
        raise DataError(f"{folder} holds no class folders; each class needs a folder of its own with its images")
    for name in names:
        _check_no_splits(folder / name)
        empty = True
        for path in images_below(folder / name):
            empty = False
            yield Record(path.relative_to(source).as_posix(), composed(name))
        if empty and not may_be_empty:
            unread = unread_below(folder / name)
            what = f"holds no image that can be read: {unread[0]}" if unread else "holds no image; fill it or remove it"
            raise DataError(f"the class folder {folder / name} {what}")


def _check_no_splits(folder: Path) -> None:
    """Raises DataError where a class folder holds a training split and another, as a whole set does."""
    found = {role_of(name): name for name in folders_in(folder) if role_of(name)}
    if "train" in found and len(found) > 1:
        shown = " and ".join(f"{name}/" for name in sorted(found.values()))
        raise DataError(
            f"{folder} holds {shown}: if it is a set of its own, give that folder; if it is a class, its splits belong "
            f"outside it, as in {found['train']}/{folder.name}/",
            "data",
        )
