"""From stored descriptors and labelled images to accuracy, recall or average precision: what `vgg probe` does."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vggcli import paper
from vggcli.choices import ProbeProtocol
from vggcli.data.find import find_source
from vggcli.data.left_out import note_remarks
from vggcli.data.paths import texts_of
from vggcli.errors import UsageError, counted
from vggcli.places import Places
from vggcli.probe.descriptors import SETTINGS, Descriptors, read_descriptors, stacked, with_parts_joined
from vggcli.probe.labelled import Labelled, drawn_images, split_images
from vggcli.probe.plan import COSTS, PUBLISHED_PLANS, ProbePlan
from vggcli.probe.svm import ERRORS, MEASURES, ProbeResult, best_at_an_end, probe_splits, require_scikit_learn, svms_in
from vggcli.probe.targets import Drawing
from vggcli.progress import LOG, Progress, silent
from vggcli.records import Ordinal, check_value
from vggcli.results import Result


@dataclass(frozen=True)
class Probed(Result):
    """A probe's result with the settled plan, the name of the data, its images, and the random splits (`drawing`) of the
    protocol caltech. Figures are in per cent."""

    result: ProbeResult
    plan: ProbePlan
    data: str
    labelled: Labelled = field(repr=False)
    drawing: Drawing | None
    stores: Sequence[Descriptors] = field(repr=False)
    seconds: float

    @property
    def figure(self) -> float:
        return self.result.figure

    @property
    def published(self) -> list[paper.TransferResult]:
        """The rows of Table 11 that this figure may be compared with: none unless data and protocol are the paper's."""
        plan = self.plan
        here = (plan.protocol, plan.ap, plan.train_split, plan.split, self.drawing)
        if self.labelled.skipped or PUBLISHED_PLANS.get(self.data) != here:
            return []
        return [row for row in paper.TABLE11 if getattr(row, self.data) is not None]

    def to_json(self, per_class: bool = False) -> dict[str, Any]:
        """What `vgg probe` prints as JSON: figures in per cent, with `per_class` those of each class."""
        result, plan = self.result, self.plan
        chosen = vars(self.drawing) if self.drawing else {"split": plan.split, "train_split": plan.train_split}
        return {
            "protocol": plan.protocol,
            "measure": MEASURES[plan.protocol],
            "figure": result.figure,
            "error": 100 - result.figure if plan.protocol in ERRORS else None,
            "deviation": result.deviation,
            "data": self.data,
            **chosen,
            **({"ap": plan.ap} if plan.protocol == "voc" else {}),
            "images": len(self.labelled.images),
            "skipped": self.labelled.skipped,
            "classes": len(result.classes),
            "descriptors": [
                {"path": one.path, "dimension": one.dimension, **{key: one.about.get(key) for key in SETTINGS}}
                for one in self.stores
            ],
            "dimension": result.dimension,
            "norm": plan.norm,
            "costs": list(plan.costs),
            "seed": plan.seed,
            "results": [one.to_json() for one in result.splits],
            **({"per_class": dict(zip(result.classes, result.per_class, strict=True))} if per_class else {}),
            "published": [{"method": row.method, "figure": getattr(row, self.data)} for row in self.published],
            "seconds": self.seconds,
        }


def probe(
    places: Places,
    stores: str | Path | Sequence[str | Path],
    data: str | Path | None = None,
    *,
    protocol: ProbeProtocol = "accuracy",
    split: str | None = None,
    train_split: str | None = None,
    train_per_class: int | None = None,
    test_per_class: int | None = None,
    splits: int | None = None,
    ap: Literal["11", "all"] | None = None,
    costs: Sequence[float] = COSTS,
    norm: Literal["l2", "none"] = "l2",
    skip_missing: bool = False,
    seed: int | None = None,
    workers: int = 1,
    progress: Progress = silent,
) -> Probed:
    """Train linear SVMs, one class against the rest, on stored descriptors and measure them, as `vgg probe` does.

    `stores` are files of `vgg features` or folders of shards: those made by the same weights and settings are joined (such
    as those of two splits), others are stacked. `data` names the labelled images (by default the user's own data);
    `workers` SVMs are trained in parallel.

    >>> found = vggcli.probe("photos.npz", "photos/")
    >>> found.to_json()["measure"], found.plan.split, found.figure > 50
    ('accuracy', 'val', True)

    Raises UsageError, DataError or MachineError where stores, data and protocol do not fit, or scikit-learn is missing.
    """
    given = dict(locals())
    plan = ProbePlan(**{one.name: given[one.name] for one in fields(ProbePlan)})
    paths = [Path(path) for path in texts_of(stores)]
    check_value("workers", workers, Ordinal)
    if not paths:
        raise UsageError("there is no store of descriptors to probe; give one or more")
    plan.check()
    return _probed(paths, None if data is None else str(data), plan, workers, places, progress)


def _probed(
    paths: Sequence[Path], data: str | None, plan: ProbePlan, workers: int, places: Places, progress: Progress
) -> Probed:
    """As `probe`; the data are looked for, and perhaps fetched, only once the stores are read."""
    started = time.perf_counter()
    require_scikit_learn()
    twice = [path for path in paths if list(paths).count(path) > 1]
    if twice:
        raise UsageError(f"{twice[0]} is given twice; give it once")
    stores = with_parts_joined([read_descriptors(path.expanduser()) for path in paths])
    source = find_source(data, places, workers, progress)
    plan, drawing = plan.settled(source.name), plan.drawing(source.name)
    seed, skip = plan.seed or 0, plan.skip_missing
    if drawing is not None:
        labelled = drawn_images(source.path, stores, drawing, seed, skip)
    else:
        assert plan.train_split and plan.split, "a settled plan names both"
        by_objects = plan.protocol == "voc"
        labelled = split_images(source.path, plan.train_split, plan.split, stores, by_objects, skip)
    _note_left_out(labelled, stores)
    images = labelled.images
    features_ND = stacked(stores, labelled.rows, plan.norm == "l2")
    labels_N = np.array(images.labels, np.int64)
    with progress("training", svms_in(len(labelled.parts), len(images.classes), plan), "SVMs") as tell:
        given = features_ND, labelled.targets_NK, labels_N, images.classes, labelled.parts
        result = probe_splits(*given, plan, workers, tell)
    unfinished = sum(one.unfinished for one in result.splits)
    if unfinished:
        LOG.info(f"{counted(unfinished, 'SVM')} did not converge; try a smaller C")
    if any(best_at_an_end(one.held_out) for one in result.splits):
        LOG.info("the best C is at an end of the range; try a wider one")
    return Probed(result, plan, source.name, labelled, drawing, stores, time.perf_counter() - started)


def _note_left_out(labelled: Labelled, stores: Sequence[Descriptors]) -> None:
    note_remarks(labelled.images)
    if labelled.skipped:
        LOG.info(f"left out: {counted(labelled.skipped, 'image')} without a descriptor")
    for store, unused in zip(stores, labelled.unused, strict=True):
        if unused:
            LOG.info(f"{store.path}: left out {counted(unused, 'descriptor')} of images that are not in the data")
