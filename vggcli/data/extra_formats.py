"""HEIC, AVIF and JPEG 2000: read where Pillow or pillow-heif can, else counted and said."""

import os
from importlib.util import find_spec
from pathlib import Path

from PIL import features

SUFFIXES = {
    "HEIC": (".heic", ".heif", ".hif"),
    "AVIF": (".avif",),
    "JPEG 2000": (".jp2", ".j2k", ".j2c", ".jpx", ".jpf"),
}
HINTS = {
    "HEIC": "pip install pillow-heif, or convert them",
    "AVIF": "install a newer Pillow, or convert them",
    "JPEG 2000": "install a Pillow that has it, or convert them",
}


def _readable() -> dict[str, str]:
    """Pillow's name of each of these formats that can be read here."""
    found = {}
    if find_spec("pillow_heif") is not None:
        from pillow_heif import register_heif_opener

        register_heif_opener()
        found["HEIC"] = "HEIF"
    if features.check("avif"):
        found["AVIF"] = "AVIF"
    if features.check("jpg_2000"):
        found["JPEG 2000"] = "JPEG2000"
    return found


READABLE = _readable()


def readable_suffixes() -> frozenset[str]:
    """The suffixes, in lower case, of those that can be read here."""
    return frozenset(suffix for kind in READABLE for suffix in SUFFIXES[kind])


def hint(name: str) -> str | None:
    """Why a file called `name` cannot be read and what to do, where its suffix is of a format that is not read here."""
    kinds = [kind for kind in SUFFIXES if kind not in READABLE and name.lower().endswith(SUFFIXES[kind])]
    return f"{kinds[0]} cannot be read here; {HINTS[kinds[0]]}" if kinds else None


def unread_below(folder: Path) -> list[str]:
    """One sentence for each format of which files lie below `folder` and cannot be read here, hidden ones aside."""
    missing = {suffix: kind for kind in SUFFIXES if kind not in READABLE for suffix in SUFFIXES[kind]}
    if not missing:
        return []
    counts: dict[str, int] = {}
    for _, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "@"))]
        for name in files:
            kind = missing.get(os.path.splitext(name)[1].lower())  # noqa: PTH122 (a Path for each file is slow)
            if kind is not None and not name.startswith("."):
                counts[kind] = counts.get(kind, 0) + 1
    return [
        f"{count} {kind} images below {folder} cannot be read here and are not used; {HINTS[kind]}"
        for kind, count in counts.items()
    ]
