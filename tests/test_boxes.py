"""Boxes against torchvision's conversion, and against drawn rectangles found again in a view."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_convert

from vggcli.boxes import cxcywh_to_xyxy, from_view, mirrored_xyxy, to_view, xyxy_to_cxcywh

GENERATOR = torch.Generator().manual_seed(0)


def some_boxes(*shape: int) -> Tensor:
    low, size = torch.rand(2, *shape, 2, generator=GENERATOR, dtype=torch.float64)
    return torch.cat((300 * low, 300 * low + 100 * size + 1), -1)


def test_conversions_are_torchvisions() -> None:
    boxes = some_boxes(4, 5)
    torch.testing.assert_close(xyxy_to_cxcywh(boxes), box_convert(boxes, "xyxy", "cxcywh"))
    torch.testing.assert_close(cxcywh_to_xyxy(boxes), box_convert(boxes, "cxcywh", "xyxy"))


def test_a_box_in_the_frame_of_a_view_by_hand() -> None:
    box, region = torch.tensor([50.0, 20, 150, 60]), torch.tensor([100.0, 10, 300, 110])
    torch.testing.assert_close(to_view(box, region), torch.tensor([0.0, 0.3, 0.5, 0.4]))
    torch.testing.assert_close(to_view(box, region, flip=True), torch.tensor([1.0, 0.3, 0.5, 0.4]))
    torch.testing.assert_close(to_view(region, region), torch.tensor([0.5, 0.5, 1, 1]))


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_there_and_back(shape: tuple[int, ...]) -> None:
    boxes, region, flip = some_boxes(*shape), some_boxes(*shape), torch.rand(shape, generator=GENERATOR) < 0.5
    for mirrored in (False, True, flip):
        torch.testing.assert_close(from_view(to_view(boxes, region, mirrored), region, mirrored), boxes)


def test_one_region_and_one_flip_an_image() -> None:
    boxes, regions, flips = some_boxes(3, 5), some_boxes(3, 1), torch.tensor([True, False, True])[:, None]
    seen = to_view(boxes, regions, flips)
    for image in range(3):
        torch.testing.assert_close(seen[image], to_view(boxes[image], regions[image], bool(flips[image])))


def drawn(image_HW: Tensor) -> list[int]:
    """The box of what is drawn."""
    down, across = image_HW.nonzero().unbind(1)
    return [int(edge) for edge in (across.min(), down.min(), across.max() + 1, down.max() + 1)]


def test_a_drawn_box_is_where_the_view_shows_it() -> None:
    image_HW = torch.zeros(100, 120)
    image_HW[30:50, 40:70] = 1
    box, region = torch.tensor([40.0, 30, 70, 50]), torch.tensor([24.0, 20, 88, 84])
    view_HW = image_HW[20:84, 24:88]
    assert (cxcywh_to_xyxy(to_view(box, region)) * 64).tolist() == drawn(view_HW)
    assert (cxcywh_to_xyxy(to_view(box, region, flip=True)) * 64).tolist() == drawn(view_HW.flip(1))
    assert mirrored_xyxy(box, 120).tolist() == drawn(image_HW.flip(1))
