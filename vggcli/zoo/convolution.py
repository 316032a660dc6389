"""The 3x3 convolutions of the networks, each by the fastest way that there is: the compiled one in float32 on a CPU, else
PyTorch's own, or Winograd's algorithm in its functions. Not in the paper.

Shapes: N images, C input channels, K output channels, H and W pixels of the map.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_weight

from vggcli.device import low_precision
from vggcli.zoo.compiled import Convolution, Gradient, Kernels, Packing, kernels_in_use, run_on_threads
from vggcli.zoo.kept import Kept
from vggcli.zoo.winograd import matrices, tiles_of, transformed_filters, winograd_conv3x3, winograd_pays

FEW_CHANNELS = 6  # of the input, up to which the sums are shorter than the transforms
BLOCK = 48  # tiles: their transforms of 64 channels fill half of a second-level cache of 1 MB
FEWEST_PRODUCTS = 1 << 24  # of a layer that learns: below, threads wait for each other longer than the products take
ROWS = 24  # the most rows of a matrix product at once, in any kernel
CHUNK_BYTES = 4 << 20  # of transforms that the gradient to the filters has in memory, or as many as its sums take


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution with padding 1. Its parameters are those of `nn.Conv2d`, its gradients too."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__(channels_in, channels, 3, padding=1)
        self._kept = Kept()

    def forward(self, maps_NCHW: Tensor, relu: bool = False, pool: bool = False) -> Tensor:
        """[N, C, H, W] to [N, K, H, W], then a ReLU and a 2x2 max-pooling to [N, K, H//2, W//2], if they are asked for."""
        learns = torch.is_grad_enabled() and any(one.requires_grad for one in (maps_NCHW, *self.parameters()))
        if learns:
            self._kept.forget()  # a fused optimiser may change the weights next, which no version tells
        traced = torch.compiler.is_compiling()  # which takes PyTorch's own operations in, and joins them itself
        kernels = None if traced else kernels_in_use()
        if kernels is None or not self._compiled_fits(maps_NCHW, learns):
            maps_NCHW = super().forward(maps_NCHW) if traced else self._by_torch(maps_NCHW, learns)
            maps_NCHW = F.relu(maps_NCHW, inplace=True) if relu else maps_NCHW
        elif learns:
            maps_NCHW = _Learnt.apply(maps_NCHW, self.weight, self.bias, relu, kernels)
        else:
            assert self.bias is not None
            filters = self._kept.get(self.weight, kernels.name, lambda: pack(self.weight, kernels))
            return convolve(maps_NCHW, filters, self.bias, kernels, relu=relu, pool=pool)
        return F.max_pool2d(maps_NCHW, 2) if pool else maps_NCHW

    def _compiled_fits(self, maps_NCHW: Tensor, learns: bool) -> bool:
        """Whether the compiled convolution can take these maps, and does not lose by it where it `learns`. Elsewhere it
        takes few and small ones too, so that the bits of an image do not depend on the others in its batch."""
        n, channels, height, width = maps_NCHW.shape
        products = 36 * n * tiles_of(height) * tiles_of(width) * channels * self.out_channels
        return (
            maps_NCHW.device.type == "cpu"
            and maps_NCHW.numel() > 0
            and maps_NCHW.dtype == self.weight.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and (products >= FEWEST_PRODUCTS or not learns)
        )

    def _by_torch(self, maps_NCHW: Tensor, learns: bool) -> Tensor:
        dtype = None if learns else low_precision(maps_NCHW)
        if dtype is None and not winograd_pays(maps_NCHW, self.out_channels):
            return super().forward(maps_NCHW)
        assert self.bias is not None
        if dtype is None:
            filters = self._kept.get(self.weight, "torch", lambda: transformed_filters(self.weight.detach()))
            return winograd_conv3x3(maps_NCHW, filters, self.bias)
        weight = self._kept.get(self.weight, str(dtype), lambda: self.weight.detach().to(dtype))
        return F.conv2d(maps_NCHW.to(dtype), weight, self.bias.to(dtype), padding=1)


class _Learnt(torch.autograd.Function):
    """A convolution, with a ReLU or without, and its gradients, by the compiled kernels. The gradient to the maps is the
    convolution with the filters turned by half a turn and their axes exchanged."""

    @staticmethod
    def forward(ctx: Any, maps_NCHW: Tensor, weight: Tensor, bias_K: Tensor, relu: bool, kernels: Kernels) -> Tensor:
        maps_NCHW = maps_NCHW.contiguous(memory_format=torch.channels_last)
        result_NKHW = convolve(maps_NCHW, pack(weight, kernels), bias_K, kernels, relu=relu)
        ctx.kernels = kernels
        ctx.save_for_backward(maps_NCHW, weight, result_NKHW if relu else None)
        return result_NKHW

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradients_NKHW: Tensor) -> tuple[Tensor | None, ...]:
        maps_NCHW, weight, result_NKHW = ctx.saved_tensors
        gradients_NKHW = gradients_NKHW.contiguous(memory_format=torch.channels_last)
        if result_NKHW is not None:
            gradients_NKHW = torch.ops.aten.threshold_backward(gradients_NKHW, result_NKHW, 0)
        to_maps, to_weight, to_bias, *_ = ctx.needs_input_grad
        maps_gradient = weight_gradient = bias_gradient = None
        if to_maps:
            turned = pack(weight, ctx.kernels, turned=True)
            maps_gradient = convolve(gradients_NKHW, turned, None, ctx.kernels, outputs=weight.shape[1])
        if to_weight and weight.shape[1] <= FEW_CHANNELS:
            weight_gradient = conv2d_weight(maps_NCHW, weight.shape, gradients_NKHW, padding=1)
        elif to_weight:
            weight_gradient = filter_gradient(maps_NCHW, gradients_NKHW, ctx.kernels)
        if to_bias:
            bias_gradient = gradients_NKHW.sum((0, 2, 3))
        return maps_gradient, weight_gradient, bias_gradient, None, None


def convolve(
    maps_NCHW: Tensor,
    filters: Tensor,
    bias_K: Tensor | None,
    kernels: Kernels,
    *,
    outputs: int = 0,
    relu: bool = False,
    pool: bool = False,
) -> Tensor:
    """3x3 convolution with padding 1 of float32 maps [N, C, H, W] with filters as `pack` gives them, of as many `outputs` K
    as there are biases, with a ReLU and a 2x2 max-pooling after it if asked for: [N, K, H, W], or [N, K, H//2, W//2], in
    channels_last. Relative error about 2e-6 of the largest output; the same bits for any number of threads."""
    maps_NCHW = maps_NCHW.contiguous(memory_format=torch.channels_last)
    n, channels, height, width = maps_NCHW.shape
    outputs, threads = outputs if bias_K is None else len(bias_K), torch.get_num_threads()
    few = filters.dim() == 4
    pooled = (height // 2, width // 2) if pool and not few else (height, width)
    result_NKHW = torch.empty((n, outputs, *pooled), memory_format=torch.channels_last)
    tiles, wide = n * tiles_of(height) * tiles_of(width), kernels.lanes * kernels.panel
    panels = -(-outputs // wide)
    if few:
        block, panels, size = 0, 0, 3 * (_rounded(width, ROWS) + 2) * channels + 2 * ROWS * wide
    else:
        block, panels = _division(tiles, panels, threads)
        rows = _rounded(block, ROWS)
        size = 36 * (rows * (_rounded(channels, kernels.lanes) + wide) + 2 * kernels.lanes)
    scratch = torch.empty(threads * size)
    record = Convolution(
        maps=maps_NCHW.data_ptr(),
        filters=filters.data_ptr(),
        bias=None if bias_K is None else bias_K.data_ptr(),
        result=result_NKHW.data_ptr(),
        scratch=scratch.data_ptr(),
        **_sizes(maps_NCHW, outputs),
        relu=relu,
        pool=pool and not few,
        block=block,
        panels=panels,
        scratch_size=size,
    )
    work = kernels.convolve_few if few else kernels.convolve
    run_on_threads(work, record, threads, (maps_NCHW, filters, bias_K, result_NKHW, scratch))
    return F.max_pool2d(result_NKHW, 2) if pool and few else result_NKHW


def pack(weight_KC33: Tensor, kernels: Kernels, turned: bool = False) -> Tensor:
    """Filters as `convolve` takes them: G g G' of each, computed in float64, float32 of four times the weights in memory;
    for few channels, which are summed without transforms, [3, 3, C, K] with K rounded up to whole vectors. `turned` by half
    a turn and with C and K exchanged, they give the gradient to the maps."""
    weight_KC33 = weight_KC33.detach().transpose(0, 1) if turned else weight_KC33.detach()
    outputs, channels = weight_KC33.shape[:2]
    columns = _rounded(outputs, kernels.lanes)
    if channels <= FEW_CHANNELS:
        weight_KC33 = weight_KC33.flip(2, 3) if turned else weight_KC33
        return F.pad(weight_KC33.permute(2, 3, 1, 0), (0, columns - outputs)).contiguous()
    filters, matrix = torch.empty(36 * channels * columns), matrices()[1]
    output_step, channel_step, down, across = weight_KC33.stride()
    record = Packing(
        weights=weight_KC33.data_ptr() + (8 * (down + across) if turned else 0),
        matrix=matrix.data_ptr(),
        filters=filters.data_ptr(),
        channels=channels,
        outputs=outputs,
        channel_step=channel_step,
        output_step=output_step,
        down=-down if turned else down,
        across=-across if turned else across,
    )
    run_on_threads(kernels.pack, record, torch.get_num_threads(), (weight_KC33, matrix, filters))
    return filters


def filter_gradient(maps_NCHW: Tensor, gradients_NKHW: Tensor, kernels: Kernels) -> Tensor:
    """The gradient to the filters, [K, C, 3, 3], of a convolution of maps [N, C, H, W], given that to its outputs,
    [N, K, H, W], both in channels_last. It takes as many multiplications as the convolution itself."""
    n, channels, height, width = maps_NCHW.shape
    outputs, lanes = gradients_NKHW.shape[1], kernels.lanes
    row = _rounded(channels, lanes) + _rounded(outputs, lanes)
    sums = (36 * _rounded(channels, ROWS) + ROWS) * _rounded(outputs, lanes)
    chunk = max(ROWS, max(CHUNK_BYTES, 4 * sums) // (4 * 36 * row))
    chunk = min(chunk, n * tiles_of(height) * tiles_of(width))
    result_33CK = torch.empty(3, 3, channels, outputs)
    scratch, matrix = torch.empty(36 * (chunk * row + 2 * lanes + ROWS) + sums), matrices()[1]
    record = Gradient(
        maps=maps_NCHW.data_ptr(),
        gradients=gradients_NKHW.data_ptr(),
        matrix=matrix.data_ptr(),
        result=result_33CK.data_ptr(),
        scratch=scratch.data_ptr(),
        **_sizes(maps_NCHW, outputs),
        chunk=chunk,
    )
    keep = (maps_NCHW, gradients_NKHW, matrix, result_33CK, scratch)
    run_on_threads(kernels.filter_gradient, record, torch.get_num_threads(), keep)
    return result_33CK.permute(3, 2, 0, 1)


def _sizes(maps_NCHW: Tensor, outputs: int) -> dict[str, int]:
    n, channels, height, width = maps_NCHW.shape
    return {"images": n, "height": height, "width": width, "channels": channels, "outputs": outputs}


def _division(tiles: int, panels: int, threads: int) -> tuple[int, int]:
    """How many tiles, and how many panels of outputs, make a task: about as many tasks for each thread."""
    shares = min(panels, threads) if tiles < threads * BLOCK // 2 else 1
    blocks = -(-threads // shares) * -(-tiles // (BLOCK * threads))
    return min(BLOCK, _rounded(-(-tiles // blocks), 6)), -(-panels // shares)


def _rounded(size: int, unit: int) -> int:
    return -(-size // unit) * unit
