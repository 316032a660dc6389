"""torch.compile for what runs a network: Inductor joins the operations between convolutions and, where shapes are few,
records a whole pass as a CUDA graph. It pays on GPUs; on a CPU our own convolutions are faster, which it cannot take in.

What is compiled is a function whose first argument has the network, so that the network itself, its parameters and their
names stay as they are. Hooks that are hung on layers after the first call are not seen.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from vggcli.errors import MachineError
from vggcli.zoo.network import VGG

BACKEND = "inductor"
_Pass = TypeVar("_Pass", bound=Callable[..., Any])


@cache
def need_compiler(device: torch.device) -> None:
    """Raises MachineError where torch.compile cannot make code for `device`: on a CPU it needs a C++ compiler, on CUDA
    Triton and a C compiler. Finding out takes seconds."""
    try:  # without the cache, which would need no compiler
        options: dict[str, Any] = {"fx_graph_cache": False} if BACKEND == "inductor" else {}
        torch.compile(lambda numbers: numbers.relu() + 1, backend=BACKEND, options=options)(
            torch.ones(3, device=device)
        )
    except Exception as error:  # of torch, Triton, the system or their compilers
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        needed = "Triton and a C compiler" if device.type == "cuda" else "a C++ compiler"
        raise MachineError(
            f"torch.compile cannot make code for {device} here ({reason}); install {needed}, or run without it",
            "compile",
        ) from error


def compiled(function: _Pass, device: torch.device, fixed: bool) -> _Pass:
    """`function`, of a network (or what holds it) and tensors on `device`, as compiled code, made at the first call. With
    `fixed`, for few shapes, each is compiled by itself, on CUDA as a graph, and the result must be one tensor; else sizes
    are variables of the code, and any shapes will do."""
    graphs = fixed and device.type == "cuda"
    run = torch.compile(function, backend=BACKEND, dynamic=not fixed, mode="reduce-overhead" if graphs else None)
    if not graphs:
        return cast("_Pass", run)

    def one_step(*given: Any) -> Tensor:
        torch.compiler.cudagraph_mark_step_begin()
        result: Tensor = run(*given)
        return result.clone()  # the next step overwrites its memory

    return cast("_Pass", one_step)


def forward(network: VGG, images_NCHW: Tensor) -> Tensor:
    """The outputs of `network`, [N, K]."""
    return cast("Tensor", network(images_NCHW))


def compiled_forward(device: torch.device, fixed: bool) -> Callable[[VGG, Tensor], Tensor]:
    """`forward`, compiled. With `fixed`, of images of one size, a batch smaller than the largest so far is filled up with
    black images, so that the last one needs no code of its own."""
    run, most = compiled(forward, device, fixed), 0

    def filled(network: VGG, images_NCHW: Tensor) -> Tensor:
        nonlocal most
        images = len(images_NCHW)
        most = max(most, images)
        return run(network, F.pad(images_NCHW, (0, 0, 0, 0, 0, 0, 0, most - images)))[:images]

    return filled if fixed else run
