"""Views of JPEGs that the device decodes are those of Pillow's pixels, and what it cannot decode is read as ever.

The same path runs on a CPU, where libjpeg decodes, and on CUDA.
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.conftest import MakeFolder
from tests.data.test_decode import photo_like
from vggcli.colour import ColourStatistics
from vggcli.data import decode_on_device
from vggcli.data.decode import ORIENTATION, ImageError, OpenedImage, decode_image, read_image
from vggcli.data.decode_on_device import TURNS, coded_jpeg, device_views, need_decoder, prepared_ahead
from vggcli.data.image_set import ImageSet
from vggcli.data.sources import load_split
from vggcli.data.test_batches import ViewBatch, test_batches
from vggcli.data.test_views import ViewPlan
from vggcli.data.training_batches import Schedule, TrainingBatch, training_batches
from vggcli.errors import MachineError

CPU = torch.device("cpu")
END = b"\xff\xd9"
COLOUR = ColourStatistics((120.0, 110.0, 100.0), 60.0, (0.1, 0.1, 0.1), ((1, 0, 0), (0, 1, 0), (0, 0, 1)))
JPEGS: dict[str, tuple[tuple[int, int], str, dict[str, Any]]] = {  # size, mode, and how it is written
    "landscape": ((90, 60), "RGB", {}),
    "portrait": ((61, 93), "RGB", {"quality": 95, "subsampling": 0}),
    "sampled": ((70, 71), "RGB", {"subsampling": 1}),
    "grey": ((80, 50), "L", {}),
    "progressive": ((64, 80), "RGB", {"progressive": True}),
    "restarts": ((77, 66), "RGB", {"restart_marker_blocks": 2}),
    "small": ((9, 12), "RGB", {}),
    "exact": ((40, 60), "RGB", {}),  # as large as a view
    "strip": ((12, 90), "RGB", {}),
}
OTHERS = ("cmyk.jpg", "clear.png", "palette.png", "rgb.jpg", "cut.jpg", "cut and ended.jpg", "text.jpg", "flat.jpg")
DEVICES = [
    CPU,
    pytest.param(
        torch.device("cuda", 0),
        marks=(pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")),
    ),
]


def jpeg(size: tuple[int, int], mode: str = "RGB", orientation: int = 1, **coding: Any) -> bytes:
    image, file = photo_like().resize(size, Image.Resampling.BICUBIC).convert(mode), io.BytesIO()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image.save(file, "JPEG", **({"exif": exif} if orientation > 1 else {}), **coding)
    return file.getvalue()


@pytest.fixture
def mixed(tmp_path: Path) -> ImageSet:
    """JPEGs for the device, all EXIF orientations, and images that only Pillow reads, or nothing."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name, (size, mode, coding) in JPEGS.items():
        (folder / f"{name}.jpg").write_bytes(jpeg(size, mode, **coding))
    for orientation in TURNS:
        (folder / f"turned{orientation}.jpg").write_bytes(jpeg((72, 50), orientation=orientation))
    whole = jpeg((90, 60))
    (folder / "cmyk.jpg").write_bytes(jpeg((60, 60), "CMYK"))
    (folder / "rgb.jpg").write_bytes(jpeg((60, 60), keep_rgb=True))
    photo_like().resize((50, 60)).convert("RGBA").save(folder / "clear.png")
    photo_like().resize((60, 50)).convert("P").save(folder / "palette.png")
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "cut and ended.jpg").write_bytes(whole[: len(whole) // 2] + END)
    (folder / "text.jpg").write_bytes(b"no image")
    Image.new("RGB", (3000, 1)).save(folder / "flat.jpg")  # too large once rescaled
    names = tuple(sorted(path.name for path in folder.iterdir()))
    return ImageSet(folder, "", ("a",), names, (0,) * len(names), ((),) * len(names))


def seen(images: ImageSet, plan: ViewPlan, workers: int = 0, **where: Any) -> tuple[dict[Any, Any], list[Any], int]:
    """Every view by image and scale, the errors, and how many images were turned."""
    views, errors, turned = {}, [], 0
    for batch in test_batches(images, plan, lambda height, width: 5, workers, where.pop("device", CPU), **where):
        if isinstance(batch, ImageError):
            errors.append((batch.index, batch.path, batch.reason))
            continue
        turned += batch.turned
        for index, view in zip(batch.indices, batch.images_NHWC.cpu(), strict=True):
            views[images.names[index], batch.scale_index] = view.int()
    return views, errors, turned


def check_alike(mine: dict[Any, Any], theirs: dict[Any, Any], device: torch.device) -> None:
    assert mine.keys() == theirs.keys()
    for key, view in mine.items():
        difference = (view - theirs[key]).abs().float()
        if device.type == "cpu":
            assert difference.max() <= 2, key
        else:  # nvJPEG upsamples chroma in another way
            assert difference.mean() < 4, key


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("crop", "workers"), [(None, 0), (32, 2)])
def test_test_views_errors_and_turns_are_those_of_pillow(
    mixed: ImageSet, device: torch.device, crop: int | None, workers: int
) -> None:
    plan = ViewPlan((40, 52), crop, most_pixels=40_000)
    views, errors, turned = seen(mixed, plan, workers, device=device, decode="gpu")
    wanted, wanted_errors, wanted_turned = seen(mixed, plan)
    check_alike(views, wanted, device)
    assert errors == wanted_errors
    assert len(errors) == (4 if crop is None else 3)
    assert turned == wanted_turned == len(TURNS)


def test_jpegs_of_usual_kinds_are_for_the_device_and_no_others(mixed: ImageSet) -> None:
    coded = {name for name in mixed.names if name not in OTHERS[4:7] and coded_jpeg(mixed.root / name) is not None}
    assert coded == {*mixed.names} - {*OTHERS} | {"flat.jpg"}
    with Image.open(mixed.root / "landscape.jpg") as image:
        assert coded_jpeg(OpenedImage("image 0", image)) is None


@pytest.mark.parametrize(
    "coding", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 3}], ids=str
)
def test_damaged_data_are_found_as_by_a_whole_decode(tmp_path: Path, coding: dict[str, Any]) -> None:
    path, data, draw, bad = tmp_path / "a.jpg", jpeg((75, 50), **coding), np.random.default_rng(0), 0

    def reason(read: Any) -> str | None:
        try:
            assert read(path) is not None
        except ImageError as error:
            return error.reason
        return None

    cuts = [int(cut) for cut in draw.integers(len(data) // 2, len(data), 8)]
    changed = [bytearray(data) for _ in range(8)]
    for one in changed:
        one[int(draw.integers(len(data) - 300, len(data)))] = int(draw.integers(256))
    for damaged in (*(data[:cut] + END for cut in cuts), *map(bytes, changed), data[:-2] + bytes(20) + END):
        path.write_bytes(damaged)
        wanted = reason(read_image)
        assert reason(coded_jpeg) == wanted
        bad += wanted is not None
    assert bad >= 8


@pytest.mark.parametrize("refuses", ["all", "some", "views"])
def test_jpegs_that_the_device_refuses_are_read_by_pillow(
    mixed: ImageSet, monkeypatch: pytest.MonkeyPatch, refuses: str
) -> None:
    decode = decode_on_device._pixels

    def pixels(coded: list[torch.Tensor], device: torch.device) -> list[torch.Tensor]:
        if refuses == "all" or any(len(one) % 2 for one in coded):
            raise RuntimeError("not supported")
        return decode(coded, device)

    def resampled(*given: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError

    if refuses == "views":
        monkeypatch.setattr(decode_on_device, "_resampled", resampled)
    else:
        monkeypatch.setattr(decode_on_device, "_pixels", pixels)
    plan = ViewPlan((40,), 32)
    mine, wanted = (seen(mixed, plan, decode=decode) for decode in ("gpu", "cpu"))
    check_alike(mine[0], wanted[0], CPU)
    assert mine[1:] == wanted[1:]
    if refuses == "all":
        assert all(torch.equal(view, wanted[0][key]) for key, view in mine[0].items())


def test_pixels_on_the_device_are_upright_and_bounded_in_memory(
    mixed: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode_on_device, "TOGETHER", 3 * 72 * 50 * 2)
    paths = [mixed.root / f"turned{orientation}.jpg" for orientation in TURNS]
    found = device_views([one for path in paths if (one := coded_jpeg(path))], CPU, lambda image, place: (place, image))
    for place, path in enumerate(paths):
        wanted, turned = decode_image(path)
        at, image_CHW = next(found) or (None, torch.empty(0))
        assert (at, turned) == (place, True)
        assert np.array_equal(image_CHW.permute(1, 2, 0).numpy(), np.asarray(wanted))
    assert next(found, "end") == "end"


def training_views(images: ImageSet, scale: tuple[int, int], workers: int = 0, **where: Any) -> list[TrainingBatch]:
    schedule, device = Schedule(len(images), 8, 4, 2), where.pop("device", CPU)
    return list(training_batches(images, COLOUR, scale, 32, 5, schedule, workers, device, **where))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("workers", [0, 2])
def test_training_views_are_those_of_pillow(make_folder: MakeFolder, device: torch.device, workers: int) -> None:
    root = make_folder(train=4)
    (root / "train" / "class0" / "0.jpg").write_bytes(jpeg((60, 50), "CMYK"))
    (root / "train" / "class1" / "1.jpg").write_bytes(jpeg((70, 50), orientation=6))
    images = load_split(root, "train")
    mine, theirs = (
        training_views(images, (40, 48), workers, device=device, decode="gpu"),
        training_views(images, (40, 48)),
    )
    assert len(mine) == len(theirs) == 6
    for one, other in zip(mine, theirs, strict=True):
        for name in ("labels_N", "flips_N", "shifts_NC"):
            assert torch.equal(getattr(one, name).cpu(), getattr(other, name))
        check_alike({"": one.images_NHWC.cpu().int()}, {"": other.images_NHWC.int()}, device)


def test_draws_do_not_depend_on_the_size_that_pillow_decodes_at(make_folder: MakeFolder) -> None:
    root = make_folder(train=2)
    for index, path in enumerate(sorted(root.glob("train/*/*.jpg"))):
        size, exif = (173 + index, 131 - 2 * index), Image.Exif()  # decoded at 1/2 or 1/4
        exif[ORIENTATION] = 1 + index
        photo_like().resize((8, 6)).resize(size, Image.Resampling.BICUBIC).save(path, exif=exif)
    images = load_split(root, "train")
    for one, other in zip(
        training_views(images, (32, 33), decode="gpu"), training_views(images, (32, 33)), strict=True
    ):
        assert torch.equal(one.shifts_NC, other.shifts_NC)
        assert (one.images_NHWC.float() - other.images_NHWC.float()).abs().mean() < 5


@pytest.mark.parametrize("workers", [0, 2])
def test_training_stops_at_an_image_that_is_cut_short(make_folder: MakeFolder, workers: int) -> None:
    root = make_folder(train=4)
    broken = root / "train" / "class1" / "3.jpg"
    broken.write_bytes(broken.read_bytes()[:-200] + END)
    with pytest.raises(ImageError, match=r"class1/3\.jpg cannot be used: it is damaged or cut short"):
        training_views(load_split(root, "train"), (40, 48), workers, decode="gpu")


def test_batches_come_in_order_and_errors_reach_the_consumer() -> None:
    assert list(prepared_ahead(range(0), lambda item: [], CPU, 2)) == []
    errors = [ImageError("a.jpg", str(item)) for item in range(7)]
    assert list(prepared_ahead(range(7), lambda item: [errors[item]] * 2, CPU, 2)) == [
        one for one in errors for _ in "ab"
    ]
    found = prepared_ahead(range(4), lambda item: [errors[3 // (2 - item)]], CPU, 1)
    assert [next(found), next(found)] == [errors[1], errors[3]]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_few_items_are_prepared_ahead() -> None:
    taken = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    found = prepared_ahead(items(), lambda item: [ImageError("a.jpg", str(item))], CPU, 3)
    next(found)
    found.close()
    assert len(taken) == 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_without_a_gpu_there_is_none_to_decode_on() -> None:
    need_decoder("cpu", CPU)
    with pytest.raises(MachineError, match="this machine has no CUDA device to decode JPEGs on"):
        need_decoder("gpu", CPU)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_is_tried_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    tried, pixels = list[tuple[torch.device, torch.Size]](), decode_on_device._pixels

    def watched(coded: list[Tensor], device: torch.device) -> list[Tensor]:
        found = pixels(coded, device)
        tried.extend((one.device, one.shape) for one in found)
        return found

    monkeypatch.setattr(decode_on_device, "_pixels", watched)
    need_decoder("gpu", torch.device("cuda", 0))
    assert tried == [(torch.device("cuda", 0), torch.Size((3, 16, 16)))]


def test_a_batch_holds_views_of_the_device_and_of_the_host(mixed: ImageSet) -> None:
    batches = list(test_batches(mixed, ViewPlan((40,), 32), lambda height, width: 100, 0, CPU, decode="gpu"))
    assert [len(batch.indices) for batch in batches if isinstance(batch, ViewBatch)] == [len(mixed) - 3]
