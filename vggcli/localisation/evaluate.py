"""The error of any network and of several together: of classes, or of boxes by either protocol of Appendix A."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vggcli.data.outputs import Output
from vggcli.data.paths import texts_of
from vggcli.errors import UsageError, WeightsError
from vggcli.evaluation.ensemble import Fusion, fuse, need_two
from vggcli.evaluation.measure import Measured, measure
from vggcli.evaluation.options import MeasureOptions, shows_options
from vggcli.evaluation.result import keep_record
from vggcli.localisation.measure import measure_boxes, measure_localisation
from vggcli.localisation.networks import box_network, gives_boxes, one_class
from vggcli.localisation.result import BoxFusion, MeasuredBoxes
from vggcli.localisation.tune import tune_merging
from vggcli.places import Places
from vggcli.progress import Progress, silent
from vggcli.ranks import ALONE, Ranks
from vggcli.records import Amount, check_fields, check_value
from vggcli.weights.find import find_weights, is_published_name, weights_file

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from vggcli.evaluation.options import Asked


@dataclass(frozen=True)
class BoxOptions:
    """How networks of boxes are measured in whole images, by protocol 2 of Appendix A.

    classifier: what says the classes: run folders, checkpoints, published names or saved scores, averaged.
    merging: the match score up to which boxes are merged, by default as the network was tuned, else 0.2.
    tune_merging: choose it on the training split first, and keep it in the checkpoint.

    Raises UsageError for options that contradict each other or have no effect.
    """

    classifier: Sequence[str | Path] = ()
    merging: Amount | None = None
    tune_merging: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        if len(names := self.given()) > 1:
            raise UsageError("a given merging threshold and one to be chosen contradict each other; give one", *names)

    def given(self) -> list[str]:
        """The names of the options of merging that were given."""
        options = {"merging": self.merging is not None, "tune_merging": self.tune_merging}
        return [name for name, given in options.items() if given]

    def check(self, weights: Sequence[Path], asked: MeasureOptions) -> bool:
        """Whether the networks in the files `weights` give boxes. Raises UsageError or WeightsError where the options do
        not suit them."""
        boxes = gives_boxes(weights)
        if (names := self.given()) and not (boxes and asked.dense):
            raise UsageError("merging has no effect but on boxes of whole images, by dense evaluation", *names, "dense")
        if not boxes and self.classifier:
            what = f"{weights[0]} gives classes itself, so a classifier has no effect beside it"
            raise WeightsError(f"{what}; name a network of boxes, or leave the classifier out", "classifier")
        if boxes and self.classifier and not asked.dense:
            raise UsageError(
                "a classifier has no effect without dense evaluation, by which boxes are found", "classifier", "dense"
            )
        return boxes


@shows_options
def evaluate(
    places: Places,
    weights: str | Path | None = None,
    data: str | Path | None = None,
    *,
    split: str = "val",
    arch: str | None = None,
    classifier: str | Path | Sequence[str | Path] = (),
    merging: float | None = None,
    tune_merging: bool = False,
    progress: Progress = silent,
    **asked: "Unpack[Asked]",
) -> Measured | MeasuredBoxes:
    """Measure the error of one network, as `vgg evaluate` does: of a network of boxes the localisation error.

    `weights` are a run folder, a file, a published name ("imagenet"), or None for the newest run of network `arch`; `data`
    a folder, a CSV or the name of a known set, by default what the network was trained on. The evaluation is recorded in
    the run of the weights, if they lie in one.

    Raises UsageError, DataError, WeightsError or MachineError for whatever cannot be used.

    >>> measured = vggcli.evaluate("runs/A-1", "photos/", dense=True, scales=[256, 384])
    >>> measured.evaluation.images, measured.to_json()["protocol"]
    (12, 'dense')
    """
    check_value("weights", weights, str | Path | None)
    options, boxes = MeasureOptions(**asked), BoxOptions(_several(classifier), merging, tune_merging)
    file = find_weights(None if weights is None else Path(weights), arch, places)
    (measured,) = measure_networks([file], data, split, options, boxes, places=places, progress=progress)
    keep_record(measured.evaluation, measured.run)
    return measured


def measure_networks(
    weights: Sequence[Path],
    data: str | Path | None,
    split: str,
    asked: MeasureOptions,
    boxes: BoxOptions,
    *,
    places: Places,
    progress: Progress = silent,
    outputs: Sequence[Output] = (),
    ranks: Ranks = ALONE,
) -> Sequence[Measured | MeasuredBoxes]:
    """`measure` for networks of classes; `measure_boxes`, or with classifiers `measure_localisation` one by one, for those
    of boxes. Raises WeightsError too where there are some of both."""
    if not boxes.check(weights, asked):
        return measure(weights, data, split, asked, places=places, progress=progress, outputs=outputs, ranks=ranks)
    if not asked.dense or not (boxes.classifier or one_class([box_network(file) for file in weights])):
        return measure_boxes(
            weights, data, split, asked, places=places, progress=progress, outputs=outputs, ranks=ranks
        )
    found = []
    for file in weights:
        if boxes.tune_merging:
            tune_merging(file, boxes.classifier, data, asked, places=places, progress=progress, ranks=ranks)
        by, threshold = boxes.classifier, boxes.merging
        fusion = measure_localisation(
            [file], by, data, split, asked, threshold, places=places, progress=progress, outputs=outputs, ranks=ranks
        )
        found.append(fusion.whole)
    return found


@shows_options
def ensemble(
    places: Places,
    members: str | Path | Sequence[str | Path],
    data: str | Path | None = None,
    *,
    split: str | None = None,
    classifier: str | Path | Sequence[str | Path] = (),
    merging: float | None = None,
    progress: Progress = silent,
    **asked: "Unpack[Asked]",
) -> Fusion | BoxFusion:
    """Average the posteriors of `members`, any mix of run folders, checkpoints and files of saved scores, as `vgg ensemble`
    does; of networks of boxes the candidates are united. Networks are evaluated on a `split` ("val" where it is None) of
    `data`.

    Raises UsageError, DataError, WeightsError or MachineError for whatever cannot be used.

    >>> fusion = vggcli.ensemble(["runs/A-1", "runs/A-2"], "photos/")
    >>> [(one["name"], one["images"]) for one in fusion.to_json()["members"]]
    [('runs/A-1', 12), ('runs/A-2', 12)]
    """
    options, boxes = MeasureOptions(**asked), BoxOptions(_several(classifier), merging)
    members = texts_of(members)
    given = [name for name, value in (("data", data), ("split", split)) if value is not None]
    given += options.given()
    return fuse_networks(members, data, split or "val", options, boxes, given, places=places, progress=progress)


def fuse_networks(
    members: Sequence[str | Path],
    data: str | Path | None,
    split: str,
    asked: MeasureOptions,
    boxes: BoxOptions,
    given: Sequence[str],
    *,
    places: Places,
    progress: Progress = silent,
    outputs: Sequence[Output] = (),
    ranks: Ranks = ALONE,
) -> Fusion | BoxFusion:
    """`fuse` for networks of classes and saved scores, `measure_localisation` of all `members` for networks of boxes.
    Raises WeightsError too where there are some of both."""
    files = member_files(members)
    if not boxes.check(files, asked):
        return fuse(members, data, split, asked, given, places=places, progress=progress, outputs=outputs, ranks=ranks)
    if len(set(files)) < 2 or len(set(files)) < len(files):
        raise UsageError("an ensemble needs at least two networks, each named once")
    if not asked.dense:
        raise UsageError("boxes of several networks are united in whole images, by dense evaluation", "dense")
    by, threshold = boxes.classifier, boxes.merging
    return measure_localisation(
        files, by, data, split, asked, threshold, places=places, progress=progress, outputs=outputs, ranks=ranks
    )


def member_files(members: Sequence[str | Path]) -> list[Path]:
    """The files of the members of an ensemble; published names stay as they are. Raises WeightsError for one that is not
    there, UsageError for a single one."""
    need_two(members)
    paths = [Path(one).expanduser() for one in members]
    return [path if is_published_name(path) else weights_file(path) for path in paths]


def _several(classifier: str | Path | Sequence[str | Path]) -> Sequence[str | Path]:
    return texts_of(classifier) if classifier else ()
