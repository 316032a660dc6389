"""Boxes in pixels of the image as it is read: found again by their colour, whatever EXIF says, clipped or refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.voc_sets import annotation
from vggcli.data.boxes import checked_boxes, flaw, turned_box
from vggcli.data.decode import ORIENTATION, ImageError, read_image, upright_size
from vggcli.data.image_set import ImageSet
from vggcli.data.sources import load_split
from vggcli.data.voc import Box, MarkedObject, Size
from vggcli.errors import DataError

WIDTH, HEIGHT = 64, 40  # of the stored pixels
DRAWN = (50.0, 4.0, 62.0, 16.0)  # in the stored pixels: fits only there where the image is swapped
BOTH = (4.0, 8.0, 20.0, 36.0)  # fits whether or not the image is swapped


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def drawn(path: Path, orientation: int = 1, box: Box = DRAWN, size: Size = (WIDTH, HEIGHT)) -> Path:
    """An image with a red rectangle at `box` of its stored pixels."""
    image = Image.new("RGB", size, "black")
    xmin, ymin, xmax, ymax = map(int, box)
    image.paste("red", (xmin, ymin, xmax, ymax))
    image.save(path, exif=exif_of(orientation), quality=95)
    return path


def red_box(path: Path) -> Box:
    red_HW = np.asarray(read_image(path))[..., 0] > 127
    rows, columns = np.flatnonzero(red_HW.any(1)), np.flatnonzero(red_HW.any(0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def image_set(root: Path, objects: dict[str, tuple[MarkedObject, ...]], split: str = "val") -> ImageSet:
    return ImageSet(root, split, ("cat", "dog"), tuple(objects), (0,) * len(objects), tuple(objects.values()))


def marked(box: Box, label: str = "cat", stated: Size | None = None) -> tuple[MarkedObject, ...]:
    return (MarkedObject(label, box, stated=stated),)


def checked(images: ImageSet, skip_bad: bool = False, workers: int = 0) -> tuple[ImageSet, list[ImageError]]:
    return checked_boxes(images, workers, skip_bad)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_of_the_stored_pixels_is_turned_with_its_image(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = drawn(tmp_path / f"a.{suffix}", orientation)
    size, read = upright_size(path)
    assert (size, read) == (read_image(path).size, orientation)
    assert turned_box(DRAWN, size, orientation) == red_box(path)


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_the_frame_in_which_all_boxes_fit_is_theirs(tmp_path: Path, orientation: int) -> None:
    path = drawn(tmp_path / "a.jpg", orientation)
    both = (*marked(DRAWN), *marked(BOTH, "dog"))
    images, bad = checked(image_set(tmp_path, {"a.jpg": both}))
    assert not bad
    assert images.own_boxes(0) == (red_box(path),)
    assert images.remarks == (
        "1 image of the val split is turned by EXIF, and so are the boxes, which were marked on the pixels as stored",
    )
    again, _ = checked(images)
    assert again.objects == images.objects  # they are of the upright image now
    upright, _ = checked(image_set(tmp_path, {"a.jpg": marked(red_box(path))}))
    assert upright.own_boxes(0) == (red_box(path),) and not upright.remarks


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("stated", [None, (WIDTH, HEIGHT), (HEIGHT, WIDTH), (7, 7)])
def test_where_both_frames_fit_the_upright_one_is_meant_unless_the_stored_size_is_stated(
    tmp_path: Path, orientation: int, stated: Size | None
) -> None:
    path = drawn(tmp_path / "a.jpg", orientation, BOTH)
    images, _ = checked(image_set(tmp_path, {"a.jpg": marked(BOTH, stated=stated)}))
    is_stored = orientation >= 5 and stated == (WIDTH, HEIGHT)
    assert images.own_boxes(0) == ((red_box(path) if is_stored else BOTH),)
    assert len(images.remarks) == is_stored
    again, _ = checked(images)
    assert again.objects == images.objects


def test_the_size_that_an_annotation_states_decides_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    path, text = drawn(folder / "a.jpg", 6, BOTH), annotation("a.jpg", [("cat", BOTH, 0)])
    for width, height, box in ((48, 64, BOTH), (WIDTH, HEIGHT, red_box(path)), ("", HEIGHT, BOTH)):
        size = text.replace("<width>48", f"<width>{width}").replace("<height>64", f"<height>{height}")
        (folder / "a.xml").write_text(size)
        assert checked(load_split(tmp_path, "train", boxes=True))[0].own_boxes(0) == (box,)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_passes_the_border_a_little_is_clipped_and_counted(tmp_path: Path, workers: int) -> None:
    boxes = ((-2, -1.5, 66, 42), (0, 0, 64, 40), (1, 2, 65, 7), (3, 3, 60, 40.5))
    for index in range(40):
        drawn(tmp_path / f"{index:02d}.png")
    objects = {f"{index:02d}.png": marked(boxes[index % 4]) for index in range(40)}
    done: list[int] = []
    images, bad = checked_boxes(image_set(tmp_path, objects), workers, False, done.append)
    assert [images.own_boxes(index)[0] for index in range(4)] == [
        (0, 0, 64, 40), (0, 0, 64, 40), (1, 2, 64, 7), (3, 3, 60, 40)
    ]  # fmt: skip
    assert images.remarks == ("30 boxes of the val split pass the border by up to 2 pixels and are clipped",)
    assert (sum(done), bad) == (40, [])


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("box", "what"),
    [
        ((5, 5, 5, 9), r"'cat' \(5,5,5,9\) has no area"),
        ((9, 5, 5, 9), r"'cat' \(9,5,5,9\) has no area"),
        ((NAN, 5, 9, 9), r"'cat' \(nan,5,9,9\) has a corner that is not finite"),
        ((1, 1, INF, 9), r"'cat' \(1,1,inf,9\) has a corner that is not finite"),
        ((64, 5, 66, 9), "lies outside the image, which has 64x40 pixels"),
        ((0, -9, 5, 0), "lies outside the image"),
        ((900, 900, 950, 950), "lies outside the image"),
        ((5, 5, 66.5, 9), "passes the border of the image, which has 64x40 pixels, by 2.5 pixels"),
        ((-3, 5, 6, 9), "passes the border of the image, .* by 3 pixels"),
    ],
)
def test_a_box_that_cannot_be_is_an_error_or_left_out(tmp_path: Path, box: Box, what: str) -> None:
    for name in ("a", "b", "c"):
        drawn(tmp_path / f"{name}.png")
    images = image_set(tmp_path, {"a.png": marked(BOTH), "b.png": (*marked(BOTH), *marked(box)), "c.png": marked(BOTH)})
    with pytest.raises(
        DataError, match=rf"b\.png cannot be used: the box of its .*{what}.*; correct it, or leave"
    ) as said:
        checked(images)
    assert said.value.options == ("skip_bad",)
    kept, bad = checked(images, skip_bad=True)
    assert kept.names == ("a.png", "c.png") and len(kept.objects) == 2
    assert [(one.index, Path(one.path).name) for one in bad] == [(1, "b.png")]


def test_an_image_without_a_box_of_its_class_is_an_error_or_left_out(tmp_path: Path) -> None:
    drawn(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:20])
    images = image_set(
        tmp_path, {"x.png": (), "a.png": marked(BOTH), "broken.png": marked(BOTH), "z.png": marked(BOTH, "dog")}
    )
    message = r"2 images have no box of their class, of the 4 in the val split; the first is .*x\.png: mark one, or"
    with pytest.raises(DataError, match=message) as said:
        checked(images)
    assert said.value.options == ("skip_bad",)
    kept, bad = checked(images, skip_bad=True)
    assert kept.names == ("a.png",)
    assert [one.index for one in bad] == [2]
    assert kept.remarks == ("2 images have no box of their class, of the 4 in the val split, and are left out",)
    with pytest.raises(DataError, match=r"broken\.png cannot be used: .*cut short"):
        checked(images.chosen([1, 2]))
    with pytest.raises(DataError, match="no train image of class 'cat' can be used"):
        checked(image_set(tmp_path, {"x.png": ()}, "train"), skip_bad=True)


def test_the_rest_of_a_jpeg_is_not_read(tmp_path: Path) -> None:
    path = drawn(tmp_path / "a.jpg", 6)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"\xff\xda") + 20])
    assert upright_size(path) == ((HEIGHT, WIDTH), 6)


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.write_text("words"), lambda path: None])
def test_what_is_no_image_is_an_image_error(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match=r"a\.jpg cannot be used"):
        upright_size(tmp_path / "a.jpg")


def test_the_margin_is_two_pixels() -> None:
    assert flaw((-2, 0, 10, 10), (10, 10)) is None
    assert flaw((-2.01, 0, 10, 10), (10, 10)) is not None
