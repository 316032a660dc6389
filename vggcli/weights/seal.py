"""The seal of a safetensors file: a SHA-256 over all of its content, kept in its own metadata.

It covers the name, type, shape and bytes of every tensor, in the order of the names, and every metadata text except itself.
It is the first key of our JSON note, or, in a file without a note, a metadata entry of its own. So a damaged bit is found
wherever it is, before anything made of the file is used. Older files have no seal.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vggcli.errors import WeightsError
from vggcli.weights.checked_once import once
from vggcli.weights.safetensors_read import read_header

NOTE = "vgg"  # the metadata entry that rebuilds a network, or says that the file is ours
FOREIGN_NOTE = "vgg_note"  # the metadata entry of safetensors in another framework's layout
SEAL = "vgg_sha256"  # the metadata entry of files without a note
FRONT = re.compile(r'\{"sha256": "([0-9a-f]{64})"(?:, )?')
_CHUNK = 4 << 20  # bytes that are hashed at once


def sealed(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """`metadata` with the seal of a file that holds these tensors (contiguous, on the CPU), and the seal itself."""
    digest = _begun(((name, one.dtype, tuple(one.shape)) for name, one in tensors.items()), metadata)
    for name in sorted(tensors):
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy())
    seal = digest.hexdigest()
    note = next((one for one in (NOTE, FOREIGN_NOTE) if one in metadata), None)
    if note is None:
        return {**metadata, SEAL: seal}, seal
    rest = metadata[note][1:]
    return {**metadata, note: f'{{"sha256": "{seal}"{"" if rest == "}" else ", "}{rest}'}, seal


def unsealed(path: Path, metadata: Mapping[str, str]) -> tuple[dict[str, str], str | None]:
    """The metadata that `sealed` was given, and the seal, None where the file has none. Raises WeightsError for a seal in
    an entry that is not ours."""
    texts = dict(metadata)
    seal: str | None = texts.pop(SEAL, None)
    for name, text in metadata.items():
        found = FRONT.match(text)
        if found and (name not in (NOTE, FOREIGN_NOTE) or seal is not None):
            raise WeightsError(broken_seal(path))
        if found:
            texts[name], seal = "{" + text[found.end() :], found[1]
    return texts, seal


@once
def check_seal(path: Path) -> str | None:
    """The seal of the safetensors file `path`, None where it has none. Raises WeightsError where the file has changed
    since it was written."""
    entries, metadata = read_header(path)
    texts, seal = unsealed(path, metadata)
    if seal is None:
        return None
    digest = _begun(((name, one.dtype, one.shape) for name, one in entries.items()), texts)
    buffer = memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as file:
        for name in sorted(entries):
            file.seek(entries[name].start)
            left = math.prod(entries[name].shape) * entries[name].dtype.itemsize
            while left and (count := file.readinto(buffer[: min(left, _CHUNK)])):
                digest.update(buffer[:count])
                left -= count
    if digest.hexdigest() != seal:
        raise WeightsError(broken_seal(path))
    return seal


def broken_seal(path: Path) -> str:
    """The message for a file that has changed since it was written."""
    return f"{path} is damaged: its SHA-256 is not the one it was written with; restore a copy, or make it again"


def _begun(tensors: Iterable[tuple[str, torch.dtype, tuple[int, ...]]], metadata: Mapping[str, str]) -> Any:
    """The digest of everything but the tensors' bytes."""
    about = [[name, str(dtype).removeprefix("torch."), list(shape)] for name, dtype, shape in sorted(tensors)]
    return hashlib.sha256(json.dumps([sorted(metadata.items()), about]).encode())
