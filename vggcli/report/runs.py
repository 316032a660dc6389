"""The table of runs."""

from collections.abc import Sequence

from rich.table import Table

from vggcli.report.cells import Elided, Titled, from_here
from vggcli.training.list_runs import RunSummary


def runs_table(runs: Sequence[RunSummary]) -> Table:
    """Runs, one per line: the lowest top-1 error of the validation images with its epoch, and the epochs done of those
    planned."""
    table = Titled("Runs, the newest first")
    began = any(run.plan and (run.plan.weights or run.plan.init_from) for run in runs)
    for name in ("run", "data", "recipe", "epochs", "best top-1 error", "saved", *(["from"] if began else [])):
        table.add_column(name, justify="right" if name in ("epochs", "best top-1 error") else "left")
    for run in runs:
        one = run.to_json()
        folder, data, weights = (Elided(from_here(str(one[key] or ""))) for key in ("run", "data", "weights"))
        best = f"{one['top1_error']:.2f} % (epoch {one['best_epoch']})" if run.best else ""
        epochs = f"{one['epochs']} of {one['planned']}, {run.state}" if run.plan else run.state
        table.add_row(folder, data, one["recipe"] or "", epochs, best, run.saved[:16], *([weights] if began else []))
    return table
