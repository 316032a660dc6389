"""Tells what this program wrote (runs, stored numbers and pictures) from a user's images.

A picture counts as this program's by a mark in its metadata, or by the run folder that it is in.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from vggcli.errors import counted

DRAWN_BY = {"Software": "vgg"}  # the metadata of this program's pictures
DRAWN_MARK, DRAWN_MARK_BYTES = b"Software\0vgg", 256  # the same in a PNG, within so many bytes from its beginning
CONFIG, MANIFEST = "config.json", "manifest.json"
CONFIG_KEYS = {"arch", "recipe"}
RUN_FILES = ("best.safetensors", "last.safetensors", "log.jsonl")
VIEWS = "views.png"
RUN_PICTURES = ("curves", "views", "worst")
STORE_SUFFIXES = (".safetensors", ".npy", ".npz", ".parquet", ".csv")  # of files of descriptors
# In this program's files of numbers, or in those beside them: descriptors (also as text in .npz), weights, scores.
STORE_MARKS = (b"weights_sha256", "weights_sha256".encode("utf-32-le"), b'"vgg"', b'"posteriors"')
MOST_JSON = 1 << 22  # bytes of the largest config or manifest that is read
END_BYTES = 1 << 16  # that are read from each end of a file of numbers


@dataclass
class Own:
    """The number of runs, stored files and pictures that this program wrote in the folder `path` or below, and of images
    in runs without its mark (`others`). `whole`: there is no other image. `is_run`: the folder itself is a run."""

    path: Path
    runs: int = 0
    stored: int = 0
    pictures: int = 0
    others: int = 0
    whole: bool = True
    is_run: bool = False

    def sentence(self) -> str:
        """The remark that it is left out."""
        if not self.whole:
            verb = "is" if self.pictures == 1 else "are"
            return f"{counted(self.pictures, 'picture')} that vgg drew, in {self.path}/, {verb} left out"
        others = f", with {counted(self.others, 'image')} that vgg may not have drawn" if self.others else ""
        if self.is_run and self.runs == 1:
            return f"{self.path}/ is a run of vgg and is left out{others}"
        if self.runs:
            return f"{self.path}/ holds {counted(self.runs, 'run')} of vgg and is left out{others}"
        what = "numbers that vgg stored" if self.stored else counted(self.pictures, "picture") + " that vgg drew"
        return f"{self.path}/ holds {what} and is left out"


def is_run(folder: Path) -> bool:
    """Whether `folder` has a file of one of this program's runs."""
    return any((folder / name).is_file() for name in RUN_FILES) or _has_keys(folder / CONFIG, CONFIG_KEYS)


def is_whole_run(folder: Path) -> bool:
    """Whether `folder` is certainly a run: it has the config of one and another of its files."""
    return any((folder / name).is_file() for name in (*RUN_FILES, VIEWS)) and _has_keys(folder / CONFIG, CONFIG_KEYS)


def was_drawn(path: Path) -> bool:
    """Whether this program drew the PNG at `path`: it has the mark, or is in a run and named like a picture of one."""
    named = path.stem in RUN_PICTURES or path.stem.startswith("worst-")
    return (named and is_run(path.parent)) or DRAWN_MARK in _ends(path, DRAWN_MARK_BYTES)


def is_stored(path: Path) -> bool:
    """Whether the file at `path` holds numbers that this program stored: descriptors, posteriors or weights."""
    if path.name == MANIFEST:
        return _has_keys(path, {"shard_size", "settings"})
    if path.suffix.lower() not in STORE_SUFFIXES or not path.is_file():
        return False
    beside = path.with_name(f"{path.name}.json")
    both = _ends(path, END_BYTES, END_BYTES), _ends(beside, END_BYTES, END_BYTES)
    return any(mark in ends for ends in both for mark in STORE_MARKS)


def _has_keys(path: Path, keys: set[str]) -> bool:
    text = _ends(path, MOST_JSON + 1)
    try:
        found = json.loads(text) if len(text) <= MOST_JSON else None
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and keys <= found.keys()


def _ends(path: Path, first: int, last: int = 0) -> bytes:
    """The `first` and the `last` bytes of a regular file; empty where it cannot be read."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            begin = file.read(first)
            file.seek(max(len(begin), path.stat().st_size - last))
            return begin + file.read(last)
    except OSError:
        return b""
