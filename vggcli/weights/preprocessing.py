"""The preprocessing that a network of another framework expects, for files that do not state it themselves."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from vggcli.errors import UsageError, did_you_mean
from vggcli.records import OPEN, Positive, parsed, read_record
from vggcli.regular_files import irregular

Channels = Literal["RGB", "BGR"]
Triple = tuple[float, float, float]
Divisors = Positive | tuple[Positive, Positive, Positive]
_LONGEST = 1 << 20  # bytes of a file of preprocessing
KEYS = "mean with divisor (pixels from 0 to 255) or std (from 0 to 1), and channels (RGB or BGR)"


@dataclass(frozen=True)
class ExpectedPixels:
    """A preprocessing: the order of channels that the weights expect, and `mean` and `divisor` (one, or one per channel)
    for pixels from 0 to 255, which are always in the order RGB here."""

    channels: Channels
    mean: Triple
    divisor: float | Triple

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads: mean and divisor in the order of the channels."""
        step = -1 if self.channels == "BGR" else 1
        divisor = list(self.divisor[::step]) if isinstance(self.divisor, tuple) else self.divisor
        return {"channels": self.channels, "mean": list(self.mean[::step]), "divisor": divisor}

    @classmethod
    def from_json(cls, fields: Any) -> "ExpectedPixels":
        """From mean and divisor in the order of the channels, as `vgg convert` gives them among other things, or mean and
        std for pixels from 0 to 1, as torchvision and timm write them.

        Raises ValueError where they are neither.
        """
        if not isinstance(fields, dict) or "mean" not in fields or ("divisor" in fields) == ("std" in fields):
            raise ValueError(f"it must be an object with {KEYS}")
        known = ("mean", "std", "divisor", "channels")
        for name in fields:
            meant = get_close_matches(str(name).casefold(), known, 1, 0.75)
            if name not in known and meant:
                raise ValueError(f"it has no key {name!r}; do you mean {meant[0]!r}?")
        given = read_record(_Given, fields, partly=True)
        divisor, largest = (given.divisor, 1.0) if given.std is None else (given.std, 255.0)
        if divisor is None or None not in (given.divisor, given.std):
            raise ValueError(f"it must be an object with {KEYS}")
        divisors = divisor if isinstance(divisor, tuple) else (divisor,) * 3
        if given.std is not None and max(*given.mean, *divisors) > 1:
            raise ValueError("std goes with a mean for pixels from 0 to 1; for pixels from 0 to 255 give divisor")
        if given.std is None and 0 < max(given.mean) <= 1 < max(divisors):
            raise ValueError("divisor goes with a mean for pixels from 0 to 255; for pixels from 0 to 1 give std")
        step = -1 if given.channels == "BGR" else 1
        red, green, blue = [largest * number for number in given.mean][::step]
        over_red, over_green, over_blue = [largest * number for number in divisors][::step]
        over = (over_red, over_green, over_blue) if isinstance(divisor, tuple) else over_red
        return cls(given.channels, (red, green, blue), over)


@dataclass(frozen=True)
class _Given:
    """What a file of preprocessing may say, among other things."""

    mean: Triple
    divisor: Divisors | None = None
    std: Divisors | None = None
    channels: Channels = "RGB"
    __pydantic_config__ = OPEN


_OXFORD = ExpectedPixels("BGR", (123.68, 116.779, 103.939), 1.0)  # of the published Caffe weights
PIXELS = {
    "torchvision": ExpectedPixels(  # ToTensor's 0 to 1, here in 0 to 255; timm's copies keep it
        "RGB", (255 * 0.485, 255 * 0.456, 255 * 0.406), (255 * 0.229, 255 * 0.224, 255 * 0.225)
    ),
    "caffe": _OXFORD,
    "keras": _OXFORD,  # keras.applications.vgg16 follows Caffe
}
# torchvision's preset for Oxford's convolutions alone, whose mean is rounded
TORCHVISION_OXFORD = ExpectedPixels("RGB", (255 * 0.48235, 255 * 0.45882, 255 * 0.40784), 1.0)


def read_pixels(given: str) -> ExpectedPixels:
    """The preprocessing that a name or a JSON file gives. Raises UsageError where there is none."""
    if given.lower() in PIXELS:
        return PIXELS[given.lower()]
    path = Path(given).expanduser()
    if path.suffix.lower() != ".json" or not path.is_file():
        kind = irregular(path)
        there = f"is {kind}, not a regular file" if kind else "is not there"
        what = f"{path} {there}" if path.suffix.lower() == ".json" else f"there is no preprocessing {given!r}"
        advice = did_you_mean(given, PIXELS) or f"; give {', '.join(PIXELS)} or a FILE.json with {KEYS}"
        raise UsageError(f"{what}{advice}", "preprocessing")
    try:
        if path.stat().st_size > _LONGEST:
            raise ValueError("it is over 1 MiB")
        return ExpectedPixels.from_json(parsed(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise UsageError(f"the preprocessing {path} cannot be used: {error}", "preprocessing") from error
