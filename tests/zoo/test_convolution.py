"""Every way of 3x3 convolution against `conv2d` in float64, and the rule that picks one against its own cases."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.rounding import assert_same_sums
from vggcli.errors import MachineError, UsageError
from vggcli.zoo import compiled, convolution
from vggcli.zoo.compiled import Kernels, choose, kernel_sets, kernels_in_use
from vggcli.zoo.convolution import Conv3x3, convolve, filter_gradient, pack

SETS = pytest.mark.parametrize("kernels", kernel_sets(), ids=lambda kernels: kernels.name)
built = pytest.mark.skipif(not kernel_sets(), reason="the package was built without a C compiler")
WAYS = pytest.mark.parametrize("way", ["torch", pytest.param("compiled", marks=built)])
SHAPES = [(1, 4, 4), (2, 14, 14), (3, 5, 19), (1, 1, 1), (1, 3, 2), (2, 33, 16), (64, 2, 2), (1, 130, 7)]
CHANNELS = [(3, 5), (1, 1), (7, 64), (16, 16), (64, 33), (20, 130), (70, 100)]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = compiled._in_use.copy()
    yield
    compiled._in_use[:] = before


def layer(channels_in: int, channels: int, seed: int = 0) -> Conv3x3:
    convolution = Conv3x3(channels_in, channels)
    generator = torch.Generator().manual_seed(seed)
    nn.init.normal_(convolution.weight, std=(2 / (9 * channels_in)) ** 0.5, generator=generator)
    nn.init.normal_(convolution.bias, generator=generator)  # type: ignore[arg-type]
    return convolution.to(memory_format=torch.channels_last)


def maps_of(n: int, channels: int, height: int, width: int, seed: int = 1) -> Tensor:
    maps = torch.randn(n, channels, height, width, generator=torch.Generator().manual_seed(seed))
    return maps.to(memory_format=torch.channels_last)


def exact(convolution: nn.Conv2d, maps: Tensor) -> Tensor:
    assert convolution.bias is not None
    return F.conv2d(maps.double(), convolution.weight.double(), convolution.bias.double(), padding=1)


def worst(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def use(kernels: Kernels | None) -> None:
    compiled._in_use[:] = [kernels]


@SETS
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_any_map_is_convolved_as_in_float64(
    kernels: Kernels, shape: tuple[int, int, int], channels: tuple[int, int]
) -> None:
    use(kernels)
    wide, (n, height, width) = layer(*channels), shape
    maps = maps_of(n, channels[0], height, width)
    found, expected = wide(maps), exact(wide, maps)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert worst(found, expected) < 5e-6
    torch.testing.assert_close(wide(maps, relu=True), found.relu(), rtol=0, atol=0)
    if min(height, width) > 1:
        torch.testing.assert_close(wide(maps, pool=True), F.max_pool2d(found, 2), rtol=0, atol=0)
        torch.testing.assert_close(wide(maps, relu=True, pool=True), F.max_pool2d(found, 2).relu(), rtol=0, atol=0)


@SETS
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_are_those_of_float64(
    kernels: Kernels, shape: tuple[int, int, int], channels: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    use(kernels)
    monkeypatch.setattr(convolution, "FEWEST_PRODUCTS", 0)
    wide, (n, height, width) = layer(*channels), shape
    maps = maps_of(n, channels[0], height, width).requires_grad_()
    plain = nn.Conv2d(*channels, 3, padding=1).double()
    plain.load_state_dict(wide.state_dict())
    exact_maps = maps.detach().double().requires_grad_()
    outputs = plain(exact_maps)
    outputs = outputs * (wide(maps.detach()) > 0)  # a ReLU that opens where the float32 one does
    gradients = maps_of(n, channels[1], height, width, seed=2)
    wide(maps, relu=True).backward(gradients)
    outputs.backward(gradients.double())
    for mine, its in ((maps, exact_maps), *zip(wide.parameters(), plain.parameters(), strict=True)):
        assert mine.grad is not None and its.grad is not None
        scale = its.grad.abs().max().clamp(min=1e-30)
        assert float((mine.grad - its.grad).abs().max() / scale) < 1e-5


@SETS
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("shape", [(1, 7, 9), (5, 30, 22), (1, 96, 96)])
def test_the_bits_do_not_depend_on_threads_or_division(
    kernels: Kernels, shape: tuple[int, int, int], own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if own:
        monkeypatch.setattr(compiled, "_torch_threads", lambda: None)
    n, height, width = shape
    wide, maps, gradients = layer(40, 200), maps_of(n, 40, height, width), maps_of(n, 200, height, width)
    before, found = torch.get_num_threads(), []
    for threads, block, chunk in ((1, 48, 16 << 20), (2, 6, 1), (3, 12, 200_000), (7, 48, 1 << 40)):
        torch.set_num_threads(threads)
        monkeypatch.setattr(convolution, "BLOCK", block)
        monkeypatch.setattr(convolution, "CHUNK_BYTES", chunk)
        filters = pack(wide.weight, kernels)
        assert wide.bias is not None
        outputs = convolve(maps, filters, wide.bias.detach(), kernels)
        found.append((filters, outputs, filter_gradient(maps, gradients, kernels)))
    torch.set_num_threads(before)
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            assert torch.equal(one, same)


@SETS
def test_the_bits_of_an_image_do_not_depend_on_its_batch(kernels: Kernels) -> None:
    use(kernels)
    wide, maps = layer(20, 30), maps_of(9, 20, 6, 11)
    with torch.no_grad():
        together = wide(maps, relu=True)
        assert all(torch.equal(wide(maps[k : k + 1], relu=True)[0], together[k]) for k in range(9))


@SETS
def test_what_is_not_a_number_stays_so(kernels: Kernels) -> None:
    use(kernels)
    maps = maps_of(1, 8, 32, 32)
    maps[0, 3, 17, 18] = float("nan")
    found = layer(8, 16)(maps, relu=True, pool=True)
    assert bool(found[0, :, 8, 9].isnan().all())
    assert not bool(found[0, :, :6].isnan().any())


@WAYS
@pytest.mark.parametrize("how", [{"fused": True}, {"foreach": True}, {}])
def test_a_layer_follows_every_optimiser(way: str, how: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    choose(way)
    monkeypatch.setattr(convolution, "FEWEST_PRODUCTS", 0)
    wide, maps = layer(128, 256), maps_of(1, 128, 40, 44)
    optimiser = torch.optim.SGD(wide.parameters(), lr=0.1, **how)
    for _ in range(2):
        wide(maps).sum().backward()
        optimiser.step()
        with torch.no_grad():
            assert worst(wide(maps), exact(wide, maps)) < 5e-6


@WAYS
def test_a_layer_follows_its_weights(way: str) -> None:
    choose(way)
    wide, maps = layer(128, 256), maps_of(1, 128, 40, 44)
    with torch.inference_mode():
        assert worst(wide(maps), exact(wide, maps)) < 5e-6
        wide.load_state_dict(layer(128, 256, seed=2).state_dict())
        assert worst(wide(maps), exact(wide, maps)) < 5e-6
    with torch.no_grad():
        assert worst(wide(maps), exact(wide, maps)) < 5e-6
        wide.weight += 1
        assert worst(wide(maps), exact(wide, maps)) < 5e-6


@WAYS
@torch.inference_mode()
def test_a_layer_made_for_inference_alone_works_too(way: str) -> None:
    choose(way)
    wide, maps = layer(128, 256), maps_of(1, 128, 40, 44)
    assert wide.weight.is_inference()
    assert worst(wide(maps), exact(wide, maps)) < 5e-6


def test_a_library_of_another_state_of_the_source_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "INTERFACE", compiled.INTERFACE + 1)
    assert kernel_sets.__wrapped__() == ()


@built
def test_a_library_that_is_cut_short_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = find_spec("vggcli.zoo._winograd")
    assert whole is not None and whole.origin is not None
    cut = tmp_path / "cut.so"
    for size in (10, 20_000, Path(whole.origin).stat().st_size - 1):
        cut.write_bytes(Path(whole.origin).read_bytes()[:size])
        monkeypatch.setattr(compiled, "find_spec", lambda name: ModuleSpec(name, None, origin=str(cut)))
        assert kernel_sets.__wrapped__() == ()


def test_a_library_that_cannot_be_loaded_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(compiled, "find_spec", lambda name: ModuleSpec(name, None, origin=str(broken)))
    assert kernel_sets.__wrapped__() == ()


@torch.no_grad()
def test_no_images_are_convolved_to_none() -> None:
    assert layer(8, 16)(torch.empty(0, 8, 12, 12), relu=True, pool=True).shape == (0, 16, 6, 6)


@built
def test_several_threads_of_python_may_convolve_at_once() -> None:
    choose("compiled")
    wide, maps = layer(64, 64), [maps_of(2, 64, 28, 28, seed) for seed in range(8)]
    with torch.no_grad():
        expected = [wide(one) for one in maps]

    def again(one: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = wide(one)
            return found

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(again, maps * 5))
    assert all(torch.equal(one, same) for one, same in zip(found, expected * 5, strict=True))
    assert threading.active_count() < 40


@built
@pytest.mark.parametrize("requires", ["maps", "weight", "bias"])
def test_only_what_is_asked_for_gets_a_gradient(requires: str, monkeypatch: pytest.MonkeyPatch) -> None:
    choose("compiled")
    monkeypatch.setattr(convolution, "FEWEST_PRODUCTS", 0)
    wide, maps = layer(8, 8).requires_grad_(False), maps_of(2, 8, 12, 12)
    {"maps": maps, "weight": wide.weight, "bias": wide.bias}[requires].requires_grad_()  # type: ignore[union-attr]
    wide(maps).sum().backward()
    given = {"maps": maps.grad, "weight": wide.weight.grad, "bias": wide.bias.grad}  # type: ignore[union-attr]
    assert {name for name, gradient in given.items() if gradient is not None} == {requires}


@pytest.mark.parametrize("relu", [False, True])
def test_the_plain_way_has_the_gradients_of_its_formula(relu: bool) -> None:
    wide = layer(2, 3).double()
    maps = maps_of(1, 2, 5, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda maps: wide(maps, relu=relu, pool=True), (maps,))


@torch.inference_mode()
def test_maps_that_are_not_for_the_compiled_way_go_the_plain_one() -> None:
    wide = layer(32, 32)
    assert not wide._compiled_fits(torch.empty(1, 32, 16, 16), True)
    assert wide._compiled_fits(torch.empty(1).expand(1, 32, 1024, 1024), True)
    assert wide._compiled_fits(torch.empty(1, 32, 16, 16), False)
    assert not wide._compiled_fits(torch.empty(1, 32, 16, 16, dtype=torch.bfloat16), False)
    assert not wide._compiled_fits(torch.empty(1, 32, 16, 16, device="meta"), False)
    assert not wide.double()._compiled_fits(torch.empty(1, 32, 16, 16), False)
    with torch.autocast("cpu", torch.bfloat16):
        assert not layer(32, 32)._compiled_fits(torch.empty(1, 32, 16, 16), False)


@WAYS
def test_both_ways_compute_the_same(way: str) -> None:
    choose(way)
    assert (kernels_in_use() is not None) == (way == "compiled")
    wide, maps = layer(128, 256), maps_of(1, 128, 40, 44)
    with torch.no_grad():
        assert_same_sums(wide(maps, relu=True, pool=True), F.max_pool2d(exact(wide, maps).relu().float(), 2), wide)


def test_a_wrong_way_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="VGG_CONVOLUTION is 'fast'; give compiled or torch"):
        choose("fast")
    monkeypatch.setattr(compiled, "kernel_sets", tuple)
    with pytest.raises(MachineError, match="install a C compiler"):
        choose("compiled")
    choose(None)
    assert kernels_in_use() is None
