"""HEIC, AVIF and JPEG 2000: told by content or name, and read where that can be done."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from vggcli.data.decode import ImageError, read_image
from vggcli.data.extra_formats import can_read, kind_named, kind_of
from vggcli.data.sources import load_training
from vggcli.data.survey import has_header


@pytest.fixture
def without_pillow_heif(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # an import of it fails
    can_read.cache_clear()
    yield
    can_read.cache_clear()


def heic(path: Path, size: tuple[int, int] = (64, 48)) -> Path:
    pytest.importorskip("pillow_heif").from_pillow(Image.new("RGB", size, (200, 30, 90))).save(path, format="HEIF")
    return path


@pytest.mark.parametrize(("feature", "kind", "suffix"), [("avif", "AVIF", "avif"), ("jpg_2000", "JPEG2000", "jp2")])
@pytest.mark.parametrize("named", [True, False])
def test_what_pillow_reads_is_used_whatever_its_name(
    tmp_path: Path, feature: str, kind: str, suffix: str, named: bool
) -> None:
    if not features.check(feature):
        pytest.skip(f"Pillow without {kind}")
    image = Image.linear_gradient("L").convert("RGB")
    path = tmp_path / (f"a.{suffix}" if named else "a")
    image.save(path, kind)
    difference = np.asarray(read_image(path)).astype(int) - np.asarray(image)
    assert np.abs(difference).mean() < 3
    assert has_header(path)


@pytest.mark.parametrize("name", ["a.heic", "a", "a.jpg"])
def test_heic_is_used_where_pillow_heif_is(tmp_path: Path, name: str) -> None:
    heic(tmp_path / "made").rename(tmp_path / name)
    assert np.allclose(np.asarray(read_image(tmp_path / name))[20, 30], (200, 30, 90), atol=6)
    assert has_header(tmp_path / name)


@pytest.mark.usefixtures("without_pillow_heif")
@pytest.mark.parametrize("name", ["a.heic", "a", "a.jpg"])
def test_heic_without_pillow_heif_is_named_by_its_content(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(box(b"heic"))
    with pytest.raises(ImageError, match=f"{name} cannot be used: HEIC cannot be read here; pip install pillow-heif"):
        read_image(tmp_path / name)
    assert not has_header(tmp_path / name)


@pytest.mark.parametrize("share", [0.4, 0.8])
def test_heic_that_is_cut_short_is_damaged(tmp_path: Path, share: float) -> None:
    data = heic(tmp_path / "a.heic").read_bytes()
    (tmp_path / "a.heic").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageError, match="damaged or cut short"):
        read_image(tmp_path / "a.heic")


def box(major: bytes, *compatible: bytes) -> bytes:
    """How a file of that brand begins."""
    content = b"ftyp" + major + bytes(4) + b"".join(compatible)
    return (4 + len(content)).to_bytes(4, "big") + content + bytes(40)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (box(b"heic", b"mif1", b"heic"), "HEIC"),
        (box(b"heix"), "HEIC"),
        (box(b"hevc", b"msf1"), "HEIC"),
        (box(b"mif1", b"heic"), "HEIC"),
        (box(b"mif1", b"avif", b"miaf"), "AVIF"),
        (box(b"avif", b"mif1"), "AVIF"),
        (box(b"avis"), "AVIF"),
        (box(b"isom", b"mp42"), None),  # a film
        (box(b"qt  "), None),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50), "JPEG 2000"),
        (b"\xff\x4f\xff\x51" + bytes(50), "JPEG 2000"),
        (b"\xff\xd8\xff\xe0" + bytes(50), None),
        (b"", None),
        (b"\0\0\0\x18ftyp", None),
    ],
)
def test_the_kind_is_told_by_brand_or_signature(head: bytes, kind: str | None) -> None:
    assert kind_of(head) == kind


def test_the_kind_is_else_told_by_suffix() -> None:
    kinds = [kind_named(name) for name in ("a.HEIC", "b.hif", "c.avif", "d.J2K", "e.jpg", "heic")]
    assert kinds == ["HEIC", "HEIC", "AVIF", "JPEG 2000", None, None]


def test_pillow_heif_is_not_imported_before_a_heic_file_is_met(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / split / name / "a.jpg")
    code = (
        "import sys; from pathlib import Path; from vggcli.cli import app; from vggcli.data import paths, survey; "
        "from vggcli.data.sources import load_training; from vggcli.data.decode import read_image; "
        f"read_image(load_training(Path({str(tmp_path)!r}))[0].path(0)); "
        "print([name for name in sys.modules if 'heif' in name or 'avif' in name.lower()])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
    assert load_training(tmp_path)[0].classes == ("cat", "dog")
