"""The flags that commands share, declared once, and what they mean: files, folders, devices."""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vggcli import choices, paper
from vggcli.defaults import user_places
from vggcli.errors import MachineError
from vggcli.places import Places
from vggcli.progress import Progress, silent

if TYPE_CHECKING:
    import torch
    from rich.console import Console

    from vggcli.data.find import Source
    from vggcli.data.image_set import ImageSet
    from vggcli.weights.preprocessing import Pixels

LOG = logging.getLogger("vggcli")
MOST_WORKERS = 512  # processes
LARGEST_SCALE = 10_000  # pixels: a square has the 100 megapixels that no rescaled image may exceed


ARCHS = ", ".join(paper.NETWORKS)

Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="SRC",
        help="Folder of class folders or with VOC annotations, CSV, a set's name (cifar10, voc2007, …), or shapes. "
        "(default: $VGG_DATA, else shapes)",
    ),
]
Split = Annotated[str, typer.Option("--split", metavar="NAME", help="Which part of the data.")]
Arch = Annotated[
    str | None, typer.Option("--arch", metavar="NAME", help=f"{ARCHS}; torchvision's names too. (default: D)")
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="W",
        help="Run folder, checkpoint, another framework's file, or a published name: imagenet, features. (default: newest "
        "run of --arch under runs/, else imagenet)",
    ),
]
Preprocessing = Annotated[
    str | None,
    typer.Option(
        "--preprocessing",
        metavar="NAME",
        help="What weights expect whose file does not say it: torchvision, caffe, keras or FILE.json. (default: their "
        "framework's)",
    ),
]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps.")]
Precision = Annotated[
    choices.Precision, typer.Option("--precision", help="Of the heavy arithmetic; auto: bf16 on CUDA.")
]
Workers = Annotated[
    int | None, typer.Option("--workers", "-j", min=0, max=MOST_WORKERS, help="Decoding processes. (default: cores)")
]
Dense = Annotated[bool, typer.Option("--dense", help="Whole images, fully convolutionally (section 3.2).")]
MultiCrop = Annotated[
    bool, typer.Option("--multi-crop", help="A regular grid of crops; with --dense, both averaged (section 4.3).")
]
Grid = Annotated[int | None, typer.Option("--grid", help="Crops along each side with --multi-crop. (default: 5)")]
MultiScale = Annotated[
    bool, typer.Option("--multi-scale", help="The paper's three scales: S-32, S, S+32, or Smin, middle, Smax.")
]
Scales = Annotated[
    list[int] | None,
    typer.Option(
        "--scales",
        min=1,
        max=LARGEST_SCALE,
        metavar="Q...",
        help="Shorter sides; several are averaged. (default: the training S, or its middle)",
    ),
]
Flip = Annotated[
    bool | None,
    typer.Option("--flip/--no-flip", help="Average with the mirror image. (default: with --dense and --multi-crop)"),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave unreadable images out, and say how many.")]
SaveScores = Annotated[
    Path | None, typer.Option("--save-scores", metavar="FILE.safetensors", help="Write the posteriors.")
]
ViewBatch = Annotated[
    int | None,
    typer.Option("--batch-size", "-b", min=1, help="Views a forward pass, as far as they take 4 GiB. (default: auto)"),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


def stderr_console() -> "Console":
    """Where progress and notes go."""
    from rich.console import Console

    return Console(stderr=True)


def stdout_console() -> "Console":
    """Where results go; as wide as they need where nobody is looking."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=120)


def note(text: str) -> None:
    """One line on stderr about what is done and why."""
    LOG.info(text)


def note_remarks(*splits: "ImageSet") -> None:
    """Say what of a source was left out, each thing once."""
    for remark in dict.fromkeys(remark for images in splits for remark in images.remarks):
        note(f"data: {remark}")


def places() -> Places:
    """The user's folders."""
    return user_places()


def progress(quiet: bool) -> Progress:
    """Bars on stderr, or nothing."""
    from vggcli.report.progress import Bar

    return silent if quiet else lambda title, total, unit: Bar(stderr_console(), title, total, unit, quiet)


def data_source(data: str | None, workers: int, quiet: bool) -> "Source":
    """The source that `--data` names; says what was picked where it is unset."""
    from vggcli.data.find import find_source

    usual, origin = usual_data()
    if data is None:
        note(f"data: {usual} ({origin})")
    return find_source(data or usual, places(), workers, progress(quiet))


def usual_data() -> tuple[str, str]:
    """What is taken where --data does not say it, and why that."""
    named = os.environ.get("VGG_DATA")
    return (named, "from $VGG_DATA") if named else ("shapes", "the embedded set; --data for your own")


def compute_device(name: str) -> "torch.device":
    """The device that `--device` names, with this process made ready for it."""
    from vggcli.device import keep_freed_memory, pick_device

    device = pick_device(name)
    if device.type == "cpu":
        keep_freed_memory()
    return device


def pixels_of(preprocessing: str | None) -> "Pixels | None":
    """What `--preprocessing` means. Raises UsageError where it means nothing."""
    from vggcli.weights.preprocessing import read_pixels

    return None if preprocessing is None else read_pixels(preprocessing)


@contextmanager
def after_the_figures(show: Callable[[], None]) -> Iterator[None]:
    """Write files in the block; `show` the figures that they are made from, also where a disk refuses the files: hours of
    work are not lost with them. The error goes on then."""
    try:
        yield
    except (MachineError, OSError):
        show()
        raise
    show()
