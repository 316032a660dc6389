"""The header of NumPy's .npy files, read with suspicion: numpy's own reader neither minds bytes behind the last row nor
promises which error a damaged header ends in.

The file is a magic, a version, the length of the header, the header (a Python literal), and the bytes of the array.
"""

import ast
import math
import re
import warnings
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

MAGIC = b"\x93NUMPY"
LENGTH_BYTES = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}  # of the header's length, by version
LONGEST_HEADER = 1 << 16  # bytes; numpy's own are of 128
PLAIN_TYPE = re.compile(r"[<>|=]?[biufcSU][0-9]{1,9}")


@dataclass(frozen=True)
class NpyHeader:
    """Type and shape of an array in row-major order, and the byte of the file where its own bytes begin."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy_header(file: IO[bytes], size: int) -> NpyHeader:
    """The header of the array of `size` bytes in all that `file`, at its beginning, holds.

    Raises ValueError where it is damaged, of objects, records or column-major order, or `size` is not what it needs.
    """
    if file.read(len(MAGIC)) != MAGIC:
        raise ValueError("it does not begin as a .npy file does")
    count = LENGTH_BYTES.get(file.read(2), 0)
    length = int.from_bytes(file.read(count), "little")
    if not count or length > LONGEST_HEADER:
        raise ValueError("its header is of an unknown version, or too long")
    start = len(MAGIC) + 2 + count + length
    header = _header(file.read(length), start)
    if size != start + header.nbytes:
        raise ValueError(
            f"it has {size:,} bytes and needs {start + header.nbytes:,} for the shape {header.shape}"[:200]
        )
    return header


def _header(text: bytes, start: int) -> NpyHeader:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fields = ast.literal_eval(text.decode().strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        fields = None
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise ValueError("its header does not say type, order and shape")
    kind, shape = fields["descr"], fields["shape"]
    if not isinstance(kind, str) or not PLAIN_TYPE.fullmatch(kind):
        raise ValueError(f"it is of the type {kind!r}, not of plain numbers or texts"[:200])
    if not isinstance(shape, tuple) or not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"its shape is {shape!r}"[:200])
    if fields["fortran_order"] is not False:
        raise ValueError("it is stored column by column (Fortran order); save numpy.ascontiguousarray of it")
    try:
        return NpyHeader(np.dtype(kind), shape, start)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"it is of the type {kind!r}, which is none") from error
