"""The plan of a run: every choice that decides its result, as config.json holds it and options change it."""

import json
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from vggcli import __version__
from vggcli.choices import Layers, Precision
from vggcli.errors import UsageError
from vggcli.records import RECORD, Ordinal, Sha256, parsed, read_record
from vggcli.regular import need_regular
from vggcli.training.options import RunOptions, TrainOptions
from vggcli.training.recipe import RECIPES, Recipe
from vggcli.weights.preprocessing import ExpectedPixels
from vggcli.zoo.layers import NetworkConfig, arch_of

LONGEST = 1 << 20  # bytes of a config.json
LARGEST_NUMBER = 2**63 - 1


@dataclass(frozen=True)
class Plan:
    """What decides a run's result; config.json holds it. `init_from` (with its SHA-256) is the network A whose layers a
    deeper one starts with, `weights` (with theirs) are those that fine-tuning starts from, `preprocessing` what was given
    for them (`ExpectedPixels.to_json`), `layers` those that learn, and `cache_features` says that images are not augmented.
    `micro_batch`, once a run has one, decides the last bit of its sums; `skip_bad` leaves images out that cannot be
    used."""

    arch: str = "D"
    data: str | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    max_steps: Ordinal | None = None
    init_from: str | None = None
    init_from_sha256: Sha256 | None = None
    precision: Precision = "auto"
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
        for name, value, low in (("seed", self.seed, 0), ("max_steps", self.max_steps, 1)):
            if value is not None and not low <= value <= LARGEST_NUMBER:
                said = f"{name.replace('_', ' ')} {value} is out of range"
                raise UsageError(f"{said}: give at least {low} and at most {LARGEST_NUMBER}", name)
        NetworkConfig(self.arch, 1, self.recipe.crop, self.recipe.width, self.recipe.head)  # before any work

    @classmethod
    def of(cls, options: TrainOptions) -> "Plan":
        """A recipe or a config file, with the options that were given in front."""
        if options.recipe is not None and options.config is not None:
            raise UsageError("a recipe and a config contradict each other; give one", "recipe", "config")
        plan = cls(recipe=RECIPES[options.recipe or "paper"])
        if options.config is not None:
            plan = cls.from_file(Path(options.config))
        if plan.weights is not None:
            command = f"vgg finetune --config {shlex.quote(str(options.config))}"
            raise UsageError(f"{options.config} is of a fine-tuned run; replay it with `{command}`")
        return plan.with_options(options)

    @classmethod
    def from_file(cls, path: Path) -> "Plan":
        """Raises UsageError where the file is not what a run writes."""
        need_regular(path, UsageError)
        if not path.exists():
            raise UsageError(f"there is no file {path}; give a run's config.json", "config")
        try:
            if path.stat().st_size > LONGEST:
                raise ValueError("it is far too long")
            fields = parsed(path.read_bytes())
            if not isinstance(fields, dict) or "recipe" not in fields:
                raise ValueError("recipe is missing")
            fields.pop("version", None)
            plan = read_record(cls, fields, partly=True)
            if plan.preprocessing is not None:
                ExpectedPixels.from_json(plan.preprocessing)
            return replace(plan, arch=arch_of(plan.arch))
        except (OSError, ValueError, UsageError) as error:
            raise UsageError(f"{path} is not a run's config.json: {error}") from error

    def with_options(self, options: RunOptions) -> "Plan":
        """The plan with what was given in place of its own."""
        run, recipe = options.of_run(), options.of_recipe()
        if "arch" in run:
            run["arch"] = arch_of(run["arch"])
        if "data" in run:
            run["data"] = str(run["data"])
        if "init_from" in run:
            run |= {"init_from": str(run["init_from"]), "init_from_sha256": None}
        if recipe.get("init", "gaussian") != "gaussian" and "init_std" not in recipe:
            recipe["init_std"] = None  # a config's std goes with its gaussian
        changed = replace(self.recipe, **recipe)
        if changed.head == "gap" and "dropout" in recipe:
            raise UsageError("dropout has no effect on the head gap, which has no hidden FC layers", "dropout", "head")
        return replace(self, **run, recipe=changed)

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
