"""Where in a Keras HDF5 file its arrays are, found by h5py in a process of its own.

The HDF5 library can crash or hang on a malicious file. So a child process with little memory and time lists names, shapes,
types and offsets; the numbers themselves are then read here, from offsets that were checked.
"""

import importlib.util
import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vggcli.errors import MachineError, WeightsError

NOTE_ATTRIBUTE = "vgg"  # the attribute of the file that holds what this program wrote about the network
MOST_LAYERS = 1000
_DEEPEST = 8  # models inside models
HOLDERS = ("layers", "_layer_checkpoint_dependencies")  # of the layers of a model: in Keras 3, and just before
SECONDS, MEMORY = 0.5, 2 << 30  # of processor time, once h5py is there, and bytes that a listing may take
_PATIENCE = 60  # seconds of a machine that is busy with other things


@dataclass(frozen=True)
class KerasArray:
    """An array of the file: its shape, NumPy type and the offset of its numbers, which are contiguous."""

    shape: tuple[int, ...]
    dtype: str
    start: int


@dataclass(frozen=True)
class Index:
    """The layers that have arrays, the note of this program, and, in older files, Keras' description of the network.

    The layers are in the order of the file, by their own names, or, with `by_count`, in no order, by the names that Keras 3
    counts (conv2d_1). Inside another model, the name of the model and a slash come first.
    """

    layers: dict[str, tuple[KerasArray, ...]]
    note: str | None
    config: str | None
    by_count: bool = False


def need_h5py() -> None:
    """Raises MachineError where h5py is not installed."""
    if importlib.util.find_spec("h5py") is None:
        raise MachineError("Keras' files need the package h5py: pip install 'vggcli[keras]'")


def read_index(path: Path, start: int, size: int) -> Index:
    """List the HDF5 file that is `size` bytes of `path` from byte `start` on. Raises WeightsError where it is damaged, is
    not laid out as by Keras, or has arrays that are compressed or not contiguous; MachineError without h5py."""
    need_h5py()
    code = f"import sys; sys.path[:] = {sys.path!r}; from vggcli.weights.keras_index import _main; _main(sys.argv[1:])"
    command = [sys.executable, "-c", code, str(path), str(start), str(size)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PATIENCE, check=True)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        raise WeightsError(f"{path} is damaged: the HDF5 library crashes on it or never finishes") from error
    found = json.loads(done.stdout)
    if found.get("outdated"):
        raise WeightsError(
            f"{path} has the layout of Keras until 2015 (layer_1/param_0), which cannot be read; get a newer file of it"
        )
    if "error" in found:
        raise WeightsError(f"{path} is damaged, cut short, or no weights of Keras: {found['error']}")
    layers: dict[str, tuple[KerasArray, ...]] = {}
    for layer, arrays in found["layers"]:
        for name, shape, dtype, place in arrays:
            if place < 0 or place + math.prod(shape) * int(dtype[2:]) > size:
                raise WeightsError(f"{path} is cut short: it does not hold all of {name}")
            layers[layer] = (*layers.get(layer, ()), KerasArray(tuple(shape), dtype, start + place))
    return Index(layers, found["note"], found["config"], found["by_count"])


def _main(arguments: list[str]) -> None:
    """The child process: write the listing of a file, or the error, to stdout as JSON."""
    path, start, size = arguments[0], int(arguments[1]), int(arguments[2])
    import h5py

    if sys.platform != "win32":
        import resource
        import signal

        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # its signal ends the process, inside the library too
        for limit, value in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CORE, 0)):
            most = resource.getrlimit(limit)[1]
            if most == resource.RLIM_INFINITY or value <= most:
                resource.setrlimit(limit, (value, most))
    try:
        with Path(path).open("rb") as file, h5py.File(io.BufferedReader(_Stretch(file, start, size)), "r") as root:
            found = _listing(root)
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, IndexError, AttributeError, MemoryError) as error:
        found = {"error": str(error).strip("'\"") or type(error).__name__}
    sys.stdout.write(json.dumps(found))


class _Stretch(io.RawIOBase):
    """Some bytes of a file, as a file."""

    def __init__(self, file: Any, start: int, size: int) -> None:
        self._file, self._start, self._size, self._place = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        return self._place

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._place)
        count = self._file.readinto(memoryview(buffer)[: max(0, self._size - self._place)])
        self._place += count
        return int(count)


def _listing(root: Any) -> dict[str, Any]:
    if root.userblock_size:
        raise ValueError("something comes before its beginning")
    group = _inside(root, "model_weights") if "model_weights" in root else root
    if "nb_layers" in group.attrs or "layer_1/param_0" in group:
        return {"outdated": True}
    layers = [(name, [_place(array) for array in arrays]) for name, arrays in _layers(group).items() if arrays]
    note, config = root.attrs.get(NOTE_ATTRIBUTE), root.attrs.get("model_config")
    return {
        "layers": layers,
        "note": note if isinstance(note, str) else None,
        "config": None if config is None else _text(config),
        "by_count": "layer_names" not in group.attrs,
    }


def _layers(group: Any) -> dict[str, list[Any]]:
    """The arrays of every layer in the order in which Keras lists them."""
    if "layer_names" in group.attrs:
        names = [_text(name) for name in group.attrs["layer_names"][:MOST_LAYERS]]
        found: dict[str, list[Any]] = {}
        for name in names:
            holder = _inside(group, name)
            weights = [_text(one) for one in holder.attrs["weight_names"][:MOST_LAYERS]]
            inner = [one.rpartition("/")[0].rpartition("/")[2] for one in weights]
            for one, layer in zip(weights, inner, strict=True):  # of several layers where it is a model
                key = name if len(set(inner)) == 1 else f"{name}/{layer}"
                found.setdefault(key, []).append(_inside(holder, one))
        return found
    if not any(holder in group for holder in HOLDERS):
        raise ValueError(f"an HDF5 file without Keras' layers; it holds {', '.join(list(group)[:5]) or 'nothing'}")
    return dict(_counted(group, ""))


def _counted(model: Any, names: str, deepest: int = _DEEPEST) -> Iterator[tuple[str, list[Any]]]:
    """The same in the layout of Keras 3, whose models keep their layers under `layers`, or of Keras 2.12 to 2.15, which
    counts some twice; `names` are those of the models around it."""
    holder = next((name for name in HOLDERS if name in model), None)
    if holder is None or not deepest:
        return
    group, seen = _inside(model, holder), dict[str, int]()
    listed = list(group)[:MOST_LAYERS]
    for name in sorted(listed, key=lambda name: [int(part) for part in re.findall(r"_(\d{1,6})$", name)]):
        kind = re.sub(r"_\d{1,6}$", "", name)
        count, seen[kind] = seen.get(kind, 0), seen.get(kind, 0) + 1
        key = f"{names}{name if holder == HOLDERS[0] else f'{kind}_{count}' if count else kind}"
        layer = _inside(group, name)
        if "vars" in layer:
            variables = _inside(layer, "vars")
            yield key, [_inside(variables, one) for one in sorted(variables)]
        yield from _counted(layer, f"{key}/", deepest - 1)


def _text(name: object) -> str:
    return name.decode("utf-8") if isinstance(name, bytes) else str(name)


def _inside(group: Any, name: str) -> Any:
    """An object of this very file below `group`. Raises ValueError for a link to another file."""
    import h5py

    for part in filter(None, name.split("/")):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"there is no {name}, or it is only a link to another place")
        group = group[part]
    return group


def _place(dataset: Any) -> tuple[str, list[int], str, int]:
    """Name, shape, type and offset. Raises ValueError for numbers that are compressed or elsewhere: a few bytes could claim
    any size."""
    import h5py

    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise ValueError(f"{dataset.name} is no array")
    name, dtype = dataset.name, dataset.dtype.str
    counter = dataset.shape == () and dtype[1] in "iu"  # in Normalization
    if dtype[1:] not in ("f2", "f4", "f8") and not counter:
        raise ValueError(f"{name} holds {dataset.dtype} numbers; weights are floating point (2 to 8 bytes)")
    start = dataset.id.get_offset()
    plain = dataset.chunks is None and not dataset.is_virtual and not dataset.external
    if not plain or start is None or dataset.id.get_storage_size() < math.prod(dataset.shape) * dataset.dtype.itemsize:
        raise ValueError(f"the numbers of {name} are compressed, missing or elsewhere")
    return name, list(dataset.shape), dtype, start
