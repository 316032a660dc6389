"""`vgg data`: the images and classes of a data source, split as training would split them."""

from pathlib import Path
from typing import Annotated

from typer import Argument

from vggcli.cli import options
from vggcli.defaults import user_places, worker_count
from vggcli.errors import UsageError


@options.with_groups
def data(
    words: Annotated[
        list[str] | None,
        Argument(
            metavar="SRC | pack SRC DST",
            help="SRC as --data of the other commands; after pack, the new folder DST gets it as shards, train-*.tar and "
            "val-*.tar.",
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show what a data set holds, and what is odd about it. That is images by class in the training and the validation
    split, how uneven the classes are, how many files do not begin like an image (only
    headers are read), and how many are in both splits. `vgg data pack SRC DST` also copies it into a few large files, from
    which network disks read a million images faster."""
    from json import dumps

    from rich.text import Text

    from vggcli.data.find import find_source
    from vggcli.data.outputs import check_outside_source
    from vggcli.data.pack import check_new
    from vggcli.data.pack import pack as packed
    from vggcli.data.sources import load_both
    from vggcli.data.survey import survey, survey_notes
    from vggcli.report.tables import survey_table
    from vggcli.report.text import printable

    source, pack = _named(words or [])
    found_source = find_source(source, user_places(), worker_count(None), options.progress(quiet))
    train, val = load_both(found_source.path, boxes=pack is not None)
    if pack is not None:
        check_new(pack)
        check_outside_source([("", pack)], found_source.path, train)
        with options.progress(quiet)("packing", len(train) + len(val), "images") as bar:
            packed(train, val, pack, bar)
        options.written(pack)
    with options.progress(quiet)("looking at the images", len(train) + len(val), "images") as bar:
        found = survey(train, val, bar)
    if json:
        print(dumps({"data": found_source.name, **found.to_json()}))
        return
    console = options.stdout_console()
    console.print(survey_table(found))
    for line in survey_notes(found):
        console.print(Text(printable(line)), soft_wrap=not console.is_terminal)


def _named(words: list[str]) -> tuple[str | None, Path | None]:
    """The source that the words of the command line name, and the folder that it is to be packed in. Raises UsageError
    where they name neither."""
    if len(words) == 3 and words[0] == "pack":
        return words[1], Path(words[2])
    if len(words) > 1:
        raise UsageError(f"{' '.join(words)} is not a source of data; give SRC, or pack SRC DST")
    return (words[0] if words else None), None
