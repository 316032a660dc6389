"""Files of descriptors, as `vgg features` writes them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

ABOUT = {"layer": "fc7", "pool": "gap", "scales": "[256]", "aggregate": "mean", "norm": "l2", "arch": "D"}


def write_store(
    path: Path, features: NDArray[Any], images: Sequence[str], root: Path | str | None = None, **about: str
) -> Path:
    """One tensor `features` with its metadata."""
    metadata = {**ABOUT, "images": json.dumps(list(images)), **about}
    if root is not None:
        metadata["root"] = str(root)
    save_file({"features": np.ascontiguousarray(features)}, path, metadata)
    return path
