"""Checkpoints: safetensors whose metadata rebuilds the network, and the run folders that hold them.

One metadata entry, "vgg", carries a JSON object: the network, its class names, its preprocessing and how it was trained.
One entry only, because safetensors does not keep the order of several and equal checkpoints are to be equal files.
Nothing is pickled but a state dict that is asked for in torch's own format.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from vggcli import paper
from vggcli.errors import WeightsError
from vggcli.zoo.files import replacing
from vggcli.zoo.foreign import (
    DIVISOR,
    MEAN,
    OXFORD_DIVISOR,
    OXFORD_MEAN,
    SCALE,
    Framework,
    from_framework,
    to_framework,
)
from vggcli.zoo.imagenet import imagenet_names
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG

FORMAT = 1
PICKLES = (".pth", ".pt")
BEST, LAST = "best.safetensors", "last.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says beside its weights.

    `classes` in the order of the scores, none where another framework's weights do not name them; `preprocessing` as
    data/augment.py's ColourStatistics writes it; `scale` the training range of S, smallest and largest shorter side in
    pixels; `training` how it came to be (recipe, data, epoch, step, errors in per cent), for reports and for going on.
    """

    config: NetworkConfig
    classes: tuple[str, ...]
    preprocessing: dict[str, Any]
    scale: tuple[int, int]
    training: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Checkpoint":
        """Raises ValueError, KeyError or TypeError where the text is not what `to_json` writes."""
        fields = json.loads(text)
        if fields["format"] != FORMAT:
            raise ValueError(f"format {fields['format']} (this version reads {FORMAT})")
        low, high = (int(value) for value in fields["scale"])
        classes = tuple(str(name) for name in fields["classes"])
        config = NetworkConfig(**fields["config"])
        if classes and len(classes) != config.classes:
            raise ValueError(f"{len(classes)} class names for {config.classes} classes")
        return cls(config, classes, dict(fields["preprocessing"]), (low, high), dict(fields["training"]))


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and texts to `path`, whole or not at all. Raises MachineError where the disk refuses."""
    with replacing(path) as temporary:
        try:
            save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, temporary, dict(metadata))
        except SafetensorError as error:  # the library wraps the system's error in its own
            raise OSError(*_errno(str(error))) from error


def _errno(text: str) -> tuple[int, str]:
    found = re.search(r"os error (\d+)", text)
    return int(found.group(1)) if found else 0, text


def save_checkpoint(path: Path, network: VGG, checkpoint: Checkpoint) -> None:
    """Write the weights of `network` with what rebuilds it."""
    save_tensors(path, network.state_dict(), {"vgg": checkpoint.to_json()})


def save_foreign(path: Path, network: VGG, checkpoint: Checkpoint, framework: Framework) -> None:
    """Write the weights as the framework names and shapes them, as safetensors or, by the suffix of `path`, as torch saves
    a state dict. Class names and preprocessing have a place in the metadata of safetensors alone.

    Raises WeightsError for a network that the framework does not have, MachineError where the disk refuses.
    """
    tensors = to_framework(network.state_dict(), checkpoint.config, framework)
    if path.suffix not in PICKLES:
        about = {"classes": json.dumps(checkpoint.classes), "preprocessing": json.dumps(checkpoint.preprocessing)}
        save_tensors(path, tensors, about)
        return
    with replacing(path) as temporary:
        torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file (on the CPU, as they lie on disk) and its "vgg" metadata text.

    Raises WeightsError where the file is missing, cut short, not safetensors, or not from this program.
    """
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = (file.metadata() or {}).get("vgg")
            if metadata is None:
                raise WeightsError(f"{path} is a safetensors file without vgg's metadata, so its network is not known")
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} cannot be read as a checkpoint (damaged or cut short): {error}") from error


def load_checkpoint(path: Path, device: torch.device | None = None) -> tuple[VGG, Checkpoint]:
    """The network that `path` holds (a checkpoint, or weights of torchvision or timm), in evaluation mode on `device`, and
    what the file says of it. The weights are not held twice.

    Raises WeightsError where the file is damaged, of another format, misses a layer, has one of another shape, or holds
    a value that is not finite.
    """
    if path.suffix in PICKLES or (path.is_file() and not _has_metadata(path)):
        tensors, checkpoint = _foreign(path)
    else:
        tensors, metadata = load_tensors(path)
        try:
            checkpoint = Checkpoint.from_json(metadata)
        except (ValueError, KeyError, TypeError) as error:
            raise WeightsError(f"{path} has metadata that cannot be used: {error}") from error
    with torch.device("meta"):
        network = VGG(checkpoint.config)
    expected = network.state_dict()
    for name, value in expected.items():
        if name not in tensors:
            raise WeightsError(f"{path} has no weights for {name}")
        if tensors[name].shape != value.shape:
            found, wanted = list(tensors[name].shape), list(value.shape)
            raise WeightsError(f"{path}: {name} has the shape {found} where its network {wanted} is expected")
        if not torch.isfinite(tensors[name]).all():
            raise WeightsError(f"{path}: {name} holds values that are not finite")
    extra = sorted(set(tensors) - set(expected))
    if extra:
        raise WeightsError(f"{path} holds {extra[0]}, which network {checkpoint.config.arch} does not have")
    network.load_state_dict(tensors, assign=True)
    network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval(), checkpoint


def need_classifier(path: Path, checkpoint: Checkpoint) -> None:
    """Raises WeightsError for weights that end with their convolutions, which have no scores."""
    if checkpoint.config.head == "none":
        raise WeightsError(
            f"{path} holds convolutions without a classifier, so it has no posteriors; use `vgg features`, or train "
            f"a classifier on it with `vgg finetune`"
        )


def _has_metadata(path: Path) -> bool:
    """Whether a safetensors file is of this program; true for what cannot be read, which is then said."""
    try:
        with safe_open(path, framework="pt") as file:
            return "vgg" in (file.metadata() or {})
    except (SafetensorError, OSError, UnicodeDecodeError):
        return True


def _foreign(path: Path) -> tuple[dict[str, Tensor], Checkpoint]:
    theirs = _pickled(path) if path.suffix in PICKLES else load_file(path)
    tensors, config, framework = from_framework(theirs, str(path))
    mean, divisor = (OXFORD_MEAN, OXFORD_DIVISOR) if config.head == "none" else (MEAN, DIVISOR)
    preprocessing = {"mean": mean, "divisor": divisor, "eigenvalues": (), "eigenvectors": ()}
    imagenet = framework == "torchvision" and config.classes == paper.IMAGENET_CLASSES and config.head == "fc"
    classes = imagenet_names() if imagenet else ()
    return tensors, Checkpoint(config, classes, preprocessing, SCALE, {"framework": framework, "source": path.name})


def _pickled(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict that torch has saved, read without running anything the file may hold."""
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}")
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or hostile archive makes of the reader
        reason = str(error).split(". ")[0].splitlines()[0]
        raise WeightsError(f"{path} cannot be read as weights that torch has saved: {reason}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(found, dict) and isinstance(found.get(wrapper), dict):
            found = found[wrapper]
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise WeightsError(f"{path} holds no state dict (names and tensors)")
    return {str(name).removeprefix("module."): value for name, value in found.items()}


def weights_file(path: Path) -> Path:
    """The weights that `path` names: itself, or a run folder's best (else last) checkpoint.

    Raises WeightsError where there is nothing of the kind.
    """
    if path.is_dir():
        for name in (BEST, LAST):
            if (path / name).is_file():
                return path / name
        raise WeightsError(f"{path} holds no {BEST} and no {LAST}: it is not a run folder, or its training never saved")
    if not path.is_file():
        raise WeightsError(f"there are no weights at {path}: give a .safetensors file or a run folder")
    return path


def numbered_runs(runs: Path, arch: str) -> list[Path]:
    """The folders ARCH-N below `runs`, oldest first."""
    found = []
    for folder in runs.iterdir() if runs.is_dir() else ():
        match = re.fullmatch(rf"{re.escape(arch)}-(\d+)", folder.name)
        if match and folder.is_dir():
            found.append((int(match.group(1)), folder))
    return [folder for _, folder in sorted(found)]


def newest_run(runs: Path, arch: str | None = None) -> Path | None:
    """The folder ARCH-N below `runs` (of any network where `arch` is None) whose weights were saved last, or None."""
    archs = list(paper.NETWORKS) if arch is None else [arch]
    folders = [run for name in archs for run in numbered_runs(runs, name) if (run / LAST).is_file()]
    return max(folders, key=lambda run: ((run / LAST).stat().st_mtime_ns, run.name), default=None)
