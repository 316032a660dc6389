"""The recipe: every number that decides what a training run learns. `paper` holds the paper's own, `tiny` is for a
laptop. Frozen: a run's recipe is written to its config.json and into its checkpoints."""

from dataclasses import asdict, dataclass
from typing import Any, NoReturn

from vggcli import paper
from vggcli.choices import Head, Init
from vggcli.errors import UsageError
from vggcli.records import RECORD, Ordinal, Positive, Side, read_record
from vggcli.zoo.initialise import INITS
from vggcli.zoo.layers import WIDEST
from vggcli.zoo.scales import LARGEST

MOST = 10_000_000  # epochs, and images a step
STEEPEST = 3e38  # what a float32 holds; a loss that is no longer finite says the rest
WORDS = {
    "epochs": "number of epochs",
    "init": "initialisation",
    "init_std": "standard deviation",
}  # what errors call them


@dataclass(frozen=True)
class Recipe:
    """`scale` is the range of S, smallest and largest shorter side in pixels; the defaults are the paper's (section
    3.1) but for `patience`, the epochs without a lower validation error that count as a stall: not in the paper."""

    scale: tuple[Side, Side] = (paper.SCALE, paper.SCALE)
    crop: Side = paper.CROP
    width: Positive = 1.0
    head: Head = "fc"
    batch_size: Ordinal = paper.BATCH_SIZE
    epochs: Ordinal = paper.EPOCHS
    learning_rate: float = paper.LEARNING_RATE
    patience: Ordinal = 5
    momentum: float = paper.MOMENTUM
    weight_decay: float = paper.WEIGHT_DECAY
    dropout: float = paper.DROPOUT
    init: Init = "glorot"
    init_std: float | None = None
    __pydantic_config__ = RECORD

    def __post_init__(self) -> None:
        low, high = self.scale
        if low > high:
            raise UsageError(f"S from {low} to {high}: the first must not be above the second", "scale_jitter")
        if high > LARGEST:
            raise UsageError(f"S = {high} is out of range: at over {LARGEST} any image has more than 100 megapixels")
        if low < self.crop:
            raise UsageError(f"S = {low} is below the crop; the smallest usable S is {self.crop}", "scale", "crop")
        for name in ("batch_size", "epochs", "patience"):
            if not 1 <= getattr(self, name) <= MOST:
                self._refuse(name, f"must be at least 1 and at most {MOST}")
        if not 0 < self.learning_rate <= STEEPEST:
            self._refuse("learning_rate", f"must be above 0 and at most {STEEPEST:g}")
        if not 0 < self.width <= WIDEST:
            self._refuse("width", f"must be above 0 and at most {WIDEST}")
        for name in ("momentum", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                self._refuse(name, "must be at least 0 and below 1")
        if not 0 <= self.weight_decay <= STEEPEST:
            self._refuse("weight_decay", f"must be at least 0 and at most {STEEPEST:g}")
        if self.head not in ("fc", "gap"):
            self._refuse("head", "is not known; give fc or gap")
        if self.init not in INITS:
            self._refuse("init", f"is not known; give one of {', '.join(INITS)}")
        if self.init_std is not None and self.init != "gaussian":
            self._refuse("init_std", f"has no effect on the initialisation {self.init}, only on gaussian")
        if self.init_std is not None and not 0 < self.init_std <= STEEPEST:
            self._refuse("init_std", f"must be above 0 and at most {STEEPEST:g}")

    def _refuse(self, name: str, why: str) -> NoReturn:
        value = getattr(self, name)
        shown = f"{value:g}" if isinstance(value, float) else value
        raise UsageError(f"the {WORDS.get(name, name.replace('_', ' '))} {shown} {why}", name)

    @property
    def test_scale(self) -> int:
        """Q for validation: S, or the middle of its range (section 4.1)."""
        return sum(self.scale) // 2

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Recipe":
        """Raises ValueError for fields that no recipe has."""
        return read_record(cls, fields, partly=True)


RECIPES: dict[str, Recipe] = {
    "paper": Recipe(),
    "tiny": Recipe(  # found by trial: 13 layers without batch normalisation take off from every seed tried
        scale=(64, 80),
        crop=64,
        width=0.25,
        batch_size=16,
        epochs=14,
        learning_rate=0.003,
        patience=4,
        dropout=0.3,
        init="he",
    ),
}
