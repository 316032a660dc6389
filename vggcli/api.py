"""The functions that `vggcli` offers to Python: those of the library, with the user's own folders filled in.

`import vggcli` does not import this file; the first use of one of its names does.
"""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, cast, overload

from vggcli.defaults import convolution, user_places
from vggcli.evaluation import load as loading
from vggcli.evaluation.options import MeasureOptions
from vggcli.features import describe as describing
from vggcli.features import search as searching
from vggcli.features.bulk_options import BulkOptions
from vggcli.localisation import evaluate as measuring
from vggcli.localisation import predict as predicting
from vggcli.localisation.evaluate import BoxOptions
from vggcli.probe import measure as probing
from vggcli.probe.plan import ProbePlan
from vggcli.progress import Progress, silent
from vggcli.report.plots import save_curves, save_views
from vggcli.signatures import described, plain_signature
from vggcli.training import start as training
from vggcli.training.options import FinetuneOptions, TrainOptions
from vggcli.training.surroundings import Pictures, Surroundings
from vggcli.weights import convert as converting
from vggcli.zoo.compiled import choose

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from vggcli.evaluation.options import Asked
    from vggcli.evaluation.predict import Predictions
    from vggcli.localisation.predict import BoxPredictions, Names

choose(convolution())
_P = ParamSpec("_P")
_R = TypeVar("_R")
_T = TypeVar("_T")


def _bound(function: Callable[Concatenate[_T, _P], _R], first: Callable[[], _T], *kinds: type) -> Callable[_P, _R]:
    """`function` without its first argument, for which `first()` is passed at every call. Its docstring gets a line for
    each keyword that is a field of `kinds`."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def bound(*given: _P.args, **named: _P.kwargs) -> _R:
        return function(first(), *given, **named)

    own = signature.replace(parameters=[*signature.parameters.values()][1:])
    bound.__signature__ = plain_signature(own)  # type: ignore[attr-defined]
    bound.__doc__ = described(function, *kinds)
    return bound


class _Predict(Protocol):
    """`predict`, whose result depends on whether `boxes` are given."""

    @overload
    def __call__(
        self,
        paths: "Names",
        weights: str | Path | None = None,
        *,
        top: int = 5,
        arch: str | None = None,
        progress: Progress = silent,
        **asked: "Unpack[Asked]",
    ) -> "Predictions": ...

    @overload
    def __call__(
        self,
        paths: "Names",
        *,
        boxes: "Names",
        classifier: "Names",
        merging: float | None = None,
        top: int = 5,
        progress: Progress = silent,
        **asked: "Unpack[Asked]",
    ) -> "BoxPredictions": ...


def _surroundings() -> Surroundings:
    return Surroundings(user_places(), pictures=Pictures(save_curves, save_views))


train = _bound(training.train, _surroundings, TrainOptions)
finetune = _bound(training.finetune, _surroundings, FinetuneOptions)
evaluate = _bound(measuring.evaluate, user_places, MeasureOptions, BoxOptions)
ensemble = _bound(measuring.ensemble, user_places, MeasureOptions, BoxOptions)
predict = cast("_Predict", _bound(predicting.predict, user_places, MeasureOptions, BoxOptions))
load = _bound(loading.load, user_places)
features = _bound(describing.features, user_places, BulkOptions)
search = searching.search
probe = _bound(probing.probe, user_places, ProbePlan)
convert = _bound(converting.convert, user_places)

if TYPE_CHECKING:
    from vggcli.features.describe import Features as Features  # noqa: PLC0414 (given on)
else:

    class Features(describing.Features):
        __doc__ = describing.Features.__doc__

        @functools.wraps(describing.Features.__init__)
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **{"places": user_places(), **named})
