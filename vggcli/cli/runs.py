"""`vgg runs`: the runs here, with their networks, data, recipes and best errors."""

from pathlib import Path
from typing import Annotated

import typer

from vggcli.cli import options
from vggcli.defaults import user_places
from vggcli.errors import UsageError


@options.with_groups
def runs(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="FOLDER", help="Run folders, or folders of runs. (default: runs)")
    ] = None,
    json: options.Json = False,
    csv: Annotated[
        bool, typer.Option("--csv", help="Print every epoch of every run as CSV, as log.jsonl has them.")
    ] = False,
) -> None:
    """List the runs here, the newest first. Each has its network, data, recipe, epochs, best top-1 error, the weights
    that it began from, and when it was saved last."""
    from json import dumps

    from vggcli.report.runs import runs_table
    from vggcli.training.list_runs import list_runs

    if json and csv:
        raise UsageError("JSON and CSV exclude each other; give one", "json", "csv")
    here = user_places().runs
    found = list_runs(folders or ([here] if here.is_dir() else []))
    if not found.runs:
        options.note(f"there are no runs in {', '.join(map(str, folders or [here]))}; `vgg train` makes one")
    for fault in (run.fault for run in found.runs if run.fault):
        options.note(fault)
    if json:
        print(dumps(found.to_json()))
    elif csv:
        print(found.to_csv(), end="")
    elif found.runs:
        options.stdout_console().print(runs_table(found.runs))
