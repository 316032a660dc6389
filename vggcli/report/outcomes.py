"""What became of the boxes of an evaluation: a histogram of their IoU, a sheet of the worst, and the form of the paper's
Tables 8 and 9."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image
from rich.table import Table

from vggcli import paper
from vggcli.boxes import Region
from vggcli.data.decode import read_image
from vggcli.errors import counted
from vggcli.evaluation.ensemble import Fusion
from vggcli.evaluation.measure import Measured
from vggcli.evaluation.paper_figures import imagenet_validation
from vggcli.localisation.error import mcnemar
from vggcli.localisation.localise import Guess
from vggcli.localisation.result import BoxFusion, MeasuredBoxes
from vggcli.report.boxes import with_boxes
from vggcli.report.cells import from_here
from vggcli.report.evaluations import combined_tables, network_name, networks_table, protocol_text
from vggcli.report.paper_tables import BoxRow, LocalisationRow, boxes_table, localisation_table
from vggcli.report.plots import save_iou_histogram
from vggcli.report.sheets import Caption, fitted, save_sheet
from vggcli.report.text import last_parts
from vggcli.weights.find import run_of

_THUMBNAIL = 280  # pixels
Scales = tuple[int, ...]


def draw_histogram(measured: MeasuredBoxes, path: Path) -> None:
    """The IoU of the best box of each image as a PNG."""
    ious = [one.iou for one in measured.outcomes]
    unguessed = sum(not one.guessed for one in measured.outcomes)
    save_iou_histogram(ious, unguessed, path, (f"IoU of the boxes of {_named(measured)}", _how_measured(measured)))


def save_worst_boxes(measured: MeasuredBoxes, count: int, path: Path) -> int:
    """A sheet of at most `count` images, those of the lowest IoU first, with the true boxes and the guess of their class,
    or with the first guess where none has it. Gives how many there are."""
    names = measured.images.names
    rows = sorted(range(len(names)), key=lambda row: (measured.outcomes[row].iou, names[row]))[:count]
    pictures, captions = [], []
    for row in rows:
        outcome, guesses = measured.outcomes[row], measured.guesses[row]
        guess = next((one for one in guesses if one.label == outcome.label), guesses[0])
        truth = measured.images.own_boxes(row)
        scores = measured.evaluation.box_protocol == "full"  # where the class is given, it has none
        pictures.append(fitted(_thumbnail(read_image(measured.images.path(row)), guess, truth, scores), _THUMBNAIL))
        said = f"IoU {outcome.iou:.2f}" if outcome.guessed else f"not guessed; first: {guess.label}"
        captions.append(Caption((outcome.label, said), Path(names[row]).name))
    what = f"The {counted(len(rows), 'image')} of the lowest IoU by {_named(measured)}; dashed: true boxes"
    save_sheet(pictures, captions, path, (what, _how_measured(measured)))
    return len(rows)


def _thumbnail(image: Image.Image, guess: Guess, truth: Sequence[Region], scores: bool) -> Image.Image:
    """The image in its size on the sheet, and the boxes drawn on that."""
    factor = _THUMBNAIL / max(image.size)
    small = image.resize([max(1, round(side * factor)) for side in image.size], Image.Resampling.BICUBIC)
    across, down = small.width / image.width, small.height / image.height

    def scaled(box: Region) -> Region:
        return box[0] * across, box[1] * down, box[2] * across, box[3] * down

    return with_boxes(small, [replace(guess, box=scaled(guess.box))], [scaled(box) for box in truth], scores)


def _named(measured: MeasuredBoxes) -> str:
    return " and ".join(last_parts(run_of(one.path) or one.path) for one in measured.networks)


def _how_measured(measured: MeasuredBoxes) -> str:
    """The error, the data and the protocol of an evaluation in a line."""
    one = measured.evaluation
    images = f"{counted(one.images, 'image')} of {last_parts(one.data)} ({one.split})"
    boxes = "the true class given" if one.box_protocol == "ground-truth" else "classes guessed"
    how = f"{protocol_text(one.protocol, one.scales)}, {boxes}"
    return f"network {one.arch}: localisation error {one.localisation_error:.2f} % on {images}; {how}"


def rows_table(several: Sequence[Measured | MeasuredBoxes]) -> Table:
    """Evaluations by one protocol in the form of the paper: of classes as `networks_table` has them."""
    boxes = [one for one in several if isinstance(one, MeasuredBoxes)]
    return (
        _box_networks_table(boxes) if boxes else networks_table([one for one in several if isinstance(one, Measured)])
    )


def fusion_rows_tables(fusion: Fusion | BoxFusion) -> list[Table]:
    """A whole ensemble in the form of the paper: of classes as `combined_tables` has it."""
    return combined_tables(fusion) if isinstance(fusion, Fusion) else [_united_boxes_table(fusion)]


def _box_networks_table(several: Sequence[MeasuredBoxes]) -> Table:
    """Evaluations by one protocol: of the ground-truth class as in Table 8, of guessed classes as in Table 9."""
    first = several[0].evaluation
    if first.box_protocol == "full":
        return _localisation_table([(one, [one.evaluation.scales]) for one in several])
    rows = [_box_row(one) for one in several]
    table = boxes_table(f"Boxes of the ground-truth class, {first.protocol}; {_images(several[0])}", rows)
    table.remark = _compared([(row.weights, one) for row, one in zip(rows, several, strict=True)])
    return table


def _united_boxes_table(fusion: BoxFusion) -> Table:
    """Every member and all of them with their boxes united, as in Table 9."""
    scales = [one.evaluation.scales for one in fusion.members]
    alone = [(one, [of_it]) for one, of_it in zip(fusion.members, scales, strict=True)]
    return _localisation_table([*alone, (fusion.whole, scales)])


def _localisation_table(several: Sequence[tuple[MeasuredBoxes, Sequence[Scales]]]) -> Table:
    """A line for each evaluation, which come with the test scales of each of its networks."""
    rows = []
    for measured, scales in several:
        one, networks = measured.evaluation, measured.networks
        names = [(run_of(network.path) or network.path).name for network in networks]
        sides = [(network.checkpoint.scale, of_it) for network, of_it in zip(networks, scales, strict=True)]
        published = _published9(measured, sides)
        members = tuple((name, *side) for name, side in zip(names, sides, strict=True))
        rows.append(LocalisationRow(members, one.localisation_error, one.mean_iou, published))
    first = several[0][0]
    classes = ", ".join(last_parts(run_of(Path(name)) or name) for name in first.evaluation.classifier)
    by = f", with classes by {classes}" if classes else ""
    table = localisation_table(f"Localisation{by}; {_images(first)}", rows)
    labels = [" + ".join(name for name, *_ in row.members) for row in rows]
    named = [(name, measured) for name, (measured, _) in zip(labels, several, strict=True)]
    table.remark = " ".join(filter(None, (_compared(named), _thresholds(named))))
    return table


def _thresholds(several: Sequence[tuple[str, MeasuredBoxes]]) -> str:
    """Up to which match score boxes were merged, where that is not the same for all."""
    own = {name: (measured.evaluation.merging or {}).get("threshold") for name, measured in several}
    shown = ", ".join(f"{name} {threshold:g}" for name, threshold in own.items() if threshold is not None)
    return f"Merged up to a match score of: {shown}." if len({*own.values()}) > 1 else ""


def _compared(several: Sequence[tuple[str, MeasuredBoxes]]) -> str:
    """How sure it is that evaluations of the same images, by name, differ from the best of them; empty of a single one."""
    best_name, best = min(several, key=lambda one: one[1].evaluation.localisation_error)
    right = {name: [outcome.right for outcome in measured.outcomes] for name, measured in several}
    others = [
        f"{name} p = {mcnemar(right[name], right[best_name]):.2g}"
        for name, measured in several
        if measured is not best and measured.images.names == best.images.names
    ]
    return f"Against {best_name}, by McNemar's exact test: {', '.join(others)}." if others else ""


def _images(measured: MeasuredBoxes) -> str:
    one = measured.evaluation
    left_out = f" ({one.skipped} left out)" if one.skipped else ""
    return f"{counted(one.images, 'image')}{left_out} of {from_here(one.data)} ({one.split})"


def _box_row(measured: MeasuredBoxes) -> BoxRow:
    one, (network,) = measured.evaluation, measured.networks
    config, layers = network.checkpoint.config, str(network.checkpoint.training.get("layers", "?"))
    published = None
    if _of_paper(measured) and (network.checkpoint.scale, one.scales) == (paper.TABLE8_SCALE, paper.TABLE8_SCALE[:1]):
        errors = {(each.layers, each.boxes): each.error for each in paper.TABLE8}
        published = errors.get((layers, str(config.boxes)))
    return BoxRow(
        network=network_name(one.arch, one.network),
        layers=layers,
        boxes=str(config.boxes),
        scale=network.checkpoint.scale,
        test_scales=one.scales,
        error=one.localisation_error,
        mean_iou=one.mean_iou,
        weights=(measured.run or measured.weights).name,
        published=published,
    )


def _published9(measured: MeasuredBoxes, sides: Sequence[paper.BoxMember]) -> paper.LocalisationResult | None:
    """The row of Table 9 for the same networks, in any order."""
    trained = {(one.checkpoint.training.get("layers"), one.checkpoint.config.boxes) for one in measured.networks}
    if not _of_paper(measured) or trained != {("all", "pcr")}:
        return None
    mine = sorted((scale, tuple(sorted(scales))) for scale, scales in sides)
    return next((row for row in paper.TABLE9 if sorted(row.members) == mine), None)


def _of_paper(measured: MeasuredBoxes) -> bool:
    """Whether the networks are the paper's net D, and the images ImageNet's validation set."""
    one, configs = measured.evaluation, [network.checkpoint.config for network in measured.networks]
    same = all((each.arch, each.crop, each.width, each.head) == ("D", paper.CROP, 1.0, "fc") for each in configs)
    return same and imagenet_validation(measured.images.classes, one.images + one.skipped)
