"""The candidate boxes of one image for protocol 2 (Appendix A): one for each window of the dense map at each scale.

Window (i, j) of the map of a rescaled image has its origin at (32 j, 32 i) and the side of the training crop, in pixels of
the rescaled image; its box is predicted in the frame of that window, as in training. Candidates of several scales, flips
and networks are united before they are merged.

Shapes: C classes that are guessed, K classes of the network, H x W windows, N candidates, L = C, or 1 where all classes
have the same boxes (SCR).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vggcli import paper
from vggcli.boxes import from_view, mirrored_xyxy
from vggcli.data.decode import Size
from vggcli.errors import WeightsError


@dataclass(frozen=True)
class Candidates:
    """Boxes as xyxy in pixels of the upright image, float64 [L, N, 4], not clipped to it, and their scores for each of C
    classes, float64 [C, N]: what `merge_classes` merges."""

    boxes_LN4: Tensor
    scores_CN: Tensor


def candidates(
    outputs_FHW: Tensor,
    classes: Sequence[int],
    scores: Tensor,
    size: Size,
    rescaled: Size,
    crop: int,
    flip: bool = False,
) -> Candidates:
    """The candidates of one dense map, window by window from left to right and top to bottom.

    `outputs_FHW` are the network's outputs at each window, F = 4 (SCR) or 4 K (PCR, the four of class k from 4 k on), and
    `classes` the indices of the C classes. `scores` are the classifier's posteriors of these classes, [C] for the whole
    image or [C, H, W] for each window. `size` and `rescaled` are (width, height) of the image and of the rescaled image;
    `flip` says that the map is that of the rescaled image's mirror image. Boxes of less than a pixel of the window, or of
    negative width or height, are made one pixel wide or high.

    Raises WeightsError where an output is not finite.
    """
    if not torch.isfinite(outputs_FHW).all():
        raise WeightsError(
            "the network's boxes are not finite; its weights are damaged, or it needs a higher precision", "precision"
        )
    height, width = outputs_FHW.shape[1:]
    heads_K4HW = outputs_FHW.double().cpu().unflatten(0, (-1, 4))
    heads_L4HW = heads_K4HW if len(heads_K4HW) == 1 else heads_K4HW[list(classes)]
    boxes_LN4 = heads_L4HW.flatten(2).transpose(1, 2)
    boxes_LN4 = torch.cat((boxes_LN4[..., :2], boxes_LN4[..., 2:].clamp(min=1 / crop)), -1)
    boxes_LN4 = from_view(boxes_LN4, window_regions(height, width, crop))
    if flip:
        boxes_LN4 = mirrored_xyxy(boxes_LN4, rescaled[0])
    boxes_LN4 = boxes_LN4 * torch.tensor([size[0] / rescaled[0], size[1] / rescaled[1]] * 2, dtype=torch.float64)
    scores_CHW = scores.double().cpu().reshape(len(classes), *(scores.shape[1:] or (1, 1)))
    return Candidates(boxes_LN4, scores_CHW.expand(-1, height, width).flatten(1))


def window_regions(height: int, width: int, crop: int) -> Tensor:
    """The regions of the `height` x `width` windows of a map, row by row: xyxy in pixels of the rescaled image, float64
    [height * width, 4]."""
    tops, lefts = (paper.STRIDE * torch.arange(count, dtype=torch.float64) for count in (height, width))
    origins_N2 = torch.cartesian_prod(tops, lefts).reshape(-1, 2).flip(1)
    return torch.cat((origins_N2, origins_N2 + crop), 1)


def united(some: Sequence[Candidates]) -> Candidates:
    """The candidates of several scales, flips or networks as one set; SCR's boxes are repeated for each class where other
    candidates have a box a class."""
    lanes = max(len(one.boxes_LN4) for one in some)
    boxes_LN4 = torch.cat([one.boxes_LN4.expand(lanes, -1, -1) for one in some], 1)
    return Candidates(boxes_LN4, torch.cat([one.scores_CN for one in some], 1))
