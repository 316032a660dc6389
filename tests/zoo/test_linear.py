"""The fully connected layers against products in float64."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vggcli.zoo import compiled
from vggcli.zoo.compiled import Kernels, kernel_sets
from vggcli.zoo.convolution import Conv3x3
from vggcli.zoo.linear import WindowLinear, linear

SETS = pytest.mark.parametrize("kernels", kernel_sets(), ids=lambda kernels: kernels.name)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@SETS
@pytest.mark.parametrize("rows", [0, 1, 2, 3, 4, 5, 6, 13, 127, 300])
@pytest.mark.parametrize(("depth", "outputs"), [(1, 4), (15, 5), (512, 33), (600, 70)])
def test_rows_are_multiplied_as_in_float64(kernels: Kernels, rows: int, depth: int, outputs: int) -> None:
    maps, weight, bias = random(rows, depth), random(outputs, depth), random(outputs)
    expected = F.linear(maps.double(), weight.double(), bias.double())
    torch.testing.assert_close(linear(maps, weight, bias, kernels).double(), expected, rtol=1e-5, atol=2e-5)


@SETS
def test_the_bits_depend_neither_on_the_other_rows_nor_on_threads(kernels: Kernels) -> None:
    maps, weight, bias = random(133, 1000), random(70, 1000), random(70)
    together, threads = linear(maps, weight, bias, kernels), torch.get_num_threads()
    for start, stop in ((0, 1), (5, 7), (9, 17), (130, 133)):
        assert torch.equal(linear(maps[start:stop], weight, bias, kernels), together[start:stop])
    try:
        torch.set_num_threads(3)
        assert torch.equal(linear(maps, weight, bias, kernels), together)
    finally:
        torch.set_num_threads(threads)


@SETS
def test_what_is_not_a_number_stays_so(kernels: Kernels) -> None:
    maps = random(3, 40)
    maps[1, 39] = float("nan")
    found = linear(maps, random(8, 40), random(8), kernels)
    assert found[1].isnan().all() and found[[0, 2]].isfinite().all()


@pytest.mark.parametrize("kernels", [*kernel_sets(), None], ids=lambda kernels: kernels.name if kernels else "torch")
@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize(("outputs", "kernel", "n"), [(10, 3, 2), (3, 1, 1), (64, 2, 8)])
def test_a_layer_slides_as_a_convolution(
    kernels: Kernels | None, learns: bool, outputs: int, kernel: int, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "_in_use", [kernels])
    layer = WindowLinear(5, outputs, kernel)
    with torch.no_grad():
        layer.weight.copy_(random(*layer.weight.shape))
        layer.bias.copy_(random(outputs))
    maps = random(n, 5, 7, 6)
    with torch.set_grad_enabled(learns):
        found = layer(maps)
    assert found.requires_grad == learns
    torch.testing.assert_close(found, F.conv2d(maps, layer.weight, layer.bias), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_are_converted_once_for_a_lower_precision(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    layers: list[WindowLinear | Conv3x3] = [WindowLinear(6, 8, 2), Conv3x3(6, 8)]
    for layer in layers:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)  # type: ignore[arg-type]
    maps, converted = random(2, 6, 5, 5), list[Tensor]()
    convert = Tensor.to

    def watched(tensor: Tensor, *to: Any) -> Tensor:
        converted.append(tensor)
        return convert(tensor, *to)

    monkeypatch.setattr(Tensor, "to", watched)
    for layer, padding in zip(layers, (0, 1), strict=True):
        for factor in (1, 2):
            with torch.no_grad(), torch.autocast("cpu", dtype):
                layer.weight.mul_(factor)
                expected = F.conv2d(maps, layer.weight, layer.bias, padding=padding)
                converted.clear()
                first, second = layer(maps), layer(maps)
            assert first.dtype == dtype
            assert sum(one.numel() == layer.weight.numel() for one in converted) == 1
            assert torch.equal(first, second)
            torch.testing.assert_close(first, expected, rtol=2**-7, atol=2**-7)
