"""Candidates against a loop over windows, classes and outputs with plain numbers."""

import pytest
import torch
from torch import Tensor

from vggcli.errors import WeightsError
from vggcli.localisation.candidates import Candidates, candidates, united

CROP, SIZE, RESCALED = 64, (300, 200), (193, 128)  # pixels
CLASSES, K, H, W = (4, 0, 2), 5, 3, 5
GENERATOR = torch.Generator().manual_seed(0)


def slow_boxes(outputs_FHW: Tensor, flip: bool) -> list[list[list[float]]]:
    """Class by class, row by row, window by window."""
    of_classes = []
    for index in CLASSES if len(outputs_FHW) > 4 else (0,):
        boxes = []
        for i in range(H):
            for j in range(W):
                x, y, width, height = (CROP * float(outputs_FHW[4 * index + part, i, j]) for part in range(4))
                width, height = max(1.0, width), max(1.0, height)
                left, right = 32 * j + x - width / 2, 32 * j + x + width / 2
                if flip:
                    left, right = RESCALED[0] - right, RESCALED[0] - left
                top, bottom = 32 * i + y - height / 2, 32 * i + y + height / 2
                across, down = SIZE[0] / RESCALED[0], SIZE[1] / RESCALED[1]
                boxes.append([left * across, top * down, right * across, bottom * down])
        of_classes.append(boxes)
    return of_classes


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("channels", [4, 4 * K])
def test_candidates_equal_the_slow_loop(channels: int, flip: bool) -> None:
    outputs_FHW, posteriors_CHW = (
        torch.randn(channels, H, W, generator=GENERATOR),
        torch.rand(3, H, W, generator=GENERATOR),
    )
    made = candidates(outputs_FHW, CLASSES, posteriors_CHW, SIZE, RESCALED, CROP, flip)
    torch.testing.assert_close(made.boxes_LN4, torch.tensor(slow_boxes(outputs_FHW, flip), dtype=torch.float64))
    expected = [[float(row[i, j]) for i in range(H) for j in range(W)] for row in posteriors_CHW]
    assert made.scores_CN.tolist() == expected
    of_image = candidates(outputs_FHW, CLASSES, posteriors_CHW[:, 0, 0], SIZE, RESCALED, CROP, flip)
    assert of_image.scores_CN.tolist() == [[float(row[0, 0])] * H * W for row in posteriors_CHW]


def test_one_window_on_the_whole_image_predicts_it() -> None:
    whole = candidates(torch.tensor([0.5, 0.5, 1, 1]).reshape(4, 1, 1), (0,), torch.ones(1), (128, 128), (64, 64), 64)
    assert whole.boxes_LN4.tolist() == [[[0, 0, 128, 128]]]


def test_an_output_that_is_not_finite_is_refused() -> None:
    outputs_FHW = torch.zeros(4, H, W)
    outputs_FHW[2, 1, 3] = float("nan")
    with pytest.raises(WeightsError, match="the network's boxes are not finite"):
        candidates(outputs_FHW, CLASSES, torch.ones(3), SIZE, RESCALED, CROP)


def test_sets_are_united_in_order_and_shared_boxes_repeated() -> None:
    shared, own = Candidates(torch.rand(1, 2, 4), torch.rand(3, 2)), Candidates(torch.rand(3, 5, 4), torch.rand(3, 5))
    assert united([shared, shared]).boxes_LN4.shape == (1, 4, 4)
    both = united([shared, own])
    for row in range(3):
        assert torch.equal(both.boxes_LN4[row], torch.cat((shared.boxes_LN4[0], own.boxes_LN4[row])))
    assert torch.equal(both.scores_CN, torch.cat((shared.scores_CN, own.scores_CN), 1))
