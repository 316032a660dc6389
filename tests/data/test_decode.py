"""What an image is: every format and oddity has one defined outcome."""

import errno
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vggcli.data.decode import ImageError, decode_image, read_image


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    across = np.linspace(0, 255, width, dtype=np.uint8)[None].repeat(height, 0)
    down = np.linspace(0, 255, height, dtype=np.uint8)[:, None].repeat(width, 1)
    return Image.fromarray(np.stack([across, down, 255 - across], axis=2))


def test_every_16_bit_value_becomes_the_8_bits_of_its_share(tmp_path: Path) -> None:
    """65535 is 255, so 257 of its steps are one; a rest is cut."""
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(values).save(tmp_path / "a.png")
    found = np.asarray(read_image(tmp_path / "a.png"))
    assert (found == (values // 257)[..., None]).all()


@pytest.mark.parametrize(
    ("kind", "tolerance"), [("JPEG", 20), ("PNG", 0), ("WEBP", 30), ("BMP", 0), ("TIFF", 0), ("PPM", 0)]
)
def test_formats_are_told_by_content_whatever_the_suffix(tmp_path: Path, kind: str, tolerance: int) -> None:
    path = tmp_path / "image.txt"
    gradient().save(path, format=kind)
    found = np.asarray(read_image(path)).astype(int)
    assert np.abs(found - np.asarray(gradient()).astype(int)).max() <= tolerance


def test_the_first_frame_of_several(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif").getpixel((4, 4)) == (255, 0, 0)


@pytest.mark.parametrize("at_least", [None, 8])
def test_exif_orientation_is_applied(tmp_path: Path, at_least: int | None) -> None:
    stored = Image.new("RGB", (64, 32), "white")
    stored.paste("black", (0, 0, 32, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    stored.save(tmp_path / "a.jpg", exif=exif)
    upright = read_image(tmp_path / "a.jpg", at_least)
    assert upright.height == 2 * upright.width
    assert sum(upright.getpixel((1, 1))) < 60  # type: ignore[arg-type]
    assert sum(upright.getpixel((1, upright.height - 2))) > 700  # type: ignore[arg-type]


def test_transparency_is_over_white(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "a.png")
    Image.new("LA", (4, 4), (0, 128)).save(tmp_path / "b.png")
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.save(tmp_path / "c.png", transparency=0)
    assert read_image(tmp_path / "a.png").getpixel((0, 0)) == (255, 255, 255)
    assert read_image(tmp_path / "b.png").getpixel((0, 0)) == (127, 127, 127)
    assert read_image(tmp_path / "c.png").getpixel((0, 0)) == (255, 255, 255)


def test_cmyk_and_grey_become_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 0, 0, 255)).save(tmp_path / "a.jpg")
    Image.new("L", (8, 8), 90).save(tmp_path / "b.png")
    Image.new("1", (8, 8), 1).save(tmp_path / "c.png")
    assert max(read_image(tmp_path / "a.jpg").getpixel((4, 4))) < 10  # type: ignore[arg-type]
    assert read_image(tmp_path / "b.png").getpixel((0, 0)) == (90, 90, 90)
    assert read_image(tmp_path / "c.png").getpixel((0, 0)) == (255, 255, 255)


def test_cmyk_is_inverted_only_where_adobe_wrote_it(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (255, 255, 255, 255)).save(tmp_path / "adobe.jpg")  # stored as zeros
    data = (tmp_path / "adobe.jpg").read_bytes()
    marker = data.index(b"\xff\xee")
    (tmp_path / "none.jpg").write_bytes(data[:marker] + data[marker + 16 :])
    assert np.asarray(read_image(tmp_path / "adobe.jpg")).max() < 10  # all ink
    assert np.asarray(read_image(tmp_path / "none.jpg")).min() > 245  # none


def test_the_transparent_value_of_16_bit_grey_is_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257 * 100, 257 * 100 + 1, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    key = chunk(b"tRNS", (257 * 100).to_bytes(2, "big"))
    (tmp_path / "a.png").write_bytes(data[:33] + key + data[33:])
    assert np.asarray(read_image(tmp_path / "a.png"))[0, :, 0].tolist() == [0, 255, 100, 255]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_scaled_to_8(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    assert np.asarray(read_image(tmp_path / f"a.{suffix}"))[0, :, 0].tolist() == [0, 100, 255]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_file_cut_short_is_never_filled_up(tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / "a"
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, format=kind)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ImageError, match=str(path)):
        read_image(path)


def test_every_other_failure_names_the_file_and_the_reason(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not an image")
    os.mkfifo(tmp_path / "fifo.jpg")
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "float.tif")
    reasons = {
        "empty.jpg": "not an image",
        "text.jpg": "not an image",
        "fifo.jpg": "not a regular file",
        "missing.jpg": "no such file",
        "float.tif": "floating-point",
    }
    for name, reason in reasons.items():
        with pytest.raises(ImageError, match=reason) as caught:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)


def test_more_than_100_megapixels_are_refused_before_decoding(tmp_path: Path) -> None:
    Image.new("1", (12_000, 9_000)).save(tmp_path / "large.png")  # 108 megapixels in a few kilobytes
    with pytest.raises(ImageError, match="megapixels"):
        read_image(tmp_path / "large.png")


def test_a_jpeg_may_come_smaller_but_not_below_what_is_needed(tmp_path: Path) -> None:
    gradient(400, 300).save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg", at_least=70).size == (100, 75)
    assert read_image(tmp_path / "a.jpg", at_least=76).size == (200, 150)
    assert read_image(tmp_path / "a.jpg").size == (400, 300)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.array([[0, 70000]], np.int32), "of more than 16 bits, which have no defined range"),
        (np.array([[-1, 5]], np.int32), "of more than 16 bits, which have no defined range"),
        (np.array([[0.0, 1.0]], np.float32), "floating-point numbers, which have no defined range"),
    ],
)
def test_pixels_whose_range_nothing_tells_are_refused_for_what_they_are(
    tmp_path: Path, values: np.ndarray[Any, Any], reason: str
) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=f"cannot be used: .*{reason}") as caught:
        read_image(tmp_path / "a.tif")
    assert "damaged" not in str(caught.value)


def photo_like() -> Image.Image:
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC)


CODINGS: list[dict[str, Any]] = [
    {},
    {"progressive": True},
    {"restart_marker_blocks": 7},
    {"progressive": True, "restart_marker_rows": 1},
    {"quality": 20, "subsampling": 0, "optimize": True},
]


@pytest.mark.parametrize("coding", CODINGS, ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_that_ends_early_but_closes_is_never_filled_with_grey(
    tmp_path: Path, coding: dict[str, Any], mode: str
) -> None:
    photo_like().convert(mode).save(tmp_path / "a.jpg", **coding)
    data = (tmp_path / "a.jpg").read_bytes()
    with Image.open(tmp_path / "a.jpg") as plain:
        assert read_image(tmp_path / "a.jpg").tobytes() == plain.convert("RGB").tobytes()
    for share in (0.5, 0.7, 0.8, 0.9, 0.95):
        (tmp_path / "cut.jpg").write_bytes(data[: int(len(data) * share)].rstrip(b"\xff") + b"\xff\xd9")
        for at_least in (None, 40):
            with pytest.raises(ImageError, match="damaged or cut short"):
                read_image(tmp_path / "cut.jpg", at_least)


@pytest.mark.parametrize("coding", CODINGS, ids=str)
@pytest.mark.parametrize("colour", ["black", "white", (128, 128, 128), (200, 30, 90)])
def test_a_flat_jpeg_is_whole(tmp_path: Path, coding: dict[str, Any], colour: str | tuple[int, int, int]) -> None:
    below = photo_like()
    below.paste(colour, (0, 100, 320, 240))
    for name, image in (
        ("flat", Image.new("RGB", (333, 211), colour)),
        ("below", below),
        ("dot", below.crop((0, 0, 1, 1))),
    ):
        image.save(tmp_path / f"{name}.jpg", **coding)
        with (tmp_path / f"{name}.jpg").open("ab") as file:
            file.write(b"\xff\xd8 what a telephone leaves behind the image \xff\xd9")
        assert read_image(tmp_path / f"{name}.jpg").size == image.size


def chunk(name: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"eXIf", b"nothing of the kind"),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 3_000_000)),
        chunk(b"tEXt", b"no separator"),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0not compressed"),
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(b"p" * 3_000_000)),
        chunk(b"iCCP", b"profile\0\0not compressed"),
    ],
    ids=["exif", "long text", "text", "xmp", "long profile", "profile"],
)
def test_broken_or_long_metadata_keep_no_png_from_being_used(tmp_path: Path, extra: bytes) -> None:
    gradient().save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[:33] + extra + data[33:])  # behind the header
    assert np.array_equal(np.asarray(read_image(tmp_path / "a.png")), np.asarray(gradient()))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG"])
def test_broken_exif_and_xmp_turn_nothing(tmp_path: Path, kind: str) -> None:
    options = {} if kind == "PNG" else {"xmp": b"<x:xmpmeta <"}
    gradient().save(tmp_path / "a", kind, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff broken", **options)
    image, turned = decode_image(tmp_path / "a")
    assert image.size == gradient().size and not turned


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(10))
def test_turned_are_those_that_an_orientation_turns(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    gradient().save(tmp_path / "a", kind, exif=exif)
    image, turned = decode_image(tmp_path / "a")
    assert turned == (2 <= orientation <= 8)
    assert image.size == ((30, 40) if 5 <= orientation <= 8 else (40, 30))


@pytest.mark.parametrize(
    "error",
    [MemoryError(), OSError(errno.EMFILE, "Too many open files"), OSError(errno.ENOMEM, "Cannot allocate memory")],
)
def test_a_machine_without_room_is_not_blamed_on_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")

    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(Image.Image, "convert", full)
    monkeypatch.setattr(Image.Image, "load", full)
    with pytest.raises(type(error)) as raised:
        read_image(tmp_path / "a.png")
    assert raised.value is error
