"""Decodes image files to RGB, with the same result everywhere.

The content decides the format, not the suffix: JPEG, PNG, WebP, BMP, TIFF, GIF, PPM, or an extra format that can be read
here. The first of several frames is used, EXIF orientation is applied, transparent pixels are put over white, CMYK and
palettes become RGB, and 16 bits are scaled to 8. A truncated file is an error and never filled with grey. Only regular
files are opened, read-only; members of tar files are read without unpacking.
"""

import errno
import io
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import cast

import numpy as np
from PIL import Image, UnidentifiedImageError

from vggcli.data.extra_formats import KIND_SUFFIXES, can_read, formats_of, hint, kind_of
from vggcli.data.image_metadata import PNG, without_all, without_broken
from vggcli.data.jpeg_check import decode_to_its_end
from vggcli.data.png_key import settle_key
from vggcli.data.tars import Place, TarMember
from vggcli.errors import DataError

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")  # without the extra ones
FORMAT_BYTES = 64
MACHINE_ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # which are not the file's fault
HEADER = 1 << 14  # bytes of an image in a tar that are read for its header, at first
LARGE = 64 << 20  # bytes; larger files are not read whole before they are opened
MAX_PIXELS = 100_000_000  # of an image as stored or as rescaled
ORIENTATION = 0x0112  # the EXIF tag
FIRST_SWAPPING = 5  # 5 to 8 swap width and height
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
Size = tuple[int, int]  # width, height


@dataclass(frozen=True)
class OpenedImage:
    """An image that Pillow has opened or made, and its name in errors. It is not changed."""

    name: str
    image: Image.Image

    def __str__(self) -> str:
        return self.name

    def unread(self) -> bytes | None:
        """The bytes of the file that it was opened from if nothing of it is decoded yet; otherwise None."""
        file = getattr(self.image, "fp", None)
        if file is None or not getattr(self.image, "tile", None) or self.image.tell():
            return None
        before = file.tell()
        file.seek(0)
        data = bytes(file.read())
        file.seek(before)
        return data


Origin = Place | OpenedImage  # what an image can be read from


class ImageError(DataError):
    """One image cannot be used: its `path`, a `reason` of a few words, and its `index` in the data set if it is in one.
    With `may_skip` the message says that `skip_bad` leaves it out."""

    def __init__(self, path: Origin | str, reason: str, index: int | None = None, may_skip: bool = False) -> None:
        advice = "; repair it, or leave it out with skip_bad=True" if may_skip else ""
        super().__init__(f"{path} cannot be used: {reason}{advice}", *(("skip_bad",) if may_skip else ()))
        self.path, self.reason, self.index, self.may_skip = str(path), reason, index, may_skip

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str, int | None, bool]]:
        return type(self), (self.path, self.reason, self.index, self.may_skip)


@contextmanager
def saying_skip_bad(asked: bool) -> Iterator[None]:
    """In this block an ImageError says that `skip_bad` leaves the image out, unless that was `asked` for already."""
    try:
        yield
    except ImageError as error:
        if asked:
            raise
        raise ImageError(error.path, error.reason, error.index, may_skip=True) from error


def none_usable(images: int, first: tuple[str, str]) -> DataError:
    """The error where none of so many images can be used; `first` is the name of the first and why."""
    name, reason = first
    if images == 1:
        return DataError(f"{name} cannot be used: {reason}")
    return DataError(f"none of the {images} images can be used; the first is {name}: {reason}")


def read_image(place: Origin, at_least: int | None = None) -> Image.Image:
    """The whole image at `place` as an upright RGB image.

    With `at_least` (pixels), a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size if its shorter side keeps that many.
    Raises ImageError where the image cannot be used, MemoryError or OSError where the machine has no room for it.
    """
    return decode_image(place, at_least)[0]


def decode_image(place: Origin, at_least: int | None = None) -> tuple[Image.Image, bool]:
    """As `read_image`, and whether the EXIF orientation required turning or mirroring the image."""
    with image_errors(place), open_image(place) as image:
        check_pixels(place, image.size)
        stored = orientation_of(image) if image.format == "TIFF" else 1  # which Pillow applies as it loads
        if at_least is not None:
            reduce_to(image, at_least)
        decode_to_its_end(image)
        transparent = settle_key(image)
        image.load()
        if transparent is not None:
            image.paste("white", mask=transparent)
        turn = UPRIGHT.get(orientation_of(image))
        return to_rgb(image if turn is None else image.transpose(turn)), turn is not None or stored != 1


def reduce_to(image: Image.Image, at_least: int) -> None:
    """Have a JPEG, opened and not yet loaded, decoded at 1/2, 1/4 or 1/8 of its size if its shorter side keeps `at_least`
    pixels; any other image stays as it is."""
    if image.format == "JPEG" and image.mode in ("RGB", "L"):
        factor = at_least / min(image.size)
        image.draft(image.mode, (max(1, int(image.width * factor)), max(1, int(image.height * factor))))


def upright_size(place: Place) -> tuple[Size, int]:
    """The size of what `read_image` gives, and the EXIF orientation (1 to 8) that it applies. Only the header of a JPEG is
    read; other files are read whole, and decoded where their EXIF may come last. Raises as `read_image` does."""
    with image_errors(place), _opened_header(place) as image:
        check_pixels(place, image.size)
        orientation = orientation_of(image)
        if image.format == "TIFF":
            image.load()  # which turns it
            return image.size, orientation
        return (image.size[::-1] if orientation >= FIRST_SWAPPING else image.size), orientation


def _opened_header(place: Place) -> Image.Image:
    with suppress(Exception):  # what is wrong with it is found when it is opened whole
        return open_header(place, ("JPEG",))
    return open_image(place)


def open_header(place: Place, formats: tuple[str, ...] = IMAGE_FORMATS) -> Image.Image:
    """An image of one of `formats`, opened with its header alone read. Of one in a tar little more is read, so that it
    cannot be loaded, and a long header is an error. Raises as Pillow does, and OSError for anything but a regular file."""
    if isinstance(place, TarMember):
        return Image.open(io.BytesIO(place.read(HEADER)), formats=formats)
    if not place.is_file():
        raise FileNotFoundError(place)
    return Image.open(place, formats=formats)


@contextmanager
def image_errors(place: Origin) -> Iterator[None]:
    """Raises ImageError for what is raised within, unless it is the machine's fault."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's about large or odd files; the checks here decide
            yield
    except (ImageError, MemoryError):  # with more memory, the same image can be used
        raise
    except Exception as error:  # Pillow's decoders raise nearly everything on damaged files
        if getattr(error, "errno", None) in MACHINE_ERRORS:
            raise
        raise ImageError(place, _reason(place, error)) from error


def stated_size(place: Place) -> Size | None:
    """(width, height) of the upright image as its header states it; None where that cannot be read. Little of the file is
    read, so a damaged image may have a size here, and one whose orientation stands at its end that of its side."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with open_image(place) if isinstance(place, TarMember) else open_header(place) as image:
                width, height = image.size
                turned = image.format != "TIFF" and "exif" in image.info and orientation_of(image) >= 5  # by 90 degrees
                return (height, width) if turned else (width, height)
    except Exception:  # as in decode_image, which says what is wrong
        return None


def _reason(place: Origin, error: Exception) -> str:
    """Why the image at `place`, whose decoding raised `error`, cannot be used."""
    if isinstance(error, FileNotFoundError | PermissionError):
        return "there is no such file" if isinstance(error, FileNotFoundError) else "permission denied"
    if isinstance(error, Image.DecompressionBombError):
        return "it has more than 100 megapixels"
    if isinstance(error, UnknownRange):
        return str(error)
    if not isinstance(error, UnidentifiedImageError):
        return f"it is damaged or cut short ({error})"
    head = _head(place)
    if formats_of(head):
        return f"it is damaged or cut short (it begins like {kind_of(head)})"
    formats = ", ".join((*IMAGE_FORMATS, *filter(can_read, KIND_SUFFIXES)))
    return hint(head, str(place)) or f"it is not an image ({formats})"


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where it is invalid or cannot be read."""
    if image.format == "JPEG" and not {"exif", "xmp"} & image.info.keys():
        return 1  # spares a parse
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
        return orientation if orientation in range(1, 9) else 1
    except Exception:  # Pillow raises nearly everything on broken EXIF
        return 1


class UnknownRange(ValueError):
    """The pixels of an intact image have no defined conversion to 8 bits."""


def open_image(place: Origin) -> Image.Image:
    """The image at `place`, opened without broken or long metadata. Raises ImageError for anything but a regular file."""
    if isinstance(place, TarMember):
        data = place.read()
    elif isinstance(place, OpenedImage):
        unread = place.unread()
        if unread is None:
            return place.image.copy()
        data = unread
    else:
        state = place.stat()
        if not stat.S_ISREG(state.st_mode):
            raise ImageError(place, "it is not a regular file")
        if state.st_size > LARGE and not _head(place).startswith(PNG):
            return Image.open(place, formats=(*IMAGE_FORMATS, *formats_of(_head(place))))
        data = place.read_bytes()
    formats = (*IMAGE_FORMATS, *formats_of(data[:FORMAT_BYTES]))
    try:
        return Image.open(io.BytesIO(without_broken(data)), formats=formats)
    except UnidentifiedImageError:
        bare = without_all(data)
        if bare == data:
            raise
        return Image.open(io.BytesIO(bare), formats=formats)


def _head(place: Origin) -> bytes:
    """The first bytes at `place`."""
    if isinstance(place, TarMember):
        return place.read(FORMAT_BYTES)
    if isinstance(place, OpenedImage):
        return (place.unread() or b"")[:FORMAT_BYTES]
    with place.open("rb") as file:
        return file.read(FORMAT_BYTES)


def check_pixels(place: Origin, size: Size) -> None:
    """Raises ImageError where width times height is over 100 megapixels, or zero."""
    width, height = size
    if width * height > MAX_PIXELS:
        raise ImageError(place, f"{width}x{height} is more than {MAX_PIXELS // 1_000_000} megapixels")
    if width < 1 or height < 1:
        raise ImageError(place, f"{width}x{height} has no pixels")


def to_rgb(image: Image.Image) -> Image.Image:
    """An image as 8-bit RGB, over white. Raises UnknownRange for floating-point pixels and those of more than 16 bits."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # 16-bit grey, stored in 16 or 32 bits: 65535 becomes 255
        image = image.convert("I")
        low, high = cast("tuple[int, int]", image.getextrema())
        if not 0 <= low <= high <= 65535:
            raise UnknownRange("its pixels are whole numbers of more than 16 bits, which have no defined range")
        grey = image.point(lambda value: value * (1 / 257)).convert("L")
        if isinstance(key := image.info.get("transparency"), int):  # the one value that is transparent
            grey = Image.fromarray(np.where(np.asarray(image) == key, np.uint8(255), np.asarray(grey)))
        return grey.convert("RGB")
    if image.mode == "F":
        raise UnknownRange("its pixels are floating-point numbers, which have no defined range")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        return Image.alpha_composite(white, over).convert("RGB")
    return image.convert("RGB")
