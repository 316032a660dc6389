"""The table of runs."""

from collections.abc import Sequence

from rich.table import Table

from vggcli.report.tables import titled
from vggcli.report.text import elided, printable
from vggcli.training.list_runs import RunSummary

LONGEST_NAME = 24  # columns of a folder's or a data set's name


def runs_table(runs: Sequence[RunSummary]) -> Table:
    """Runs, one per line: the lowest top-1 error of the validation images with its epoch, and the epochs done of those
    planned."""
    table = titled("Runs, the newest first")
    began = any(run.plan and (run.plan.weights or run.plan.init_from) for run in runs)
    for name in ("run", "data", "recipe", "epochs", "best top-1 error", "saved", *(["from"] if began else [])):
        table.add_column(name, justify="right" if name in ("epochs", "best top-1 error") else "left")
    for run in runs:
        one = run.to_json()
        name, data, weights = (
            elided(printable(str(one[key] or "")), LONGEST_NAME) for key in ("run", "data", "weights")
        )
        best = f"{one['top1_error']:.2f} % (epoch {one['best_epoch']})" if run.best else ""
        epochs = f"{one['epochs']} of {one['planned']}, {run.state}" if run.plan else run.state
        table.add_row(name, data, one["recipe"] or "", epochs, best, run.saved[:16], *([weights] if began else []))
    return table
