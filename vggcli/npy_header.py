"""A strict reader of the header of NumPy's .npy files: numpy's own accepts extra bytes behind the array and may raise any
error for a damaged header.

Such a file is a magic number, a version, the length of the header, the header (a Python literal), and the array's bytes.
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
    """The type and the shape of an array in row-major order, and the offset in the file at which its data start."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int


def read_npy_header(file: IO[bytes], size: int) -> NpyHeader:
    """The header of a .npy file of `size` bytes, of which `file` is at the beginning.

    Raises ValueError where it is damaged, the array holds objects or records or is in column-major order, or `size` is not
    that of its header and data.
    """
    if file.read(len(MAGIC)) != MAGIC:
        raise ValueError("it does not begin as a .npy file does")
    count = LENGTH_BYTES.get(file.read(2), 0)
    length = int.from_bytes(file.read(count), "little")
    if not count or length > LONGEST_HEADER:
        raise ValueError("its header has an unknown version, or is too long")
    start = len(MAGIC) + 2 + count + length
    header = _header(file.read(length), start)
    needed = start + math.prod(header.shape) * header.dtype.itemsize
    if size != needed:
        raise ValueError(f"it has {size:,} bytes and needs {needed:,} for the shape {header.shape}"[:200])
    return header


def _header(text: bytes, start: int) -> NpyHeader:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fields = ast.literal_eval(text.decode().strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        fields = None
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        raise ValueError("its header does not state type, order and shape")
    kind, shape = fields["descr"], fields["shape"]
    if not isinstance(kind, str) or not PLAIN_TYPE.fullmatch(kind):
        raise ValueError(f"it has the type {kind!r}, where plain numbers or texts are expected"[:200])
    if not isinstance(shape, tuple) or not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"its shape is {shape!r}, where a tuple of whole numbers is expected"[:200])
    if fields["fortran_order"] is not False:
        raise ValueError("it is stored column by column (Fortran order); save numpy.ascontiguousarray of it")
    try:
        return NpyHeader(np.dtype(kind), shape, start)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"it has the type {kind!r}, which does not exist") from error
