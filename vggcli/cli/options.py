"""The flags that several commands share, declared once, and where commands show things: consoles, notes, progress.

Flags that go together are the fields of a frozen dataclass. A command takes such a group as one keyword parameter, and
`with_groups` shows typer the flags in place of that parameter.
"""

import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from vggcli import choices, paper
from vggcli.cli.devices import is_silent, joined
from vggcli.cli.help import paneled
from vggcli.defaults import worker_count
from vggcli.errors import MachineError, UsageError
from vggcli.files import writable_output
from vggcli.progress import LOG, Progress, silent

if TYPE_CHECKING:
    from rich.console import Console

    from vggcli.evaluation.options import MeasureOptions
    from vggcli.localisation.evaluate import BoxOptions

MOST_WORKERS = 512  # processes
LARGEST_SCALE = 10_000  # pixels: a square has the 100 megapixels that no rescaled image may exceed

_SOURCES = "Folder of class folders, shards (tar), VOC or ILSVRC, CSV, a set's name (cifar10, voc2007, …), or shapes."
Data = Annotated[str | None, Option(metavar="SRC", help=f"{_SOURCES} (default: $VGG_DATA, else shapes)")]
DataOfWeights = Annotated[
    str | None,
    Option(metavar="SRC", help=f"{_SOURCES} (default: $VGG_DATA, else what the weights were trained on, else shapes)"),
]
Arch = Annotated[
    str | None, Option(metavar="NAME", help=f"{', '.join(paper.NETWORKS)}; torchvision's names too. (default: D)")
]
Weights = Annotated[
    Path | None,
    Option(
        metavar="W",
        help="Run folder, checkpoint, another framework's file, or a published name: imagenet, features. (default: newest "
        "run of --arch under runs/, else imagenet)",
    ),
]
Preprocessing = Annotated[
    str | None,
    Option(
        metavar="NAME",
        help="How weights of other frameworks expect their input: torchvision, caffe, keras or FILE.json. (default: their "
        "framework's)",
    ),
]
MultiScale = Annotated[
    bool, Option("--multi-scale", help="The paper's three scales: S-32, S, S+32, or Smin, middle, Smax.")
]
Device = Annotated[str, Option(metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps.")]
DevicePrecision = Annotated[
    choices.Precision,
    Option(
        help="Precision of convolutions and products; fp32 has no TF32. auto: bf16 on CUDA from Ampere on, else fp32."
    ),
]
Compile = Annotated[
    bool,
    Option(
        "--compile",
        help="Run the network by torch.compile. It pays on GPUs; on a CPU this program's own convolutions are faster.",
    ),
]
_DECODE = "Where JPEGs are decoded. gpu: by nvJPEG, whose pixels differ by a few levels; to compare numbers, keep cpu."
Decode = Annotated[choices.Decode, Option(help=_DECODE)]
DecodeIfGiven = Annotated[choices.Decode | None, Option(help=f"{_DECODE} (default: cpu)")]
PassSize = Annotated[
    int | None,
    Option(
        "--batch-size",
        "-b",
        min=1,
        rich_help_panel="Machine",
        help="Views in one forward pass. (default: as many as fit in 4 GiB)",
    ),
]
Workers = Annotated[
    int | None,
    Option("--workers", "-j", min=0, max=MOST_WORKERS, help="Processes that decode images. (default: one per core)"),
]
SkipBad = Annotated[bool, Option("--skip-bad", help="Leave out images that cannot be read, and say how many.")]
SaveScores = Annotated[
    Path | None, Option(metavar="FILE", help="Write the posteriors of every image to this .safetensors file.")
]
Merging = Annotated[
    float | None,
    Option(metavar="T", min=0, help="Merge boxes up to this match score. (default: as tuned, else 0.2)"),
]
Json = Annotated[bool, Option("--json", help="Print one JSON object on stdout, and nothing else there.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Show no progress.")]


@dataclass(frozen=True)
class ViewFlags:
    """Which views of an image a network is run over."""

    preprocessing: Preprocessing = None
    dense: Annotated[bool, Option("--dense", help="Run over whole images, fully convolutionally (section 3.2).")] = (
        False
    )
    multi_crop: Annotated[
        bool, Option("--multi-crop", help="Average a regular grid of crops; with --dense, both (section 4.3).")
    ] = False
    grid: Annotated[int | None, Option(help="Crops along each side with --multi-crop. (default: 5)")] = None
    multi_scale: MultiScale = False
    scales: Annotated[
        list[int] | None,
        Option(
            min=1,
            max=LARGEST_SCALE,
            metavar="Q...",
            help="Shorter sides Q in pixels; several are averaged. (default: S, or the middle of its range)",
        ),
    ] = None
    flip: Annotated[
        bool | None,
        Option("--flip/--no-flip", help="Average with the mirror image. (default: with --dense and --multi-crop)"),
    ] = None


@dataclass(frozen=True)
class BoxFlags:
    """How boxes are found in whole images (protocol 2 of Appendix A)."""

    classifier: Annotated[
        list[str] | None,
        Option(metavar="W...", help="With --dense: what says the classes of the boxes, as --weights, or saved scores."),
    ] = None
    merging: Merging = None


@dataclass(frozen=True)
class PassFlags:
    """How the forward passes are made."""

    device: Device = "auto"
    precision: DevicePrecision = "auto"
    compile: Compile = False
    batch_size: PassSize = None
    workers: Workers = None
    decode: Decode = "cpu"


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """`command` for typer: each of its parameters that is annotated with a dataclass is replaced by the fields of that
    dataclass, with their defaults; when it is called, it gets them as one object again. Flags are put in panels."""
    own = inspect.signature(command).parameters.values()
    groups: dict[str, Any] = {one.name: one.annotation for one in own if is_dataclass(one.annotation)}
    parameters = paneled(
        [
            each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for one in own
            for each in (inspect.signature(groups[one.name]).parameters.values() if one.name in groups else [one])
        ]
    )

    @wraps(command)
    def run(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{each.name: given.pop(each.name) for each in fields(kind)})
        command(**given)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def measure_options(views: ViewFlags, passes: PassFlags, **more: Any) -> "MeasureOptions":
    """What the library calls the flags; `more` are fields of MeasureOptions that are flags of single commands."""
    from vggcli.evaluation.options import MeasureOptions

    workers = worker_count(passes.workers, joined().local_world)
    return MeasureOptions(**{**vars(views), **vars(passes), "workers": workers}, **more)


def box_options(boxes: BoxFlags, tune_merging: bool = False) -> "BoxOptions":
    """What the library calls the flags of boxes."""
    from vggcli.localisation.evaluate import BoxOptions

    return BoxOptions(tuple(boxes.classifier or ()), boxes.merging, tune_merging)


def check_table(table: bool, json: bool) -> None:
    """Raises UsageError for both, because a table is never shown with --json."""
    if table and json:
        raise UsageError("--table has no effect with --json, which holds the same figures; leave one out")


def check_reports(boxes: bool, **given: object) -> None:
    """Raises UsageError for the first flag that was `given` though weights that give `boxes`, or classes, have no such
    report."""
    theirs, mine = ("classes", "boxes") if boxes else ("boxes", "classes")
    for name in [name for name, value in given.items() if value]:
        raise UsageError(f"this is a report of {theirs}, but the weights give {mine}; leave it out", name)


def check_output(path: Path, name: str, *suffixes: str) -> None:
    """Raises UsageError where `path`, given by the parameter `name`, has another suffix; else as `writable_output`."""
    if path.suffix not in suffixes:
        raise UsageError(f"{path} must be a name that ends in {' or '.join(suffixes)}", name)
    writable_output(path, name)


def stderr_console() -> "Console":
    """Where progress and notes go."""
    from rich.console import Console

    return Console(stderr=True)


def stdout_console() -> "Console":
    """Where results go; 120 columns wide where it is no terminal."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=120)


def note(text: str) -> None:
    """One line on stderr that also --quiet shows: what was picked or left out, or is odd."""
    LOG.info(text)


def written(path: Path | str) -> None:
    """One line on stderr that --quiet leaves out."""
    LOG.debug(f"written: {path}")


def progress(quiet: bool) -> Progress:
    """Bars on stderr, or nothing; then notes that are progress, of the level DEBUG, are not shown either. Of several
    processes the first one shows them."""
    from vggcli.report.progress import Bar

    quiet = quiet or is_silent()
    LOG.setLevel(logging.INFO if quiet else logging.DEBUG)

    return silent if quiet else lambda title, total, unit: Bar(stderr_console(), title, total, unit, quiet)


@contextmanager
def after_the_figures(show: Callable[[], None]) -> Iterator[None]:
    """The block writes files; `show` then prints the figures that they hold. Where the disk refuses a file, the figures are
    printed before the error goes on, so that hours of work are not lost with it."""
    try:
        yield
    except (MachineError, OSError):
        show()
        raise
    show()
