"""The options of running networks over images, by the names that the Python functions and the command line share."""

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, TypedDict, TypeVar, cast

from vggcli.choices import Decode, Precision
from vggcli.data.decode_on_device import need_decoder
from vggcli.device import pick_precision, ready_device
from vggcli.errors import UsageError
from vggcli.evaluation.protocol import EvaluateOptions, Protocol, check_test_scales
from vggcli.paper import CROP_GRID
from vggcli.records import Ordinal, WorkerCount, check_fields
from vggcli.weights.checkpoint import Checkpoint
from vggcli.weights.preprocessing import read_pixels
from vggcli.zoo.inductor import need_compiler
from vggcli.zoo.scales import paper_scales

LARGEST_GRID = 50  # crops along each side: a hundred times as many as the paper's 5x5
F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True)
class MeasureOptions:
    """The views of each image, by default its centre crop, and how the network is run over them.

    dense: the whole image, fully convolutionally (section 3.2).
    multi_crop: a grid of crops; with `dense`, the mean of both (section 4.3).
    grid: crops along each side, by default 5.
    scales: the shorter sides Q in pixels, by default the training S or the middle of its range.
    multi_scale: the paper's three scales.
    flip: average with the mirror image, by default with all but the centre crop.
    skip_bad: whether to leave out images that cannot be used.
    device: "auto", "cpu", "cuda", "cuda:1" or "mps".
    precision: of the heavy arithmetic: "auto", "fp32", "tf32", "bf16" or "fp16".
    compile: run the network by torch.compile, which pays on GPUs.
    batch_size: views in a forward pass, by default what suits the device.
    workers: processes that decode images; with 0 this process decodes.
    preprocessing: "torchvision", "caffe", "keras" or a JSON file, for weights whose file does not say it.
    apart: keep the posteriors of dense and of multi-crop evaluation beside their mean.
    decode: where JPEGs are decoded: "cpu", or "gpu" (nvJPEG, whose pixels differ by a few levels).

    Raises UsageError for options that contradict each other or have no effect.
    """

    dense: bool = False
    multi_crop: bool = False
    grid: int | None = None
    scales: Sequence[Ordinal] | None = None
    multi_scale: bool = False
    flip: bool | None = None
    skip_bad: bool = False
    device: str = "auto"
    precision: Precision = "auto"
    compile: bool = False
    batch_size: Ordinal | None = None
    workers: WorkerCount = 0
    preprocessing: str | None = None
    apart: bool = False
    decode: Decode = "cpu"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.scales and self.multi_scale:
            raise UsageError(
                "given scales and the paper's three contradict each other; give one", "scales", "multi_scale"
            )
        if self.grid is None:
            return
        if not self.multi_crop:
            raise UsageError("a grid has no effect without multi-crop evaluation", "grid", "multi_crop")
        if self.grid < 2:
            raise UsageError(f"a grid of {self.grid} is too small: give 2 or more, or take the centre crop", "grid")
        if self.grid > LARGEST_GRID:
            crops = f"grid {self.grid} is {self.grid**2} crops a view"
            raise UsageError(f"{crops}; give at most {LARGEST_GRID} (the paper: {CROP_GRID})", "grid")

    @cached_property
    def resolved(self) -> EvaluateOptions:
        """The options for this machine; `scales` stay empty where each network's own are to be used.

        Raises MachineError where there is no such device, it cannot decode as asked, or nothing compiles for it; UsageError
        for an unknown
        preprocessing.
        """
        whole: Protocol = "dense" if self.dense else "centre-crop"
        cropped: Protocol = "dense+multi-crop" if self.dense else "multi-crop"
        device = ready_device(self.device)
        need_decoder(self.decode, device)
        if self.compile:
            need_compiler(device)
        return EvaluateOptions(
            protocol=cropped if self.multi_crop else whole,
            scales=tuple(self.scales or ()),
            flip=self.dense or self.multi_crop if self.flip is None else self.flip,
            device=device,
            precision=pick_precision(self.precision, device),
            compile=self.compile,
            grid=CROP_GRID if self.grid is None else self.grid,
            batch_size=self.batch_size,
            workers=self.workers,
            skip_bad=self.skip_bad,
            pixels=None if self.preprocessing is None else read_pixels(self.preprocessing),
            apart=self.apart,
            decode=self.decode,
        )

    def for_network(self, checkpoint: Checkpoint) -> EvaluateOptions:
        """As `resolved`, with the scales of the network. Raises UsageError for scales that do not suit it."""
        options = self.resolved
        options = replace(options, scales=options.scales or paper_scales(checkpoint.scale, self.multi_scale))
        check_test_scales(checkpoint.config, options, "multi_scale" if self.multi_scale else "scales")
        return options

    def given(self) -> list[str]:
        """The names of the fields that differ from their defaults."""
        return [one.name for one in fields(self) if getattr(self, one.name) != one.default]


class Asked(TypedDict, total=False):
    """The fields of MeasureOptions as keyword arguments."""

    dense: bool
    multi_crop: bool
    grid: int | None
    scales: Sequence[int] | None
    multi_scale: bool
    flip: bool | None
    skip_bad: bool
    device: str
    precision: Precision
    compile: bool
    batch_size: int | None
    workers: int
    preprocessing: str | None
    apart: bool
    decode: Decode


def shows_options(function: F) -> F:
    """`function` with a signature for `help()` that has the fields of MeasureOptions in place of `**asked`."""
    signature = inspect.signature(function)
    own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    asked = [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=one.type)
        for one in fields(MeasureOptions)
    ]
    shown = signature.replace(parameters=[*own, *asked])

    @functools.wraps(function)
    def bound(*given: Any, **named: Any) -> object:
        shown.bind(*given, **named)  # names a keyword that there is not
        return function(*given, **named)

    bound.__signature__ = shown  # type: ignore[attr-defined]
    return cast("F", bound)
