"""The plan of a run: every setting that decides its result, as config.json holds it and options change it."""

import json
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from vggcli import __version__
from vggcli.choices import Boxes, Decode, Layers, Precision
from vggcli.data.own_files import CONFIG
from vggcli.errors import UsageError, WeightsError
from vggcli.records import RECORD, Ordinal, Sha256, parsed, read_record
from vggcli.regular_files import need_regular
from vggcli.training.options import RunOptions, TrainOptions
from vggcli.training.recipe import RECIPES, Recipe
from vggcli.weights.preprocessing import ExpectedPixels
from vggcli.zoo.layers import NetworkConfig, arch_of

LONGEST = 1 << 20  # bytes of a config.json
LARGEST_NUMBER = 2**63 - 1


@dataclass(frozen=True)
class Plan:
    """What decides a run's result; config.json holds it. `init_from` (with its SHA-256) is the network A whose layers a
    deeper one starts with, `weights` (with theirs) are those that fine-tuning starts from, `preprocessing` the one that was
    given for them (`ExpectedPixels.to_json`), `layers` those that learn; with `cache_features` images are not augmented.
    `micro_batch`, once chosen, stays: the last bit of a sum depends on it. `skip_bad` leaves out unusable images; `boxes`
    says that boxes are learnt, and which (Appendix A); `decode` where JPEGs are decoded; `compile` that passes are run by
    torch.compile, which changes last bits."""

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
    boxes: Boxes | None = None
    decode: Decode = "cpu"
    compile: bool = False
    __pydantic_config__ = RECORD

    def __post_init__(self) -> None:
        for name, value, low in (("seed", self.seed, 0), ("max_steps", self.max_steps, 1)):
            if value is not None and not low <= value <= LARGEST_NUMBER:
                said = f"{name.replace('_', ' ')} {value} is out of range"
                raise UsageError(f"{said}: give at least {low} and at most {LARGEST_NUMBER}", name)
        NetworkConfig(
            self.arch, 1, self.recipe.crop, self.recipe.width, self.recipe.head, self.boxes
        )  # before any work

    @classmethod
    def of(cls, options: TrainOptions) -> "Plan":
        """The plan in the config file, or of the recipe; the options that were given replace its own."""
        plan = cls.replayed(options.config, "train") or cls(recipe=RECIPES[options.recipe or "paper"])
        return plan.with_options(options)

    @classmethod
    def replayed(cls, config: str | Path | None, command: str) -> "Plan | None":
        """The plan in the file `config`, None where none is given. Raises UsageError where it is of the other command."""
        if config is None:
            return None
        plan = cls.from_file(Path(config))
        if plan.command != command:
            replay = f"vgg {plan.command} --config {shlex.quote(str(config))}"
            raise UsageError(f"{config} is of a run of `vgg {plan.command}`; replay it with `{replay}`")
        return plan

    @classmethod
    def of_run(cls, run: Path) -> "Plan":
        """The plan of the run in the folder `run`. Raises WeightsError where its config.json is missing or damaged."""
        if not (run / CONFIG).exists():
            raise WeightsError(f"{run} cannot be resumed: its {CONFIG} is missing; put it back")
        try:
            return cls.from_file(run / CONFIG)
        except UsageError as error:
            raise WeightsError(f"{error}; put the run's own {CONFIG} back to resume it") from error

    @classmethod
    def from_file(cls, path: Path) -> "Plan":
        """Raises UsageError where the file is missing, or is not a run's config.json."""
        need_regular(path, UsageError)
        if not path.exists():
            raise UsageError(f"there is no file {path}; give a run's config.json", "config")
        try:
            if path.stat().st_size > LONGEST:
                raise ValueError(f"it is longer than {LONGEST} bytes")
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

    @property
    def command(self) -> str:
        """The command whose runs have such a plan."""
        return "train" if self.weights is None else "finetune"

    def with_options(self, options: RunOptions) -> "Plan":
        """The plan, its settings replaced by those that were given."""
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
        """What every checkpoint of the run holds about it, beside its data."""
        always = {name: getattr(self, name) for name in ("seed", "precision", "micro_batch", "layers", "decode")}
        names = ("cache_features", "skip_bad", "init_from", "init_from_sha256", "preprocessing", "boxes", "compile")
        more = {name: getattr(self, name) for name in names if getattr(self, name) not in (None, False)}
        if self.weights is not None:
            more["finetuned"] = {"from": self.weights, "sha256": self.weights_sha256, "layers": self.layers}
        return {"recipe": self.recipe.to_json(), **always, **more}

    def to_text(self) -> str:
        return json.dumps({"version": __version__, **asdict(self)}, indent=2) + "\n"
