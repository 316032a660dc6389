"""State dicts as torch saves them: the only pickled format, always opened with weights-only loading.

Before torch opens one, the names of everything that it would call are checked: even what torch allows could take any amount
of memory. Files are memory-mapped, and pages are released once they are copied, so the weights are held only once.
"""

import ctypes
import mmap
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vggcli.errors import WeightsError
from vggcli.files import replacing
from vggcli.weights.torch_scan import HOW_TO_SAVE, check_steps, stand_ins
from vggcli.weights.unread import RowReader, Stored, by_rows
from vggcli.weights.zip_members import check_sums, member_start, stored_members

_STATE_NAMES = (  # names under which training scripts keep the weights, the likeliest first
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "net_state_dict", "state_dict_ema",
    "model_ema", "ema", "weights", "params", "module",
)  # fmt: skip
_DEEPEST = 5  # of such names inside each other
TAR = slice(257, 262)  # where a tar archive says "ustar"
_NOTE = "archive/vgg_note.json"  # in the folder that torch keeps its own members in
LONGEST_NOTE = 16 << 20  # bytes
MADV_DONTNEED = 4  # of Linux' mman.h
LEGACY_PICKLES = 5  # that a file older than torch 1.6 is made of, one after the other, before its numbers


def pickled_tensors(path: Path) -> tuple[dict[str, Stored], str | None]:
    """The tensors of a state dict that torch has saved, and the note that this program stored with them, read without
    running anything in the file.

    Raises WeightsError where the file is anything else.
    """
    note, inert = _looked_over(path)
    mapped = zipfile.is_zipfile(path)  # files older than torch 1.6 can only be read whole
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins(inert)):
            warnings.simplefilter("ignore")  # of odd pickles: the error that follows says enough
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a damaged or malicious archive can raise anything
        reason = (str(error) or type(error).__name__).split(". ")[0].splitlines()[0]
        raise WeightsError(f"{path} cannot be read as weights that torch has saved: {reason}") from error
    state = next(_state_dicts(found), None)
    if state is None or not all(
        one.layout is torch.strided and one.device.type == "cpu" and not one.is_quantized for one in state.values()
    ):
        raise WeightsError(f"{path} holds no state dict (names and tensors); {HOW_TO_SAVE}")
    tensors = {
        str(name): by_rows(tuple(tensor.shape), tensor.dtype, _rows(tensor, mapped)) for name, tensor in state.items()
    }
    return tensors, note


def _state_dicts(found: object, depth: int = 0) -> Iterator[dict[str, Tensor]]:
    """The dictionaries of weights in what was saved: under the usual names first, then itself, then under other names."""
    if not isinstance(found, dict) or depth > _DEEPEST:
        return
    for wrapper in _STATE_NAMES:
        yield from _state_dicts(found.get(wrapper), depth + 1)
    tensors: dict[Any, Tensor] = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if any(value.dim() > 1 and str(name).endswith("weight") for name, value in tensors.items()):
        yield tensors  # not just a best error or a momentum that is kept as a tensor
    for name in found.keys() - set(_STATE_NAMES):
        yield from _state_dicts(found[name], depth + 1)


def _looked_over(path: Path) -> tuple[str | None, set[str]]:
    """The note in the archive, if there is one, and the names that need stand-ins.

    Raises WeightsError where the file names something that a state dict does not need, or is damaged.
    """
    inert: set[str] = set()
    with path.open("rb") as file:
        head = file.read(TAR.stop)
        if head[TAR] == b"ustar":
            raise WeightsError(
                f"{path} is a tar archive, the format of torch before 0.1.10; unpack it if there is a weights file in it, "
                "else load it with torch.load and save it again with torch.save"
            )
        archive = head.startswith(b"PK\x03\x04")
        members = stored_members(path) if archive else {}
        pickles = [one for name, one in members.items() if name.endswith(".pkl")]
        for start in [member_start(path, one) for one in pickles] if archive else [0]:
            file.seek(start)
            try:
                for _ in range(1 if archive else LEGACY_PICKLES):
                    inert |= check_steps(file)
            except Exception as error:  # a damaged pickle can raise anything
                reason = str(error) or type(error).__name__
                raise WeightsError(f"{path} cannot be read as weights that torch has saved: {reason}") from error
        if any(name.endswith(".json") or "vgg_note" in name for name in members):  # ours, even if a bit of that flipped
            check_sums(path)
        note = members.get(_NOTE)
        if note is None or note.file_size > LONGEST_NOTE:
            return None, inert
        file.seek(member_start(path, note))
        return file.read(note.file_size).decode("utf-8", errors="replace"), inert


def save_pickle(path: Path, tensors: Mapping[str, Tensor], note: str) -> None:
    """Write a state dict as torch saves one, whole or not at all, and a note in the archive that torch ignores."""
    with replacing(path) as temporary:
        try:
            with temporary.open("wb") as file:  # a file without a name, which torch would write into it
                torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, file)
        except RuntimeError as error:  # torch wraps the system's error in its own
            system = error.__context__
            raise system if isinstance(system, OSError) else OSError(0, str(error).splitlines()[0]) from error
        with zipfile.ZipFile(temporary, "a") as archive:
            archive.writestr(zipfile.ZipInfo(_NOTE), note)


def _rows(tensor: Tensor, mapped: bool) -> RowReader:
    def read(first: int, last: int) -> Tensor:
        if not tensor.dim():
            return tensor
        rows = tensor[first:last]
        copied = rows.clone()
        if mapped and tensor.is_contiguous() and sys.platform == "linux":
            # let the system drop the mapped pages that were copied; they are read from the file again if they are needed
            begin = rows.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
            length = rows.data_ptr() + rows.numel() * rows.element_size() - begin
            ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(length), MADV_DONTNEED)
        return copied

    return read
