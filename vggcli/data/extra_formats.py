"""HEIC, AVIF and JPEG 2000: recognised by content, otherwise by name, and read if Pillow or pillow-heif can do so.

Whether they can is checked, and pillow-heif imported, only when there is such a file.
"""

from functools import cache

from PIL import features

KIND_SUFFIXES = {
    "HEIC": (".heic", ".heif", ".hif"),
    "AVIF": (".avif",),
    "JPEG 2000": (".jp2", ".j2k", ".j2c", ".jpx", ".jpf"),
}
HINTS = {
    "HEIC": "pip install pillow-heif, or convert them",
    "AVIF": "install a newer Pillow, or convert them",
    "JPEG 2000": "install a Pillow with JPEG 2000, or convert them",
}
PILLOW = {"HEIC": "HEIF", "AVIF": "AVIF", "JPEG 2000": "JPEG2000"}  # Pillow's names
HEIC_BRANDS = frozenset(b"heic heix heim heis hevc hevx hevm hevs mif1 msf1".split())  # ISO/IEC 23008-12
AVIF_BRANDS = frozenset((b"avif", b"avis"))
JPEG_2000 = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")  # a file; a bare codestream
EXTRA_SUFFIXES = frozenset(suffix for suffixes in KIND_SUFFIXES.values() for suffix in suffixes)


@cache
def can_read(kind: str) -> bool:
    """Whether images of `kind`, a key of KIND_SUFFIXES, can be read here; after this, Pillow opens them."""
    if kind == "HEIC":
        try:
            from pillow_heif import register_heif_opener
        except ImportError:
            return False
        register_heif_opener()
        return True
    return bool(features.check({"AVIF": "avif", "JPEG 2000": "jpg_2000"}[kind]))


def kind_of(head: bytes) -> str | None:
    """The extra format of a file that begins with `head` (64 bytes or more), by its brand or signature, or None."""
    if head.startswith(JPEG_2000):
        return "JPEG 2000"
    if head[4:8] != b"ftyp":
        return None
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size - 3, 4))]
    if brands[0] in AVIF_BRANDS or (brands[0] not in HEIC_BRANDS - {b"mif1", b"msf1"} and AVIF_BRANDS & {*brands}):
        return "AVIF"
    return "HEIC" if HEIC_BRANDS & {*brands} else None


def kind_named(name: str) -> str | None:
    """The extra format of a file called `name`, by its suffix, or None."""
    return next((kind for kind, suffixes in KIND_SUFFIXES.items() if name.lower().endswith(suffixes)), None)


def formats_of(head: bytes) -> tuple[str, ...]:
    """Pillow's name of the extra format of a file that begins with `head`, if it can be read here; otherwise empty."""
    kind = kind_of(head)
    return (PILLOW[kind],) if kind is not None and can_read(kind) else ()


def hint(head: bytes, name: str) -> str | None:
    """Why a file that begins with `head` cannot be read and what to do, if it is in an extra format; otherwise None."""
    kind = kind_of(head) or kind_named(name)
    return None if kind is None or can_read(kind) else f"{kind} cannot be read here; {HINTS[kind]}"
