"""How far two float32 computations of the same numbers may lie apart, from their arithmetic alone.

The roundings of a sum of n products add up like a random walk, to about sqrt(n) units in the last place of the largest
partial sums; those of a network's layers add up in the same way. So a bound is relative to the largest output (a small
one is a difference of large terms), grows with the depth of the sum, and holds on any processor, in any order of summation.
"""

from math import sqrt
from typing import Any

import torch
from torch import Tensor, nn

EPSILON = torch.finfo(torch.float32).eps
MARGIN = 4.0  # two computations are compared, and Winograd's transforms multiply the roundings by about two


def rounding(terms: int) -> float:
    """The largest difference, relative to the largest output, that sums of `terms` products may have."""
    return MARGIN * EPSILON * sqrt(terms)


def depth(network: nn.Module) -> int:
    """The products behind an output of `network`, summed over its layers."""
    return sum(weight[0].numel() for weight in network.parameters() if weight.dim() > 1)


def relative(found: Any, wanted: Any) -> float:
    """The largest difference of two arrays, relative to the largest number in `wanted`."""
    found, wanted = torch.as_tensor(found), torch.as_tensor(wanted)
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max() / wanted.abs().max())


def assert_same_sums(found: Any, wanted: Any, of: nn.Module | int) -> None:
    """That two arrays differ by no more than the rounding of a network, or of sums of so many products."""
    largest = rounding(of if isinstance(of, int) else depth(of))
    assert relative(found, wanted) <= largest, f"{relative(found, wanted):.1e} where {largest:.1e} is rounding"


def assert_same_steps(found: dict[str, Tensor], wanted: dict[str, Tensor], steps: int, network: nn.Module) -> None:
    """That weights agree after `steps` steps of training: each adds the roundings of a pass there and back."""
    assert found.keys() == wanted.keys()
    for name, weight in wanted.items():
        assert_same_sums(found[name], weight, 2 * steps * depth(network))
