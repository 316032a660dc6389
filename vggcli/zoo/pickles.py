"""State dicts as torch saves them: the one pickled format, opened with weights-only loading and no way round it.

Files are mapped rather than read, and their pages are handed back as they are copied, so the weights are held once.
"""

import ctypes
import mmap
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from vggcli.errors import WeightsError
from vggcli.zoo.files import replacing
from vggcli.zoo.stored import Stored, by_rows

ZIP = b"PK\x03\x04"
WRAPPERS = ("state_dict", "model")  # names under which training scripts keep the weights
MADV_DONTNEED = 4  # of Linux' mman.h


def pickled_tensors(path: Path) -> dict[str, Stored]:
    """The tensors of a state dict that torch has saved, read without running anything that the file may hold.

    Raises WeightsError where it is anything else.
    """
    with path.open("rb") as file:
        mapped = file.read(4) == ZIP  # files older than torch 1.6 can only be read whole
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # whatever a damaged or hostile archive makes of the reader
        reason = (str(error) or type(error).__name__).split(". ")[0].splitlines()[0]
        raise WeightsError(f"{path} cannot be read as weights that torch has saved: {reason}") from error
    for wrapper in WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict) or not all(_plain(value) for value in found.values()):
        raise WeightsError(f"{path} holds no state dict (names and tensors)")
    return {
        str(name).removeprefix("module."): by_rows(tuple(tensor.shape), tensor.dtype, _rows(tensor, mapped))
        for name, tensor in found.items()
    }


def save_pickle(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a state dict as torch saves one, whole or not at all."""
    with replacing(path) as temporary:
        torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary)


def _plain(value: object) -> bool:
    """Whether this is a tensor whose values lie in memory one by one."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def _rows(tensor: Tensor, mapped: bool) -> Callable[[int, int], Tensor]:
    def read(first: int, last: int) -> Tensor:
        if not tensor.dim():
            return tensor
        rows = tensor[first:last].clone()
        if mapped and tensor.is_contiguous():
            _hand_back(tensor[first:last])
        return rows

    return read


def _hand_back(rows: Tensor) -> None:
    """Let the system drop the mapped pages of rows that were copied; whoever asks again gets them from the file."""
    if sys.platform != "linux":
        return
    begin = rows.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
    length = rows.data_ptr() + rows.numel() * rows.element_size() - begin
    ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(length), MADV_DONTNEED)
