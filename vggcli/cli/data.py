"""`vgg data`: what a source holds, as training would take it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vggcli.cli import options
from vggcli.defaults import worker_count

if TYPE_CHECKING:
    from vggcli.data.survey import Survey


def data(
    source: Annotated[str | None, typer.Argument(metavar="[SRC]", help="As --data of the other commands.")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show what a source holds: images by class in the training and the validation split, how uneven the classes are, how
    many images cannot be read, and how many are in both splits."""
    from json import dumps

    from vggcli.data.sources import load_both
    from vggcli.data.survey import survey, survey_notes
    from vggcli.report.tables import survey_table
    from vggcli.report.text import printable

    found_source = options.data_source(source, worker_count(None), quiet)
    train, val = load_both(found_source.path)
    with options.progress(quiet)("looking at the images", len(train) + len(val), "images") as bar:
        found = survey(train, val, bar)
    if json:
        print(dumps(_object(found_source.name, found)))
        return
    options.stdout_console().print(survey_table(found))
    for line in survey_notes(found):
        print(printable(line))


def _object(name: str, found: "Survey") -> dict[str, Any]:
    rows = zip(found.classes, found.train, found.val, strict=True)
    return {
        "data": name,
        "train": sum(found.train),
        "val": sum(found.val),
        "classes": [{"class": label, "train": train, "val": val} for label, train, val in rows],
        "imbalance": round(found.imbalance, 3),
        "unreadable": len(found.unreadable),
        "unreadable_images": list(found.unreadable),
        "in_two_classes": len(found.contradictory),
        "in_two_classes_images": [list(pair) for pair in found.contradictory],
        "in_both": len(found.repeated),
        "in_both_images": [{"train": train, "val": val} for train, val in found.repeated],
        "remarks": list(found.remarks),
    }
