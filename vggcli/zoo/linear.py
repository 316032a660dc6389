"""The fully connected layers of the networks, slid over a map, each by the fastest way that there is. Not in the paper.

Shapes: N images, C channels, H and W positions of the map.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vggcli.device import low_precision
from vggcli.zoo.compiled import Kernels, Linear, kernels_in_use, run_on_threads
from vggcli.zoo.kept import Kept
from vggcli.zoo.winograd import onednn_runs

LEAST_OUTPUTS = 4  # of the compiled product
BAND = 126  # rows: their sums with a group of outputs lie in the second-level cache
GROUP = 32  # outputs, for which the rows are read from it once
MANY_ROWS = 32  # from here on oneDNN's matrix product pays for rearranging fc6's weights


class WindowLinear(nn.Module):
    """A fully connected layer slid over a map: a convolution without padding, computed as one matrix product.

    `weight` is [out, in, k, k], as a convolution has it. Gathering the windows and multiplying uses the weights
    as they are in memory; a convolution would first rearrange them, 411 MB for fc6, at every call.
    """

    def __init__(self, channels_in: int, channels: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.weight = nn.Parameter(torch.empty(channels, channels_in, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(channels))
        self._kept = Kept()

    def forward(self, maps_NCHW: Tensor) -> Tensor:
        """[N, in, H, W] to [N, out, H-k+1, W-k+1]."""
        k, maps_NHWC = self.kernel, maps_NCHW.permute(0, 2, 3, 1)
        n, height, width, channels = maps_NHWC.shape
        rows, columns = height - k + 1, width - k + 1
        assert rows > 0 and columns > 0, "the image is smaller than the training crop"
        # [N, rows, columns, C, k, k] as a view, then one copy in the weights' own order (k, k, C)
        windows = maps_NHWC.unfold(1, k, 1).unfold(2, k, 1).permute(0, 1, 2, 4, 5, 3)
        flat = windows.reshape(n, rows, columns, k * k * channels)
        return self._product(flat).permute(0, 3, 1, 2)

    def _product(self, windows_NHWC: Tensor) -> Tensor:
        """[N, H, W, k*k*in] to [N, H, W, out]."""
        weight = self.weight.permute(0, 2, 3, 1).reshape(self.weight.shape[0], -1)  # a view in channels_last
        learns = torch.is_grad_enabled() and any(one.requires_grad for one in (windows_NHWC, *self.parameters()))
        if learns:
            self._kept.forget()  # a fused optimiser may change the weights next, which no version tells
        if learns or torch.compiler.is_compiling():  # which takes PyTorch's own operations in
            return F.linear(windows_NHWC, weight, self.bias)
        kernels, dtype = kernels_in_use(), low_precision(windows_NHWC)
        if dtype is not None:
            weight = self._kept.get(self.weight, str(dtype), lambda: weight.detach().to(dtype))
            return F.linear(windows_NHWC.to(dtype), weight, self.bias.to(dtype))
        if kernels is not None and self._compiled_fits(windows_NHWC):
            found_RK = linear(windows_NHWC.flatten(0, 2), weight, self.bias, kernels)
            return found_RK.view(*windows_NHWC.shape[:3], -1)
        if windows_NHWC[..., 0].numel() >= MANY_ROWS and not torch.is_grad_enabled() and onednn_runs(windows_NHWC):
            as_pixels = windows_NHWC.reshape(1, -1, 1, windows_NHWC.shape[-1])  # overlapping windows may be one view
            pixels = F.conv2d(as_pixels.permute(0, 3, 1, 2), weight[:, :, None, None], self.bias)
            return pixels.view(-1, *windows_NHWC.shape[:3]).permute(1, 2, 3, 0)
        return F.linear(windows_NHWC, weight, self.bias)

    def _compiled_fits(self, maps: Tensor) -> bool:
        return (
            maps.device.type == "cpu"
            and maps.dtype == self.weight.dtype == torch.float32
            and len(self.bias) >= LEAST_OUTPUTS
        )


def linear(maps_RC: Tensor, weight_KC: Tensor, bias_K: Tensor, kernels: Kernels) -> Tensor:
    """float32 rows [R, C] times weights [K, C], K at least 4, plus the biases: [R, K]. The weights are read as they lie in
    memory, once for up to 126 rows. The same bits for any number of rows and threads."""
    maps_RC, weight_KC = maps_RC.contiguous(), weight_KC.contiguous()
    (rows, depth), outputs, threads = maps_RC.shape, len(weight_KC), torch.get_num_threads()
    result_RK, size = torch.empty(rows, outputs), GROUP * min(rows, BAND) * kernels.lanes
    scratch = torch.empty(threads * size)
    record = Linear(
        maps=maps_RC.data_ptr(),
        weights=weight_KC.data_ptr(),
        bias=bias_K.data_ptr(),
        result=result_RK.data_ptr(),
        scratch=scratch.data_ptr(),
        rows=rows,
        depth=depth,
        outputs=outputs,
        band=BAND,
        group=GROUP,
        scratch_size=size,
    )
    run_on_threads(kernels.linear, record, threads, (maps_RC, weight_KC, bias_K, result_RK, scratch))
    return result_RK
