"""The table of runs."""

from collections.abc import Sequence

from rich.table import Table

from vggcli.report.cells import Elided, Titled, from_here
from vggcli.report.text import last_parts
from vggcli.training.list_runs import RunSummary
from vggcli.weights.checkpoint import BEST, LAST

COLUMNS = {  # what a terminal of 80 columns leaves to each at least, where all are needed; those of numbers on the right
    **{"run": 9, "net": 3, "data": 6, "recipe": 7},
    **{"epochs": 5, "best error": 10, "saved": 10, "from": 8},
}


def runs_table(runs: Sequence[RunSummary]) -> Table:
    """Runs, one per line: the recipe with how many of its numbers were changed, the epochs done of those planned (and the
    state of a run that is not finished), and the lowest top-1 error (of a run that learns boxes, the localisation error) of
    the validation images with its epoch."""
    table = Titled(
        "Runs, the newest first: recipe (+ how many of its numbers were changed), best validation error at epoch"
    )
    table.collapse_padding = True
    began = any(run.plan and (run.plan.weights or run.plan.init_from) for run in runs)
    for name, width in COLUMNS.items():
        if began or name != "from":
            number = name in ("epochs", "best error")
            table.add_column(name, justify="right" if number else "left", min_width=width, no_wrap=number)
    for run in runs:
        one = run.to_json()
        start = (one["weights"] or "").removesuffix(f"/{BEST}").removesuffix(f"/{LAST}")
        folder, data, weights = (Elided(_name(name or "")) for name in (one["run"], one["data"], start))
        recipe, *changes = (one["recipe"] or "").split(", ")
        best = f"{run.best.validation_error:.2f} % at {run.best.epoch}" if run.best else ""
        epochs = f"{one['epochs']}/{one['planned']}" if run.plan else ""
        epochs = epochs if run.state == "finished" else f"{run.state} {epochs}".strip()
        changed = f"{recipe} +{len(changes)}" if changes else recipe
        table.add_row(
            folder,
            f"{one['arch'] or ''}{' boxes' if run.plan and run.plan.boxes else ''}",
            data,
            changed,
            epochs,
            best,
            run.saved[:10],
            *([weights] if began else []),
        )
    return table


def _name(path: str) -> str:
    """A path from the current folder, or by its last two parts."""
    short = from_here(path)
    return last_parts(short) if short.startswith("/") else short
