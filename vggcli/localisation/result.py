"""The results of measuring boxes: their record, the outcome and the guesses of every image, and those of several networks
whose candidates are united."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vggcli import __version__
from vggcli.choices import Decode, Precision
from vggcli.data.image_set import ImageSet
from vggcli.localisation.error import ImageOutcome, Localisation, localisation
from vggcli.localisation.localise import Guess
from vggcli.localisation.networks import BoxNetwork
from vggcli.metrics import error_rate, hidden_top5
from vggcli.records import OPEN
from vggcli.results import Result
from vggcli.weights.find import run_of

BoxProtocol = Literal["ground-truth", "full"]  # protocol 1 and protocol 2 of Appendix A
_OF_CLASSES = (  # figures that there are only where the class is guessed, too
    *("classification_part", "box_part", "mean_iou_guessed", "classifier", "merging"),
    *("correct_top1", "correct_top5"),
)


@dataclass(frozen=True)
class BoxEvaluation:
    """One measured localisation error, as `Evaluation` has that of classes: `correct` images have a right box of their
    class, in `guessed` ones a guess has that class (in all where the class is given); `mean_iou` is that of the best box.
    By the protocol "full" also the counts of the classifiers (paths or names) and how boxes were merged; `decode` says
    where JPEGs were decoded, `precision` in what the network ran (None: not recorded)."""

    arch: str
    weights: str
    weights_sha256: str
    data: str
    split: str
    protocol: str
    box_protocol: BoxProtocol
    scales: tuple[int, ...]
    flip: bool
    images: int
    skipped: int
    classes: int
    correct: int
    guessed: int
    mean_iou: float
    preprocessing: dict[str, Any]
    seconds: float
    network: dict[str, Any]
    classifier: tuple[str, ...] = ()
    correct_top1: int | None = None
    correct_top5: int | None = None
    merging: dict[str, float] | None = None
    decode: Decode = "cpu"
    precision: Precision | None = None
    __pydantic_config__ = OPEN  # a record also has the figures that follow from these

    @property
    def localisation(self) -> Localisation:
        return Localisation(self.images, self.correct, self.guessed, self.mean_iou)

    @property
    def localisation_error(self) -> float:
        return self.localisation.localisation_error

    @property
    def top1_error(self) -> float | None:
        """Of the classifiers; None by the protocol "ground-truth"."""
        return None if self.correct_top1 is None else error_rate(self.correct_top1, self.images)

    @property
    def top5_error(self) -> float | None:
        return None if self.correct_top5 is None else error_rate(self.correct_top5, self.images)

    @property
    def images_per_second(self) -> float:
        return self.images / max(self.seconds, 1e-9)

    def to_json(self) -> dict[str, Any]:
        """The fields, and the figures that follow from them, as far as they were measured."""
        full = ("top1_error", "top5_error") if self.box_protocol == "full" else ()
        derived = {name: getattr(self, name) for name in (*full, "images_per_second")}
        figures = {**vars(self), **self.localisation.to_json(), **derived}
        if self.box_protocol == "ground-truth":
            figures = {name: value for name, value in figures.items() if name not in _OF_CLASSES}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in figures.items()}


@dataclass(frozen=True)
class BoxEvaluationRecord(BoxEvaluation):
    """An evaluation as a run keeps it, with its `date` (ISO 8601, UTC) and the version of this program."""

    date: str = ""
    version: str = __version__


@dataclass(frozen=True)
class MeasuredBoxes(Result):
    """An evaluation with the outcome and the guesses of each of its `images`, in their order (the boxes of one with its
    own class alone by the protocol "ground-truth", whose guesses have the score 1), and the networks: one, or several whose
    candidates were united."""

    evaluation: BoxEvaluation
    outcomes: tuple[ImageOutcome, ...]
    guesses: tuple[tuple[Guess, ...], ...]
    images: ImageSet
    networks: tuple[BoxNetwork, ...]

    @property
    def weights(self) -> Path:
        """The file of the first network."""
        return self.networks[0].path

    @property
    def run(self) -> Path | None:
        """The run folder that the weights of a single network lie in, if they lie in one."""
        return run_of(self.weights) if len(self.networks) == 1 else None

    def to_json(self) -> dict[str, Any]:
        """The object that `vgg evaluate --json` prints."""
        return self.evaluation.to_json()

    def hidden(self) -> tuple[str, ...]:
        return hidden_top5(self.evaluation.classes)


@dataclass(frozen=True)
class BoxFusion(Result):
    """Several box networks, each alone and all of them with their candidates united before merging, by the same classifiers
    at all their scales; `names` are those of the members."""

    members: tuple[MeasuredBoxes, ...]
    whole: MeasuredBoxes
    names: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The figures of the whole, named as those of one network, with those of every member."""
        of_one = ("weights", "weights_sha256", "network", "preprocessing")
        whole = {name: value for name, value in self.whole.to_json().items() if name not in of_one}
        members = [{"name": name, **one.to_json()} for name, one in zip(self.names, self.members, strict=True)]
        return {**whole, "weights": [one["weights"] for one in members], "members": members}

    def table(self) -> list[dict[str, Any]]:
        """One row per member, and for the whole."""
        names = ("images", "correct", "localisation_error", "mean_iou")
        rows = zip((*self.names, "all"), (*self.members, self.whole), strict=True)
        return [{"members": name, **{key: one.to_json()[key] for key in names}} for name, one in rows]


@dataclass(frozen=True)
class HowMeasured:
    """What an evaluation says of data, classifiers, merging, decoding and precision."""

    data: str
    split: str
    classifier: tuple[str, ...] = ()
    threshold: float | None = None
    decode: Decode = "cpu"
    precision: Precision | None = None


def box_evaluation(
    networks: Sequence[BoxNetwork],
    outcomes: Sequence[ImageOutcome],
    correct: tuple[int, int] | None,
    scales: tuple[int, ...],
    flip: bool,
    images: ImageSet,
    skipped: int,
    how: HowMeasured,
    seconds: float,
) -> BoxEvaluation:
    """The record of `outcomes`; `correct` are how many images the classifiers have first, and among the first five."""
    config, colour = networks[0].checkpoint.config, networks[0].checkpoint.preprocessing
    divisor = list(colour.divisor) if isinstance(colour.divisor, tuple) else colour.divisor
    shape = {name: getattr(config, name) for name in ("crop", "width", "head", "boxes")}
    found, full = localisation(outcomes), correct is not None
    return BoxEvaluation(
        arch="+".join(one.checkpoint.config.arch for one in networks),
        weights=" + ".join(str(one.path.resolve()) for one in networks),
        weights_sha256="+".join(one.sha256 for one in networks),
        data=how.data,
        split=how.split,
        protocol="dense" if full else "centre-crop",
        box_protocol="full" if full else "ground-truth",
        scales=scales,
        flip=flip,
        images=found.images,
        skipped=skipped,
        classes=len(images.classes),
        correct=found.correct,
        guessed=found.guessed,
        mean_iou=found.mean_iou,
        preprocessing={"mean": list(colour.mean), "divisor": divisor},
        seconds=seconds,
        network={**shape, "scale": list(networks[0].checkpoint.scale)},
        classifier=how.classifier,
        correct_top1=correct[0] if correct else None,
        correct_top5=correct[1] if correct else None,
        merging=None if how.threshold is None else {"threshold": how.threshold},
        decode=how.decode,
        precision=how.precision,
    )
