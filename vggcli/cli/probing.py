"""What `vgg probe` does behind its flags: stores and labels become a plan's parts, parts a figure, a figure a table."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vggcli import paper
from vggcli.choices import ProbeProtocol
from vggcli.cli import options
from vggcli.errors import UsageError, counted
from vggcli.probe.descriptors import SETTINGS, Store, read_store, stacked, with_parts_joined
from vggcli.probe.plan import Labelled, drawn_images, split_images
from vggcli.probe.svm import COSTS, MEASURES, ProbeOptions, ProbeResult, machines_in, probe, require_scikit_learn
from vggcli.probe.targets import Drawing
from vggcli.report.progress import Bar
from vggcli.report.tables import facts_table

LARGEST_COST = 1e9
# What differs from the defaults where a set is given by name
OFFICIAL_SPLITS = {"voc2007": ("trainval", "test")}
DRAWINGS = {"caltech256": Drawing(paper.CALTECH256_TRAIN, None)}
ELEVEN_POINTS = ("voc2007",)


@dataclass(frozen=True)
class Plan:
    """What the flags ask for; None where the data's name or the default decides."""

    protocol: ProbeProtocol
    split: str | None
    train_split: str | None
    drawing: dict[str, int]
    eleven_points: bool | None
    costs: tuple[float, ...]
    normalise: bool
    skip_missing: bool
    seed: int

    @classmethod
    def of(
        cls,
        protocol: ProbeProtocol,
        split: str | None,
        train_split: str | None,
        train_per_class: int | None,
        test_per_class: int | None,
        splits: int | None,
        ap: str | None,
        costs: Sequence[float] | None,
        normalise: bool,
        skip_missing: bool,
        seed: int | None,
    ) -> "Plan":
        """Raises UsageError for flags without effect and for values of C that are none."""
        counts = {"train_per_class": train_per_class, "test_per_class": test_per_class, "splits": splits}
        drawing = {name: value for name, value in counts.items() if value is not None}
        if drawing and protocol != "caltech":
            flag = next(iter(drawing)).replace("_", "-")
            raise UsageError(f"--{flag} has no effect with --protocol {protocol}; it belongs to --protocol caltech")
        if protocol == "caltech" and (split or train_split):
            flag = "--split" if split else "--train-split"
            raise UsageError(f"{flag} has no effect with --protocol caltech, which draws splits of its own")
        if ap is not None and protocol != "voc":
            raise UsageError(f"--ap has no effect with --protocol {protocol}; it belongs to --protocol voc")
        grid = tuple(sorted(set(costs or COSTS)))
        if not all(0 < cost <= LARGEST_COST for cost in grid):
            raise UsageError(
                f"--costs {' '.join(f'{cost:g}' for cost in grid)}: C must be above 0 and at most {LARGEST_COST:g}"
            )
        if seed is not None and len(grid) == 1 and protocol != "caltech":
            raise UsageError(f"--seed has no effect with a single --costs and --protocol {protocol}: nothing is random")
        if split is not None and split == train_split:
            raise UsageError(
                f"--split and --train-split are both {split}: a figure on what was trained on says nothing"
            )
        eleven = None if ap is None else ap == "11"
        return cls(protocol, split, train_split, drawing, eleven, grid, normalise, skip_missing, seed or 0)


@dataclass(frozen=True)
class Probed:
    """A probe's result with what it was made from: the settled plan, the data's name, its images. `drawing` is that of the
    caltech protocol."""

    result: ProbeResult
    plan: Plan
    data: str
    labelled: Labelled
    drawing: Drawing | None
    stores: Sequence[Store]
    seconds: float

    @property
    def published(self) -> list[paper.TransferResult]:
        """The rows of Table 11 that this figure may be held against: none unless data and protocol are the paper's."""
        protocols = {
            "voc2007": ("voc", True, "trainval", "test", None),
            "voc2012": ("voc", False, "train", "val", None),
            "caltech101": ("caltech", False, None, None, Drawing()),
            "caltech256": ("caltech", False, None, None, DRAWINGS["caltech256"]),
        }
        plan = self.plan
        here = (plan.protocol, bool(plan.eleven_points), plan.train_split, plan.split, self.drawing)
        if self.labelled.skipped or protocols.get(self.data) != here:
            return []
        return [row for row in paper.TABLE11 if getattr(row, self.data) is not None]

    def to_json(self, per_class: bool) -> dict[str, Any]:
        """The object of `--json`; figures in per cent, those of the classes where they were asked for."""
        result, plan = self.result, self.plan
        chosen = vars(self.drawing) if self.drawing else {"split": plan.split, "train_split": plan.train_split}
        return {
            "protocol": plan.protocol,
            "measure": MEASURES[plan.protocol],
            "figure": result.figure,
            "deviation": result.deviation,
            "data": self.data,
            **chosen,
            **({"ap": "11" if plan.eleven_points else "all"} if plan.protocol == "voc" else {}),
            "images": len(self.labelled.images),
            "skipped": self.labelled.skipped,
            "classes": len(result.classes),
            "descriptors": [
                {"path": one.path, "dimension": one.dimension, **{key: one.about.get(key) for key in SETTINGS}}
                for one in self.stores
            ],
            "dimension": result.dimension,
            "norm": "l2" if plan.normalise else "none",
            "costs": list(plan.costs),
            "seed": plan.seed,
            "results": [
                {
                    "figure": one.measured.figure,
                    "train_images": one.train_images,
                    "test_images": one.test_images,
                    "cost": one.cost,
                    "held_out": list(one.held_out),
                    "unfinished": one.unfinished,
                }
                for one in result.splits
            ],
            **({"per_class": dict(zip(result.classes, result.per_class, strict=True))} if per_class else {}),
            "published": [{"method": row.method, "figure": getattr(row, self.data)} for row in self.published],
            "seconds": self.seconds,
        }


def probe_and_report(
    paths: Sequence[Path], data: str | None, plan: Plan, workers: int, per_class: bool, as_json: bool, quiet: bool
) -> None:
    """Read, match, probe, and show the figure on stdout."""
    started = time.perf_counter()
    require_scikit_learn()
    twice = [path for path in paths if list(paths).count(path) > 1]
    if twice:
        raise UsageError(f"{twice[0]} is named twice; once is enough")
    stores = with_parts_joined([read_store(path.expanduser()) for path in paths])
    source = options.data_source(data, workers, quiet)
    plan = _with_defaults(plan, source.name)
    if plan.protocol == "caltech":
        drawing = replace(DRAWINGS.get(source.name, Drawing()), **plan.drawing)
        labelled = drawn_images(source.path, stores, drawing, plan.seed, plan.skip_missing)
    else:
        drawing, by_objects = None, plan.protocol == "voc"
        train, test = plan.train_split or "train", plan.split or "val"
        labelled = split_images(source.path, train, test, stores, by_objects, plan.skip_missing)
    _say_left_out(labelled, stores)
    images = labelled.images
    opts = ProbeOptions(plan.protocol, plan.costs, bool(plan.eleven_points), plan.seed, workers)
    features_ND = stacked(stores, labelled.rows, plan.normalise)
    labels_N = np.array(images.labels, np.int64)
    machines = machines_in(len(labelled.parts), len(images.classes), opts)
    with Bar(options.stderr_console(), "fitting", machines, "machines", quiet) as bar:
        result = probe(features_ND, labelled.targets_NK, labels_N, images.classes, labelled.parts, opts, bar)
    probed = Probed(result, plan, source.name, labelled, drawing, stores, time.perf_counter() - started)
    _warn(result)
    if as_json:
        print(json.dumps(probed.to_json(per_class)))
    else:
        show(probed, per_class)


def _with_defaults(plan: Plan, name: str) -> Plan:
    """The plan with what the data's name decides where the flags do not, said."""
    if plan.protocol == "caltech":
        return plan
    official = OFFICIAL_SPLITS.get(name) if plan.protocol == "voc" else None
    train, test = official or ("train", "val")
    if official and plan.split is None and plan.train_split is None:
        options.note(f"{name}: trained on {train}, measured on {test}; --train-split and --split for others")
    plan = replace(plan, train_split=plan.train_split or train, split=plan.split or test)
    if plan.protocol != "voc" or plan.eleven_points is not None:
        return plan
    points = "at 11 recalls" if name in ELEVEN_POINTS else "over all recalls"
    options.note(f"average precision: {points} ({name}; --ap for the other)")
    return replace(plan, eleven_points=name in ELEVEN_POINTS)


def _say_left_out(labelled: Labelled, stores: Sequence[Store]) -> None:
    options.note_remarks(labelled.images)
    if labelled.skipped:
        options.note(f"left out: {counted(labelled.skipped, 'image')} without a descriptor")
    for store, unused in zip(stores, labelled.unused, strict=True):
        if unused:
            options.note(
                f"{store.path}: {counted(unused, 'descriptor')} of images that are not among those probed left out"
            )


def _warn(result: ProbeResult) -> None:
    unfinished = sum(one.unfinished for one in result.splits)
    if unfinished:
        options.note(f"{counted(unfinished, 'machine')} did not converge; a smaller C is safer")
    if any(_at_an_end(one.held_out) for one in result.splits):
        options.note("the best C lies at an end of the range; give a wider one with --costs")


def _at_an_end(figures: Sequence[float]) -> bool:
    """Whether the first or the last is the best, and better than the one beside it."""
    if len(figures) < 2:
        return False
    return max(figures) == figures[0] > figures[1] or max(figures) == figures[-1] > figures[-2]


def show(probed: Probed, per_class: bool) -> None:
    """Tables on stdout."""
    result, measure = probed.result, MEASURES[probed.plan.protocol]
    console = options.stdout_console()
    console.print(facts_table("Linear SVM, one class against the rest", _facts(probed)))
    if per_class:
        by_class = zip(result.classes, result.per_class, strict=True)
        rows = {name: "no test image" if value is None else f"{value:.1f}" for name, value in by_class}
        unit = "average precision" if probed.plan.protocol == "voc" else "recall"
        console.print(facts_table(f"By class: {unit} %", rows))
    if probed.published:
        where = ", on its test images" if probed.data == "voc2012" else ""
        theirs = {row.method: _published(getattr(row, probed.data)) for row in probed.published}
        console.print(facts_table(f"The paper's Table 11: {measure} %{where}", theirs))


def _facts(probed: Probed) -> dict[str, str]:
    result, plan, first = probed.result, probed.plan, probed.result.splits[0]
    each = ", ".join(f"{one.measured.figure:.1f}" for one in result.splits)
    deviation = "" if result.deviation is None else f" ± {result.deviation:.1f} over the splits ({each})"
    skipped = f", {probed.labelled.skipped} without a descriptor" if probed.labelled.skipped else ""
    return {
        MEASURES[plan.protocol]: f"{result.figure:.2f} %{deviation}",
        "protocol": f"{plan.protocol}: {_how(probed)}",
        "images": f"{first.train_images} to train, {first.test_images} to test{skipped}; {len(result.classes)} classes",
        "data": probed.data,
        "descriptors": "\n".join(_described_as(store) for store in probed.stores),
        "dimension": f"{result.dimension}, {'each L2-normalised' if plan.normalise else 'as stored'}",
        "C": "\n".join(_choice(one.cost, one.held_out, plan.costs) for one in result.splits),
        "time": f"{probed.seconds:.1f} s",
    }


def _how(probed: Probed) -> str:
    plan, drawing = probed.plan, probed.drawing
    if drawing is not None:
        tested = "the rest" if drawing.test_per_class is None else f"at most {drawing.test_per_class}"
        count = f"{drawing.splits} random splits" if drawing.splits > 1 else "a random split"
        return (
            f"{count}, {counted(drawing.train_per_class, 'image')} a class to train, {tested} to test, seed {plan.seed}"
        )
    points = "at 11 recalls" if plan.eleven_points else "over all recalls"
    return (
        f"trained on {plan.train_split}, measured on {plan.split}{f', AP {points}' if plan.protocol == 'voc' else ''}"
    )


def _described_as(store: Store) -> str:
    known = ", ".join(f"{key} {store.about[key]}" for key in SETTINGS[1:] if key in store.about)
    return f"{store.path}: {counted(store.dimension, 'number')}{f' ({known})' if known else ''}"


def _choice(cost: float, held_out: Sequence[float], grid: Sequence[float]) -> str:
    if not held_out:
        return f"{cost:g}"
    tried = ", ".join(f"{one:g}: {figure:.1f}" for one, figure in zip(grid, held_out, strict=True))
    return f"{cost:g}, by a fifth of the training images held out ({tried})"


def _published(value: float | tuple[float, float]) -> str:
    return f"{value[0]:.1f} ± {value[1]:.1f}" if isinstance(value, tuple) else f"{value:.1f}"
