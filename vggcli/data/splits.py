"""The names of splits: in any case, with the common synonyms, and with the words that people add to them.

A name has a role ("train", "val" or "test") or none. "val" means the split to validate on, which is the test split where a
source has no other.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from vggcli.data.image_set import Record
from vggcli.errors import DataError, did_you_mean

VALIDATION_NAMES = ("val", "validation", "valid", "test")
SPLIT_NAMES = ("train", *VALIDATION_NAMES)
ROLES = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "validating", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
AROUND = frozenset("set data dataset images imgs img image pictures photos seg split folder".split())  # seg_train
VALIDATION_SHARE = 0.2
WORD = re.compile(r"([a-z]+?)(?:data|images|set)?(?:19\d\d|20\d\d)?")  # trainset, val2017


def role_of(name: str) -> str | None:
    """ "train", "val" or "test" for the name of a split (`Training`, `TEST`, `seg_train`, `val2017`), else None."""
    words = [word for word in re.split(r"[\s_.\-]+", name.strip().casefold()) if word and word not in AROUND]
    match = WORD.fullmatch(words[0]) if len(words) == 1 else None
    return ROLES.get(match[1]) if match else None


def loose_role(name: str) -> str | None:
    """The role of a name with one word for it (`X_train`, `train_256`, `trainA`, `1_val`), else None; for likely splits."""
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).casefold())
    roles = {ROLES[word] for word in words if word in ROLES}
    return roles.pop() if len(roles) == 1 else None


def picked(
    split: str,
    present: Sequence[str],
    source: Path,
    role: Callable[[str], str | None] = role_of,
    shards: bool = False,
) -> str:
    """The name among those `present` in `source` that `split` means: the same name, otherwise the one of the same role, and
    for "val" also a test split. Raises DataError where there is none, or more than one. The names are those of folders, or
    of `shards`."""
    names = sorted(present)
    if split in names:
        return split
    for wanted in (role_of(split), "test" if split == "val" else None):
        found = [name for name in names if wanted is not None and role(name) == wanted]
        first = [name for name in found if _rank(name) == min(map(_rank, found))]
        if len(first) > 1:
            raise DataError(f"{source} has {' and '.join(first)}: each could be the {split} split; rename all but one")
        if first:
            return first[0]
    end, kind = ("-*.tar", "") if shards else ("/", " folder")
    have = ", ".join(f"{name}{end}" for name in names)
    advice = "; add some" if shards else "; add one, or rename any class that is named like a split"
    raise DataError(f"{source} has no {split}{end}{kind} (it has {have}){did_you_mean(split, names) or advice}")


def _rank(name: str) -> int:
    """The rank of a name among synonyms: val before validation before valid before any other."""
    plain = name.casefold()
    return SPLIT_NAMES.index(plain) if plain in SPLIT_NAMES else len(SPLIT_NAMES)


def picked_role(split: str, roles: Iterable[str]) -> str | None:
    """The role among `roles` that `split` means, or None: its own, and for "val" also "test"."""
    present, role = set(roles), role_of(split)
    if split == "val" and "val" not in present and "test" in present:
        return "test"
    return role if role in present else None


def hashed(records: Iterable[Record], split: str) -> Iterator[Record]:
    """The records of one side of an 80/20 split by a hash of the relative path. Raises DataError for any other split."""
    need_hashed(split)
    return (record for record in records if is_hashed_into(split, record.name))


def need_hashed(split: str) -> None:
    """Raises DataError for a split that is not one side of a split by a hash."""
    if split not in ("train", "val"):
        raise DataError(f"this source has no split {split!r}: it is split into train and val by a hash of the paths")


def is_hashed_into(split: str, name: str) -> bool:
    """Whether the hash of a relative path puts an image on this side ("train" or "val") of an 80/20 split."""
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).digest()
    return (int.from_bytes(digest[:8], "big") < VALIDATION_SHARE * 2**64) == (split == "val")
