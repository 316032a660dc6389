"""Folders with a folder for each class, within folders of splits or in one that is split by a hash.

Whether a folder is a split is told by its name, otherwise by what it contains; where neither decides, that is an error or
a remark.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vggcli.data.image_set import Record
from vggcli.data.left_out import left_out_below, unread_images, unread_sentences
from vggcli.data.splits import hashed, loose_role, picked, role_of
from vggcli.data.walking import composed, folders_in, images_below, images_in
from vggcli.errors import DataError, counted


def class_folder_records(source: Path, split: str, remarks: list[str]) -> Iterable[Record]:
    """The images of one split of `source`, named relative to it, with their folder's name as the class. `remarks` gets what
    is left out and what was decided without certainty.

    Raises DataError where there is no such split, a class without an image, or a folder that could be two things.
    """
    names = folders_in(source)
    remarks += _loose(source) + left_out_below(source)
    splits = _splits(source, names, remarks)
    if not splits:
        return hashed(records_below(source, source), split)
    folder = source / picked(split, sorted(splits), source, splits.get)
    role, inner = splits[folder.name], folders_in(folder)
    if len(inner) == 1 and role_of(inner[0]) == role:  # seg_train/seg_train, as unpacked
        folder /= inner[0]
    remarks += _loose(folder)
    others = [name for name in names if name not in splits and any(images_below(source / name, True))]
    if others:
        shown = ", ".join(f"{name}/" for name in others[:3])
        remarks.append(f"{shown} beside the splits of {source}: these images belong to no split and are left out")
    return records_below(source, folder, may_be_empty=role != "train")


def _splits(source: Path, names: Sequence[str], remarks: list[str]) -> dict[str, str]:
    """The folders that are splits, with their roles; empty where all folders are classes. Splits are folders that are named
    like splits and contain folders; or all folders, if they contain the same folders and a word in their names is a
    split's. Raises DataError where folders without folders could be splits or classes."""
    called = {name: role for name in names if (role := role_of(name)) is not None}
    if any(folders_in(source / name) for name in called):
        return called
    roles = set(called.values())
    if called and (len(called) == len(names) or ("train" in roles and len(roles) > 1)):
        shown = ", ".join(f"{name}/" for name in called)
        raise DataError(
            f"{shown} of {source} are named like splits but hold no class folders: give each split a folder for each "
            f"class, or, if these are classes, put all of them into {source / 'train'} and some images into val/"
        )
    inside = {frozenset(folders_in(source / name)) for name in names}
    alike = len(names) > 1 and len(inside) == 1 and all(inside)
    if not alike or any(images_in(source / name) for name in names):
        return {}
    called = {name: role for name in names if (role := loose_role(name)) is not None}
    if "train" in called.values():
        return called
    shown, inner = (", ".join(f"{name}/" for name in some[:3]) for some in (names, folders_in(source / names[0])))
    advice = "if they are splits, rename them train/ and val/"
    remarks.append(f"{shown} of {source} hold the same folders ({inner}) and are used as classes; {advice}")
    return {}


def _loose(folder: Path) -> list[str]:
    """The remark that there are images beside the class folders of `folder`, if there are."""
    count = images_in(folder)
    verbs = "belongs to no class folder and is" if count == 1 else "belong to no class folder and are"
    return [f"{counted(count, 'image')} in {folder} itself {verbs} left out"] if count else []


def records_below(source: Path, folder: Path, may_be_empty: bool = False) -> Iterator[Record]:
    """Every image below each class folder of `folder`, named relative to `source`."""
    names = folders_in(folder)
    if not names:
        raise DataError(f"{folder} holds no class folders; each class needs a folder with its images")
    for name in names:
        found = {role_of(inner): inner for inner in folders_in(folder / name) if role_of(inner)}
        if "train" in found and len(found) > 1:  # as in a whole data set
            what = f"{folder / name} holds {' and '.join(f'{split}/' for split in sorted(found.values()))}"
            advice = f"if it is a class, its splits belong outside it, as in {found['train']}/{name}/"
            raise DataError(f"{what}: if it is a whole data set, give that folder; {advice}", "data")
        empty = True
        for path in images_below(folder / name):
            empty = False
            yield Record(path.relative_to(source).as_posix(), composed(name))
        if empty and not may_be_empty:
            unread = unread_sentences((kind for _, kind in unread_images(folder / name)), f"below {folder / name}")
            what = f"that can be read: {unread[0]}" if unread else "at all; fill it or remove it"
            raise DataError(f"the class folder {folder / name} holds no image {what}")
