"""The runs below a folder, as `vgg runs` lists them: each with its network, data, recipe and best error."""

from collections.abc import Sequence
from csv import DictWriter
from dataclasses import dataclass, fields
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

from vggcli.data.own_files import CONFIG
from vggcli.errors import UsageError
from vggcli.locks import Busy, let_go, lock
from vggcli.records import read_record
from vggcli.results import Result
from vggcli.training.plan import Plan
from vggcli.training.plateau import Plateau
from vggcli.training.recipe import RECIPES, Recipe
from vggcli.training.run import LOCK, LOG_FILE
from vggcli.training.state import EpochRecord


@dataclass(frozen=True)
class RunSummary:
    """One run folder: `state` is "running", "finished", "stopped" (it can be resumed) or "damaged", which `fault` explains;
    `saved` is the local time (ISO 8601) of its last epoch, or of its beginning; `plan` is None where it is damaged."""

    run: Path
    state: str
    saved: str
    plan: Plan | None = None
    records: tuple[EpochRecord, ...] = ()
    fault: str | None = None

    @property
    def best(self) -> EpochRecord | None:
        """The first epoch of the lowest validation error."""
        return min(self.records, key=lambda record: record.validation_error, default=None)

    def to_json(self) -> dict[str, Any]:
        """`epochs` are those done of the `planned`; `recipe` names the recipe and what was changed of it; `weights` are
        those that the run was fine-tuned or initialised from; errors in per cent, on the validation images."""
        plan, best = self.plan, self.best
        return {
            "run": str(self.run),
            "state": self.state,
            "arch": plan and plan.arch,
            "data": plan and plan.data,
            "recipe": plan and recipe_name(plan.recipe),
            "epochs": len(self.records),
            "planned": plan and plan.recipe.epochs,
            "best_epoch": best and best.epoch,
            "top1_error": best and best.top1_error,
            "top5_error": best and best.top5_error,
            "localisation_error": best and best.localisation_error,
            "weights": plan and (plan.weights or plan.init_from),
            "saved": self.saved,
        }


@dataclass(frozen=True)
class Runs(Result):
    """Runs, the newest first."""

    runs: tuple[RunSummary, ...]

    def to_json(self) -> list[dict[str, Any]]:
        """What `vgg runs --json` prints."""
        return [run.to_json() for run in self.runs]

    def table(self) -> list[dict[str, Any]]:
        return self.to_json()

    def to_csv(self) -> str:
        """Every epoch of every run as CSV with a header: the run folder, then what a line of its log.jsonl says."""
        rows = [{"run": str(run.run), **record.to_json()} for run in self.runs for record in run.records]
        known = [field.name for field in fields(EpochRecord) if any(field.name in row for row in rows)]
        text = StringIO()
        writer = DictWriter(text, ["run", *known], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def list_runs(folders: Sequence[Path]) -> Runs:
    """The runs among `folders` and directly below them, the newest first.

    Raises UsageError for a folder that is not there.
    """
    found: dict[Path, RunSummary] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"there is no folder {folder}; give run folders, or folders that hold some")
        inner = [] if (folder / CONFIG).is_file() else sorted(folder.iterdir())
        for run in inner or [folder]:
            if (run / CONFIG).is_file():
                found[run.resolve()] = _summary(run)
    return Runs(tuple(sorted(found.values(), key=lambda one: (one.saved, one.run), reverse=True)))


def recipe_name(recipe: Recipe) -> str:
    """The recipe that `recipe` was made from, with what was changed: "tiny, epochs 2"."""
    changes = {
        name: [
            (field.name, getattr(recipe, field.name))
            for field in fields(recipe)
            if getattr(recipe, field.name) != getattr(known, field.name)
        ]
        for name, known in RECIPES.items()
    }
    name = min(changes, key=lambda name: len(changes[name]))
    return ", ".join([name, *(f"{what.replace('_', ' ')} {_value(value)}" for what, value in changes[name])])


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{value[0]}" if value[0] == value[1] else f"{value[0]}-{value[1]}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _summary(run: Path) -> RunSummary:
    log = run / LOG_FILE
    saved = datetime.fromtimestamp((log if log.is_file() else run / CONFIG).stat().st_mtime)
    time = saved.isoformat(sep=" ", timespec="seconds")
    try:
        plan = Plan.from_file(run / CONFIG)
        records = tuple(read_record(EpochRecord, line) for line in _lines(log))
    except UsageError as error:
        return RunSummary(run, "damaged", time, fault=str(error))
    except (OSError, ValueError) as error:
        return RunSummary(run, "damaged", time, fault=f"{log} cannot be read: {error}")
    return RunSummary(run, _state(run, plan, records), time, plan, records)


def _lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").splitlines() if log.is_file() else []


def _state(run: Path, plan: Plan, records: Sequence[EpochRecord]) -> str:
    try:
        if (run / LOCK).is_file():  # to open a FIFO would wait forever
            let_go(lock(run / LOCK))
    except Busy:
        return "running"
    except OSError:  # not ours to lock
        pass
    plateau = Plateau()
    for record in records:
        plateau = plateau.after(record.validation_error, plan.recipe.patience)
    step = records[-1].step if records else 0
    whole = len(records) >= plan.recipe.epochs or (plan.max_steps is not None and step >= plan.max_steps)
    return "finished" if whole or plateau.finished else "stopped"
