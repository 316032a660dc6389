"""What a run meets outside itself, none of which changes its result: the user's folders, and whoever is told of its
progress, draws its pictures and may stop it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vggcli.data.survey import Survey
from vggcli.places import Places
from vggcli.progress import Progress, silent
from vggcli.training.state import EpochRecord, StepRecord


@dataclass(frozen=True)
class Watch:
    """Whoever looks on: `record` is told of every micro-batch and every epoch, `phase` of what the run is busy with in
    between ("validation", "saving"); once `stop` is true the run saves what it has and raises Stopped."""

    record: Callable[[StepRecord | EpochRecord], None] = lambda record: None
    stop: Callable[[], bool] = lambda: False
    phase: Callable[[str], None] = lambda what: None


@contextmanager
def nobody(classes: int, best: float) -> Iterator[Watch]:
    """Where no one looks on."""
    yield Watch()


@dataclass(frozen=True)
class Pictures:
    """What draws a run's pictures as PNG files: `curves` from its log.jsonl, `views` a sheet of training views, each uint8
    [H, W, 3] with its caption."""

    curves: Callable[[Path, Path], None]
    views: Callable[[Sequence[NDArray[np.uint8]], Sequence[str], Path], None]


@dataclass(frozen=True)
class Surroundings:
    """`places` are the user's folders; `surveyed` is told what the data hold before a run begins; `watching` is entered
    while the network learns, with the number of classes and the lowest top-1 error (per cent) of the epochs before.
    Without `pictures` none are drawn."""

    places: Places
    progress: Progress = silent
    surveyed: Callable[[Survey], None] = lambda found: None
    watching: Callable[[int, float], AbstractContextManager[Watch]] = nobody
    pictures: Pictures | None = None
