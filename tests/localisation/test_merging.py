"""Merging equals a naive loop written from OverFeat's text, whatever the order of the candidates."""

import itertools
import time

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from vggcli.localisation import merging
from vggcli.localisation.merging import Merged, merge, merge_classes


def match_scores(boxes_N4: Tensor) -> Tensor:
    """The match scores of all pairs, [N, N]."""
    centres_N2, sizes_N = (boxes_N4[:, :2] + boxes_N4[:, 2:]) / 2, (boxes_N4[:, 2:] - boxes_N4[:, :2]).sum(1) / 2
    distances_NN = (centres_N2[:, None] - centres_N2).square().sum(2).sqrt()
    mean_sizes_NN = (sizes_N[:, None] + sizes_N) / 2
    ious_NN: Tensor = box_iou(boxes_N4, boxes_N4)
    return distances_NN / mean_sizes_NN + (1 - ious_NN)


def naive(boxes_N4: Tensor, scores_N: Tensor, threshold: float) -> Merged:
    """Every pair anew at every step, with the members of each box kept."""
    members = [[(box, score)] for *box, score in sorted(torch.column_stack((boxes_N4, scores_N)).double().tolist())]
    while True:
        boxes = [torch.tensor([box for box, _ in some], dtype=torch.float64).sum(0) / len(some) for some in members]
        pairs = list(itertools.combinations(range(len(boxes)), 2))
        if not pairs:
            break
        scores = match_scores(torch.stack(boxes))
        first, second = min(pairs, key=lambda pair: float(scores[pair]))
        if scores[first, second] > threshold:
            break
        members[first] += members.pop(second)
    sums = [sum(score for _, score in some) for some in members]
    rows = sorted(range(len(members)), key=lambda row: (-sums[row], boxes[row].tolist()))
    boxes_M4 = torch.stack([boxes[row] for row in rows]) if rows else torch.zeros(0, 4).double()
    counts = [len(members[row]) for row in rows]
    return Merged(boxes_M4, torch.tensor([sums[row] for row in rows]).double(), torch.tensor(counts).long())


def by_place(merged: Merged) -> Tensor:
    """Its rows as boxes, counts and scores, in the order of coordinates, since sums may differ in the last bit."""
    rows = torch.column_stack((merged.boxes_M4, merged.counts_M, merged.scores_M)).numpy()
    return torch.from_numpy(rows[np.lexsort(np.round(rows, 9).T[::-1])])


def assert_equal(merged: Merged, expected: Merged) -> None:
    torch.testing.assert_close(by_place(merged), by_place(expected), rtol=0, atol=1e-6)
    assert (merged.scores_M.diff() <= 0).all()


def random_boxes(draw: np.random.Generator, count: int) -> Tensor:
    low = draw.uniform(-50, 300, (count, 2))
    return torch.from_numpy(np.concatenate((low, low + draw.uniform(5, 200, (count, 2))), 1))


def noisy_clusters(draw: np.random.Generator, count: int, clusters: int = 4, noise: float = 0.15) -> Tensor:
    """Candidates as a network gives them: around a few objects, off by a share of their size."""
    which = draw.integers(0, clusters, count)
    centres, sizes = draw.uniform(60, 340, (clusters, 2))[which], draw.uniform(40, 200, (clusters, 2))[which]
    centres = centres + draw.normal(0, noise, (count, 2)) * sizes
    sizes = sizes * np.exp(draw.normal(0, noise, (count, 2)))
    return torch.from_numpy(np.concatenate((centres - sizes / 2, centres + sizes / 2), 1))


def integer_boxes(draw: np.random.Generator, count: int) -> Tensor:
    """On a small grid, so that many boxes are equal and many pairs equally near."""
    low = draw.integers(0, 4, (count, 2))
    return torch.from_numpy(np.concatenate((low, low + draw.integers(1, 4, (count, 2))), 1)).double()


THRESHOLDS = (0.0, 0.2, 0.5, 1.0, 1.5, float("inf"))


@pytest.mark.parametrize("make", [random_boxes, noisy_clusters, integer_boxes])
@pytest.mark.parametrize("count", [2, 3, 7, 20, 45])
def test_merging_equals_the_naive_loop(make: object, count: int) -> None:
    draw = np.random.default_rng(count)
    assert callable(make)
    for threshold in THRESHOLDS:
        boxes_CN4 = torch.stack([make(draw, count) for _ in range(3)])
        scores_CN = torch.from_numpy(draw.uniform(size=(3, count)))
        for merged, boxes, scores in zip(
            merge_classes(boxes_CN4, scores_CN, threshold), boxes_CN4, scores_CN, strict=True
        ):
            assert_equal(merged, naive(boxes, scores, threshold))


def test_equally_near_pairs_are_merged_in_the_same_order_as_by_the_naive_loop() -> None:
    draw = np.random.default_rng(5)
    for _ in range(60):
        boxes_N4, threshold = integer_boxes(draw, int(draw.integers(2, 12))), float(draw.uniform(0, 2))
        scores_N = torch.from_numpy(draw.uniform(size=len(boxes_N4)))
        assert_equal(merge(boxes_N4, scores_N, threshold), naive(boxes_N4, scores_N, threshold))


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize(
    "boxes",
    [
        pytest.param([[3, 4, 10, 20]] * 9, id="all equal"),
        pytest.param([[i, i, 40 - i, 60 - i] for i in range(15)], id="nested"),
        pytest.param([[20 * i, 0, 20 * i + 10, 10] for i in range(8)], id="disjoint, equally far"),
        pytest.param([[10 * i, 0, 10 * i + 10, 10] for i in range(8)], id="touching"),
        pytest.param([[i, 0, i + 10, 10] for i in range(12)], id="chain"),
        pytest.param([[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 10, 11]], id="some equal"),
        pytest.param([[1, 2, 3, 4]], id="one"),
        pytest.param([], id="none"),
    ],
)
def test_degenerate_sets(boxes: list[list[int]], threshold: float) -> None:
    boxes_N4 = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
    scores_N = torch.arange(1.0, len(boxes) + 1)
    merged = merge(boxes_N4, scores_N, threshold)
    assert_equal(merged, naive(boxes_N4, scores_N, threshold))
    torch.testing.assert_close(merged.scores_M.sum(), scores_N.double().sum())
    assert int(merged.counts_M.sum()) == len(boxes)


def test_equal_boxes_are_one_at_a_threshold_of_0_whatever_their_coordinates() -> None:
    boxes_N4 = torch.cat((random_boxes(np.random.default_rng(0), 4) / 3, torch.rand(4, 4) + torch.tensor([0, 0, 1, 1])))
    merged = merge(boxes_N4.repeat_interleave(7, 0), torch.ones(56), 0.0)
    assert merged.counts_M.tolist() == [7] * 8
    assert merged.scores_M.tolist() == [7.0] * 8


def test_two_boxes_by_hand() -> None:
    """IoU 1/3, centres 1 apart, mean size (2 + 2) / 2: the match score is 1/2 + 2/3."""
    boxes_N4 = torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2], [1, 0, 3, 2]])
    assert len(merge(boxes_N4, torch.ones(3), 1.1666).boxes_M4) == 2
    (merged,) = merge_classes(boxes_N4[None], torch.tensor([[0.5, 0.25, 0.125]]), 1.1667)
    torch.testing.assert_close(merged.boxes_M4, torch.tensor([[2 / 3, 0, 8 / 3, 2]]).double(), rtol=0, atol=1e-7)
    assert (merged.scores_M.tolist(), merged.counts_M.tolist()) == ([0.875], [3])


@pytest.mark.parametrize("make", [random_boxes, noisy_clusters, integer_boxes])
def test_the_order_of_the_candidates_changes_no_bit(make: object) -> None:
    draw = np.random.default_rng(1)
    assert callable(make)
    for count, threshold in itertools.product((5, 80), THRESHOLDS):
        boxes_N4, scores_N = make(draw, count), torch.from_numpy(draw.uniform(size=count))
        first = merge(boxes_N4, scores_N, threshold)
        for _ in range(5):
            order = draw.permutation(count)
            other = merge(boxes_N4[order], scores_N[order], threshold)
            assert all(torch.equal(getattr(first, name), getattr(other, name)) for name in vars(first))


def test_equal_scores_are_sorted_by_coordinates() -> None:
    merged = merge(torch.tensor([[50.0, 0, 60, 9], [0, 0, 9, 9], [20, 0, 29, 9]]), torch.ones(3), 0.0)
    assert merged.boxes_M4[:, 0].tolist() == [0, 20, 50]


def test_classes_with_the_same_boxes_are_merged_as_one_by_one() -> None:
    draw = np.random.default_rng(2)
    boxes_N4, scores_CN = noisy_clusters(draw, 50), torch.from_numpy(draw.uniform(size=(4, 50)))
    for merged, scores_N in zip(merge_classes(boxes_N4[None], scores_CN, 0.5), scores_CN, strict=True):
        assert_equal(merged, naive(boxes_N4, scores_N, 0.5))


def test_classes_that_end_at_different_times_are_merged_as_one_by_one() -> None:
    draw = np.random.default_rng(3)
    sets = [
        random_boxes(draw, 40),
        integer_boxes(draw, 40),
        torch.ones(40, 4).cumsum(1).double(),
        noisy_clusters(draw, 40),
    ]
    scores_CN = torch.from_numpy(draw.uniform(size=(4, 40)))
    for merged, boxes, scores in zip(merge_classes(torch.stack(sets), scores_CN, 0.6), sets, scores_CN, strict=True):
        assert_equal(merged, naive(boxes, scores, 0.6))


def test_match_scores_are_those_by_box_iou() -> None:
    boxes_N4 = torch.cat((random_boxes(np.random.default_rng(4), 70), integer_boxes(np.random.default_rng(4), 20)))
    sums = torch.column_stack((boxes_N4, torch.ones(90))).T.numpy()
    scores_NN = torch.from_numpy(merging._all_match_scores(merging._shapes(sums)[:, None])[0])
    expected_NN = match_scores(boxes_N4).fill_diagonal_(float("inf"))
    torch.testing.assert_close(scores_NN, expected_NN, rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_600_candidates_of_5_classes_take_at_most_50_ms(threshold: float) -> None:
    draw = np.random.default_rng(6)
    boxes_CN4 = torch.stack([noisy_clusters(draw, 600) for _ in range(5)])
    times = []
    for _ in range(10):
        start = time.perf_counter()
        merge_classes(boxes_CN4, torch.rand(5, 600), threshold)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.05
