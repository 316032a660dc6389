"""Boxes in the form of Appendix A, in the frame of a view of an image and in the image's own.

An `xyxy` box is left, top, right, bottom; a `cxcywh` box its centre, width and height, as the network gives it. A view is a
region of the image, or its mirror image; in its frame its top left corner is 0, 0 and its bottom right corner 1, 1, also for boxes
that reach beyond it. The paper does not say which frame its coordinates are in.

Shapes: boxes and regions [..., 4], any leading shapes that broadcast; `mirrored` is a bool or [...].
"""

import torch
from torch import Tensor

Region = tuple[float, float, float, float]  # left, top, right, bottom


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    centres, sizes = boxes[..., :2], boxes[..., 2:]
    return torch.cat([centres - sizes / 2, centres + sizes / 2], -1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    first, last = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(first + last) / 2, last - first], -1)


def to_view(boxes_xyxy: Tensor, regions: Tensor, mirrored: Tensor | bool = False) -> Tensor:
    """Boxes of an image in the frame of its views: xyxy to cxcywh."""
    origins, sides = regions[..., :2], regions[..., 2:] - regions[..., :2]
    boxes = xyxy_to_cxcywh((boxes_xyxy - _twice(origins)) / _twice(sides))
    return _mirrored(boxes, mirrored)


def from_view(boxes_cxcywh: Tensor, regions: Tensor, mirrored: Tensor | bool = False) -> Tensor:
    """Boxes in the frame of views in that of their images: cxcywh to xyxy, the inverse of `to_view`."""
    origins, sides = regions[..., :2], regions[..., 2:] - regions[..., :2]
    return cxcywh_to_xyxy(_mirrored(boxes_cxcywh, mirrored)) * _twice(sides) + _twice(origins)


def _twice(points: Tensor) -> Tensor:
    return torch.cat([points, points], -1)


def _mirrored(boxes_cxcywh: Tensor, mirrored: Tensor | bool) -> Tensor:
    turned = torch.cat([1 - boxes_cxcywh[..., :1], boxes_cxcywh[..., 1:]], -1)
    return torch.where(torch.as_tensor(mirrored, device=boxes_cxcywh.device)[..., None], turned, boxes_cxcywh)


def share_inside(boxes_cxcywh: Tensor) -> Tensor:
    """The share of each box's area that lies in its view, [...]."""
    clipped = cxcywh_to_xyxy(boxes_cxcywh).clamp(0, 1)
    inside = (clipped[..., 2:] - clipped[..., :2]).prod(-1)
    return inside / boxes_cxcywh[..., 2:].prod(-1)


def iou(first_xyxy: Tensor, second_xyxy: Tensor) -> Tensor:
    """The intersection over union of boxes [N, 4] and [M, 4], [N, M]; 0 where a box has no area, as a network's may."""
    from torchvision.ops import box_iou

    overlaps_NM: Tensor = box_iou(first_xyxy, second_xyxy)
    return overlaps_NM.nan_to_num(0).clamp(0, 1)
