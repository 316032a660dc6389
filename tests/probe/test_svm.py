"""The probe against scikit-learn used plainly, and what it must refuse."""

import sys

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.svm import LinearSVC

from vggcli.errors import DataError, MachineError
from vggcli.metrics import average_precision
from vggcli.probe.plan import ProbePlan
from vggcli.probe.svm import best_at_an_end, probe_splits, svms_in
from vggcli.probe.targets import Ints, TrainTest, held_out_rows, label_targets

CLASSES = ("a", "b", "c", "d")


def blobs(images: int, dimension: int, seed: int = 0, noise: float = 3) -> tuple[NDArray[np.float32], Ints]:
    """Descriptors of length 1 around four centres that overlap, and their labels."""
    draw = np.random.default_rng(seed)
    centres_KD = np.random.default_rng(99).normal(size=(4, dimension)) * 2.2 / np.sqrt(dimension)
    labels_N = draw.integers(0, 4, images)
    features_ND = centres_KD[labels_N] + draw.normal(size=(images, dimension)) / np.sqrt(dimension) * noise
    features_ND /= np.linalg.norm(features_ND, axis=1, keepdims=True)
    return features_ND.astype(np.float32), labels_N


def halves(images: int) -> TrainTest:
    return np.arange(images // 2), np.arange(images // 2, images)


@pytest.mark.parametrize(
    ("images", "dimension", "noise"), [(240, 20, 3), (240, 300, 12)]
)  # the second: fewer images than D
@pytest.mark.parametrize("protocol", ["accuracy", "caltech"])
def test_it_is_linear_svc_one_against_the_rest(images: int, dimension: int, noise: float, protocol: str) -> None:
    features_ND, labels_N = blobs(images, dimension, noise=noise)
    train, test = halves(images)
    options = ProbePlan(protocol, costs=(1.0,))  # type: ignore[arg-type]
    result = probe_splits(
        features_ND, label_targets(labels_N, 4), labels_N, CLASSES, [(train, test)], options, workers=2
    )
    plain = LinearSVC(C=1.0, dual=False).fit(features_ND[train].astype(np.float64), labels_N[train])
    right_N = plain.predict(features_ND[test].astype(np.float64)) == labels_N[test]
    recalls = [100 * right_N[labels_N[test] == label].mean() for label in range(4)]
    assert result.per_class == pytest.approx(recalls)
    wanted = 100 * right_N.mean() if protocol == "accuracy" else np.mean(recalls)
    assert 50 < wanted < 99  # neither trivial nor hopeless
    assert result.figure == pytest.approx(wanted)
    assert result.deviation is None
    assert result.dimension == dimension


def test_c_is_the_best_on_the_held_out_fifth_and_all_images_are_fitted_then() -> None:
    features_ND, labels_N = blobs(200, 30, seed=5)
    train, test = halves(200)
    costs = (0.001, 0.1, 1.0, 1000.0)
    seen: list[int] = []
    options = ProbePlan(costs=costs, seed=7)
    result = probe_splits(
        features_ND, label_targets(labels_N, 4), labels_N, CLASSES, [(train, test)], options, progress=seen.append
    )
    assert sum(seen) == svms_in(1, 4, options) == 20
    x, y, held_N = features_ND[train].astype(np.float64), labels_N[train], held_out_rows(labels_N[train], 7)
    scores = [LinearSVC(C=c, dual=False).fit(x[~held_N], y[~held_N]).score(x[held_N], y[held_N]) for c in costs]
    (split,) = result.splits
    assert split.held_out == pytest.approx([100 * score for score in scores])
    assert split.cost == costs[int(np.argmax(scores))]
    assert len(set(scores)) > 1
    whole = LinearSVC(C=split.cost, dual=False).fit(x, y)
    assert split.measured.figure == pytest.approx(
        100 * whole.score(features_ND[test].astype(np.float64), labels_N[test])
    )
    assert (split.train_images, split.test_images, split.unfinished) == (100, 100, 0)


def test_of_equal_figures_the_smallest_c_is_taken() -> None:
    features_ND = np.repeat(np.eye(4, dtype=np.float32), 10, axis=0)
    labels_N = np.repeat(np.arange(4), 10)
    rows = np.arange(40)
    result = probe_splits(features_ND, label_targets(labels_N, 4), labels_N, CLASSES, [(rows, rows)], ProbePlan())
    assert result.splits[0].held_out == (100,) * 5
    assert result.splits[0].cost == 0.01


def test_the_deviation_is_over_the_splits() -> None:
    features_ND, labels_N = blobs(240, 20)
    draw = np.random.default_rng(0)
    parts = [(rows[:100], rows[100:]) for rows in (draw.permutation(240) for _ in range(3))]
    options = ProbePlan("caltech", costs=(1.0,))
    result = probe_splits(features_ND, label_targets(labels_N, 4), labels_N, CLASSES, parts, options)
    figures = [one.measured.figure for one in result.splits]
    mean = sum(figures) / 3
    assert result.figure == pytest.approx(mean)
    assert result.deviation == pytest.approx((sum((one - mean) ** 2 for one in figures) / 2) ** 0.5)
    assert len(set(figures)) > 1


@pytest.mark.parametrize("eleven_points", [True, False])
def test_voc_is_the_mean_over_classes_of_machines_on_the_images_that_count(eleven_points: bool) -> None:
    features_ND, labels_N = blobs(240, 20, seed=2)
    draw = np.random.default_rng(3)
    targets_NK = np.where(draw.random((240, 4)) < 0.15, 1, label_targets(labels_N, 4))  # several classes an image
    targets_NK[draw.random((240, 4)) < 0.1] = 0
    train, test = halves(240)
    options = ProbePlan("voc", costs=(1.0,), ap="11" if eleven_points else "all")
    result = probe_splits(features_ND, targets_NK, labels_N, CLASSES, [(train, test)], options)
    for column in range(4):
        fits, counts = train[targets_NK[train, column] != 0], test[targets_NK[test, column] != 0]
        machine = LinearSVC(C=1.0, dual=False).fit(features_ND[fits].astype(np.float64), targets_NK[fits, column])
        scores_N = machine.decision_function(features_ND[counts].astype(np.float64))
        wanted = average_precision(scores_N, targets_NK[counts, column] == 1, eleven_points)
        assert wanted is not None
        assert result.per_class[column] == pytest.approx(100 * wanted)
    assert result.figure == pytest.approx(np.mean(np.array(result.per_class, float)))


def test_a_class_without_a_test_image_is_left_out_of_the_mean() -> None:
    features_ND, labels_N = blobs(240, 20)
    train, test = halves(240)
    test = test[labels_N[test] != 2]
    for protocol in ("caltech", "voc"):
        options = ProbePlan(protocol, costs=(1.0,))
        result = probe_splits(features_ND, label_targets(labels_N, 4), labels_N, CLASSES, [(train, test)], options)
        assert result.per_class[2] is None
        assert result.figure == pytest.approx(np.mean([one for one in result.per_class if one is not None]))


def test_a_class_that_is_not_among_the_images_kept_to_choose_c_does_no_harm() -> None:
    features_ND, labels_N = blobs(60, 8)
    targets_NK = label_targets(labels_N, 4)
    rare = held_out_rows(labels_N[:40], 0).nonzero()[0][:1]
    targets_NK[:, 3] = -1
    targets_NK[rare, 3] = 1  # its only image is held out
    part = (np.arange(40), np.arange(40, 60))
    result = probe_splits(features_ND, targets_NK, labels_N, CLASSES, [part], ProbePlan("voc"))
    assert result.per_class[3] is None


def test_a_class_without_an_image_to_learn_from_is_nobodys_answer_when_c_is_chosen() -> None:
    features_ND, labels_N = blobs(60, 8, noise=0.3)
    targets_NK = np.concatenate([label_targets(labels_N, 4), np.full((60, 1), -1)], axis=1)
    targets_NK[held_out_rows(labels_N[:40], 0).nonzero()[0][0], 4] = 1  # its only image is held out
    part, options = (np.arange(40), np.arange(40, 60)), ProbePlan("accuracy", costs=(0.1, 0.2))
    result = probe_splits(features_ND, targets_NK, labels_N, (*CLASSES, "e"), [part], options)
    assert result.splits[0].held_out == (100, 100)


def test_what_cannot_be_learnt_is_said() -> None:
    features_ND, labels_N = blobs(40, 8)
    targets_NK, part = label_targets(labels_N, 4), halves(40)
    with pytest.raises(DataError, match="one class only, 'a'"):
        probe_splits(features_ND, targets_NK[:, :1], labels_N, ("a",), [part], ProbePlan())
    for value, message in (
        (-1, "'b' has no training image"),
        (0, "'b' has no training"),
        (1, "'b' is in every training"),
    ):
        changed_NK = targets_NK.copy()
        changed_NK[:, 1] = value
        with pytest.raises(DataError, match=message):
            probe_splits(features_ND, changed_NK, labels_N, CLASSES, [part], ProbePlan())
    four = np.array([np.flatnonzero(labels_N == label)[0] for label in range(4)])
    with pytest.raises(DataError, match="one training image"):
        probe_splits(features_ND, targets_NK, labels_N, CLASSES, [(four, part[1])], ProbePlan())
    alone = probe_splits(features_ND, targets_NK, labels_N, CLASSES, [(four, part[1])], ProbePlan(costs=(1.0,)))
    assert alone.splits[0].train_images == 4


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    features_ND, labels_N = blobs(40, 8)
    with pytest.raises(MachineError, match=r"pip install 'vggcli\[probe\]'"):
        probe_splits(features_ND, label_targets(labels_N, 4), labels_N, CLASSES, [halves(40)], ProbePlan())


@pytest.mark.parametrize(
    ("figures", "wanted"),
    [((90, 80, 70), True), ((70, 80, 90), True), ((70, 90, 80), False), ((90, 90, 80), False), ((1, 9, 9), False)],
)
def test_a_best_cbest_at_an_end_of_the_range_is_told_from_one_within(figures: tuple[float, ...], wanted: bool) -> None:
    assert best_at_an_end(figures) == wanted
    assert not best_at_an_end(())
