"""The header of safetensors files, checked. What the library checks itself (types, shapes, offsets, sizes) is not checked
again; it does not notice a name that comes twice, or how much memory a header takes.

The file is eight bytes of header length, a JSON object (tensor names to type, shape and offsets) and the data.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from vggcli.errors import WeightsError
from vggcli.records import parsed
from vggcli.weights.unread import Entry

_LONGEST_HEADER = 8 << 20  # bytes; network E with the names of a thousand classes needs 50 thousand
MOST_TENSORS = 10_000  # network E-BN has 118
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


def read_header(path: Path) -> tuple[dict[str, Entry], dict[str, str]]:
    """The tensors and metadata in the header. Raises WeightsError where it contradicts itself or the size of the file."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _LONGEST_HEADER:
                raise ValueError(f"it claims a header of {length:,} bytes; no network needs over {_LONGEST_HEADER:,}")
            fields = parsed(file.read(length))
        with safe_open(path, framework="pt") as checked:  # raises where shapes, types, places and sizes do not fit
            metadata = checked.metadata() or {}
    except (SafetensorError, ValueError) as error:
        reason = str(error).removeprefix("Error while deserializing header: ")
        raise WeightsError(f"{path} cannot be read as a checkpoint (damaged or cut short): {reason}") from error
    fields.pop("__metadata__", None)
    if len(fields) > MOST_TENSORS:
        raise WeightsError(f"{path} lists {len(fields):,} tensors; no network needs over {MOST_TENSORS:,}")
    odd = next((name for name, one in fields.items() if one["dtype"] not in DTYPES), None)
    if odd is not None:
        raise WeightsError(f"{path}: {odd} has the type {fields[odd]['dtype']!r}, which no weights have")
    begin = 8 + length
    entries = {
        name: Entry(tuple(one["shape"]), DTYPES[one["dtype"]], begin + one["data_offsets"][0])
        for name, one in fields.items()
    }
    return entries, metadata
