"""`vgg probe`: linear SVMs on stored descriptors, by the protocols of Appendix B."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vggcli import choices
from vggcli.cli import options
from vggcli.defaults import user_places, worker_count
from vggcli.errors import counted

if TYPE_CHECKING:
    from vggcli.probe.measure import Probed


_Stores = Annotated[
    list[Path],
    typer.Argument(metavar="STORE...", help="Files of `vgg features`: parts of one are joined, others stacked."),
]
_Protocol = Annotated[
    choices.ProbeProtocol, typer.Option(help="accuracy; caltech: mean class recall over random splits; voc: mean AP.")
]
_Split = Annotated[
    str | None, typer.Option(metavar="NAME", help="Split to measure on. (default: val; voc on voc2007: test)")
]
_TrainSplit = Annotated[
    str | None, typer.Option(metavar="NAME", help="Split to train on. (default: train; voc on voc2007: trainval)")
]
_TrainPerClass = Annotated[int | None, typer.Option(min=1, help="With caltech. (default: 30; caltech256: 60)")]
_TestPerClass = Annotated[
    int | None, typer.Option(min=1, help="With caltech, at most. (default: 50; caltech256: the rest)")
]
_Splits = Annotated[int | None, typer.Option(min=1, max=1000, help="Random splits, with caltech. (default: 3)")]
_Points = Annotated[
    Literal["11", "all"] | None, typer.Option(help="Points of average precision, with voc. (default: all; voc2007: 11)")
]
_Costs = Annotated[
    list[float] | None, typer.Option(metavar="C...", help="Values to choose C from. (default: 0.01 0.1 1 10 100)")
]
_Norm = Annotated[Literal["l2", "none"], typer.Option(help="Divide each store's rows by this norm, before stacking.")]
_SkipMissing = Annotated[
    bool, typer.Option("--skip-missing", help="Leave images without a descriptor out, and say how many.")
]
_PerClass = Annotated[bool, typer.Option("--per-class", help="Show the figure of every class too.")]
_Seed = Annotated[
    int | None, typer.Option(min=0, max=2**63 - 1, help="Seed of random splits and held-out images. (default: 0)")
]
_Parallel = Annotated[
    int | None,
    typer.Option("--workers", "-j", min=1, max=options.MOST_WORKERS, help="SVMs trained in parallel. (default: cores)"),
]


def probe(
    stores: _Stores,
    data: options.Data = None,
    protocol: _Protocol = "accuracy",
    split: _Split = None,
    train_split: _TrainSplit = None,
    train_per_class: _TrainPerClass = None,
    test_per_class: _TestPerClass = None,
    splits: _Splits = None,
    ap: _Points = None,
    costs: _Costs = None,
    norm: _Norm = "l2",
    skip_missing: _SkipMissing = False,
    per_class: _PerClass = False,
    seed: _Seed = None,
    workers: _Parallel = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a linear SVM, one class against the rest, on descriptors that `vgg features` has stored, and measure it. Labels
    come from --data, matched by the names of the images; C is chosen on a fifth of the training images, held out."""
    given = dict(locals())
    from json import dumps

    from vggcli.probe import measure
    from vggcli.probe.plan import COSTS

    for name in ("stores", "data", "json", "quiet", "per_class"):
        del given[name]
    given |= {"workers": worker_count(workers), "costs": costs or COSTS}
    found = measure.probe(user_places(), stores, data, **given, progress=options.progress(quiet))
    if json:
        print(dumps(found.to_json(per_class)))
    else:
        _show(found, per_class)


def _show(probed: "Probed", per_class: bool) -> None:
    """Tables on stdout."""
    from vggcli.probe.svm import MEASURES
    from vggcli.report.tables import facts_table

    result, measure = probed.result, MEASURES[probed.plan.protocol]
    console = options.stdout_console()
    console.print(facts_table("Linear SVM, one class against the rest", _facts(probed, measure)))
    if per_class:
        by_class = zip(result.classes, result.per_class, strict=True)
        rows = {name: "no test image" if value is None else f"{value:.1f}" for name, value in by_class}
        unit = "average precision" if probed.plan.protocol == "voc" else "recall"
        console.print(facts_table(f"By class: {unit} %", rows))
    if probed.published:
        where = ", on its test images" if probed.data == "voc2012" else ""
        theirs = {row.method: getattr(row, probed.data) for row in probed.published}
        shown = {
            name: f"{one[0]:.1f} ± {one[1]:.1f}" if isinstance(one, tuple) else f"{one:.1f}"
            for name, one in theirs.items()
        }
        console.print(facts_table(f"The paper's Table 11: {measure} %{where}", shown))


def _facts(probed: "Probed", measure: str) -> dict[str, str]:
    from vggcli.probe.descriptors import SETTINGS

    result, plan, first = probed.result, probed.plan, probed.result.splits[0]
    each = ", ".join(f"{one.measured.figure:.1f}" for one in result.splits)
    deviation = "" if result.deviation is None else f" ± {result.deviation:.1f} over the splits ({each})"
    skipped = f", {probed.labelled.skipped} without a descriptor" if probed.labelled.skipped else ""
    stores = []
    for store in probed.stores:
        said = ", ".join(f"{key} {store.about[key]}" for key in SETTINGS[1:] if key in store.about)
        stores.append(f"{store.path}: {counted(store.dimension, 'number')}{f' ({said})' if said else ''}")
    return {
        measure: f"{result.figure:.2f} %{deviation}",
        "protocol": f"{plan.protocol}: {_how(probed)}",
        "images": f"{first.train_images} to train, {first.test_images} to test{skipped}; {len(result.classes)} classes",
        "data": probed.data,
        "descriptors": "\n".join(stores),
        "dimension": f"{result.dimension}, {'each L2-normalised' if plan.norm == 'l2' else 'as stored'}",
        "C": "\n".join(_choice(one.cost, one.held_out, plan.costs) for one in result.splits),
        "time": f"{probed.seconds:.1f} s",
    }


def _how(probed: "Probed") -> str:
    plan, drawing = probed.plan, probed.drawing
    if drawing is not None:
        tested = "the rest" if drawing.test_per_class is None else f"at most {drawing.test_per_class}"
        count = f"{drawing.splits} random splits" if drawing.splits > 1 else "a random split"
        trained = f"{counted(drawing.train_per_class, 'image')} a class to train"
        return f"{count}, {trained}, {tested} to test, seed {plan.seed}"
    points = f", AP {'at 11 recalls' if plan.ap == '11' else 'over all recalls'}" if plan.protocol == "voc" else ""
    return f"trained on {plan.train_split}, measured on {plan.split}{points}"


def _choice(cost: float, held_out: Sequence[float], grid: Sequence[float]) -> str:
    tried = ", ".join(f"{one:g}: {figure:.1f}" for one, figure in zip(grid, held_out, strict=False))
    return f"{cost:g}, best on a fifth of the training images held out ({tried})" if tried else f"{cost:g}"
