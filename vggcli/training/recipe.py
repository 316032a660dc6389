"""The recipe: the hyper-parameters of training. `paper` has the paper's, `tiny` is for a laptop. A run's recipe is written
to its config.json and its checkpoints."""

from dataclasses import asdict, dataclass
from typing import Any, NoReturn, get_args

from vggcli import paper
from vggcli.choices import Head, Init
from vggcli.errors import UsageError
from vggcli.records import RECORD, Ordinal, Positive, Side, read_record
from vggcli.zoo.layers import WIDEST
from vggcli.zoo.scales import LARGEST

MOST = 10_000_000  # epochs, and images a step
STEEPEST = 3e38  # about the largest float32; the loop stops at a loss that is not finite
ABOVE_0, BELOW_1 = 5e-324, 1 - 2**-53  # the floats next to 0 and 1
LIMITS: dict[str, tuple[float, float, str]] = {  # of a recipe's numbers: the least, the most, and both in words
    **dict.fromkeys(("batch_size", "epochs", "patience"), (1, MOST, f"at least 1 and at most {MOST}")),
    "learning_rate": (ABOVE_0, STEEPEST, f"above 0 and at most {STEEPEST:g}"),
    "width": (ABOVE_0, WIDEST, f"above 0 and at most {WIDEST}"),
    "momentum": (0, BELOW_1, "at least 0 and below 1"),
    "dropout": (0, BELOW_1, "at least 0 and below 1"),
    "weight_decay": (0, STEEPEST, f"at least 0 and at most {STEEPEST:g}"),
    "init_std": (ABOVE_0, STEEPEST, f"above 0 and at most {STEEPEST:g}"),
}
WORDS = {"epochs": "number of epochs", "init": "initialisation", "init_std": "standard deviation"}  # in errors


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
            raise UsageError(
                f"S = {high} is out of range: at over {LARGEST} any image has more than 100 megapixels", "scale"
            )
        if low < self.crop:
            raise UsageError(f"S = {low} is below the crop; the smallest usable S is {self.crop}", "scale", "crop")
        for name, (least, most, words) in LIMITS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                self._refuse(name, f"must be {words}")
        for name, known in (("head", ("fc", "gap")), ("init", get_args(Init))):
            if getattr(self, name) not in known:
                self._refuse(name, f"is unknown; give one of {', '.join(known)}")
        if self.init_std is not None and self.init != "gaussian":
            self._refuse("init_std", f"has no effect on the initialisation {self.init}, only on gaussian")

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
        """Raises ValueError for unknown fields and for values of another type or out of range."""
        return read_record(cls, fields, partly=True)


RECIPES: dict[str, Recipe] = {
    "paper": Recipe(),
    "tiny": Recipe(  # found by trial: 13 layers without batch normalisation learn from every seed that was tried
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
