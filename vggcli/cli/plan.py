"""The plan of a run: every choice that decides its result, as config.json holds it and flags change it."""

import json
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vggcli import __version__
from vggcli.errors import UsageError
from vggcli.regular import need_regular
from vggcli.training.recipe import RECIPES, Recipe
from vggcli.training.stages import Layers
from vggcli.zoo.layers import arch_of


@dataclass(frozen=True)
class Plan:
    """What decides a run's result; config.json holds it. `weights` (with their SHA-256) are those that fine-tuning starts
    from, `preprocessing` what was given for them (`Pixels.to_json`), `layers` those that learn, and `cache_features` says
    that images are not augmented."""

    arch: str = "D"
    data: str | None = None
    seed: int = 0
    max_steps: int | None = None
    init_from: str | None = None
    precision: str = "auto"
    recipe: Recipe = RECIPES["paper"]
    weights: str | None = None
    weights_sha256: str | None = None
    preprocessing: dict[str, Any] | None = None
    layers: Layers = "all"
    cache_features: bool = False

    @classmethod
    def of(
        cls, recipe: str | None, config: Path | None, recipe_flags: dict[str, Any], run_flags: dict[str, Any]
    ) -> "Plan":
        """A recipe or a config file, with the flags that were given in front."""
        if recipe is not None and config is not None:
            raise UsageError("--recipe and --config contradict each other; give one")
        plan = cls(recipe=RECIPES[recipe or "paper"]) if config is None else cls.from_file(config)
        if plan.weights is not None:
            command = f"vgg finetune --config {shlex.quote(str(config))}"
            raise UsageError(f"{config} is of a fine-tuned run; replay it with `{command}`")
        return plan.with_flags(recipe_flags, run_flags)

    @classmethod
    def from_file(cls, path: Path) -> "Plan":
        """Raises UsageError where the file is not what a run writes."""
        need_regular(path, UsageError)
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            fields.pop("version", None)
            return cls(**{**fields, "recipe": Recipe.from_json(fields["recipe"])})
        except FileNotFoundError as error:
            raise UsageError(f"there is no file {path}; give --config a run's config.json") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{path} is not a run's config.json: {error}") from error

    def with_flags(self, recipe_flags: dict[str, Any], run_flags: dict[str, Any]) -> "Plan":
        given = {name: value for name, value in run_flags.items() if value is not None}
        if "arch" in given:
            given["arch"] = arch_of(given["arch"])
        if "init_from" in given:
            given["init_from"] = str(given["init_from"])
        recipe = {name: value for name, value in recipe_flags.items() if value is not None}
        if recipe.get("init", "gaussian") != "gaussian" and "init_std" not in recipe:
            recipe["init_std"] = None  # a config's std goes with its gaussian
        changed = replace(self.recipe, **recipe)
        if changed.head == "gap" and "dropout" in recipe:
            raise UsageError("--dropout has no effect with --head gap, which has no hidden FC layers")
        return replace(self, **given, recipe=changed)

    def to_text(self) -> str:
        return json.dumps({"version": __version__, **asdict(self)}, indent=2) + "\n"
