"""Winograd convolution by PyTorch's functions against `conv2d` in float64, and the rule that picks it."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.rounding import assert_same_sums
from vggcli.zoo import winograd
from vggcli.zoo.linear import WindowLinear
from vggcli.zoo.winograd import onednn_runs, transformed_filters, winograd_conv3x3, winograd_pays


def layer(channels_in: int, channels: int, seed: int = 0) -> nn.Conv2d:
    convolution = nn.Conv2d(channels_in, channels, 3, padding=1)
    generator = torch.Generator().manual_seed(seed)
    nn.init.normal_(convolution.weight, std=(2 / (9 * channels_in)) ** 0.5, generator=generator)
    nn.init.normal_(convolution.bias, generator=generator)  # type: ignore[arg-type]
    return convolution


def exact(convolution: nn.Conv2d, maps: Tensor) -> Tensor:
    assert convolution.bias is not None
    return F.conv2d(maps.double(), convolution.weight.double(), convolution.bias.double(), padding=1)


def worst(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 14, 14), (3, 5, 19), (1, 1, 1), (1, 3, 2), (2, 33, 16)])
@pytest.mark.parametrize(("channels_in", "channels"), [(3, 5), (64, 32)])
@torch.no_grad()
def test_any_map_is_convolved_as_in_float64(shape: tuple[int, int, int], channels_in: int, channels: int) -> None:
    convolution = layer(channels_in, channels)
    n, height, width = shape
    maps = torch.randn(n, channels_in, height, width, generator=torch.Generator().manual_seed(1))
    assert convolution.bias is not None
    found = winograd_conv3x3(maps, transformed_filters(convolution.weight), convolution.bias)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert worst(found, exact(convolution, maps)) < 5e-6


@pytest.mark.parametrize("block_bytes", [1, 200_000, 1_000_000])
@torch.no_grad()
def test_blocks_of_any_size_give_the_same_maps(block_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    convolution, maps = layer(16, 16), torch.randn(5, 16, 30, 22)
    assert convolution.bias is not None
    filters = transformed_filters(convolution.weight)
    whole = winograd_conv3x3(maps, filters, convolution.bias)
    monkeypatch.setattr(winograd, "BLOCK_BYTES", block_bytes)
    assert_same_sums(winograd_conv3x3(maps, filters, convolution.bias), whole, convolution)


def test_a_constant_map_gives_the_sum_of_the_filter_and_the_bias() -> None:
    weight, bias = torch.ones(1, 1, 3, 3), torch.full((1,), 7.0)
    found = winograd_conv3x3(torch.ones(1, 1, 8, 8), transformed_filters(weight), bias)
    torch.testing.assert_close(found[0, 0, 1:-1, 1:-1], torch.full((6, 6), 16.0))
    torch.testing.assert_close(found[0, 0, 0, 0], torch.tensor(11.0))  # a corner sees four pixels


@torch.no_grad()
def test_it_is_used_where_it_pays() -> None:
    large = torch.empty(1, 256, 80, 80)
    assert winograd_pays(large, 256) == onednn_runs(large)
    assert not winograd_pays(torch.empty(1, 64, 224, 224), 128)
    assert not winograd_pays(torch.empty(1, 256, 36, 36), 256)  # 81 tiles
    assert not winograd_pays(large.bfloat16(), 256)
    assert not winograd_pays(large.to("meta"), 256)
    with torch.autocast("cpu", torch.bfloat16):
        assert not winograd_pays(large, 256)
    with torch.enable_grad():
        assert not winograd_pays(large, 256)


@pytest.mark.parametrize("shape", [(3, 2, 3), (3, 7, 8), (3, 9, 10), (40, 3, 2), (40, 2, 3), (40, 2, 2), (1, 40, 2)])
@torch.no_grad()
def test_a_linear_layer_over_any_windows_equals_a_convolution(shape: tuple[int, int, int]) -> None:
    n, height, width = shape
    first, second = WindowLinear(6, 10, 2), WindowLinear(10, 8, 1)
    for slid in (first, second):
        slid.to(memory_format=torch.channels_last)
        nn.init.normal_(slid.weight)
        nn.init.normal_(slid.bias)
    maps = torch.randn(n, 6, height, width).to(memory_format=torch.channels_last)
    expected = F.conv2d(F.conv2d(maps, first.weight, first.bias), second.weight, second.bias)
    assert_same_sums(second(first(maps)), expected, 4 * 6 + 10)
