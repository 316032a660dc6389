"""Winograd convolution against `conv2d` in float64, and the rule that picks it against its own cases."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.rounding import assert_same_sums
from vggcli.zoo import winograd
from vggcli.zoo.network import WindowLinear
from vggcli.zoo.winograd import Conv3x3, onednn_runs, transformed_filters, winograd_conv3x3


def layer(channels_in: int, channels: int, seed: int = 0) -> Conv3x3:
    convolution = Conv3x3(channels_in, channels)
    generator = torch.Generator().manual_seed(seed)
    nn.init.normal_(convolution.weight, std=(2 / (9 * channels_in)) ** 0.5, generator=generator)
    nn.init.normal_(convolution.bias, generator=generator)  # type: ignore[arg-type]
    return convolution


def exact(convolution: Conv3x3, maps: Tensor) -> Tensor:
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


@pytest.mark.skipif(not onednn_runs(torch.empty(0)), reason="oneDNN for x86 is not here")
def test_a_wide_layer_is_exact_and_follows_its_weights() -> None:
    convolution = layer(128, 256)
    maps = torch.randn(1, 128, 40, 44, generator=torch.Generator().manual_seed(1))
    assert not convolution._pays(maps)  # gradients are wanted
    with torch.inference_mode():
        assert convolution._pays(maps)
        assert worst(convolution(maps), exact(convolution, maps)) < 5e-6
        convolution.load_state_dict(layer(128, 256, seed=2).state_dict())
        assert worst(convolution(maps), exact(convolution, maps)) < 5e-6
    torch.optim.SGD(convolution.parameters(), lr=0.1).step()
    with torch.no_grad():
        convolution.weight += 1
        assert worst(convolution(maps), exact(convolution, maps)) < 5e-6


@pytest.mark.skipif(not onednn_runs(torch.empty(0)), reason="oneDNN for x86 is not here")
@pytest.mark.parametrize("how", [{"fused": True}, {"foreach": True}, {}])
def test_a_wide_layer_follows_every_optimiser(how: dict[str, bool]) -> None:
    convolution = layer(128, 256)
    optimiser, maps = torch.optim.SGD(convolution.parameters(), lr=0.1, **how), torch.randn(1, 128, 40, 44)
    for _ in range(2):
        convolution(maps).sum().backward()
        optimiser.step()
        with torch.no_grad():
            assert worst(convolution(maps), exact(convolution, maps)) < 5e-6


@torch.inference_mode()
def test_layers_that_it_does_not_pay_for_are_direct() -> None:
    assert not layer(64, 128)._pays(torch.empty(1, 64, 224, 224))
    wide = layer(256, 256)
    assert not wide._pays(torch.empty(1, 256, 36, 36))  # 81 tiles
    assert not wide._pays(torch.empty(1, 256, 80, 80, dtype=torch.bfloat16))
    assert not wide._pays(torch.empty(1, 256, 80, 80, device="meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not wide._pays(torch.empty(1, 256, 80, 80))


@torch.inference_mode()
def test_a_network_made_for_inference_alone_works_too() -> None:
    convolution = layer(128, 256)
    assert convolution.weight.is_inference()
    maps = torch.randn(1, 128, 40, 44)
    assert worst(convolution(maps), exact(convolution, maps)) < 5e-6


def test_it_has_the_parameters_and_gradients_of_a_convolution() -> None:
    ours, theirs = layer(8, 8), nn.Conv2d(8, 8, 3, padding=1)
    theirs.load_state_dict(ours.state_dict())
    maps = torch.randn(2, 8, 9, 9)
    ours(maps).square().sum().backward()
    theirs(maps).square().sum().backward()
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_same_sums(mine.grad, its.grad, 9 * 8 + 2 * 9 * 9)


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
