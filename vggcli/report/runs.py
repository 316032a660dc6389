"""The table of runs."""

from collections.abc import Sequence

from rich.table import Table

from vggcli.report.cells import Elided, Titled, from_here
from vggcli.training.list_runs import RunSummary


def runs_table(runs: Sequence[RunSummary]) -> Table:
    """Runs, one per line: the epochs done of those planned, with the state of a run that is not finished, and the lowest
    top-1 error of the validation images with its epoch."""
    table = Titled("Runs, the newest first")
    began = any(run.plan and (run.plan.weights or run.plan.init_from) for run in runs)
    for name in ("run", "network", "data", "recipe", "epochs", "best error", "saved", *(["from"] if began else [])):
        number = name in ("epochs", "best error")
        table.add_column(name, justify="right" if number else "left", no_wrap=number or name == "saved")
    for run in runs:
        one = run.to_json()
        folder, data, weights = (Elided(from_here(str(one[key] or ""))) for key in ("run", "data", "weights"))
        best = f"{one['top1_error']:.2f} % at {one['best_epoch']}" if run.best else ""
        state = "" if run.state == "finished" else f" ({run.state})"
        epochs = f"{one['epochs']} of {one['planned']}{state}" if run.plan else run.state
        more = [weights] if began else []
        table.add_row(folder, one["arch"] or "", data, one["recipe"] or "", epochs, best, run.saved[:10], *more)
    return table
