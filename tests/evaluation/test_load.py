"""A loaded network gives Pillow images the posteriors that `vgg predict` gives their files, to the last bit."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import MakeFolder, picture
from tests.zoo.nets import about, small
from vggcli.data.decode import ImageError
from vggcli.errors import WeightsError
from vggcli.evaluation.load import Classifier, load
from vggcli.evaluation.predict import predict
from vggcli.places import Places
from vggcli.weights.checkpoint import save_checkpoint
from vggcli.weights.torch_names import to_framework


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "runs", tmp_path / "cache")


@pytest.fixture
def loaded(tmp_path: Path, places: Places) -> Classifier:
    network = small()
    save_checkpoint(tmp_path / "w.safetensors", network, about(network))
    return load(places, tmp_path / "w.safetensors", device="cpu")


def odd_pictures(folder: Path) -> list[Path]:
    """Files that are no plain RGB: turned, transparent, of a palette, grey, of 16 bits, CMYK, with a transparent colour."""
    folder.mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(0, 0).save(folder / "turned.jpg", exif=turned)
    clear = picture(1, 1).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    clear.save(folder / "clear.png")
    picture(2, 2).quantize(16).save(folder / "palette.png", transparency=3)
    picture(0, 3).convert("L").save(folder / "grey.png")
    deep = np.arange(80 * 70, dtype=np.uint16).reshape(70, 80) * 11
    Image.fromarray(deep).save(folder / "deep.png")
    picture(1, 4).convert("CMYK").save(folder / "print.jpg")
    picture(2, 5).quantize(4).convert("L").save(folder / "key.png", bits=2, transparency=1)
    return sorted(folder.iterdir())


def test_images_give_what_their_files_give_to_the_last_bit(
    make_folder: MakeFolder, tmp_path: Path, loaded: Classifier, places: Places
) -> None:
    files = [*sorted(make_folder().rglob("*.jpg")), *odd_pictures(tmp_path / "odd")]
    assert len(files) > 40  # more than go through the network at once
    found = predict(places, files, tmp_path / "w.safetensors", top=9, device="cpu")
    assert not found.bad
    opened = [Image.open(file) for file in files]
    given = loaded(opened)
    assert [tuple(one.items()) for one in given] == [one.top for one in found.images]
    alone = predict(places, files[-1], tmp_path / "w.safetensors", top=9, device="cpu")
    assert tuple(loaded(opened[-1]).items()) == alone.images[0].top
    for one in opened:
        one.close()


def test_images_that_are_decoded_already_are_taken_and_left_as_they_are(tmp_path: Path, loaded: Classifier) -> None:
    picture(0, 0).save(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        wanted = loaded(image)
        image.load()
        assert loaded(image) == wanted
    clear = picture(1, 1).convert("RGBA")
    clear.putalpha(0)
    before = clear.tobytes()
    assert loaded(clear) == loaded(Image.new("RGB", clear.size, "white"))
    assert clear.tobytes() == before
    assert sum(wanted.values()) == pytest.approx(1, abs=1e-5)
    assert list(wanted.values()) == sorted(wanted.values(), reverse=True)
    assert loaded([]) == []


def test_what_cannot_be_used_is_named(tmp_path: Path, loaded: Classifier) -> None:
    picture(0, 0).save(tmp_path / "x.jpg")
    cut = tmp_path / "cut.jpg"
    cut.write_bytes((tmp_path / "x.jpg").read_bytes()[:-200])
    with Image.open(cut) as image, pytest.raises(ImageError, match="image 1 cannot be used"):
        loaded([picture(0, 0), image])


def test_it_says_what_it_is(loaded: Classifier, tmp_path: Path) -> None:
    assert repr(loaded) == (
        "<network A of 5 classes, crop 64, width 0.125, on cpu; centre-crop at Q = 80; "
        f"from {tmp_path / 'w.safetensors'}>"
    )
    assert not loaded.network.training
    assert loaded.classes[0] == "klasse 0 é"


def test_weights_without_class_names_answer_by_number(
    tmp_path: Path, places: Places, caplog: pytest.LogCaptureFixture
) -> None:
    network = small()
    torch.save(to_framework(network.state_dict(), network.config, "torchvision"), tmp_path / "w.pth")
    with caplog.at_level(logging.INFO, "vggcli"):
        loaded = load(places, tmp_path / "w.pth", device="cpu", preprocessing="caffe")
    assert "does not name its classes" in caplog.text
    assert set(loaded(picture(0, 0))) == set("01234")
    assert loaded.colour.divisor == 1.0
    save_checkpoint(tmp_path / "c.safetensors", small(head="none"), about(small(head="none")))
    with pytest.raises(WeightsError, match="without a classifier"):
        load(places, tmp_path / "c.safetensors")
