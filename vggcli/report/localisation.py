"""Tables of localisation: figures and how they were measured, by class, and of several networks; and the figures of any
evaluation, of classes or of boxes."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from vggcli.errors import counted
from vggcli.evaluation.ensemble import Fusion
from vggcli.evaluation.measure import Measured
from vggcli.evaluation.result import class_reports
from vggcli.localisation.error import localisation_by_class
from vggcli.localisation.result import BoxEvaluation, BoxFusion, MeasuredBoxes
from vggcli.metrics import shows_top5
from vggcli.report.cells import Elided, Titled, fold, from_here, lowest_green, right
from vggcli.report.evaluations import computed_text, evaluation_table, members_table, protocol_text
from vggcli.report.tables import classes_table, facts_table

_BOX_KINDS = {"scr": "one box for all classes (SCR)", "pcr": "a box for each class (PCR)"}


def figures_table(measured: Measured | MeasuredBoxes, written: Mapping[str, str]) -> Table:
    """The figures, how they were measured, and what was `written` where."""
    return evaluation_table(measured, written) if isinstance(measured, Measured) else box_table(measured, written)


def by_class(measured: Measured | MeasuredBoxes) -> list[dict[str, Any]]:
    """The figures of each class that has an image."""
    if isinstance(measured, Measured):
        return [vars(one) for one in class_reports(measured.scores)]
    found = localisation_by_class(measured.outcomes)
    parts = ["classification_part", "box_part"] if measured.evaluation.box_protocol == "full" else []
    names = ["images", "localisation_error", *parts, "mean_iou"]
    return [{"name": label, **{name: getattr(one, name) for name in names}} for label, one in found.items()]


def by_class_table(measured: Measured | MeasuredBoxes) -> Table:
    """`by_class`, the worst class first."""
    if isinstance(measured, Measured):
        return classes_table(class_reports(measured.scores))
    rows = sorted(by_class(measured), key=lambda one: (-one["localisation_error"], one["name"]))
    full = "box_part" in rows[0]
    parts = right("class\nwrong %", "box\nwrong %") if full else []
    table = Titled("By class", "class", *right("images", "localisation\nerror %"), *parts, *right("mean IoU"))
    for one in rows:
        of_parts = [f"{one[name]:.1f}" for name in ("classification_part", "box_part")] if full else []
        error, iou = f"{one['localisation_error']:.1f}", f"{one['mean_iou']:.3f}"
        table.add_row(Elided(one["name"]), str(one["images"]), error, *of_parts, iou)
    return table


def box_table(measured: MeasuredBoxes, written: Mapping[str, str]) -> Table:
    """As `evaluation_table`, of boxes."""
    one, config = measured.evaluation, measured.networks[0].checkpoint.config
    skipped = f", {one.skipped} left out" if one.skipped else ""
    facts: dict[str, str | Elided] = {
        "localisation error": f"{one.localisation_error:.2f} % ({one.images - one.correct} wrong)",
        **_parts(one),
        "mean IoU": f"{one.mean_iou:.3f} of the best box" + (" with the true class" if one.merging else ""),
        "images": f"{one.images}{skipped}, of {counted(one.classes, 'class', 'classes')}",
        "data": Elided(f"{from_here(one.data)} ({one.split})"),
        "protocol": f"{protocol_text(one.protocol, one.scales)}; {_how(one)}",
        "network": f"{one.arch}, crop {config.crop}, width {config.width:g}; {_BOX_KINDS[str(config.boxes)]}",
        "weights": from_here(one.weights),
        **({"classifier": "\n".join(map(from_here, one.classifier))} if one.classifier else {}),
        "SHA-256": f"{one.weights_sha256[:12]}…",
        "speed": f"{one.images_per_second:.1f} images/s, {one.seconds:.1f} s{computed_text(one)}",
        **written,
    }
    return facts_table("Localisation", facts)


def _parts(one: BoxEvaluation) -> dict[str, str]:
    """What the error comes from, where the class is guessed too."""
    if one.correct_top1 is None or one.correct_top5 is None:
        return {}
    found = one.localisation
    guessed = f"{found.classification_part:.2f} % class not guessed, {found.box_part:.2f} % box wrong"
    return {"of which": guessed, "classifier's error": _errors_of_classes(one)}


def _errors_of_classes(one: BoxEvaluation) -> str:
    top5 = f", top-5 {one.top5_error:.2f} %" if shows_top5(one.classes) else ""
    return f"top-1 {one.top1_error:.2f} %{top5}"


def _how(one: BoxEvaluation) -> str:
    if one.merging is None:
        return "box of the true class, right above IoU 0.5"
    mirrored = ", mirrored too" if one.flip else ""
    return f"boxes everywhere{mirrored}, merged up to a match score of {one.merging['threshold']:g}"


def fusion_members_table(fusion: Fusion | BoxFusion) -> Table:
    """The errors of every member and of the whole ensemble."""
    if isinstance(fusion, Fusion):
        return members_table(fusion)
    whole, rows = fusion.whole.evaluation, [one.evaluation for one in (*fusion.members, fusion.whole)]
    left_out = f" ({whole.skipped} left out)" if whole.skipped else ""
    data = f"{counted(whole.images, 'image')}{left_out} of {from_here(whole.data)} ({whole.split})"
    title = f"Localisation over {data}, dense: {_how(whole)}; by {counted(len(whole.classifier), 'classifier')}: "
    title += f"error of classes {_errors_of_classes(whole)}"
    table = Titled(title, "boxes of", *fold(""), *right("localisation\nerror %", "box\nwrong %", "mean IoU"))
    values = [[one.localisation_error for one in rows], [one.localisation.box_part for one in rows]]
    columns = [lowest_green([f"{value:.2f}" for value in column], column) for column in values]
    for index, (name, one) in enumerate(zip((*map(from_here, fusion.names), "all"), rows, strict=True)):
        if index == len(rows) - 1:
            table.add_section()
        what = f"{one.arch}, Q = {', '.join(map(str, one.scales))}"
        table.add_row(Elided(name), what, columns[0][index], columns[1][index], f"{one.mean_iou:.3f}")
    return table
