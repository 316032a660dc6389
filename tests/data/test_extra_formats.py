"""HEIC, AVIF and JPEG 2000: read, or counted and said."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from vggcli.data import extra_formats
from vggcli.data.decode import ImageError, read_image
from vggcli.data.sources import load_training
from vggcli.errors import DataError


@pytest.mark.parametrize(("feature", "kind", "suffix"), [("avif", "AVIF", "avif"), ("jpg_2000", "JPEG2000", "jp2")])
def test_what_pillow_reads_is_used(tmp_path: Path, feature: str, kind: str, suffix: str) -> None:
    if not features.check(feature):
        pytest.skip(f"Pillow without {kind}")
    image = Image.linear_gradient("L").convert("RGB")
    image.save(tmp_path / f"a.{suffix}", kind)
    difference = np.asarray(read_image(tmp_path / f"a.{suffix}")).astype(int) - np.asarray(image)
    assert np.abs(difference).mean() < 3


def test_heic_is_used_where_pillow_heif_is(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif").from_pillow(Image.new("RGB", (64, 48), (200, 30, 90))).save(tmp_path / "a.heic")
    assert np.allclose(np.asarray(read_image(tmp_path / "a.heic"))[20, 30], (200, 30, 90), atol=6)


def test_images_that_cannot_be_read_are_counted_and_a_class_of_nothing_else_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extra_formats, "READABLE", {})
    monkeypatch.setattr("vggcli.data.walking.IMAGE_SUFFIXES", frozenset({".png"}))
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / split / name / "a.png")
            (tmp_path / split / name / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic")
    train, _ = load_training(tmp_path)
    assert len(train) == 2
    assert any("4 HEIC images" in remark and "pillow-heif" in remark for remark in train.remarks)
    with pytest.raises(ImageError, match="HEIC cannot be read here; pip install pillow-heif"):
        read_image(tmp_path / "train" / "cat" / "IMG_1.HEIC")
    (tmp_path / "train" / "cat" / "a.png").unlink()
    with pytest.raises(DataError, match=r"holds no image that can be read: 1 HEIC images .* pillow-heif"):
        load_training(tmp_path)
