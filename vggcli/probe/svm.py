"""Linear SVMs on descriptors, one class against the rest, by the protocols of Appendix B.

N images, D numbers in a descriptor, K classes, targets as targets.py makes them. C is chosen on a held-out fifth of the
training images, and the SVMs are then trained on all of them.
"""

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vggcli.choices import ProbeProtocol
from vggcli.errors import DataError, MachineError
from vggcli.metrics import average_precision
from vggcli.probe.plan import ProbePlan
from vggcli.probe.targets import Ints, TrainTest, held_out_rows

MEASURES: dict[ProbeProtocol, str] = {
    "accuracy": "accuracy",
    "caltech": "mean class recall",
    "voc": "mean average precision",
}
ERRORS: dict[ProbeProtocol, str] = {"accuracy": "top-1 error", "caltech": "mean class error"}  # 100 % less the figure
ITERATIONS = 1000  # of the solver; scikit-learn's own

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Figures:
    """A figure in per cent, and that of each class (its recall or average precision), None where it has no test image."""

    figure: float
    per_class: tuple[float | None, ...]


@dataclass(frozen=True)
class SplitResult:
    """One split: its figures, the numbers of images, the C that was chosen, and the held-out figure of each candidate (none
    where only one was given). `unfinished` SVMs did not converge."""

    measured: Figures
    train_images: int
    test_images: int
    cost: float
    held_out: tuple[float, ...]
    unfinished: int

    def to_json(self) -> dict[str, Any]:
        """Its figures, without those of the classes."""
        return {
            "figure": self.measured.figure,
            "train_images": self.train_images,
            "test_images": self.test_images,
            "cost": self.cost,
            "held_out": list(self.held_out),
            "unfinished": self.unfinished,
        }


@dataclass(frozen=True)
class ProbeResult:
    """All splits of a probe; figures in per cent."""

    classes: tuple[str, ...]
    dimension: int
    splits: tuple[SplitResult, ...]

    @property
    def figure(self) -> float:
        return float(np.mean([one.measured.figure for one in self.splits]))

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation over the splits; None for a single one."""
        figures = [one.measured.figure for one in self.splits]
        return float(np.std(figures, ddof=1)) if len(figures) > 1 else None

    @property
    def per_class(self) -> tuple[float | None, ...]:
        """The mean over the splits that test the class."""
        columns = zip(*(one.measured.per_class for one in self.splits), strict=True)
        present = [[value for value in column if value is not None] for column in columns]
        return tuple(float(np.mean(values)) if values else None for values in present)


def probe_splits(
    features_ND: NDArray[np.float32],
    targets_NK: Ints,
    labels_N: Ints,
    classes: tuple[str, ...],
    parts: Sequence[TrainTest],
    plan: ProbePlan,
    workers: int = 1,
    progress: Callable[[int], None] = lambda more: None,
) -> ProbeResult:
    """Train on the first rows of each part and measure on the others. `labels_N` serve only to hold out images of every
    class; `workers` SVMs are trained in parallel. `progress` is told how many more are trained, of `svms_in`.

    Raises DataError where a class cannot be learnt, MachineError without scikit-learn.
    """
    require_scikit_learn()
    results = []
    for train, test in parts:
        _check_learnable(targets_NK[train], classes)
        train_ND, test_ND = _compact(features_ND[train].astype(np.float64), features_ND[test].astype(np.float64))
        cost, held_out = _choose(train_ND, targets_NK[train], labels_N[train], plan, workers, progress)
        scores_NK, unfinished = _scores(train_ND, targets_NK[train], test_ND, cost, workers, progress)
        measured = _measure(scores_NK, targets_NK[test], plan)
        results.append(SplitResult(measured, len(train), len(test), cost, held_out, unfinished))
    return ProbeResult(classes, features_ND.shape[1], tuple(results))


def svms_in(parts: int, classes: int, plan: ProbePlan) -> int:
    """How many SVMs `probe_splits` trains."""
    return parts * classes * (1 + (len(plan.costs) if len(plan.costs) > 1 else 0))


def _check_learnable(targets_NK: Ints, classes: Sequence[str]) -> None:
    if len(classes) < 2:
        raise DataError(f"there is one class only, {classes[0]!r}; a probe needs two or more")
    for name, targets_N in zip(classes, targets_NK.T, strict=True):
        if not (targets_N == 1).any():
            raise DataError(
                f"class {name!r} has no training image (but perhaps difficult ones), so it cannot be learnt"
            )
        if not (targets_N == -1).any():
            raise DataError(
                f"class {name!r} is in every training image, so there are no images without it to learn from"
            )


def _compact(train_ND: Floats, test_ND: Floats) -> tuple[Floats, Floats]:
    """Both in a basis of the span of the training images, where these are fewer than D. The weights of the SVMs lie in that
    span and inner products do not change, so neither do the scores; 30 images of each of 102 classes leave a quarter of
    12,288 numbers."""
    if len(train_ND) >= train_ND.shape[1]:
        return train_ND, test_ND
    basis_DR, upper_RN = np.linalg.qr(train_ND.T)
    return np.ascontiguousarray(upper_RN.T), test_ND @ basis_DR


def _choose(
    train_ND: Floats, targets_NK: Ints, labels_N: Ints, plan: ProbePlan, workers: int, progress: Callable[[int], None]
) -> tuple[float, tuple[float, ...]]:
    """The C with the best figure on the held-out fifth, of equal ones the smallest, and the figure of each."""
    if len(plan.costs) == 1:
        return plan.costs[0], ()
    held_N = held_out_rows(labels_N, plan.seed or 0)
    if not held_N.any():
        raise DataError("every class has one training image, so none can be held out to choose C; give one C", "costs")
    figures = []
    for cost in plan.costs:
        train = train_ND[~held_N], targets_NK[~held_N]
        scores_NK, _ = _scores(*train, train_ND[held_N], cost, workers, progress)
        figures.append(_measure(scores_NK, targets_NK[held_N], plan).figure)
    best = max(range(len(figures)), key=lambda index: (figures[index], -plan.costs[index]))
    return plan.costs[best], tuple(figures)


def best_at_an_end(figures: Sequence[float]) -> bool:
    """Whether the first or the last of the figures by C is the best, and better than the one beside it."""
    if len(figures) < 2:
        return False
    return max(figures) == figures[0] > figures[1] or max(figures) == figures[-1] > figures[-2]


def _scores(
    train_ND: Floats, targets_NK: Ints, test_ND: Floats, cost: float, workers: int, progress: Callable[[int], None]
) -> tuple[Floats, int]:
    """The scores [N, K] of the test images by SVMs trained for each class on the images that count for it, and how many of
    these did not converge. Threads run in parallel, since the solver releases the interpreter's lock."""
    from sklearn.svm import LinearSVC

    def fitted(targets_N: Ints) -> Any:
        counts_N = targets_N != 0
        if len(np.unique(targets_N[counts_N])) < 2:  # none left beside the held-out images: its score is -1 then
            return None
        machine = LinearSVC(C=cost, dual=False, max_iter=ITERATIONS)  # in the primal, which needs no random order
        return machine.fit(train_ND if counts_N.all() else train_ND[counts_N], targets_N[counts_N])

    machines = []
    with warnings.catch_warnings(), ThreadPoolExecutor(max(1, workers)) as pool:
        warnings.filterwarnings("ignore", message="Liblinear failed to converge")  # counted instead
        for machine in pool.map(fitted, targets_NK.T):
            machines.append(machine)
            progress(1)
    nothing = np.zeros(train_ND.shape[1])
    weights_DK = np.stack([nothing if machine is None else machine.coef_[0] for machine in machines], axis=1)
    bias_K = np.array([-1.0 if machine is None else float(machine.intercept_[0]) for machine in machines])
    unfinished = sum(machine is not None and int(machine.n_iter_) >= ITERATIONS for machine in machines)
    scores_NK: Floats = test_ND @ weights_DK + bias_K
    return scores_NK, unfinished


def require_scikit_learn() -> None:
    """Raises MachineError where it is not installed."""
    try:
        import sklearn.svm  # noqa: F401
    except ImportError as error:
        raise MachineError("a probe needs scikit-learn; install it with `pip install 'vggcli[probe]'`") from error


def _measure(scores_NK: Floats, targets_NK: Ints, plan: ProbePlan) -> Figures:
    per_class: list[float | None] = []
    right_N = targets_NK[np.arange(len(targets_NK)), scores_NK.argmax(1)] == 1
    for scores_N, targets_N in zip(scores_NK.T, targets_NK.T, strict=True):
        shown_N, counts_N = targets_N == 1, targets_N != 0
        if plan.protocol == "voc":
            found = average_precision(scores_N[counts_N], shown_N[counts_N], eleven_points=plan.ap == "11")
        else:
            found = float(right_N[shown_N].mean()) if shown_N.any() else None
        per_class.append(None if found is None else 100 * found)
    if plan.protocol == "accuracy":
        return Figures(100 * float(right_N.mean()), tuple(per_class))
    present = [value for value in per_class if value is not None]
    if not present:
        raise DataError("no class has an image to measure on")
    return Figures(float(np.mean(present)), tuple(per_class))
