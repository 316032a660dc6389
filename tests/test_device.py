"""The precision of a pass: what it is on a device, what it sets while it runs, and what it leaves as it was."""

from collections.abc import Callable, Iterator
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
    torch.set_float32_matmul_precision("highest")
    CUDNN.allow_tf32 = True
    for place in (BACKENDS, CUDNN, MATMUL, BACKENDS.mkldnn.matmul):
        place.fp32_precision = "none"


def readable(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except RuntimeError:
        return "contradictory"


def settings() -> dict[str, Any]:
    return {
        "convolutions": CUDNN.conv.fp32_precision,
        "products": MATMUL.fp32_precision,
        "measured": CUDNN.benchmark,
        "same bits": CUDNN.deterministic,
        "older convolutions": readable(lambda: CUDNN.allow_tf32),
        "older products": readable(lambda: MATMUL.allow_tf32),
        "older name": readable(torch.get_float32_matmul_precision),
        "on CPUs": BACKENDS.mkldnn.matmul.fp32_precision,
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


USERS: dict[str, Callable[[], None]] = {  # what a process may have set before
    "nothing": lambda: None,
    "TF32 everywhere": lambda: setattr(BACKENDS, "fp32_precision", "tf32"),
    "no TF32 anywhere": lambda: setattr(BACKENDS, "fp32_precision", "ieee"),
    "TF32 in products": lambda: setattr(MATMUL, "fp32_precision", "tf32"),
    "no TF32 in convolutions": lambda: setattr(CUDNN.conv, "fp32_precision", "ieee"),
    "TF32 by the older name": lambda: torch.set_float32_matmul_precision("high"),
    "bfloat16 by the older name": lambda: torch.set_float32_matmul_precision("medium"),
    "no TF32 by the older switch": lambda: setattr(CUDNN, "allow_tf32", False),
}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_float32_is_float32_unless_tf32_is_asked_for_whatever_the_process_has_set(
    precision: Precision, user: str
) -> None:
    USERS[user]()
    before, tf32 = settings(), precision == "tf32"
    with products(precision):
        now = settings()
    assert now["convolutions"] == now["products"] == ("tf32" if tf32 else "ieee")
    assert now["older convolutions"] == now["older products"] == tf32  # as parts of torch.compile read them
    if before["on CPUs"] == "none":  # of which this name speaks too
        assert now["older name"] == ("high" if tf32 else "highest")
    assert (now["measured"], now["same bits"], now["on CPUs"]) == (False, True, before["on CPUs"])
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
