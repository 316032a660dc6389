"""The wire format of protocol buffers, as far as network files need it: fields are read in place, tensors are streamed.

Caffe's and ONNX's files are one message of half a gigabyte; a generated reader would hold it several times. Every length
is checked against the field around it before it is followed.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from vggcli.errors import WeightsError
from vggcli.weights.unread import PIECE

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
MOST_FIELDS = 50_000  # of a file; network E with all its layers has about a thousand
LONGEST_TEXT = 16 << 20  # bytes


@dataclass(frozen=True)
class Field:
    """A field of a message: its number and wire type, its `value` (for BYTES, their length), and the offset of its
    content in the file."""

    number: int
    wire: int
    value: int
    start: int

    @property
    def end(self) -> int:
        """The offset of the end of its bytes; only for BYTES."""
        return self.start + self.value


class WireReader:
    """Reads the messages of an open file. Raises WeightsError where lengths contradict each other."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        self._file = file
        self._seen = 0

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of the message in the bytes from `start` to `end`."""
        position = start
        while position < end:
            self._seen += 1
            if self._seen > MOST_FIELDS:
                raise self.damaged("it has more fields than a network needs")
            key, position = self._varint(position, end)
            number, wire = key >> 3, key & 7
            if wire == VARINT:
                value, after = self._varint(position, end)
                field, position = Field(number, wire, value, position), after
            elif wire == BYTES:
                length, position = self._varint(position, end)
                field = Field(number, wire, length, position)
                position += length
            elif wire in (FIXED32, FIXED64):
                field = Field(number, wire, 0, position)
                position += 4 if wire == FIXED32 else 8
            else:
                raise self.damaged(f"a field has the unknown type {wire}")
            if number == 0 or position > end:
                raise self.damaged("a field is longer than the message around it")
            yield field

    def text(self, field: Field) -> str:
        """The text of a BYTES field."""
        try:
            return self.bytes(field).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.damaged("a name is not UTF-8") from error

    def bytes(self, field: Field) -> bytes:
        """The content of a short BYTES field."""
        if field.wire != BYTES or field.value > LONGEST_TEXT:
            raise self.damaged(f"a field has {field.value:,} bytes where a name is expected")
        self._file.seek(field.start)
        return self._file.read(field.value)

    def numbers(self, field: Field) -> list[int]:
        """The whole numbers of a repeated field, packed or not."""
        if field.wire == VARINT:
            return [field.value]
        if field.wire != BYTES or field.value > 1000:
            raise self.damaged("a shape is not a list of numbers")
        found, position = [], field.start
        while position < field.end:
            value, position = self._varint(position, field.end)
            found.append(value)
        return found

    def floats(self, field: Field) -> list[float]:
        """The float32 values of a field of fixed width, or of a short packed one."""
        length = 4 if field.wire == FIXED32 else field.value
        if length > 1000 or length % 4:
            raise self.damaged("a setting is not a number")
        self._file.seek(field.start)
        return list(struct.unpack(f"<{length // 4}f", self._file.read(length)))

    def damaged(self, reason: str) -> WeightsError:
        """The error for a file that is not such a message."""
        return WeightsError(f"{self.path} is damaged, cut short, or of another format: {reason}")

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        self._file.seek(position)
        value = 0
        for index, byte in enumerate(self._file.read(min(10, end - position))):
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value, position + index + 1
        raise self.damaged("a number does not end")


def varint(value: int) -> bytes:
    """A whole number from 0 up, seven bits per byte."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def number(field: int, value: int) -> bytes:
    """A VARINT field."""
    return varint(field << 3 | VARINT) + varint(value)


def opening(field: int, length: int) -> bytes:
    """What precedes the `length` bytes of a BYTES field."""
    return varint(field << 3 | BYTES) + varint(length)


def text(field: int, content: str | bytes) -> bytes:
    """A BYTES field."""
    encoded = content.encode() if isinstance(content, str) else content
    return opening(field, len(encoded)) + encoded


def with_tensors(
    field: int, begin: bytes, tensor_field: int, tensors: Sequence[tuple[bytes, Tensor]]
) -> Iterator[bytes]:
    """A BYTES field in pieces: `begin`, then each of `tensors` as a BYTES field in it, which is the given head and the
    values as little-endian float32, the last axis fastest. The lengths are known before any value is read."""
    fronts = [opening(tensor_field, len(head) + 4 * tensor.numel()) + head for head, tensor in tensors]
    sizes = [len(front) + 4 * tensor.numel() for front, (_, tensor) in zip(fronts, tensors, strict=True)]
    yield opening(field, len(begin) + sum(sizes)) + begin
    for front, (_, tensor) in zip(fronts, tensors, strict=True):
        yield front
        rows = max(1, PIECE // (4 * max(1, tensor[0].numel())))
        for first in range(0, len(tensor), rows):
            piece = tensor[first : first + rows].to("cpu", torch.float32).contiguous()
            yield piece.numpy().astype("<f4", copy=False).tobytes()
