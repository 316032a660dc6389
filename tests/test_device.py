"""The precision of a pass: what it is on a device, what it sets while it runs, and what it leaves as it was."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from vggcli.choices import Precision
from vggcli.device import computing, pick_precision, products

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
BACKENDS: Any = torch.backends
CUDNN, MATMUL = BACKENDS.cudnn, BACKENDS.cuda.matmul


@pytest.fixture(autouse=True)
def settings_of_the_process() -> Iterator[None]:
    """Put back what a test sets."""
    before = CUDNN.benchmark, CUDNN.deterministic
    yield
    CUDNN.benchmark, CUDNN.deterministic = before
    BACKENDS.fp32_precision, MATMUL.fp32_precision, CUDNN.conv.fp32_precision = "none", "none", "tf32"


def settings() -> dict[str, Any]:
    return {
        "convolutions": CUDNN.conv.fp32_precision,
        "products": MATMUL.fp32_precision,
        "measured": CUDNN.benchmark,
        "same bits": CUDNN.deterministic,
    }


@pytest.mark.parametrize(
    ("capability", "asked", "found"),
    [
        ((9, 0), "auto", "bf16"),
        ((8, 0), "auto", "bf16"),
        ((7, 5), "auto", "fp32"),  # which has bfloat16 by emulation only
        ((8, 0), "tf32", "tf32"),
        ((7, 5), "tf32", "fp32"),
        ((7, 5), "fp16", "fp16"),
        (None, "auto", "fp32"),
        (None, "tf32", "fp32"),
        (None, "bf16", "bf16"),
    ],
)
def test_a_precision_is_what_the_device_has(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int] | None, asked: Precision, found: Precision
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert pick_precision(asked, CPU if capability is None else CUDA) == found


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_float32_is_float32_in_convolutions_and_matrix_products_unless_tf32_is_asked_for(precision: Precision) -> None:
    before = settings()
    assert before["convolutions"] == "tf32"  # PyTorch's default
    with products(precision):
        wanted = "tf32" if precision == "tf32" else "ieee"
        assert settings() == {"convolutions": wanted, "products": wanted, "measured": False, "same bits": True}
    assert settings() == before


def test_algorithms_are_measured_for_fixed_shapes_alone() -> None:
    CUDNN.benchmark = True
    with computing(CPU, "fp32"):
        assert not CUDNN.benchmark
        with computing(CPU, "fp32", fixed=True):
            assert CUDNN.benchmark
        assert not CUDNN.benchmark
    assert CUDNN.benchmark


def test_a_pass_that_fails_leaves_the_process_as_it_was() -> None:
    before = settings()
    with pytest.raises(ValueError, match="mine"), computing(CPU, "tf32", fixed=True):
        raise ValueError("mine")
    assert settings() == before


def test_what_followed_a_wider_setting_follows_it_again() -> None:
    BACKENDS.fp32_precision = "tf32"
    assert MATMUL.fp32_precision == "tf32"
    with products("fp32"):
        assert MATMUL.fp32_precision == "ieee"
    assert MATMUL.fp32_precision == "tf32"
    BACKENDS.fp32_precision = "ieee"
    assert MATMUL.fp32_precision == "ieee"


@pytest.mark.parametrize(
    ("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32), ("tf32", torch.float32)]
)
def test_only_half_precision_is_autocast(precision: Precision, dtype: torch.dtype) -> None:
    with computing(CPU, precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_fp32_on_cuda_has_the_error_of_float32_and_tf32_that_of_ten_bits() -> None:
    """Of sums of 2304 products: float32 rounds to 24 bits and TF32 its factors to 11."""
    generator = torch.Generator().manual_seed(0)
    maps, filters = (torch.randn(*shape, generator=generator) for shape in ((8, 256, 28, 28), (256, 256, 3, 3)))
    rows, columns = maps.flatten(0, 1).flatten(1), filters.flatten(1)[:, :784].t().contiguous()

    def results(device: torch.device, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        a, b, c, d = (one.to(device, dtype) for one in (maps, filters, rows, columns))
        return [one.double().cpu() for one in (torch.conv2d(a, b, padding=1), c @ d)]

    exact = results(CPU, torch.float64)
    with computing(CUDA, "fp32"):
        assert all(error < 1e-5 for error in errors(results(CUDA), exact))
    with computing(CUDA, "tf32"):  # before Ampere as fp32
        assert all(error < 1e-2 for error in errors(results(CUDA), exact))
        if pick_precision("tf32", CUDA) == "tf32":
            assert all(error > 1e-5 for error in errors(results(CUDA), exact))


def errors(found: list[Tensor], wanted: list[Tensor]) -> list[float]:
    return [float((one - other).norm() / other.norm()) for one, other in zip(found, wanted, strict=True)]
