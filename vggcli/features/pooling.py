"""From a layer's maps to a row: pooling over space, mirror images, scales, normalisation, in this order (Appendix B).

The paper averages fc7 over space and with the mirror image, combines scales by averaging or stacking, and L2-normalises the
result. All of it is float32.

Shapes: N images, C channels, H and W map positions, D entries of a row.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vggcli.choices import Aggregate, Norm, Pool


def pooled(maps_NCHW: Tensor, pool: Pool) -> Tensor:
    """The mean ("gap") or the maximum ("gmp") over space, float32 [N, C], or a copy of the map, [N, C, H, W]."""
    if pool == "gap":
        return maps_NCHW.mean((2, 3), dtype=torch.float32)
    if pool == "gmp":
        return maps_NCHW.amax((2, 3)).float()
    return maps_NCHW.to(torch.float32, memory_format=torch.contiguous_format, copy=True)


def aggregated(rows_SND: Tensor, aggregate: Aggregate) -> Tensor:
    """The rows of S scales as one: their mean or their maximum, [N, D], or all of them, [N, S D], the first scale first."""
    if aggregate == "stack":
        return rows_SND.transpose(0, 1).flatten(1, 2)
    return rows_SND.mean(0) if aggregate == "mean" else rows_SND.amax(0)


def normalised(rows: Tensor, norm: Norm) -> Tensor:
    """Rows [N, ...] divided by their L2 or L1 norm, each as a whole; a row of zeros stays as it is."""
    if norm == "none":
        return rows
    flat_ND = rows.flatten(1)
    lengths_N = flat_ND.norm(dim=1) if norm == "l2" else flat_ND.abs().sum(1)
    lengths_N = torch.where(lengths_N > 0, lengths_N, torch.ones_like(lengths_N))
    return (flat_ND / lengths_N[:, None]).view_as(rows)


def l2_normalised(rows_ND: NDArray[Any]) -> NDArray[np.float32]:
    """Stored rows divided by their L2 norm, in float64, where no square overflows; a row of zeros stays as it is."""
    return normalised(torch.from_numpy(rows_ND.astype(np.float64)), "l2").float().numpy()


def strongest_channels(row: NDArray[np.float32], count: int) -> list[tuple[int, float]]:
    """The `count` channels of a row [D] or a map [C, H, W] with the largest means over space, the largest first."""
    means = row.reshape(len(row), -1).mean(1)
    return [(int(channel), float(means[channel])) for channel in np.argsort(-means, kind="stable")[:count]]
