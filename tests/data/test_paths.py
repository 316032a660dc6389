"""What PATH arguments name: what is left out of them is said."""

import tarfile
from pathlib import Path

import pytest
from PIL import Image

from tests.data.test_extra_formats import box, without_pillow_heif  # noqa: F401 (a fixture)
from vggcli.data.paths import listed_images


@pytest.mark.usefixtures("without_pillow_heif")
@pytest.mark.parametrize("name", ["s.tar", "s"])
def test_images_that_cannot_be_read_here_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    caplog.set_level("INFO", "vggcli")
    (tmp_path / "s").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "s" / "a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "s" / "jpeg.heic", "JPEG")
    (tmp_path / "s" / "IMG_1.HEIC").write_bytes(box(b"heic"))
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for path in (tmp_path / "s").iterdir():
            tar.add(path, path.name)
    found = listed_images([str(tmp_path / name)]).names
    assert sorted(found) == [f"{tmp_path}/{name}/a.png", f"{tmp_path}/{name}/jpeg.heic"]
    where = f"1 HEIC image {'in' if name == 's.tar' else 'below'} {tmp_path}/{name}"
    assert f"{where} cannot be read here and is left out; pip install pillow-heif" in caplog.text
