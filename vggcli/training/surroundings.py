"""What a run uses and does not depend on for its result: the user's folders, and the functions that show its progress, draw
its pictures and may stop it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vggcli.data.survey import Survey
from vggcli.places import Places
from vggcli.progress import Progress, silent
from vggcli.ranks import ALONE, Ranks
from vggcli.training.state import EpochRecord, StepRecord
from vggcli.zoo.layers import NetworkConfig


@dataclass(frozen=True)
class Watch:
    """`record` is called with the record of every micro-batch and every epoch, `phase` with what the run is busy with in
    between ("validation", "saving"); once `stop` returns True the run saves and raises Stopped."""

    record: Callable[[StepRecord | EpochRecord], None] = lambda record: None
    stop: Callable[[], bool] = lambda: False
    phase: Callable[[str], None] = lambda what: None


@dataclass(frozen=True)
class PicturedRun:
    """What the title of a run's picture says: its folder, its network, and its data by name."""

    path: Path
    config: NetworkConfig
    data: str


@dataclass(frozen=True)
class Pictures:
    """What draws a run's pictures as PNG files: `curves` from its log.jsonl, `views` a sheet of training views, each uint8
    [H, W, 3] with the names of its class and its file."""

    curves: Callable[[Path, Path, PicturedRun], None]
    views: Callable[[Sequence[NDArray[np.uint8]], Sequence[tuple[str, str]], Path, PicturedRun], None]


@dataclass(frozen=True)
class Surroundings:
    """`places` are the user's folders; `surveyed` is called with a survey of the data before a run begins; `watching` is
    called with the number of classes and the lowest top-1 error (per cent) of earlier epochs, and gives the context in
    which the network trains. Without `pictures` none are drawn. Among several `ranks` the first prepares a run."""

    places: Places
    progress: Progress = silent
    surveyed: Callable[[Survey], None] = lambda found: None
    watching: Callable[[int, float], AbstractContextManager[Watch]] = lambda classes, best: nullcontext(Watch())
    pictures: Pictures | None = None
    ranks: Ranks = ALONE
