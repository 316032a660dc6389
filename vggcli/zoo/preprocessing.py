"""What becomes of pixels before a network of another framework sees them, for files that do not say it themselves."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from vggcli.errors import UsageError
from vggcli.regular import irregular
from vggcli.zoo.foreign import DIVISOR, MEAN
from vggcli.zoo.recognise import OXFORD_MEAN

Channels = Literal["RGB", "BGR"]
LONGEST = 1 << 20  # bytes of a file of preprocessing
KEYS = "mean with divisor (pixels from 0 to 255) or std (from 0 to 1), and channels (RGB or BGR)"


@dataclass(frozen=True)
class Pixels:
    """The order of the channels that weights expect, and `mean` and `divisor` (one, or one a channel) of pixels from 0 to
    255, these always in the order RGB."""

    channels: Channels
    mean: tuple[float, float, float]
    divisor: float | tuple[float, float, float]

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads: mean and divisor in the order of the channels."""
        return {**asdict(self), "mean": self._ordered(self.mean), "divisor": self._ordered(self.divisor)}

    def _ordered(self, values: float | Sequence[float]) -> float | list[float]:
        if isinstance(values, int | float):
            return values
        return list(values)[::-1] if self.channels == "BGR" else list(values)

    @classmethod
    def from_json(cls, fields: Any) -> "Pixels":
        """Mean and divisor in the order of the channels, as `vgg convert --json` prints them beside other things; or mean
        and std of pixels from 0 to 1, as torchvision and timm write them.

        Raises ValueError where they are neither.
        """
        if not isinstance(fields, dict) or "mean" not in fields or ("divisor" in fields) == ("std" in fields):
            raise ValueError(f"it must be an object with {KEYS}")
        known = ("mean", "std", "divisor", "channels")
        for name in fields:
            meant = get_close_matches(str(name).casefold(), known, 1, 0.75)
            if name not in known and meant:
                raise ValueError(f"{name!r} is no key of it; is {meant[0]!r} meant?")
        channels = fields.get("channels", "RGB")
        if channels not in ("RGB", "BGR"):
            raise ValueError(f"channels are RGB or BGR, not {channels!r}"[:200])
        largest = 255.0 if "std" in fields else 1.0
        mean, divisor = fields["mean"], fields["std"] if "std" in fields else fields["divisor"]
        divisors = divisor if isinstance(divisor, list) else [divisor] * 3
        check_numbers(mean, divisors)
        if "std" in fields and max(*mean, *divisors) > 1:
            raise ValueError("std goes with a mean of pixels from 0 to 1; for pixels from 0 to 255 give divisor")
        if "divisor" in fields and 0 < max(mean) <= 1 < max(divisors):
            raise ValueError("divisor goes with a mean of pixels from 0 to 255; for pixels from 0 to 1 give std")
        step = -1 if channels == "BGR" else 1
        red, green, blue = [largest * number for number in mean][::step]
        over = tuple(largest * number for number in divisors)[::step]
        return cls(channels, (red, green, blue), over if isinstance(divisor, list) else largest * divisor)


def check_numbers(mean: Any, divisors: Any) -> None:
    """Raises ValueError unless these are three means and three divisors that pixels can be brought to a network with."""
    listed = isinstance(mean, list | tuple) and isinstance(divisors, list | tuple)
    numbers: list[Any] = [*mean, *divisors] if listed else [None]
    finite = all(type(number) in (int, float) and math.isfinite(number) for number in numbers)
    if not finite or len(mean) != 3 or len(divisors) != 3 or min(divisors) <= 0:
        shown = divisors[0] if listed and len(divisors) == 3 and len({*map(str, divisors)}) == 1 else divisors
        raise ValueError(f"a preprocessing with the mean {mean} and the divisor {shown}"[:200])


PIXELS = {
    "torchvision": Pixels("RGB", MEAN, DIVISOR),
    "caffe": Pixels("BGR", OXFORD_MEAN, 1.0),
    "keras": Pixels("BGR", OXFORD_MEAN, 1.0),  # of keras.applications.vgg16, which follows Caffe
}


def read_pixels(given: str) -> Pixels:
    """The preprocessing that a name or a JSON file gives. Raises UsageError where it gives none."""
    if given.lower() in PIXELS:
        return PIXELS[given.lower()]
    path = Path(given).expanduser()
    if path.suffix.lower() != ".json" or not path.is_file():
        kind = irregular(path)
        there = f"is {kind}, not a regular file" if kind else "is not there"
        what = f"{path} {there}" if path.suffix.lower() == ".json" else f"there is no preprocessing {given!r}"
        raise UsageError(f"{what}; give --preprocessing {', '.join(PIXELS)} or a FILE.json with {KEYS}")
    try:
        if path.stat().st_size > LONGEST:
            raise ValueError("it is far too long")
        return Pixels.from_json(json.loads(path.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"--preprocessing {path} cannot be used: {reason}") from error
