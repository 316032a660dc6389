"""Finds image files below folders: which files count as images, what is left by servers, systems and editors, and links.

A file counts as an image by its suffix, otherwise by its first bytes; whether it can be decoded shows when it is read.
"""

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from vggcli.data.extra_formats import EXTRA_SUFFIXES, can_read, kind_named, kind_of
from vggcli.data.own_files import Own, is_run, is_stored, is_whole_run, was_drawn
from vggcli.errors import DataError

JUNK = frozenset(
    (
        "__macosx|network trash folder|temporary items|icon\r|"  # macOS; its other files are hidden
        "thumbs.db|ehthumbs.db|desktop.ini|$recycle.bin|recycler|system volume information|"  # Windows
        "@eadir|@tmp|@recycle|@recently-snapshot|@sharebin|#recycle|#snapshot|~snapshot|"  # servers
        "@__thumb|_gsdata_|thumbs|_thumbs|cvs|_vti_cnf|"  # thumbnails, copies
        "lost+found|found.000|__pycache__"
    ).split("|")
)
JUNK_ENDINGS = ("~", "@synoeastream", "@synoresource")  # backup copies of editors; files of Synology servers
IMAGE_SUFFIXES = frozenset(".jpg .jpeg .jpe .jfif .png .webp .bmp .dib .tif .tiff .gif .ppm .pgm .pbm .pnm".split())
KNOWN_SUFFIXES = IMAGE_SUFFIXES | EXTRA_SUFFIXES
HEAD_BYTES = 256
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"GIF87a", b"GIF89a")
BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # possible sizes of the second header of a BMP
PNM = re.compile(rb"P[456](?:\s+(?:#[^\n]*\n\s*)*)\d+\s+(?:#[^\n]*\n\s*)*\d+\s")


def images_below(folder: Path, broken_links: bool = False) -> Iterator[Path]:
    """Every image below `folder` except junk; links are followed, but not in circles. Raises DataError for a folder that
    cannot be read and for a broken link; with `broken_links`, these are included instead."""
    for path in files_below(folder):
        if not broken_links:
            check_link(path)
        if looks_like_image(path) or (path.is_symlink() and not path.exists()):
            yield path


def files_below(folder: Path, left_out: list[Own] | None = None) -> Iterator[Path]:
    """Every file below `folder` except junk and what this program wrote, which is added to `left_out`; links are followed,
    but not in circles. Raises DataError for a folder that cannot be read."""
    ours: list[Own] = [] if left_out is None else left_out
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_unreadable_folder):
        real = os.path.realpath(parent)
        if real in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        inside = {name: own_in(Path(parent, name)) for name in folders if not is_junk(name)}
        ours += (own for own in inside.values() if own)
        folders[:] = [name for name, own in inside.items() if own is None]
        here = Own(Path(parent), whole=False)
        of_run = is_whole_run(here.path)
        for path in (here.path / name for name in files if not is_junk(name)):
            if is_own_picture(path, of_run):
                here.pictures += 1
            else:
                yield path
        if here.pictures:
            ours.append(here)


def own_in(folder: Path) -> Own | None:
    """What this program wrote in `folder` and below it, or None where it wrote nothing or there is any other image."""
    own = Own(folder, is_run=is_run(folder))
    waiting, seen = [folder], set[str]()
    while waiting:
        here = waiting.pop()
        real = os.path.realpath(here)
        if real in seen:
            continue
        seen.add(real)
        own.runs += is_run(here)
        of_run = is_whole_run(here)
        try:
            for entry in here.iterdir():
                if is_junk(entry.name):
                    continue
                if entry.is_dir():
                    waiting.append(entry)
                elif is_own_picture(entry, of_run):
                    own.pictures += 1
                    own.others += not was_drawn(entry)
                elif is_stored(entry):
                    own.stored += 1
                elif looks_like_image(entry) or unread_kind(entry):
                    return None
        except OSError:  # reported where the folder is walked
            return None
    return own if own.runs or own.stored or own.pictures else None


def is_own_picture(path: Path, of_run: bool) -> bool:
    """Whether this program drew the image at `path`; `of_run` means that its folder is a run, whose images all count."""
    suffix = path.suffix.lower()
    ours = suffix == ".png" or suffix not in IMAGE_SUFFIXES  # other images are not searched for the mark
    return (of_run and suffix in IMAGE_SUFFIXES) or (ours and was_drawn(path))


def folders_in(folder: Path) -> list[str]:
    """The names of the folders in `folder`, sorted, without junk, what this program wrote, and links to a parent folder.
    Raises DataError as `images_below` does."""
    try:
        entries = [entry for entry in folder.iterdir() if not is_junk(entry.name)]
    except OSError as error:
        _unreadable_folder(error)
        raise
    for entry in entries:
        check_link(entry)
    inside = folder.resolve()
    folders = [entry for entry in entries if entry.is_dir() and not inside.is_relative_to(entry.resolve())]
    return sorted(entry.name for entry in folders if own_in(entry) is None)


def images_in(folder: Path) -> int:
    """The number of images in `folder` itself, not below it."""
    of_run = is_whole_run(folder)
    files = (path for path in folder.iterdir() if path.is_file() and not is_junk(path.name))
    return sum(1 for path in files if looks_like_image(path) and not is_own_picture(path, of_run))


def check_link(path: Path) -> None:
    """Raises DataError for a broken link."""
    if path.is_symlink() and not path.exists():
        raise DataError(f"{path} is a broken link (to {path.readlink()}); repair it or remove it")


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or left behind by a server, a system or an editor."""
    lowered = name.lower()
    return name.startswith((".", "~$")) or lowered in JUNK or lowered.endswith(JUNK_ENDINGS)


def looks_like_image(path: Path) -> bool:
    """Whether a file counts as an image by its suffix or its first bytes. Extra formats count if they can be read here."""
    named = kind_named(path.name)
    if path.suffix.lower() in IMAGE_SUFFIXES or (named is not None and can_read(named)):
        return True
    kind = kind_of(head := head_of(path))
    return begins_like_image(head) or (kind is not None and can_read(kind))


def unread_kind(path: Path) -> str | None:
    """The extra format of a file, by its first bytes or its suffix, if it cannot be read here; otherwise None."""
    return None if path.suffix.lower() in IMAGE_SUFFIXES else unread_kind_of(head_of(path), path.name)


def unread_kind_of(head: bytes, name: str) -> str | None:
    """As `unread_kind`, for a file called `name` that begins with `head`."""
    kind = kind_of(head) or kind_named(name)
    return None if kind is None or begins_like_image(head) or can_read(kind) else kind


def head_of(path: Path) -> bytes:
    """The first bytes of a regular file; empty for anything else."""
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def begins_like_image(head: bytes) -> bool:
    """Whether `head`, the first bytes of a file, is that of an image. Whole signatures are compared, not two bytes."""
    if head.startswith(b"RIFF"):
        return head[8:12] == b"WEBP"
    if head.startswith(b"BM"):
        return head[6:10] == bytes(4) and int.from_bytes(head[14:18], "little") in BMP_HEADERS
    return head.startswith(SIGNATURES) or PNM.match(head) is not None


class Spellings:
    """Finds files whose names on disk differ only in Unicode form (é as two characters, on macOS) or in backslashes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.listings: dict[Path, dict[str, str]] = {}

    def existing(self, name: str) -> str:
        """`name`, relative to the root, as it is written on the disk, or unchanged if there is no such file."""
        if (name.isascii() and "\\" not in name) or (self.root / name).exists():
            return name
        name = name.replace("\\", "/")
        folder, parts = self.root, Path(name).parts
        for part in parts:
            folder = folder / self._listing(folder).get(composed(part), part)
        return folder.relative_to(self.root).as_posix() if folder.exists() and not Path(name).is_absolute() else name

    def _listing(self, folder: Path) -> dict[str, str]:
        if folder not in self.listings:
            names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
            self.listings[folder] = {composed(name): name for name in names}
        return self.listings[folder]


def composed(name: str) -> str:
    """`name` in the Unicode form NFC, in which class names are compared and kept."""
    return unicodedata.normalize("NFC", name)


def _unreadable_folder(error: OSError) -> None:
    raise DataError(f"the folder {error.filename} cannot be read: {(error.strerror or str(error)).lower()}") from error
