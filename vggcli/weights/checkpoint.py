"""Checkpoints: safetensors whose metadata rebuilds the network, and the run folders that hold them.

One metadata entry, "vgg", carries a JSON object: the network, its class names, its preprocessing and how it was trained.
It is a single entry, because safetensors does not keep the order of several, and equal checkpoints must be equal files.
Nothing is pickled, except a state dict that the user asks for in torch's own format.
"""

import json
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vggcli import paper
from vggcli.colour import ColourStatistics
from vggcli.errors import UsageError, WeightsError, command_or_python
from vggcli.files import replacing
from vggcli.imagenet import imagenet_names
from vggcli.records import RECORD, Side, parsed, read_record, shown
from vggcli.weights.checked_once import unchanged, weights_sha256
from vggcli.weights.metadata import check_training
from vggcli.weights.preprocessing import PIXELS, TORCHVISION_OXFORD, ExpectedPixels
from vggcli.weights.recognise import Foreign, format_of, oxford_scale, usual_scale
from vggcli.weights.safetensors_read import read_header
from vggcli.weights.seal import FOREIGN_NOTE, NOTE, check_seal, sealed, unsealed
from vggcli.weights.torch_names import from_framework, numbered_as_oxford
from vggcli.weights.torch_read import pickled_tensors
from vggcli.weights.unread import Stored, check_stored, filled_network, in_file
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG

_FORMAT = 1
BEST, LAST = "best.safetensors", "last.safetensors"
_DESCRIBE = command_or_python("vgg features --layer pool5", "vggcli.features(paths, weights, layer='pool5')")
_FINETUNE = command_or_python("vgg finetune", "vggcli.finetune(weights)")
WITHOUT_CLASSIFIER = f"use {_DESCRIBE}, or train a classifier on them with {_FINETUNE}"  # what such weights are for


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says besides its weights.

    `classes` in the order of the scores, none where another framework's weights do not name them; `scale` the training
    range of S, smallest and largest shorter side in pixels; `training` how it came to be (recipe, data, epoch, step, errors
    in per cent), for reports and for resuming.
    """

    config: NetworkConfig
    classes: tuple[str, ...]
    preprocessing: ColourStatistics
    scale: tuple[Side, Side]
    training: dict[str, Any] = field(default_factory=dict)
    __pydantic_config__ = RECORD

    def to_json(self) -> str:
        return json.dumps({"format": _FORMAT, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Checkpoint":
        """Raises ValueError where the text is not what `to_json` writes, or contradicts itself."""
        fields = parsed(text)
        written = fields.pop("format", None) if isinstance(fields, dict) else None
        if written != _FORMAT:
            raise ValueError(f"format {shown(written)} (this version reads {_FORMAT})")
        read = read_record(cls, fields)
        if read.scale[0] > read.scale[1]:
            raise ValueError(f"the training scale {list(read.scale)} has its largest side first")
        if len(set(read.classes)) < len(read.classes):
            raise ValueError("a class name that appears twice")
        if read.classes and len(read.classes) != read.config.classes:
            raise ValueError(f"{len(read.classes)} class names for {read.config.classes} classes")
        check_training(read.training)
        return read


_Opened = tuple[dict[str, Stored], Checkpoint]


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Write tensors and texts to `path`, whole or not at all, with a SHA-256 over all of them, which is returned. Raises
    MachineError where the disk refuses."""
    here = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    texts, seal = sealed(here, metadata)
    with replacing(path) as temporary:
        try:
            save_file(here, temporary, texts)
        except SafetensorError as error:  # the library wraps the system's error in its own
            found = re.search(r"os error (\d+)", str(error))
            raise OSError(int(found.group(1)) if found else 0, str(error)) from error
    return seal


def save_checkpoint(path: Path, network: VGG, checkpoint: Checkpoint) -> str:
    """Write the weights of `network` with what rebuilds it; returns the file's SHA-256, as `save_tensors` does."""
    return save_tensors(path, network.state_dict(), {NOTE: checkpoint.to_json()})


def load_tensors(path: Path, sha256: str | None = None) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file (on the CPU, with the type they have on disk) and its "vgg" metadata text. With `sha256`, which
    `save_tensors` returned, any other file is refused.

    Raises WeightsError where the file is missing, damaged, another one, not safetensors, or not from this program.
    """
    _check_there(path)
    metadata, seal = unsealed(path, read_header(path)[1])
    if (note := metadata.get(NOTE)) is None:
        raise WeightsError(f"{path} is a safetensors file without vgg's metadata, so its network is not known")
    check_seal(path)
    if sha256 is not None and seal != sha256:
        raise WeightsError(f"{path} is not the file that was saved with its checkpoint, by its SHA-256; give that one")
    if seal is None and note != "{}":
        raise WeightsError(f"{path} has metadata that cannot be used: {note[:60]!r}")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, note  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} cannot be read as a checkpoint (damaged or cut short): {error}") from error


def load_checkpoint(
    path: Path, device: torch.device | None = None, pixels: ExpectedPixels | None = None, untrained: bool = False
) -> tuple[VGG, Checkpoint]:
    """The network that `path` holds (a checkpoint, or weights of torchvision, timm, Keras or Caffe), in evaluation mode on
    `device`, and what the file says of it; `pixels` is the preprocessing of a file that does not say its own. `untrained`
    allows the weights of a run that was stopped before its first step: they are random, and only of use for resuming it.
    The weights are never held in memory twice.

    Raises UsageError where `pixels` has no effect; WeightsError where the file is damaged, of another format, misses a
    layer, has one of another shape, holds a value that is not finite, or was never trained; MachineError where a package
    that its format needs is not installed. A file with a SHA-256 is compared with it meanwhile, and what that finds comes
    before any other error.
    """
    with unchanged(path), _compared(path):
        stored, checkpoint = _opened(path, pixels, whole=False)
        if not untrained:
            need_trained(path, checkpoint)
        network = filled_network(checkpoint.config, stored, path, device)
    return network, checkpoint


def load_hashed(
    path: Path, device: torch.device | None = None, pixels: ExpectedPixels | None = None
) -> tuple[VGG, str]:
    """The network as `load_checkpoint` gives it, and the SHA-256 of the very file that it came from."""
    with unchanged(path):
        network, _ = load_checkpoint(path, device, pixels)
        return network, weights_sha256(path)


@contextmanager
def _compared(path: Path) -> Iterator[None]:
    """Compare a file with its SHA-256 in another thread, on another core, until the end of the block."""
    _check_there(path)
    if format_of(path) != "safetensors":
        yield
        return
    with ThreadPoolExecutor(1, "vgg-sha256") as thread:
        comparison = thread.submit(check_seal, path)
        try:
            yield
        finally:
            comparison.result()


def read_checkpoint(path: Path, pixels: ExpectedPixels | None = None) -> Checkpoint:
    """What a file says about its network. Raises what `load_checkpoint` does, except for values that are not finite."""
    return _opened(path, pixels)[1]


def says_preprocessing(checkpoint: Checkpoint) -> bool:
    """Whether the preprocessing is stated in the file, or was given, rather than assumed from the framework."""
    return "framework" not in checkpoint.training or not {"channels", "pixels"}.isdisjoint(checkpoint.training)


def _opened(path: Path, pixels: ExpectedPixels | None, whole: bool = True) -> _Opened:
    """What a file holds, for `pixels` where its own are not known; `whole` compares all of it with its SHA-256 first."""
    _check_there(path)
    kind, texts = format_of(path), dict[str, str]()
    if kind == "safetensors":
        entries, metadata = read_header(path)
        texts = unsealed(path, metadata)[0]
        stored = {name: in_file(path, one) for name, one in entries.items()}
        _ = check_seal(path) if whole else None
        foreign = None if NOTE in texts else _torch_weights(stored, texts.get(FOREIGN_NOTE), path)
    else:
        foreign = _read_foreign(path, kind)
    if foreign is not None:
        stored = _reversed_input(foreign.stored) if foreign.pixels.channels == "BGR" else foreign.stored
    note = texts.get(NOTE) if foreign is None else foreign.note
    if note is not None:
        try:
            checkpoint = Checkpoint.from_json(note)
        except ValueError as error:
            raise WeightsError(f"{path} has metadata that cannot be used: {error}") from error
    else:
        assert foreign is not None
        checkpoint = _known(foreign, path)
    check_stored(stored, checkpoint.config, path)
    stored, checkpoint = _without_lost_classifier(stored, checkpoint)
    return (stored, checkpoint) if pixels is None else _with_pixels(stored, checkpoint, pixels, path)


def _reversed_input(stored: dict[str, Stored]) -> dict[str, Stored]:
    """Weights that expect BGR as weights that expect RGB, or the other way round."""
    return {**stored, "conv1_1.weight": stored["conv1_1.weight"].reversed_channels()}


def _with_pixels(stored: dict[str, Stored], checkpoint: Checkpoint, pixels: ExpectedPixels, path: Path) -> _Opened:
    """The weights for `pixels` in place of the usual ones of their framework."""
    if says_preprocessing(checkpoint):
        raise UsageError(
            f"a preprocessing has no effect beside {path}, which says its own; leave it out", "preprocessing"
        )
    usual = PIXELS.get(checkpoint.training["framework"], PIXELS["torchvision"])
    if usual.channels != pixels.channels:
        stored = _reversed_input(stored)
    preprocessing = replace(checkpoint.preprocessing, mean=pixels.mean, divisor=pixels.divisor)
    training = {**checkpoint.training, "channels": pixels.channels}
    return stored, replace(checkpoint, preprocessing=preprocessing, training=training)


def need_trained(path: Path, checkpoint: Checkpoint) -> None:
    """Raises WeightsError for the weights of a run that was stopped before its first step."""
    if not checkpoint.training.get("step", 1):
        raise WeightsError(f"{path} holds untrained weights (no step was finished); resume that run, or give others")


def need_classifier(path: Path, checkpoint: Checkpoint) -> None:
    """Raises WeightsError for weights without a classifier, with boxes in its place, or with a single output."""
    if checkpoint.config.boxes is not None:
        what = f"{path} gives boxes in place of classes"
        raise WeightsError(f"{what}; name the network of classes that it began from")
    if checkpoint.config.head == "none":
        raise WeightsError(
            f"{path} holds convolutions without a classifier, so it has no posteriors; {WITHOUT_CLASSIFIER}"
        )
    if checkpoint.config.classes == 1:
        raise WeightsError(
            f"{path} has one output (a sigmoid?), but posteriors need two classes or more; {WITHOUT_CLASSIFIER}"
        )


def need_boxes(path: Path, checkpoint: Checkpoint) -> None:
    """Raises WeightsError for weights that give no boxes, or were never trained."""
    if checkpoint.config.boxes is None:
        learn = command_or_python("vgg finetune --boxes pcr", "vggcli.finetune(..., boxes='pcr')")
        raise WeightsError(f"{path} gives classes, not boxes; make a network of boxes of it with {learn}")
    need_trained(path, checkpoint)


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}")


def _torch_weights(theirs: dict[str, Stored], note: str | None, path: Path) -> Foreign:
    stored, config, framework = from_framework(theirs, str(path))
    if numbered_as_oxford(theirs):
        return Foreign(stored, config, "caffe", PIXELS["caffe"], note)
    return Foreign(stored, config, framework, PIXELS["torchvision"], note)


def _without_lost_classifier(stored: dict[str, Stored], checkpoint: Checkpoint) -> _Opened:
    """Without the classifier if it is all NaN, as in the file in which torchvision publishes Oxford's convolutions."""
    biases = [stored[name] for name in ("fc6.bias", "fc7.bias", "fc8.bias") if name in stored]
    if checkpoint.training.get("framework") != "torchvision" or not all(
        values.isnan().all() for one in biases for _, values in one.parts(torch.empty(one.shape))
    ):
        return stored, checkpoint
    preprocessing = replace(checkpoint.preprocessing, mean=TORCHVISION_OXFORD.mean, divisor=1.0)
    config = replace(checkpoint.config, head="none")
    convolutions = {name: one for name, one in stored.items() if not name.startswith("fc")}
    return convolutions, replace(checkpoint, config=config, classes=(), preprocessing=preprocessing)


def _read_foreign(path: Path, kind: str) -> Foreign:
    if kind == "torch":
        return _torch_weights(*pickled_tensors(path), path)
    if kind == "caffe":
        from vggcli.weights.caffe_read import read_caffe

        return read_caffe(path)
    if kind in ("hdf5", "keras"):
        from vggcli.weights.keras_read import read_keras

        return read_keras(path, kind)
    assert kind == "onnx"
    raise WeightsError(f"{path} is an ONNX model, which can only be written; give the weights it was made from")


def _known(foreign: Foreign, path: Path) -> Checkpoint:
    """What is known about weights whose file has no note of this program."""
    config, pixels = foreign.config, foreign.pixels
    imagenet = config.classes == paper.IMAGENET_CLASSES and config.head != "none"
    scale = oxford_scale(config) if foreign.framework in ("caffe", "keras") else usual_scale(config.crop)
    training = {"framework": foreign.framework, "source": path.name}
    training |= {"pixels": pixels.channels} if foreign.stated else {}
    training |= {"operations": "assumed"} if foreign.assumed else {}
    preprocessing = ColourStatistics(pixels.mean, pixels.divisor)
    return Checkpoint(config, imagenet_names() if imagenet else (), preprocessing, scale, training)


def glanced_at(path: Path) -> Checkpoint | None:
    """What a weights file says of its network, quickly: its values are not checked. None where it cannot be told."""
    try:
        return _opened(path, None, whole=False)[1]
    except WeightsError:
        return None
