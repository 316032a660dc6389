"""The plan of a run: every choice that decides its result, as config.json holds it and flags change it."""

import json
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from vggcli import __version__
from vggcli.choices import Layers
from vggcli.errors import UsageError
from vggcli.records import RECORD, Ordinal, Sha256, parsed, read_record
from vggcli.regular import need_regular
from vggcli.training.recipe import RECIPES, Recipe
from vggcli.weights.preprocessing import Pixels
from vggcli.zoo.layers import NetworkConfig, arch_of

LONGEST = 1 << 20  # bytes of a config.json
LARGEST_NUMBER = 2**63 - 1


@dataclass(frozen=True)
class Plan:
    """What decides a run's result; config.json holds it. `init_from` (with its SHA-256) is the network A whose layers a
    deeper one starts with, `weights` (with theirs) are those that fine-tuning starts from, `preprocessing` what was given
    for them (`Pixels.to_json`), `layers` those that learn, and `cache_features` says that images are not augmented.
    `micro_batch`, once a run has one, decides the last bit of its sums; `skip_bad` leaves images out that cannot be
    used."""

    arch: str = "D"
    data: str | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    max_steps: Ordinal | None = None
    init_from: str | None = None
    init_from_sha256: Sha256 | None = None
    precision: Annotated[str, Field(pattern="^(auto|fp32|bf16|fp16)$")] = "auto"
    recipe: Recipe = RECIPES["paper"]
    weights: str | None = None
    weights_sha256: Sha256 | None = None
    preprocessing: dict[str, Any] | None = None
    layers: Layers = "all"
    cache_features: bool = False
    micro_batch: Ordinal | None = None
    skip_bad: bool = False
    __pydantic_config__ = RECORD

    def __post_init__(self) -> None:
        for flag, value, low in (("--seed", self.seed, 0), ("--max-steps", self.max_steps, 1)):
            if value is not None and not low <= value <= LARGEST_NUMBER:
                raise UsageError(f"{flag} {value} is out of range: give at least {low} and at most {LARGEST_NUMBER}")
        NetworkConfig(self.arch, 1, self.recipe.crop, self.recipe.width, self.recipe.head)  # before any work

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
        if not path.exists():
            raise UsageError(f"there is no file {path}; give --config a run's config.json")
        try:
            if path.stat().st_size > LONGEST:
                raise ValueError("it is far too long")
            fields = parsed(path.read_bytes())
            if not isinstance(fields, dict) or "recipe" not in fields:
                raise ValueError("recipe is missing")
            fields.pop("version", None)
            plan = read_record(cls, fields, partly=True)
            if plan.preprocessing is not None:
                Pixels.from_json(plan.preprocessing)
            return replace(plan, arch=arch_of(plan.arch))
        except (OSError, ValueError, UsageError) as error:
            raise UsageError(f"{path} is not a run's config.json: {error}") from error

    def with_flags(self, recipe_flags: dict[str, Any], run_flags: dict[str, Any]) -> "Plan":
        given = {name: value for name, value in run_flags.items() if value is not None}
        if "arch" in given:
            given["arch"] = arch_of(given["arch"])
        if "init_from" in given:
            given |= {"init_from": str(given["init_from"]), "init_from_sha256": None}
        recipe = {name: value for name, value in recipe_flags.items() if value is not None}
        if recipe.get("init", "gaussian") != "gaussian" and "init_std" not in recipe:
            recipe["init_std"] = None  # a config's std goes with its gaussian
        changed = replace(self.recipe, **recipe)
        if changed.head == "gap" and "dropout" in recipe:
            raise UsageError("--dropout has no effect with --head gap, which has no hidden FC layers")
        return replace(self, **given, recipe=changed)

    def decisions(self) -> dict[str, Any]:
        """What every checkpoint of the run says of it beside its data."""
        began = {"from": self.weights, "sha256": self.weights_sha256, "layers": self.layers}
        return {
            "recipe": self.recipe.to_json(),
            "seed": self.seed,
            "precision": self.precision,
            "micro_batch": self.micro_batch,
            "layers": self.layers,
            **({"cache_features": True} if self.cache_features else {}),
            **({"skip_bad": True} if self.skip_bad else {}),
            **({"init_from": self.init_from} if self.init_from is not None else {}),
            **({"init_from_sha256": self.init_from_sha256} if self.init_from_sha256 is not None else {}),
            **({"finetuned": began} if self.weights is not None else {}),
            **({"preprocessing": self.preprocessing} if self.preprocessing is not None else {}),
        }

    def to_text(self) -> str:
        return json.dumps({"version": __version__, **asdict(self)}, indent=2) + "\n"
