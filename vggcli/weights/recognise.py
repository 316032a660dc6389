"""What a weights file is: its format from its first bytes, and its network from the shapes of its layers.

A file whose content has another format than its suffix says is refused. The convolutions of all networks of the paper
differ in number, kernels or channels, so a file need not say which network it holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

from vggcli import paper
from vggcli.choices import Head
from vggcli.errors import UsageError, WeightsError
from vggcli.weights.preprocessing import ExpectedPixels
from vggcli.weights.unread import Stored
from vggcli.zoo.layers import NetworkConfig, network_layers, scaled_channels

_FORMATS = {
    "safetensors": "safetensors", "torch": "a pickle or archive that torch has saved", "hdf5": "HDF5",
    "keras": "a zip archive, as Keras writes .keras", "caffe": "a Caffe network", "onnx": "an ONNX model",
    "empty": "nothing", "text": "text", "image": "an image",
}  # fmt: skip
_SUFFIXES = {
    ".safetensors": "safetensors", ".pth": "torch", ".pt": "torch", ".h5": "hdf5", ".hdf5": "hdf5", ".keras": "keras",
    ".caffemodel": "caffe", ".onnx": "onnx",
}  # fmt: skip
HEAD = 512  # bytes that tell a format
_IMAGES = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")
OXFORD_SCALE = (256, 512)  # their training range of S


@dataclass(frozen=True)
class Foreign:
    """Weights of another framework under our names, not read yet, and the network that they are; the input channels of
    conv1_1 are in the order of `pixels`, the preprocessing. `note` is what this program wrote into the file about them
    (`Checkpoint.to_json`), which takes precedence. `stated`: the file itself gives the preprocessing; `assumed`: it does
    not list its operations, so VGG's are assumed."""

    stored: dict[str, Stored]
    config: NetworkConfig
    framework: str
    pixels: ExpectedPixels
    note: str | None = None
    stated: bool = False
    assumed: bool = False


def format_of(path: Path) -> str:
    """A key of _FORMATS: the format of the content, or, where that cannot be told, of the suffix (safetensors for others).

    Raises WeightsError where the content has another format than the suffix says.
    """
    content, named = _content(path), _SUFFIXES.get(path.suffix.lower())
    if content in ("caffe", "onnx") and named not in (None, content):
        return named or content  # one byte proves nothing; the reader of the named format finds out
    if content == "empty":
        raise WeightsError(f"{path} is empty; download or copy it again, or give other weights")
    if content in ("text", "image") or (content is not None and named not in (None, content)):
        pointer = " (perhaps the pointer that Git LFS leaves)" if content == "text" else ""
        raise WeightsError(
            f"{path} cannot be read as a checkpoint or another framework's weights: it holds {_FORMATS[content]}{pointer}"
            + (f", not what its suffix {path.suffix} says" if named else "")
        )
    return content or named or "safetensors"


def _content(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        return "empty"
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5"
    if head.startswith(b"PK\x03\x04"):  # torch keeps its files in a folder inside the archive
        first = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        return "torch" if b"/" in first else "keras"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 40:
        return "safetensors"
    if head[257:262] == b"ustar":
        return "torch"  # saved before 0.1.10; the reader says what to do
    if head.startswith(_IMAGES):
        return "image"
    text = head.decode("utf-8", errors="replace").rstrip("�")
    if text and "�" not in text and all(sign.isprintable() or sign in "\t\r\n" for sign in text):
        return "text"
    if head[0] == 0x80 and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "torch"
    if head[0] == 0x08 and head[1:2] < b"\x20":
        return "onnx"  # begins with its version
    return "caffe" if head[0] in (0x0A, 0x12) or head.startswith(b"\xa2\x06") else None


def recognised(
    convolutions: Sequence[tuple[int, int, int]],
    fully_connected: Sequence[tuple[int, int]],
    where: Path | str,
    rows: Sequence[paper.Row],
    crop: int = paper.CROP,
) -> NetworkConfig:
    """The network among `rows` with these layers: kernel side, inputs and outputs of each convolution in order, and inputs
    and outputs of the fully connected layers (three, one behind the average of the last map, or none). `crop` is for a
    network whose layers do not tell it. Raises WeightsError where there is none."""
    last = convolutions[-1][2] if convolutions else 0
    head: Head = "fc" if len(fully_connected) == 3 else "gap" if fully_connected else "none"
    classes, counts = paper.IMAGENET_CLASSES, [(last, paper.BLOCK_CHANNELS[-1])]
    if head == "gap":
        inputs, classes = fully_connected[0]
        if inputs != last:
            raise WeightsError(f"{where}: its only dense layer has {inputs} inputs where the {last} maps are expected")
    if head == "fc":
        (inputs, hidden), _, (_, classes) = fully_connected
        side = isqrt(inputs // last) if last else 0
        if side == 0 or side * side * last != inputs:
            raise WeightsError(f"{where}: fc6 has {inputs} inputs, which is no square window of {last} maps")
        crop, counts = side * paper.STRIDE, [(hidden, paper.FC_CHANNELS), *counts]
    for row in rows:
        for width in _widths(counts):
            try:
                config = NetworkConfig(row.arch, classes, crop, width, head)
            except UsageError as error:
                raise WeightsError(f"{where} holds a network that cannot be used: {error}") from error
            layers = [layer for layer in network_layers(config) if layer.kind == "conv"]
            if [(one.kernel, one.channels_in, one.channels) for one in layers] == list(convolutions):
                return config
    shown = ", ".join(f"{kernel}x{kernel}-{channels}" for kernel, _, channels in convolutions)
    raise WeightsError(f"{where} has the convolutions {shown[:200]}, which no network of the paper has")


def _widths(counts: Sequence[tuple[int, int]]) -> list[float]:
    """The widths that these channel counts, each beside the paper's, suggest and that give the first of them; the fewest
    digits come first."""
    exact = [count / base for count, base in counts]
    widths = [round(width, digits) for digits in (1, 2, 3, 4) for width in exact] + exact
    count, base = counts[0]
    return list(dict.fromkeys(width for width in widths if width > 0 and scaled_channels(base, width) == count))


def plain_rows() -> list[paper.Row]:
    """The networks that can be written for Caffe and Keras: those without normalisation layers."""
    return [row for row in paper.NETWORKS.values() if not row.batch_norm and not row.lrn]


def check_plain(config: NetworkConfig, framework: str) -> None:
    """Raises WeightsError for a network that cannot be written for Caffe or Keras."""
    if paper.NETWORKS[config.arch] not in plain_rows() or config.head != "fc":
        what = f"network {config.arch}" if config.head == "fc" else f"the head {config.head}"
        raise WeightsError(f"{what} is not written for {framework}; plain networks with their three FC layers are")


def usual_scale(crop: int) -> tuple[int, int]:
    """The shorter side that is usual at evaluation with this crop, as a range: 256 for 224."""
    return (crop * 256 // paper.CROP,) * 2


def oxford_scale(config: NetworkConfig) -> tuple[int, int]:
    """The training range of S of weights with Oxford's preprocessing: 256 to 512 for the published 16- and 19-layer
    networks, the usual scale for others."""
    published = config.arch in ("D", "E") and config.classes == paper.IMAGENET_CLASSES and config.crop == paper.CROP
    return OXFORD_SCALE if published else usual_scale(config.crop)
