"""A row of Table 1 as the layers of a network, plain records, and what each layer costs.

No torch here. The builder makes modules from these records and `vgg models` prints them, so the table that a user reads
and the network that runs cannot differ.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from vggcli import paper
from vggcli.choices import Boxes, Head
from vggcli.errors import UsageError, did_you_mean
from vggcli.records import LATER, RECORD

Kind = Literal["conv", "bn", "relu", "lrn", "pool", "fc"]
WIDEST = 16  # as a factor on the channels of the paper
MOST_CLASSES = 100_000_000
MOST_PARAMETERS = 1 << 32  # 17 GB in float32; training takes three times that
VIEW_BYTES = 4 << 30  # memory that a network may take for one input image, whatever the machine has


@dataclass(frozen=True)
class NetworkConfig:
    """Everything that decides the shape of a network. `crop` is the training crop in pixels, `width` a factor on all
    channel counts, `head` "gap" averages the last map and keeps one linear layer, "none" ends with it: descriptors only.
    With `boxes` the last layer gives a box in place of class scores, one for all classes or one for each (Appendix A)."""

    arch: str = "D"
    classes: int = paper.IMAGENET_CLASSES
    crop: int = paper.CROP
    width: float = 1.0
    head: Head = "fc"
    boxes: Boxes | None = field(default=None, metadata=LATER)
    __pydantic_config__ = RECORD

    def __post_init__(self) -> None:
        if self.arch not in paper.NETWORKS:
            raise UsageError(f"there is no network {self.arch!r}; `vgg models` lists them")
        if self.crop < paper.STRIDE:
            raise UsageError(f"a crop of {self.crop} is too small: five poolings need {paper.STRIDE} pixels", "crop")
        if not 0 < self.width <= WIDEST:
            raise UsageError(
                f"the width {self.width:g} is out of range: give a factor above 0, up to {WIDEST}", "width"
            )
        if not 1 <= self.classes <= MOST_CLASSES:
            raise UsageError(f"{self.classes} classes are out of range: a network has 1 to {MOST_CLASSES} classes")
        if self.crop**2 > most_pixels(self):
            raise UsageError(f"a crop of {self.crop} takes over {VIEW_BYTES >> 30} GiB per image; lower it", "crop")
        if (parameters := sum(layer.parameters for layer in network_layers(self))) > MOST_PARAMETERS:
            raise UsageError(
                f"a network of crop {self.crop}, width {self.width:g} and {self.classes} classes has "
                f"{parameters:.3g} parameters; at most {MOST_PARAMETERS:.3g} are possible"
            )
        if self.boxes and self.head != "fc":
            raise UsageError(
                "box regression needs the three FC layers: an average over the map does not know where things are",
                *("boxes", "head"),
            )

    @property
    def outputs(self) -> int:
        """How many numbers the last layer gives: class scores, or the four coordinates of one box or of a box a class."""
        if self.boxes is None:
            return self.classes
        return 4 if self.boxes == "scr" else 4 * self.classes


@dataclass(frozen=True)
class Layer:
    """One layer: `kernel` is its side in pixels of its input, `channels_in` and `channels` its maps."""

    kind: Kind
    name: str
    channels_in: int
    channels: int
    kernel: int = 1

    @property
    def parameters(self) -> int:
        """Weights and biases (for batch normalisation the learned scale and shift)."""
        if self.kind in ("conv", "fc"):
            return (self.channels_in * self.kernel**2 + 1) * self.channels
        return 2 * self.channels if self.kind == "bn" else 0


def network_layers(config: NetworkConfig) -> Iterator[Layer]:
    """The layers of `config` in order, named by block as the field names them: conv1_1 … conv5_4, pool1 … pool5, fc6,
    fc7, fc8 (with the head "gap" only fc8, with "none" no FC layer). ReLUs follow every conv (after its bn) and fc layer
    but the last."""
    row = paper.NETWORKS[config.arch]
    channels_in = 3
    for block, (kernels, base) in enumerate(zip(row.blocks, paper.BLOCK_CHANNELS, strict=True), start=1):
        channels = scaled_channels(base, config.width)
        for index, kernel in enumerate(kernels, start=1):
            yield Layer("conv", f"conv{block}_{index}", channels_in, channels, kernel)
            if row.batch_norm:
                yield Layer("bn", f"bn{block}_{index}", channels, channels)
            if row.lrn and block == 1:
                yield Layer("lrn", "lrn1", channels, channels)
            channels_in = channels
        yield Layer("pool", f"pool{block}", channels, channels, 2)
    if config.head == "fc":
        hidden = scaled_channels(paper.FC_CHANNELS, config.width)
        yield Layer("fc", "fc6", channels_in, hidden, config.crop // paper.STRIDE)
        yield Layer("fc", "fc7", hidden, hidden)
        channels_in = hidden
    if config.head != "none":
        yield Layer("fc", "fc8", channels_in, config.outputs)


def with_relus(config: NetworkConfig) -> Iterator[Layer]:
    """`network_layers` and their ReLUs, each named after the layer before it: relu1_1 … relu5_4, relu6, relu7."""
    activated = ("bn" if paper.NETWORKS[config.arch].batch_norm else "conv", "fc")
    for layer in network_layers(config):
        yield layer
        if layer.kind in activated and layer.name != "fc8":
            yield Layer("relu", f"relu{layer.name.removeprefix(layer.kind)}", layer.channels, layer.channels)


def bytes_a_pixel(config: NetworkConfig) -> int:
    """The peak memory of a forward pass in bytes per pixel of the image, as measured: the image twice, and four of the
    maps of the first block (six with LRN), which have the image's size, or the windows of fc6, where they are larger."""
    first, last = (scaled_channels(base, config.width) for base in (paper.BLOCK_CHANNELS[0], paper.BLOCK_CHANNELS[-1]))
    maps = 6 if paper.NETWORKS[config.arch].lrn else 4
    windows = 2 * last * (config.crop // paper.STRIDE) ** 2 // paper.STRIDE**2 if config.head == "fc" else 0
    return 4 * (2 * 3 + max(maps * first, windows))


def most_pixels(config: NetworkConfig) -> int:
    """The number of pixels of the largest image that the network may be run on."""
    return VIEW_BYTES // bytes_a_pixel(config)


def scaled_channels(base: int, width: float) -> int:
    """A channel count of the paper times `width`, rounded to the nearest whole number, at least 1."""
    return max(1, round(base * width))


@dataclass(frozen=True)
class LayerCost:
    """The cost of a layer for one input of the training crop; `memory` is its float32 output in bytes."""

    name: str
    output: tuple[int, int, int]
    receptive_field: int
    parameters: int
    macs: int
    memory: int


def layer_costs(config: NetworkConfig) -> list[LayerCost]:
    """Output size [C, H, W], receptive field (pixels of the input), parameters, multiply-accumulates and memory of every
    layer at the training crop. Batch normalisation and pooling count no multiply-accumulates."""
    side, field, jump = config.crop, 1, 1
    costs = []
    for layer in network_layers(config):
        if layer.name == "fc8" and config.head == "gap":
            field, side = field + (side - 1) * jump, 1
        if layer.kind in ("conv", "fc", "pool"):
            field += (layer.kernel - 1) * jump
        if layer.kind == "pool":
            side, jump = side // 2, jump * 2
        elif layer.kind == "fc":
            side = 1
        area = side * side
        macs = layer.channels_in * layer.kernel**2 * layer.channels * area if layer.kind in ("conv", "fc") else 0
        output = (layer.channels, side, side)
        costs.append(LayerCost(layer.name, output, field, layer.parameters, macs, 4 * layer.channels * area))
    return costs


@dataclass(frozen=True)
class Stack:
    """Consecutive 3x3 layers of one width, compared with a single layer of the same receptive field (section 2.3). Only
    weights are counted, and the first layer has `channels` inputs, as in the paper."""

    layers: tuple[str, ...]
    channels: int
    receptive_field: int
    stack_weights: int
    single_weights: int


def stacks_of_3x3(config: NetworkConfig) -> list[Stack]:
    """The stacks of two or more 3x3 layers without pooling between them: two see 5x5, three see 7x7, 27C² against 49C²
    weights (section 2.3)."""
    row = paper.NETWORKS[config.arch]
    stacks = []
    for block, (kernels, base) in enumerate(zip(row.blocks, paper.BLOCK_CHANNELS, strict=True), start=1):
        names = tuple(f"conv{block}_{index}" for index, kernel in enumerate(kernels, start=1) if kernel == 3)
        if len(names) < 2:
            continue
        channels, field = scaled_channels(base, config.width), 2 * len(names) + 1
        stacks.append(Stack(names, channels, field, 9 * len(names) * channels**2, field**2 * channels**2))
    return stacks


def arch_of(name: str) -> str:
    """The network that `name` means: any case, torchvision's names too (vgg16 is D, vgg16_bn is D-BN).

    Raises UsageError for any other name.
    """
    lowered = name.lower()
    for arch, row in paper.NETWORKS.items():
        if lowered in (arch.lower(), row.alias):
            return arch
    near = did_you_mean(name, [*paper.NETWORKS, *(row.alias for row in paper.NETWORKS.values() if row.alias)])
    known = f"(the networks are {', '.join(paper.NETWORKS)}, and torchvision's names, such as vgg16)"
    raise UsageError(f"there is no network {name!r}{near} {known}")
