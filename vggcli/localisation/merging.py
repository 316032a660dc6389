"""Greedy merging of the candidate boxes of an image, as OverFeat does it and Appendix A takes it over.

The pair of boxes with the least match score is replaced by the mean of its members, until that least score exceeds a
threshold. The match score of two boxes is the distance of their centres over their mean size, (width + height) / 2, plus
1 - IoU: 0 for equal boxes, at least 1 for boxes that do not overlap. (OverFeat adds the intersection, which would keep
overlapping boxes apart.) A merged box is the mean over all candidates in it, and its score is the sum of theirs.

Every pair of every step is compared by a naive loop in n³ time; here the match scores of all pairs are kept with the least
of each box, and a step computes only those of the new box, for all classes of an image at once.

Shapes: C classes, N candidates, M merged boxes, L lanes: sets of boxes that are merged side by side, one for each class or
one for all; F = 5 + scores: sums of x0, y0, x1, y1 over the candidates in a box, their number, and sums of their scores.
G = 8 quantities of a box for match scores: x0, y0, -x1, -y1, x0 + x1, y0 + y1, its size, its area.
"""

import sys
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Merged:
    """The merged boxes of a class, float64 [M, 4] as xyxy, the sums of their candidates' scores, float64 [M], and how many
    candidates each has, int64 [M]; the highest score first."""

    boxes_M4: Tensor
    scores_M: Tensor
    counts_M: Tensor


def merge(boxes_N4: Tensor, scores_N: Tensor, threshold: float) -> Merged:
    """The candidates `boxes_N4` (xyxy, finite, of positive width and height), whose scores are `scores_N`, merged until the
    least match score exceeds `threshold` (at least 0; 0 merges equal boxes alone). Their order does not matter."""
    return merge_classes(boxes_N4[None], scores_N[None], threshold)[0]


def merge_classes(boxes_LN4: Tensor, scores_CN: Tensor, threshold: float) -> list[Merged]:
    """`merge` for each class of an image, in less time: L is C, or 1 where all classes have the same boxes (SCR)."""
    boxes, scores = boxes_LN4.double().cpu().numpy(), scores_CN.double().cpu().numpy()
    assert threshold >= 0 and boxes.shape[0] in (1, len(scores)) and boxes.shape[1:] == (scores.shape[1], 4)
    assert np.isfinite(boxes).all() and (boxes[..., 2:] > boxes[..., :2]).all()
    shared = len(boxes) == 1
    scores_LSN = scores[None] if shared else scores[:, None]
    sums_LNF = np.concatenate((boxes, np.ones_like(boxes[..., :1]), scores_LSN.swapaxes(1, 2)), 2)
    rest_LMF = _merged(sums_LNF, min(threshold, sys.float_info.max)) if scores.size else list(sums_LNF)
    if shared:
        rest_LMF = [rest_LMF[0][:, [*range(5), 5 + row]] for row in range(len(scores))]
    return [_best_first(rest_MF) for rest_MF in rest_LMF]


def _best_first(sums_MF: Floats) -> Merged:
    boxes_M4, counts_M, scores_M = sums_MF[:, :4] / sums_MF[:, 4:5], sums_MF[:, 4], sums_MF[:, 5]
    order = np.lexsort((*boxes_M4.T[::-1], -scores_M))
    boxes, scores, counts = (torch.from_numpy(some[order]) for some in (boxes_M4, scores_M, counts_M))
    return Merged(boxes, scores, counts.long())


def _merged(sums_LNF: Floats, threshold: float) -> list[Floats]:
    """What is left of each lane, [M, F]."""
    rests = [sums_NF[:0] for sums_NF in sums_LNF]
    lanes = _Lanes(sums_LNF)
    while True:
        first_L, least_L = lanes.first_of_nearest()
        done_L = least_L > threshold
        if not done_L.any():
            lanes.merge(first_L)
            continue
        for row in done_L.nonzero()[0].tolist():
            rests[lanes.ids_L[row]] = lanes.rest(row)
        if done_L.all():
            return rests
        lanes.keep(~done_L)


class _Lanes:
    """Lanes of N boxes each, dead or alive, in arrays that are flat over lanes and boxes (B = L x N): the sums of each box
    [B, F], its quantities [G, B], the match scores [B, N] with every box of its lane, and the least of them [B]. All is
    infinite for a dead box but its sums and the quantities other than x0 + x1.

    Boxes are in the order of their coordinates, and a merged box stands where the first of its two stood; of equally near
    pairs, that of the first box is taken, then that of the first other box. So the input's order does not matter.
    """

    def __init__(self, sums_LNF: Floats) -> None:
        lanes, self.boxes, fields = sums_LNF.shape
        sums_LNF, dead_LN = _distinct(sums_LNF)
        self.ids_L = np.arange(lanes)
        self.sums_BF = sums_LNF.reshape(-1, fields)
        self.shapes_GB = _shapes(self.sums_BF.T)
        match_LNN = _all_match_scores(self.shapes_GB.reshape(8, lanes, self.boxes))
        match_LNN[dead_LN] = match_LNN.swapaxes(1, 2)[dead_LN] = np.inf
        self.shapes_GB[4, dead_LN.ravel()] = np.inf
        self.match_BN = match_LNN.reshape(-1, self.boxes)
        self.least_B = self.match_BN.min(1)
        self._start()

    def _start(self) -> None:
        self.merges = 0  # of each lane, since the dead boxes were last dropped
        self.starts_L = np.arange(len(self.ids_L)) * self.boxes
        by_lane = len(self.ids_L), self.boxes
        self.least_LN, self.shapes_GLN = self.least_B.reshape(by_lane), self.shapes_GB.reshape(-1, *by_lane)
        self.match_LNN = self.match_BN.reshape(*by_lane, self.boxes)

    def first_of_nearest(self) -> tuple[NDArray[np.intp], Floats]:
        """The first box of the nearest pair of each lane, as its index among B, and their match score."""
        first_L = self.least_LN.argmin(1) + self.starts_L
        return first_L, self.least_B[first_L]

    def rest(self, lane: int) -> Floats:
        """The sums of the living boxes of a lane, [M, F]."""
        of_lane = slice(lane * self.boxes, (lane + 1) * self.boxes)
        return self.sums_BF[of_lane][self.shapes_GB[4, of_lane] < np.inf]

    def merge(self, first_L: NDArray[np.intp]) -> None:
        """Merge one box of each lane with its nearest."""
        old_LN = self.match_BN.take(first_L, 0)
        column_L = old_LN.argmin(1)
        second_L = column_L + self.starts_L
        sums_LF = self.sums_BF.take(first_L, 0)
        sums_LF += self.sums_BF.take(second_L, 0)
        shapes_GL = _shapes(sums_LF.T)
        self.sums_BF[first_L], self.shapes_GB[:, first_L], self.shapes_GB[4, second_L] = sums_LF, shapes_GL, np.inf

        new_LN = _match_scores(self.shapes_GLN, shapes_GL[:, :, None])
        new_LN.reshape(-1)[first_L] = self.least_B[first_L] = self.least_B[second_L] = np.inf
        np.minimum(old_LN, self.match_BN.take(second_L, 0), out=old_LN)
        lost_B = (
            ((old_LN == self.least_LN) & (new_LN > self.least_LN)).ravel().nonzero()[0]
        )  # whose nearest was merged and moved away
        lanes = np.arange(len(first_L))
        self.match_BN[first_L] = new_LN
        self.match_LNN[lanes, :, first_L - self.starts_L], self.match_LNN[lanes, :, column_L] = new_LN, np.inf
        np.minimum(self.least_LN, new_LN, out=self.least_LN)
        self.least_B[first_L], self.least_B[second_L] = new_LN.min(1), np.inf
        self.least_B[lost_B] = self.match_BN.take(lost_B, 0).min(1)
        self.merges += 1
        if self.merges > 0.4 * self.boxes:
            self.keep(np.full(len(first_L), True))

    def keep(self, kept_L: NDArray[np.bool_]) -> None:
        """Drop the other lanes, and dead boxes as far as those of the lanes are equally many."""
        dead_LN = self.shapes_GLN[4, kept_L] == np.inf
        slots_LN = dead_LN.argsort(1, kind="stable")[:, : (~dead_LN).sum(1).max()]
        rows_LN = slots_LN + self.starts_L[kept_L, None]
        self.match_BN = np.concatenate(
            [self.match_BN.take(rows_N, 0).take(slots_N, 1) for rows_N, slots_N in zip(rows_LN, slots_LN, strict=True)]
        )
        self.sums_BF, self.shapes_GB = self.sums_BF.take(rows_LN.ravel(), 0), self.shapes_GB.take(rows_LN.ravel(), 1)
        self.least_B, self.ids_L = self.least_B[rows_LN.ravel()], self.ids_L[kept_L]
        self.boxes = slots_LN.shape[1]
        self._start()


def _distinct(sums_LNF: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Each lane in the order of coordinates, then of scores, equal boxes merged into the first of them, and which boxes are
    dead since, bool [L, N]."""
    sorted_LNF = np.stack([sums_NF[np.lexsort(sums_NF.T[::-1])] for sums_NF in sums_LNF])
    dead_LN = np.zeros(sorted_LNF.shape[:2], bool)
    dead_LN[:, 1:] = (sorted_LNF[:, 1:, :4] == sorted_LNF[:, :-1, :4]).all(2)
    starts_B = (~dead_LN).ravel().nonzero()[0]
    sorted_LNF[~dead_LN] = np.add.reduceat(sorted_LNF.reshape(-1, sorted_LNF.shape[2]), starts_B)
    return sorted_LNF, dead_LN


def _shapes(sums: Floats) -> Floats:
    """The quantities [G, ...] of boxes whose sums are [F, ...]."""
    edges = sums[:4] / sums[4]
    low, high = edges[:2], edges[2:]
    width, height = high - low
    shapes = np.empty((8, *sums.shape[1:]))
    shapes[:2], shapes[4:6], shapes[6], shapes[7] = low, low + high, (width + height) / 2, width * height
    np.negative(high, out=shapes[2:4])
    return shapes


def _match_scores(shapes: Floats, others: Floats) -> Floats:
    """The match scores of two broadcast arrays of quantities [G, ...]. In 13 passes, since this is the inner loop: box_iou
    takes several times as long."""
    over = shapes[4:6] - others[4:6]
    over *= over
    over[0] += over[1]
    np.sqrt(over[0], out=over[0])  # twice the distance of the centres
    overlap = np.maximum(shapes[:4], others[:4])
    overlap[:2] += overlap[2:]
    np.minimum(overlap[:2], 0, out=overlap[:2])  # less the width and height of the intersection
    np.multiply(overlap[0], overlap[1], out=over[1])
    under = shapes[6:] + others[6:]
    under[1] -= over[1]
    over /= under  # distance over mean size, and IoU
    score: Floats = np.subtract(1, over[1], out=over[1])
    score += over[0]
    return score


def _all_match_scores(shapes_GLN: Floats, rows: int = 16) -> Floats:
    """The match scores of all pairs [L, N, N], infinite for a box with itself; so few `rows` at once stay in cache."""
    _, lanes, boxes = shapes_GLN.shape
    match_LNN = np.empty((lanes, boxes, boxes))
    for match_NN, shapes_GN in zip(match_LNN, shapes_GLN.swapaxes(0, 1), strict=True):
        for start in range(0, boxes, rows):
            some = slice(start, start + rows)
            scores = _match_scores(shapes_GN[:, None, start:], shapes_GN[:, some, None])
            match_NN[some, start:], match_NN[start:, some] = scores, scores.T
        np.fill_diagonal(match_NN, np.inf)
    return match_LNN
