"""What this program itself writes, told from a user's images: runs, stored numbers, and pictures, which say who drew them.

A picture counts as ours by the mark that it carries, or by the run folder that it lies in.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vggcli.errors import counted

DRAWN_BY = {"Software": "vgg"}  # the text that our pictures carry
DRAWN_MARK = b"Software\0vgg"  # as it stands near the beginning of a PNG
DRAWN_MARK_BYTES = 256  # in which it stands
CONFIG, MANIFEST = "config.json", "manifest.json"
CONFIG_KEYS = {"arch", "recipe"}
MANIFEST_KEYS = {"shard_size", "settings"}
RUN_FILES = ("best.safetensors", "last.safetensors", "log.jsonl")
VIEWS = "views.png"
RUN_PICTURES = ("curves", "views", "worst")
STORE_SUFFIXES = (".safetensors", ".npy", ".npz", ".parquet", ".csv")  # of files of descriptors
STORE_MARKS = (  # in our files of numbers, or beside them
    *(b"weights_sha256", "weights_sha256".encode("utf-32-le")),  # descriptors; the latter as .npz has texts
    *(b'"vgg"', b'"posteriors"'),  # weights; scores
)
MOST_JSON = 1 << 22  # bytes of a config or a manifest that is looked at
END_BYTES = 1 << 16  # of a file of numbers that are looked at


@dataclass
class Own:
    """What of this program's lies at `path`, a folder, and below it: counts of runs, of stored files and of pictures.
    `others` are images in runs that do not say that they were drawn. `whole` says that there is no other image, `is_run`
    that the folder is itself a run."""

    path: Path
    runs: int = 0
    stored: int = 0
    pictures: int = 0
    others: int = 0
    whole: bool = True
    is_run: bool = False

    def sentence(self) -> str:
        """What is said where it is left out."""
        if not self.whole:
            return f"{counted(self.pictures, 'picture')} that vgg drew, in {self.path}/, {self._verb()} left out"
        others = f", with {counted(self.others, 'image')} that vgg may not have drawn" if self.others else ""
        if self.is_run and self.runs == 1:
            return f"{self.path}/ is a run of vgg and is left out{others}"
        if self.runs:
            return f"{self.path}/ holds {counted(self.runs, 'run')} of vgg and is left out{others}"
        what = "numbers that vgg stored" if self.stored else counted(self.pictures, "picture") + " that vgg drew"
        return f"{self.path}/ holds {what} and is left out"

    def _verb(self) -> str:
        return "is" if self.pictures == 1 else "are"


def own_sentences(found: Sequence[Own]) -> list[str]:
    """What is said of everything that was left out, in the order of the paths."""
    return [one.sentence() for one in sorted(found, key=lambda one: one.path)]


def is_run(folder: Path) -> bool:
    """Whether `folder` holds something that a run of ours holds."""
    return any((folder / name).is_file() for name in RUN_FILES) or _has_config(folder)


def is_whole_run(folder: Path) -> bool:
    """Whether `folder` is a run without doubt: it begins as one does, and goes on so."""
    return any((folder / name).is_file() for name in (*RUN_FILES, VIEWS)) and _has_config(folder)


def was_drawn(path: Path) -> bool:
    """Whether this program drew the PNG at `path`, which says so or is called as those of a run are."""
    named = path.stem in RUN_PICTURES or path.stem.startswith("worst-")
    return (named and is_run(path.parent)) or DRAWN_MARK in _begin(path)


def is_stored(path: Path) -> bool:
    """Whether the file at `path` holds numbers that this program stored: descriptors, posteriors or weights."""
    if path.name == MANIFEST:
        return _has_keys(path, MANIFEST_KEYS)
    if path.suffix.lower() not in STORE_SUFFIXES or not path.is_file():
        return False
    beside = path.with_name(f"{path.name}.json")
    return any(mark in ends for ends in (_ends(path), _ends(beside)) for mark in STORE_MARKS)


def _has_config(folder: Path) -> bool:
    return _has_keys(folder / CONFIG, CONFIG_KEYS)


def _has_keys(path: Path, keys: set[str]) -> bool:
    try:
        if not path.is_file() or path.stat().st_size > MOST_JSON:
            return False
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and keys <= found.keys()


def _begin(path: Path) -> bytes:
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(DRAWN_MARK_BYTES)
    except OSError:
        return b""


def _ends(path: Path) -> bytes:
    """The first and the last bytes of a file; none where it cannot be read."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            begin = file.read(END_BYTES)
            file.seek(max(len(begin), path.stat().st_size - END_BYTES))
            return begin + file.read(END_BYTES)
    except OSError:
        return b""
