"""The protocols of Appendix B: the options of a probe, and their defaults, some of which depend on the data set's name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from vggcli import paper
from vggcli.choices import ProbeProtocol
from vggcli.errors import UsageError
from vggcli.probe.targets import Drawing
from vggcli.progress import LOG
from vggcli.records import Count, Ordinal, check_fields

COSTS = (0.01, 0.1, 1.0, 10.0, 100.0)  # C; not in the paper
LARGEST_COST = 1e9
DRAWN = ("train_per_class", "test_per_class", "splits")
# Defaults of data sets that are given by name
OFFICIAL_SPLITS = {"voc2007": ("trainval", "test")}
DRAWINGS = {"caltech256": Drawing(paper.CALTECH256_TRAIN, None)}
ELEVEN_POINTS = ("voc2007",)
# The paper's own: protocol, points of average precision, splits to train and to measure on, random splits
PUBLISHED_PLANS: Mapping[str, tuple[str, str | None, str | None, str | None, Drawing | None]] = {
    "voc2007": ("voc", "11", "trainval", "test", None),
    "voc2012": ("voc", "all", "train", "val", None),
    "caltech101": ("caltech", None, None, None, Drawing()),
    "caltech256": ("caltech", None, None, None, DRAWINGS["caltech256"]),
}


@dataclass(frozen=True)
class ProbePlan:
    """How to probe. None is the default, which may depend on the name of the data.

    protocol: "accuracy", or as in Appendix B "caltech" (random splits) or "voc" (average precision).
    split: what the SVMs are measured on.
    train_split: what they are trained on.
    train_per_class: training images of a class in a random split (caltech).
    test_per_class: images of a class that are measured in a random split, at most (caltech).
    splits: how many random splits (caltech).
    ap: the recalls at which precision is averaged, "11" or "all" (voc).
    costs: the values from which C is chosen.
    norm: "l2" or "none": what the rows of each store are divided by before they are stacked.
    skip_missing: whether to leave out images without a descriptor.
    seed: decides random splits and held-out images.
    """

    protocol: ProbeProtocol = "accuracy"
    split: str | None = None
    train_split: str | None = None
    train_per_class: Ordinal | None = None
    test_per_class: Ordinal | None = None
    splits: Ordinal | None = None
    ap: Literal["11", "all"] | None = None
    costs: Sequence[float] = COSTS
    norm: Literal["l2", "none"] = "l2"
    skip_missing: bool = False
    seed: Count | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def check(self) -> None:
        """Raises UsageError for options without an effect, and for impossible values of C."""
        drawn = next((name for name in DRAWN if getattr(self, name) is not None), None)
        if drawn and self.protocol != "caltech":
            what = f"the protocol {self.protocol} draws no random splits, so their sizes and number have no effect"
            raise UsageError(f"{what}; they belong to caltech", drawn, "protocol")
        if self.protocol == "caltech" and (self.split or self.train_split):
            name = "split" if self.split else "train_split"
            raise UsageError(
                "the protocol caltech draws random splits, so naming a split has no effect", name, "protocol"
            )
        if self.ap is not None and self.protocol != "voc":
            what = f"the points of average precision have no effect with the protocol {self.protocol}"
            raise UsageError(f"{what}; they belong to voc", "ap", "protocol")
        if not self.costs or not all(0 < cost <= LARGEST_COST for cost in self.costs):
            shown = " ".join(f"{cost:g}" for cost in self.costs)
            raise UsageError(f"C must be above 0 and at most {LARGEST_COST:g}, not {shown or 'nothing'}", "costs")
        if self.seed is not None and len(set(self.costs)) == 1 and self.protocol != "caltech":
            what = f"a random seed has no effect with a single value of C and the protocol {self.protocol}"
            raise UsageError(f"{what}: nothing is random", "seed", "costs", "protocol")
        if self.split is not None and self.split == self.train_split:
            what = f"the splits to train on and to measure on are both {self.split}"
            raise UsageError(f"{what}; measure on images that were not trained on", "train_split", "split")

    def settled(self, data: str) -> "ProbePlan":
        """The plan with the defaults for data of this name, which are logged; values of C in order."""
        plan = replace(self, costs=tuple(sorted(set(self.costs))), seed=self.seed or 0)
        if self.protocol == "caltech":
            return plan
        official = OFFICIAL_SPLITS.get(data) if self.protocol == "voc" else None
        train, test = official or ("train", "val")
        if official and self.split is None and self.train_split is None:
            LOG.info(f"{data}: trained on {train}, measured on {test}, its official splits")
        plan = replace(plan, train_split=self.train_split or train, split=self.split or test)
        if self.protocol != "voc" or self.ap is not None:
            return plan
        eleven = data in ELEVEN_POINTS
        LOG.info(f"average precision: {f'at 11 recalls, as {data} is measured' if eleven else 'over all recalls'}")
        return replace(plan, ap="11" if eleven else "all")

    def drawing(self, data: str) -> Drawing | None:
        """The random splits of the protocol caltech, None with any other."""
        if self.protocol != "caltech":
            return None
        given = {name: getattr(self, name) for name in DRAWN if getattr(self, name) is not None}
        return replace(DRAWINGS.get(data, Drawing()), **given)
