"""Bytes to RGB, the same everywhere.

An image is what its content says: JPEG, PNG, WebP, BMP, TIFF, GIF, PPM, or an extra format that can be read here; the
first frame of several; EXIF orientation applied, transparency over white, CMYK and palettes to RGB, 16 bits scaled to 8.
A file that is cut short is an error, never filled with grey. Files are opened read-only, and only regular ones; a member
of a tar is read where it lies.
"""

import errno
import io
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image, UnidentifiedImageError

from vggcli.data.extra_formats import KIND_SUFFIXES, can_read, formats_of, hint, kind_of
from vggcli.data.image_metadata import PNG, without_all, without_broken
from vggcli.data.jpeg_check import decode_to_its_end
from vggcli.data.png_key import settle_key
from vggcli.data.tars import TarMember
from vggcli.errors import DataError

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")  # and the extra ones
FORMAT_BYTES = 64
NOT_THE_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # errors of the machine
LARGE = 64 << 20  # bytes from which a file is not read whole before it is opened
MAX_PIXELS = 100_000_000  # as stored or as rescaled
ORIENTATION = 0x0112  # the EXIF tag; 5 to 8 swap width and height
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
    """An image that Pillow has opened or made, and what errors call it. It is not changed."""

    name: str
    image: Image.Image

    def __str__(self) -> str:
        return self.name

    def unread(self) -> bytes | None:
        """The bytes of the file that it is opened from, where nothing of it is decoded yet; else None."""
        file = getattr(self.image, "fp", None)
        if file is None or not getattr(self.image, "tile", None) or self.image.tell():
            return None
        before = file.tell()
        file.seek(0)
        data = bytes(file.read())
        file.seek(before)
        return data


Place = Path | TarMember  # where the bytes of an image are
Origin = Place | OpenedImage  # what an image is read from


class ImageError(DataError):
    """One image that cannot be used: `path`, a `reason` of a few words, and its `index` where it is one of a set."""

    def __init__(self, path: Origin | str, reason: str, index: int | None = None) -> None:
        super().__init__(f"{path} cannot be used: {reason}")
        self.path, self.reason, self.index = str(path), reason, index

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str, int | None]]:
        return type(self), (self.path, self.reason, self.index)


@dataclass(frozen=True)
class Decoded:
    """An upright RGB picture, and whether EXIF had it `turned` or mirrored."""

    image: Image.Image
    turned: bool


def read_image(place: Origin, at_least: int | None = None) -> Image.Image:
    """The whole image at `place` as an RGB picture, upright.

    With `at_least` (pixels) a JPEG may come at 1/2, 1/4 or 1/8 of its size, decoded so, as long as its shorter side
    keeps that many. Raises ImageError where it cannot be used, MemoryError or OSError where the machine has no room for it.
    """
    return decode_image(place, at_least).image


def decode_image(place: Origin, at_least: int | None = None) -> Decoded:
    """As `read_image`, and whether its EXIF orientation had to be applied."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large or odd files; ours is the one verdict
            with open_image(place) as image:
                check_pixels(place, image.size)
                stored = _orientation(image) if image.format == "TIFF" else 1  # which Pillow applies as it loads
                if at_least is not None and image.format == "JPEG" and image.mode in ("RGB", "L"):
                    image.draft(image.mode, _scaled_to(image.size, at_least))
                decode_to_its_end(image)
                transparent = settle_key(image)
                image.load()
                if transparent is not None:
                    image.paste("white", mask=transparent)
                plain = image.format == "JPEG" and not {"exif", "xmp"} & image.info.keys()  # spares a parse
                turned = None if plain else _turned(image)
                return Decoded(to_rgb(image if turned is None else turned), turned is not None or stored != 1)
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError(place, "there is no such file") from error
    except PermissionError as error:
        raise ImageError(place, "permission denied") from error
    except UnidentifiedImageError as error:
        raise ImageError(place, _why_not_opened(place)) from error
    except Image.DecompressionBombError as error:
        raise ImageError(place, "it has more than 100 megapixels") from error
    except UnknownRange as error:
        raise ImageError(place, str(error)) from error
    except Exception as error:  # Pillow's decoders raise nearly everything on damaged files
        if isinstance(error, MemoryError) or getattr(error, "errno", None) in NOT_THE_FILES:
            raise  # the same image can be used where there is more room
        raise ImageError(place, f"it is damaged or cut short ({error})") from error


def _why_not_opened(place: Origin) -> str:
    head = _head(place)
    if formats_of(head):
        return f"it is damaged or cut short (it begins as {kind_of(head)} does)"
    return (
        hint(head, str(place))
        or f"it is not an image ({', '.join((*IMAGE_FORMATS, *filter(can_read, KIND_SUFFIXES)))})"
    )


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where it is none of these or cannot be read: metadata never decide whether pixels
    are used."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
        return orientation if orientation in range(1, 9) else 1
    except Exception:  # Pillow raises nearly everything on broken EXIF
        return 1


def _turned(image: Image.Image) -> Image.Image | None:
    """`image` upright, where its EXIF orientation says to turn or mirror it; else None."""
    turn = UPRIGHT.get(_orientation(image))
    return None if turn is None else image.transpose(turn)


class UnknownRange(ValueError):
    """Pixels of an intact image that nothing says how to bring to 8 bits."""


def open_image(place: Origin) -> Image.Image:
    """The image at `place`, opened; without the metadata of which Pillow refuses broken or long ones. Raises ImageError for
    anything but a regular file."""
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
    """Raises ImageError where width times height is over 100 megapixels, or nothing at all."""
    width, height = size
    if width * height > MAX_PIXELS:
        raise ImageError(place, f"{width}x{height} is more than {MAX_PIXELS // 1_000_000} megapixels")
    if width < 1 or height < 1:
        raise ImageError(place, f"{width}x{height} holds no pixel")


def _scaled_to(size: Size, shorter: int) -> Size:
    width, height = size
    factor = shorter / min(size)
    return max(1, int(width * factor)), max(1, int(height * factor))


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode that Pillow decodes to 8-bit RGB; transparency over white. Raises UnknownRange for pixels that are floating
    point, or whole numbers of more than 16 bits."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # 16-bit grey, stored in 16 or 32 bits: 65535 becomes 255
        image = image.convert("I")
        low, high = cast("tuple[int, int]", image.getextrema())
        if not 0 <= low <= high <= 65535:
            raise UnknownRange("whole numbers beyond 16 bits have no defined range")
        grey = image.point(lambda value: value * (1 / 257)).convert("L")
        if isinstance(key := image.info.get("transparency"), int):  # the one value that is transparent
            grey = Image.fromarray(np.where(np.asarray(image) == key, np.uint8(255), np.asarray(grey)))
        return grey.convert("RGB")
    if image.mode == "F":
        raise UnknownRange("floating-point pixels have no defined range")
    if "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        over = image.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        return Image.alpha_composite(white, over).convert("RGB")
    return image.convert("RGB")
