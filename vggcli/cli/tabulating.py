"""`--table`: what `vgg evaluate` and `vgg ensemble` measured, in the form of the paper's Tables 3 to 7."""

from collections.abc import Mapping, Sequence
from typing import Any

from vggcli.cli import options
from vggcli.cli.fusing import Fusion
from vggcli.cli.measuring import Measured
from vggcli.errors import UsageError, counted
from vggcli.evaluation.paper_figures import imagenet_validation, published_fusion, published_result
from vggcli.evaluation.protocol import PARTS, Scores
from vggcli.evaluation.result import correct_counts
from vggcli.metrics import error_rate
from vggcli.paper import CROP
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


def check_table(table: bool, json: bool) -> None:
    """Raises UsageError for a table that nobody would see."""
    if table and json:
        raise UsageError("--table has no effect with --json, which holds the same figures; leave one out")


def show_networks(several: Sequence[Measured]) -> None:
    """Evaluations of one protocol in the form of Tables 3 and 4; dense with multi-crop as Table 5, on stdout."""
    first = several[0].evaluation
    skipped = f" ({first.skipped} left out)" if first.skipped else ""
    images = f"{counted(first.images, 'image')}{skipped} of {first.data} ({first.split}); posteriors averaged"
    flips = ", with flips" if first.flip else ""
    console = options.stdout_console()
    if not several[0].scores.parts:
        rows = [_row(one, ((one.scores, None, None),)) for one in several]
        console.print(protocol_table(f"{first.protocol}{flips}, {images}", rows))
        return
    title = f"dense and multi-crop evaluation, and both averaged{flips}; {images}"
    rows = [
        _row(one, (*((one.scores.part(part), 5, part) for part in PARTS), (one.scores, 5, None))) for one in several
    ]
    console.print(crops_table(title, (*PARTS, "both"), rows))


def _row(measured: Measured, columns: Sequence[tuple[Scores, int | None, str | None]]) -> NetworkRow:
    """A line with (scores, table of the paper, protocol of a part) for each column of errors."""
    one, classes = measured.evaluation, measured.scores.classes
    errors = tuple((errors_of(scores), published_result(one, classes, table, part)) for scores, table, part in columns)
    name, weights = network_name(one.arch, one.network), measured.run or measured.weights
    return NetworkRow(name, measured.checkpoint.scale, one.scales, weights.name, errors)


def network_name(arch: str, network: Mapping[str, Any]) -> str:
    """The name of a network with what it has other than the paper's."""
    changes = [f"width {network['width']:g}"] if network["width"] != 1 else []
    changes += [f"crop {network['crop']}"] if network["crop"] != CROP else []
    changes += ["gap"] if network["head"] == "gap" else []
    return f"{arch} ({', '.join(changes)})" if changes else arch


def errors_of(scores: Scores) -> Errors:
    """Top-1 and top-5 error in per cent."""
    top1, top5 = (error_rate(correct, len(scores.images)) for correct in correct_counts(scores))
    return top1, top5


def show_combined(fusion: Fusion) -> None:
    """The whole of an ensemble in the form of Table 6, by each protocol that all members were measured by; for ImageNet's
    validation images Table 7 after it, on stdout."""
    about = [member.about for member in fusion.members]
    whole = str(fusion.to_json()["protocol"])
    skipped = max(int(one.get("skipped", 0)) for one in about)
    imagenet = imagenet_validation(fusion.whole.classes, len(fusion.whole.images) + skipped)
    names = tuple(_member_name(one, whole == "mixed") for one in about)
    rows = [
        FusionRow(names, protocol, errors_of(scores), published_fusion(about, protocol) if imagenet else None)
        for protocol, scores in (*fusion.parts.items(), (whole, fusion.whole))
    ]
    data = f" of {fusion.data} ({fusion.split})" if fusion.data else ""
    left_out = f" ({skipped} left out)" if skipped else ""
    images = f"{counted(len(fusion.whole.images), 'image')}{left_out}{data}"
    title = f"Error of {len(about)} networks, their posteriors averaged: {images}"
    console = options.stdout_console()
    console.print(fusion_table(title, rows))
    if imagenet:
        console.print(methods_table(len(about), rows))


def _member_name(about: Mapping[str, Any], protocol: bool) -> str:
    """Network/S/Q, as Table 6 names models; S is ? for saved scores that do not say it."""
    network = about.get("network")
    name = network_name(about["arch"], network) if network else about["arch"]
    trained = range_text(tuple(network["scale"])) if network else "?"
    how = f" {about['protocol']}" if protocol else ""
    return f"{name}/{trained}/{','.join(map(str, about['scales']))}{how}"
