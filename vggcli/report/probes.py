"""The tables of a probe: what linear SVMs on stored descriptors reached, and how that was measured."""

from collections.abc import Iterator, Sequence

from rich.table import Table

from vggcli.errors import counted
from vggcli.probe.descriptors import SETTINGS
from vggcli.probe.measure import Probed
from vggcli.probe.svm import ERRORS, MEASURES
from vggcli.report.cells import from_here
from vggcli.report.tables import facts_table


def probe_tables(probed: Probed, per_class: bool) -> Iterator[Table]:
    """What was measured and how; by class where asked; the paper's figures where it has some for these data."""
    result, measure = probed.result, MEASURES[probed.plan.protocol]
    yield facts_table("Linear SVM, one class against the rest", _facts(probed, measure))
    if per_class:
        by_class = zip(result.classes, result.per_class, strict=True)
        rows = {name: "no test image" if value is None else f"{value:.1f}" for name, value in by_class}
        unit = "average precision" if probed.plan.protocol == "voc" else "recall"
        yield facts_table(f"By class: {unit} %", rows)
    if probed.published:
        where = ", on its test images" if probed.data == "voc2012" else ""
        theirs = {row.method: getattr(row, probed.data) for row in probed.published}
        shown = {
            name: f"{one[0]:.1f} ± {one[1]:.1f}" if isinstance(one, tuple) else f"{one:.1f}"
            for name, one in theirs.items()
        }
        yield facts_table(f"The paper's Table 11: {measure} %{where}", shown)


def _facts(probed: Probed, measure: str) -> dict[str, str]:
    result, plan, first = probed.result, probed.plan, probed.result.splits[0]
    each = ", ".join(f"{one.measured.figure:.1f}" for one in result.splits)
    deviation = "" if result.deviation is None else f" ± {result.deviation:.1f} over the splits ({each})"
    skipped = f", {probed.labelled.skipped} without a descriptor" if probed.labelled.skipped else ""
    classes = counted(len(result.classes), "class", "classes")
    stores = []
    for store in probed.stores:
        said = ", ".join(f"{key} {store.about[key]}" for key in SETTINGS[1:] if key in store.about)
        stores.append(f"{store.path}: {counted(store.dimension, 'number')}{f' ({said})' if said else ''}")
    error = {ERRORS[plan.protocol]: f"{100 - result.figure:.2f} %"} if plan.protocol in ERRORS else {}
    return {
        **error,
        measure: f"{result.figure:.2f} %{deviation}",
        "protocol": f"{plan.protocol}: {_how(probed)}",
        "images": f"{first.train_images} to train, {first.test_images} to test{skipped}; {classes}",
        "data": from_here(probed.data),
        "descriptors": "\n".join(stores),
        "dimension": f"{result.dimension}, {'each L2-normalised' if plan.norm == 'l2' else 'as stored'}",
        "C": "\n".join(_choice(one.cost, one.held_out, plan.costs) for one in result.splits),
        "time": f"{probed.seconds:.1f} s",
    }


def _how(probed: Probed) -> str:
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
