"""3x3 convolution by Winograd's F(4x4, 3x3) in PyTorch's own functions: a quarter of the multiplications of the direct way.

An output tile of 4x4 is A'[(G g G') * (B' d B)]A for the filter g and the input tile d of 6x6. With Kronecker products both
transforms become one matrix product each, so a layer is: gather tiles, transform, 36 matrix products over the channels
(as one grouped 1x1 convolution, which oneDNN runs at the machine's peak), transform, scatter. Not in the paper.

Shapes: N images, C input channels, K output channels, H and W pixels of the map, T tiles of 4x4 outputs, 36 = 6x6.
"""

import itertools
from fractions import Fraction
from functools import cache
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = 4  # pixels of an output tile's side
WINDOW = TILE + 2  # pixels of the input tile that it is computed from
POINTS = (Fraction(0), Fraction(5, 8), Fraction(-5, 8), Fraction(3, 2), Fraction(-3, 2))  # and infinity; spread so that
# float32 rounds less than half as much as with the usual 0, ±1, ±2
BLOCK_BYTES = 30 << 20  # of a transformed block; glibc returns larger memory to the system, which clears it again
SMALLEST_PRODUCT = 128 * 256  # input times output channels; below, the transforms cost what the product saves
FEWEST_TILES = 100  # with fewer, rearranging the filters costs more than it saves


def onednn_runs(tensor: Tensor) -> bool:
    """Whether oneDNN's own float32 kernels for x86 are used for `tensor`."""
    return (
        tensor.device.type == "cpu"
        and tensor.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
        and torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    )


def winograd_pays(maps_NCHW: Tensor, channels: int) -> bool:
    """Whether `winograd_conv3x3` is the fastest way that PyTorch's own functions offer for maps of so many output channels:
    without gradients, in float32, on an x86 CPU, for enough channels and pixels."""
    n, channels_in, height, width = maps_NCHW.shape
    return (
        channels_in * channels >= SMALLEST_PRODUCT
        and n * tiles_of(height) * tiles_of(width) >= FEWEST_TILES
        and not torch.is_grad_enabled()
        and onednn_runs(maps_NCHW)
    )


def transformed_filters(weight_KC33: Tensor) -> Tensor:
    """G g G' of every filter, computed in float64: float32 [36 K, C, 1, 1], as a grouped convolution takes them."""
    _, transform, _ = matrices()
    out, channels = weight_KC33.shape[:2]
    filters = torch.einsum("ai,bj,kcij->abkc", transform, transform, weight_KC33.double())
    return filters.float().reshape(WINDOW**2 * out, channels, 1, 1)


def winograd_conv3x3(maps_NCHW: Tensor, filters: Tensor, bias_K: Tensor) -> Tensor:
    """3x3 convolution with padding 1 of float32 maps [N, C, H, W] with `transformed_filters`: [N, K, H, W] in
    channels_last. Relative error about 2e-6 of the largest output."""
    n, _, height, width = maps_NCHW.shape
    out, channels = bias_K.shape[0], filters.shape[1]
    rows, columns = tiles_of(height), tiles_of(width)
    edges = (0, 0, 1, TILE * columns + 1 - width, 1, TILE * rows + 1 - height)
    padded_NHWC = F.pad(maps_NCHW.permute(0, 2, 3, 1), edges)
    result_NHWK = torch.empty(n, TILE * rows, TILE * columns, out)
    # [N, rows, columns, 6, 6, C] and [N, rows, columns, 4, 4, K], both as views
    windows = padded_NHWC.unfold(1, WINDOW, TILE).unfold(2, WINDOW, TILE).permute(0, 1, 2, 4, 5, 3)
    tiles = result_NHWK.view(n, rows, TILE, columns, TILE, out).permute(0, 1, 3, 2, 4, 5)
    forth, back, bias = _kronecker(bias_K)
    for images, lines in _blocks(n, rows, columns * WINDOW**2 * max(channels, out) * 4):
        block = windows[images, lines]
        inputs_TSC = forth @ block.reshape(-1, WINDOW**2, channels)
        grouped = inputs_TSC.view(1, -1, 1, WINDOW**2 * channels).permute(0, 3, 1, 2)
        products = F.conv2d(grouped, filters, bias, groups=WINDOW**2)
        products_TSK = products.permute(0, 2, 3, 1).reshape(-1, WINDOW**2, out)
        tiles[images, lines] = (back @ products_TSK).view(*block.shape[:3], TILE, TILE, out)
    return result_NHWK[:, :height, :width].contiguous().permute(0, 3, 1, 2)


def tiles_of(side: int) -> int:
    """How many tiles cover a side of so many pixels."""
    return -(-side // TILE)


def _blocks(images: int, rows: int, row_bytes: int) -> list[tuple[slice, slice]]:
    """Images and rows of tiles that are computed together: whole images where they fit, else rows of one image."""
    together = max(1, BLOCK_BYTES // row_bytes)
    some_images, some_rows = max(1, together // rows), min(rows, together)
    places = itertools.product(range(0, images, some_images), range(0, rows, some_rows))
    return [(slice(image, image + some_images), slice(row, row + some_rows)) for image, row in places]


def _kronecker(bias_K: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The transforms of input [36, 36] and output [16, 36] tiles, and the bias where it is added, [36 K]: what the output
    transform takes to the bias at every pixel."""
    out, _, into = matrices()
    ones = torch.linalg.lstsq(out, torch.ones(TILE, 1, dtype=out.dtype)).solution
    bias = torch.kron(ones, ones).float() * bias_K
    return torch.kron(into, into).float(), torch.kron(out, out).float(), bias.flatten()


@cache
def matrices() -> tuple[Tensor, Tensor, Tensor]:
    """A' [4, 6], G [6, 3] and B' [6, 6] in float64 by the Toom-Cook construction, in exact fractions until the end."""
    outputs = [[point**power for point in POINTS] + [Fraction(power == TILE - 1)] for power in range(TILE)]
    filters, inputs = [], []
    for point in POINTS:
        others = [other for other in POINTS if other != point]
        scale = prod((point - other for other in others), start=Fraction(1))
        filters.append([point**power / scale for power in range(3)])
        inputs.append([*_polynomial(others), Fraction(0)])
    filters.append([Fraction(0), Fraction(0), Fraction(1)])
    inputs.append(_polynomial(list(POINTS)))
    a, g, b = (
        torch.tensor([[float(entry) for entry in row] for row in rows], dtype=torch.float64)
        for rows in (outputs, filters, inputs)
    )
    return a, g, b


def _polynomial(roots: list[Fraction]) -> list[Fraction]:
    """Coefficients, lowest first, of the polynomial with these roots and leading coefficient 1."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [low - root * own for low, own in zip(shifted, [*coefficients, Fraction(0)], strict=True)]
    return coefficients
