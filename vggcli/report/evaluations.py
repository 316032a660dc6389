"""Tables of evaluations and ensembles: figures and how they were measured, the form of the paper's Tables 3 to 7, and a
sheet of the most confident mistakes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from vggcli.data.decode import read_image
from vggcli.errors import counted
from vggcli.evaluation.ensemble import Fusion
from vggcli.evaluation.measure import Measured
from vggcli.evaluation.paper_figures import imagenet_validation, published_fusion, published_result
from vggcli.evaluation.protocol import PARTS, Scores
from vggcli.evaluation.result import Evaluation, Mistake, correct_counts
from vggcli.localisation.result import BoxEvaluation
from vggcli.metrics import confusion_counts, error_rate, shows_top5
from vggcli.paper import CROP
from vggcli.report.cells import Elided, from_here
from vggcli.report.paper_tables import (
    Errors,
    FusionRow,
    NetworkRow,
    crops_table,
    fusion_table,
    methods_table,
    protocol_table,
    range_text,
)
from vggcli.report.plots import save_confusion
from vggcli.report.sheets import Caption, fitted, save_sheet
from vggcli.report.tables import ensemble_table, facts_table
from vggcli.report.text import last_parts

_THUMBNAIL = 224  # pixels


def evaluation_table(measured: Measured, written: Mapping[str, str]) -> Table:
    """The figures, how they were measured, and what was `written` where."""
    one, config = measured.evaluation, measured.checkpoint.config
    several = (("flips", one.flip), ("crops", one.crops > 0), ("scales", len(one.scales) > 1))
    averaged = ", ".join(name for name, more in several if more)
    skipped = f", {one.skipped} left out" if one.skipped else ""
    crops = f"{counted(one.crops, 'crop')} an image; " if one.crops else ""
    top5 = f"{one.top5_error:.2f} % ({one.images - one.correct_top5} wrong)"
    facts: dict[str, str | Elided] = {
        "top-1 error": f"{one.top1_error:.2f} % ({one.images - one.correct_top1} wrong)",
        **({"top-5 error": top5} if shows_top5(one.classes) else {}),
        "images": f"{one.images}{skipped}, of {counted(one.classes, 'class', 'classes')}",
        "data": Elided(f"{from_here(one.data)} ({one.split})"),
        "protocol": f"{protocol_text(one.protocol, one.scales)}; {crops}"
        + (f"{averaged} averaged as posteriors" if averaged else "one view an image"),
        "calibration": f"{one.calibration_error:.1f} % expected calibration error",
        "network": f"{one.arch}, crop {config.crop}, width {config.width:g}",
        "weights": from_here(one.weights),
        "SHA-256": f"{one.weights_sha256[:12]}…",
        "speed": f"{one.images_per_second:.1f} images/s, {one.seconds:.1f} s{computed_text(one)}",
        **written,
    }
    return facts_table("Evaluation", facts)


def protocol_text(protocol: str, scales: Sequence[int]) -> str:
    """A protocol as it is named everywhere: dense at Q = 256, 384."""
    return f"{protocol} at Q = {', '.join(map(str, scales))}"


def computed_text(one: Evaluation | BoxEvaluation) -> str:
    """What changes the last digits of figures: a precision below float32, and JPEGs decoded by a GPU."""
    precision = f"; computed in {one.precision}" if one.precision not in (None, "fp32") else ""
    return precision + ("; JPEGs decoded on the GPU" if one.decode == "gpu" else "")


def save_mistakes(measured: Measured, mistakes: Sequence[Mistake], path: Path) -> None:
    """A sheet of some mistakes: each image with its true class, the answer with its posterior, and the file's name."""
    images = measured.images
    pictures = [fitted(read_image(images.path(images.names.index(one.image))), _THUMBNAIL) for one in mistakes]
    captions = [
        Caption((one.label, f"taken for {one.answer}, {one.posterior:.2f}"), Path(one.image).name) for one in mistakes
    ]
    what = (
        f"The {counted(len(mistakes), 'mistake')} that {_named(measured)} is surest of: true class, answer, posterior"
    )
    save_sheet(pictures, captions, path, (what, _how_measured(measured)))


def draw_confusion(measured: Measured, path: Path) -> None:
    """The confusion matrix of an evaluation as a PNG."""
    counts_KK = confusion_counts(measured.scores.posteriors_NK, measured.scores.labels_N).numpy()
    title = f"Confusion matrix of {_named(measured)}", _how_measured(measured)
    save_confusion(counts_KK, measured.scores.classes, path, title)


def _named(measured: Measured) -> str:
    return last_parts(measured.run or measured.weights)


def _how_measured(measured: Measured) -> str:
    """The error, the data and the protocol of an evaluation in a line."""
    one = measured.evaluation
    how = f"{one.protocol} at Q = {', '.join(map(str, one.scales))}{', with flips' if one.flip else ''}"
    images = f"{counted(one.images, 'image')} of {last_parts(one.data)} ({one.split})"
    return f"network {one.arch}: top-1 error {one.top1_error:.2f} % on {images}; {how}"


def networks_table(several: Sequence[Measured]) -> Table:
    """Evaluations by one protocol in the form of Tables 3 and 4; dense and multi-crop evaluation as in Table 5."""
    first = several[0].evaluation
    skipped = f" ({first.skipped} left out)" if first.skipped else ""
    images = (
        f"{counted(first.images, 'image')}{skipped} of {from_here(first.data)} ({first.split}); posteriors averaged"
    )
    flips = ", with flips" if first.flip else ""
    if not several[0].scores.parts:
        rows = [_network_row(one, [(one.scores, None, None)]) for one in several]
        return protocol_table(f"{first.protocol}{flips}, {images}", rows)
    title = f"dense and multi-crop evaluation, and both averaged{flips}; {images}"
    rows = [
        _network_row(one, [*((one.scores.part(part), 5, part) for part in PARTS), (one.scores, 5, None)])
        for one in several
    ]
    return crops_table(title, (*PARTS, "both"), rows)


def _network_row(measured: Measured, columns: Sequence[tuple[Scores, int | None, str | None]]) -> NetworkRow:
    """A line with (scores, table of the paper, protocol of a part) for each column of errors."""
    one, classes = measured.evaluation, measured.scores.classes
    errors = tuple((_errors(scores), published_result(one, classes, table, part)) for scores, table, part in columns)
    name, weights = network_name(one.arch, one.network), measured.run or measured.weights
    return NetworkRow(name, measured.checkpoint.scale, one.scales, weights.name, errors)


def network_name(arch: str, network: Mapping[str, Any]) -> str:
    """The name of a network and where it differs from the paper's."""
    changes = [f"width {network['width']:g}"] if network["width"] != 1 else []
    changes += [f"crop {network['crop']}"] if network["crop"] != CROP else []
    changes += ["gap"] if network["head"] == "gap" else []
    return f"{arch} ({', '.join(changes)})" if changes else arch


def _errors(scores: Scores) -> Errors:
    """Top-1 error and, if it says anything, top-5 error in per cent."""
    errors = tuple(error_rate(correct, len(scores.images)) for correct in correct_counts(scores))
    return errors if shows_top5(len(scores.classes)) else errors[:1]


def members_table(fusion: Fusion) -> Table:
    """The errors of every member, of every pair where there are more than two, and of the whole ensemble."""
    result = fusion.to_json()
    rows = [
        (one["name"], f"{one['arch']}, {protocol_text(one['protocol'], one['scales'])}", one)
        for one in result["members"]
    ]
    if len(fusion.members) > 2:
        rows += [(" + ".join(pair["members"]), "pair", pair) for pair in result["pairs"]]
    rows.append(("all", counted(len(fusion.members), "member"), result))
    title = f"Ensemble over {_images(fusion, result['skipped'])}, posteriors averaged"
    return ensemble_table(title, rows, shows_top5(result["classes"]))


def combined_tables(fusion: Fusion) -> list[Table]:
    """A whole ensemble in the form of Table 6, for each protocol of all its members; for ImageNet's validation images
    followed by Table 7."""
    about = [member.about for member in fusion.members]
    whole = str(fusion.to_json()["protocol"])
    skipped = max(int(one.get("skipped", 0)) for one in about)
    imagenet = imagenet_validation(fusion.whole.classes, len(fusion.whole.images) + skipped)
    names = tuple(_member_name(one, whole == "mixed") for one in about)
    rows = [
        FusionRow(names, protocol, _errors(scores), published_fusion(about, protocol) if imagenet else None)
        for protocol, scores in (*fusion.parts.items(), (whole, fusion.whole))
    ]
    title = f"Error of {counted(len(about), 'network')}, their posteriors averaged: {_images(fusion, skipped)}"
    return [fusion_table(title, rows), *([methods_table(len(about), rows)] if imagenet else [])]


def _images(fusion: Fusion, skipped: int) -> str:
    left_out = f" ({skipped} left out)" if skipped else ""
    data = f" of {from_here(fusion.data)} ({fusion.split})" if fusion.data else ""
    return f"{counted(len(fusion.whole.images), 'image')}{left_out}{data}"


def _member_name(about: Mapping[str, Any], protocol: bool) -> str:
    """Network/S/Q, as Table 6 names models; S is ? for saved scores that do not say it."""
    network = about.get("network")
    name = network_name(about["arch"], network) if network else about["arch"]
    trained = range_text(tuple(network["scale"])) if network else "?"
    how = f" {about['protocol']}" if protocol else ""
    return f"{name}/{trained}/{','.join(map(str, about['scales']))}{how}"
