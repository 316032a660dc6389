"""Compiled passes give what the network gives: traced in one piece, for one size or for all, without our kernels."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from tests.rounding import assert_same_sums
from tests.zoo.nets import images, small
from vggcli.device import computing
from vggcli.errors import MachineError
from vggcli.evaluation.protocol import EvaluateOptions, view_posteriors
from vggcli.zoo import convolution, linear
from vggcli.zoo.inductor import compiled, compiled_forward, forward, need_compiler

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
OPTIONS = EvaluateOptions("centre-crop", (64,), True, CPU, "fp32")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@torch.inference_mode()
def test_one_compilation_is_for_images_of_all_sizes(traced: CompileCounter) -> None:
    net, run = small(), compiled(forward, CPU, fixed=False)
    for height, width, count in ((96, 128, 2), (133, 101, 3)):
        views = images(height, width, count)
        assert_same_sums(run(net, views), net(views), net)
    assert traced.frame_count == 1


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["A-BN", "C"])
@torch.inference_mode()
def test_other_shapes_of_the_last_map_take_few_compilations(traced: CompileCounter, arch: str) -> None:
    net, run = small(arch), compiled(forward, CPU, fixed=False)
    sides = [(64, 64), (96, 96), (80, 96), (96, 80), (70, 128), (128, 70), (100, 140), (250, 111), (133, 133)]
    for count, (height, width) in enumerate(sides):
        views = images(height, width, 1 + count % 3)
        assert_same_sums(run(net, views), net(views), net)
    assert traced.frame_count <= 8  # squares, one image, or one window along a side; more would not be compiled


@torch.inference_mode()
def test_the_last_batch_of_crops_takes_the_code_of_the_others(traced: CompileCounter) -> None:
    net, run = small(), compiled_forward(CPU, fixed=True)
    for count in (4, 4, 1, 3):
        views = images(count=count).contiguous(memory_format=torch.channels_last)
        found = run(net, views)
        assert len(found) == count
        assert_same_sums(found, net(views), net)
    assert traced.frame_count == 1
    assert_same_sums(run(other := small(seed=5), views), other(views), other)
    assert traced.frame_count == 1  # of another network of the same layers too


@torch.inference_mode()
def test_our_kernels_are_not_traced_and_their_filters_are_not_kept(
    traced: CompileCounter, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, views = small(), images()
    expected = net(views)
    monkeypatch.setattr(convolution, "kernels_in_use", lambda: pytest.fail("asked for"))
    monkeypatch.setattr(convolution, "winograd_pays", lambda maps, channels: pytest.fail("asked for"))
    monkeypatch.setattr(linear, "kernels_in_use", lambda: pytest.fail("asked for"))
    monkeypatch.setattr(linear, "onednn_runs", lambda tensor: pytest.fail("asked for"))
    assert_same_sums(compiled(forward, CPU, fixed=True)(net, views), expected, net)


@torch.inference_mode()
def test_a_hook_that_is_there_before_is_called(traced: CompileCounter) -> None:
    net, views = small(), images()
    expected = next(maps.clone() for layer, maps in net.layer_maps(views) if layer == "relu2_1")
    net.get_submodule("relu2_1").register_forward_hook(lambda layer, given, maps: maps * 2)
    doubled = net(views)
    assert_same_sums(compiled(forward, CPU, fixed=True)(net, views), doubled, net)
    assert float(expected.abs().max()) > 0


def test_names_and_parameters_stay(traced: CompileCounter) -> None:
    net = small()
    names = {name: value.data_ptr() for name, value in net.state_dict().items()}
    compiled(forward, CPU, fixed=True)(net, images())
    assert {name: value.data_ptr() for name, value in net.state_dict().items()} == names


def test_each_precision_has_code_of_its_own(traced: CompileCounter) -> None:
    net, run = small(), compiled(forward, CPU, fixed=True)
    for precision, compilations in (("fp32", 1), ("tf32", 2), ("bf16", 3), ("fp32", 3), ("tf32", 3)):
        with torch.inference_mode(), computing(CPU, precision):  # type: ignore[arg-type]
            run(net, images())
        assert traced.frame_count == compilations


@pytest.mark.parametrize("protocol", ["centre-crop", pytest.param("dense+multi-crop", marks=pytest.mark.slow)])
@torch.inference_mode()
def test_posteriors_are_the_same(traced: CompileCounter, protocol: Any) -> None:
    net, views = small(), images(*((64, 64) if protocol == "centre-crop" else (96, 80)))
    options = replace(OPTIONS, protocol=protocol, grid=2)
    found = view_posteriors(net, views, replace(options, compile=True))
    assert traced.frame_count > 0
    torch.testing.assert_close(found, view_posteriors(net, views, options), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("fixed", "protocol", "in_turns"),
    [(True, "centre-crop", False), (False, "centre-crop", True), (False, "multi-crop", False)],
)
def test_graphs_are_of_batches_of_one_size_and_weights_that_stay(
    monkeypatch: pytest.MonkeyPatch, fixed: bool, protocol: Any, in_turns: bool
) -> None:
    """On CUDA; on the way there, each step begins anew, and its result is not in the memory of the graph."""
    asked: list[dict[str, Any]] = []
    steps: list[None] = []
    memory = torch.zeros(2, 5)

    def record(function: object, **how: Any) -> Callable[..., Tensor]:
        asked.append(how)
        return lambda net, views: memory

    monkeypatch.setattr(torch, "compile", record)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: steps.append(None))
    options = replace(OPTIONS, protocol=protocol, in_turns=in_turns, device=CUDA, compile=True)
    results = [options.forward(small(), images()) for _ in range(2)]
    assert asked == [{"backend": "inductor", "dynamic": not fixed, "mode": "reduce-overhead" if fixed else None}]
    assert len(steps) == 2 * fixed
    assert all((result.data_ptr() != memory.data_ptr()) == fixed for result in results)


def test_a_machine_without_a_compiler_is_told_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(function: object, **how: object) -> Callable[..., Tensor]:
        raise RuntimeError("No working C++ compiler found.\n\nSet TORCHDYNAMO_VERBOSE=1")

    need_compiler.cache_clear()
    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.raises(
        MachineError, match=r"for cpu here \(No working C\+\+ compiler found\); install a C\+\+ compiler"
    ):
        need_compiler(CPU)


@pytest.mark.slow
@torch.inference_mode()
def test_inductor_gives_what_the_network_gives() -> None:
    need_compiler(CPU)
    net = small()
    for fixed, shapes in ((True, [(64, 64, 2)]), (False, [(64, 64, 2), (96, 80, 3), (70, 128, 2)])):
        run = compiled(forward, CPU, fixed)
        for shape in shapes:
            assert_same_sums(run(net, images(*shape)), net(images(*shape)), net)


@pytest.mark.cuda
@needs_cuda
@pytest.mark.filterwarnings("default")  # compilers advise TF32, and more
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize(("precision", "error"), [("fp32", 1e-5), ("tf32", 5e-3), ("bf16", 5e-2), ("fp16", 1e-2)])
@torch.no_grad()
def test_scores_on_cuda_are_those_of_a_cpu(precision: Any, error: float, compile: bool) -> None:
    """As far as rounding to 24, 11, 8 and 11 bits lets them be: the norm of the difference, of that of the scores."""
    torch.compiler.reset()
    net = small("D", width=0.25)
    batches = [images(count=count) for count in (8, 8, 3)]
    expected = [net.double()(batch.double()) for batch in batches]
    net.float().to(CUDA)
    run = compiled_forward(CUDA, fixed=True) if compile else forward
    found: Sequence[Tensor] = []
    for batch in batches:
        with computing(CUDA, precision, fixed=True):
            found = [*found, run(net, batch.to(CUDA))]
    for scores, wanted in zip(found, expected, strict=True):  # of all steps, whose graph ran again meanwhile
        assert float((scores.double().cpu() - wanted).norm() / wanted.norm()) < error


@pytest.mark.cuda
@needs_cuda
@pytest.mark.filterwarnings("default")  # compilers advise TF32, and more
@pytest.mark.parametrize("protocol", ["dense", "multi-crop", "dense+multi-crop"])
@torch.no_grad()
def test_posteriors_on_cuda_compiled_or_not_are_those_of_a_cpu(protocol: Any) -> None:
    torch.compiler.reset()
    net, options = small(), replace(OPTIONS, protocol=protocol, grid=2)
    views = [images(96, 80, 3), images(80, 96, 2), images(128, 70, 1)]
    expected = [view_posteriors(net, some, options) for some in views]
    net.to(CUDA)
    for compile in (False, True):
        there = replace(options, device=CUDA, compile=compile)
        for some, wanted in zip(views, expected, strict=True):
            found = view_posteriors(net, some.to(CUDA), there).cpu()
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)
