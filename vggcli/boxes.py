"""Boxes in the two forms that localisation needs, and between an image and a view of it (Appendix A).

`xyxy` is (x0, y0, x1, y1): the edges in pixels of the upright image, continuous coordinates from 0 at its left and top.
`cxcywh` is (centre x, centre y, width, height), the four numbers that a network learns and predicts: relative to the view
and divided by its side, so that (1/2, 1/2, 1, 1) is the whole view. The paper does not say its frame.

The `region` of a view is its (x0, y0, x1, y1) in pixels of the image, float [..., 4], and may reach beyond it. Boxes and
regions may have any leading shapes that broadcast. Nothing is clipped.
"""

import torch
from torch import Tensor

Region = tuple[float, float, float, float]  # x0, y0, x1, y1


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Centre and size to edges, [..., 4]. Written out, because torchvision would be imported by every data worker."""
    centre, size = boxes.split(2, -1)
    return torch.cat((centre - size / 2, centre + size / 2), -1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Edges to centre and size, [..., 4]."""
    low, high = boxes.split(2, -1)
    return torch.cat(((low + high) / 2, high - low), -1)


def mirrored_xyxy(boxes: Tensor, width: Tensor | float) -> Tensor:
    """Boxes [..., 4] of an image `width` pixels wide, on its mirror image."""
    x0, y0, x1, y1 = boxes.unbind(-1)
    return torch.stack((width - x1, y0, width - x0, y1), -1)


def mirrored_cxcywh(boxes: Tensor, flip: Tensor | bool) -> Tensor:
    """Boxes [..., 4] in the frame of a view, where `flip` (bool [...]) is set in that of its mirror image."""
    mirror = torch.cat((1 - boxes[..., :1], boxes[..., 1:]), -1)
    return mirror.where(torch.as_tensor(flip, device=boxes.device)[..., None], boxes)


def to_view(boxes_xyxy: Tensor, region: Tensor, flip: Tensor | bool = False) -> Tensor:
    """Boxes [..., 4] of an image as a network learns them: cxcywh in the frame of the view that shows `region`, or of its
    mirror image where `flip` (bool [...]) is set."""
    low, high = region.split(2, -1)
    centre, size = xyxy_to_cxcywh(boxes_xyxy).split(2, -1)
    return mirrored_cxcywh(torch.cat(((centre - low) / (high - low), size / (high - low)), -1), flip)


def from_view(boxes_cxcywh: Tensor, region: Tensor, flip: Tensor | bool = False) -> Tensor:
    """The inverse of `to_view`: boxes [..., 4] in the frame of a view, or of its mirror image, as xyxy of the image."""
    low, high = region.split(2, -1)
    centre, size = mirrored_cxcywh(boxes_cxcywh, flip).split(2, -1)
    return cxcywh_to_xyxy(torch.cat((low + centre * (high - low), size * (high - low)), -1))


def share_inside(boxes_cxcywh: Tensor) -> Tensor:
    """The share of the area of boxes [..., 4], in the frames of their views, that lies in the view, [...]."""
    clipped = cxcywh_to_xyxy(boxes_cxcywh).clamp(0, 1)
    inside = (clipped[..., 2:] - clipped[..., :2]).prod(-1)
    return inside / boxes_cxcywh[..., 2:].prod(-1)


def iou(first_xyxy: Tensor, second_xyxy: Tensor) -> Tensor:
    """The intersection over union of boxes [N, 4] and [M, 4], [N, M]; 0 where a box has no area, as a network's may."""
    from torchvision.ops import box_iou

    overlaps_NM: Tensor = box_iou(first_xyxy, second_xyxy)
    return overlaps_NM.nan_to_num(0).clamp(0, 1)
