"""The localisation error by known values, and McNemar's test by scipy's."""

import random

import pytest
import torch
from scipy.stats import binomtest

from vggcli.localisation.error import ImageOutcome, image_outcome, localisation, localisation_by_class, mcnemar

UNIT = [0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("guesses", "instances", "expected"),
    [
        pytest.param([("cat", UNIT)], [UNIT], (True, 1.0, True), id="right"),
        pytest.param([("dog", UNIT)], [UNIT], (False, 0.0, False), id="wrong class"),
        pytest.param([("cat", [0, 0, 2, 1])], [UNIT], (True, 0.5, False), id="an IoU of exactly a half is wrong"),
        pytest.param([("cat", [0, 0, 1.999, 1])], [UNIT], (True, 1 / 1.999, True), id="just above a half"),
        pytest.param([("cat", [5, 5, 6, 6])], [UNIT], (True, 0.0, False), id="elsewhere"),
        pytest.param([("dog", UNIT), ("cat", [0, 0, 1, 0.8])], [UNIT], (True, 0.8, True), id="the second guess"),
        pytest.param([("dog", UNIT), ("cat", [0, 0, 1, 0.4])], [UNIT], (True, 0.4, False), id="box of another class"),
        pytest.param([("cat", UNIT)], [[5, 5, 6, 6], [0, 0, 1, 0.75]], (True, 0.75, True), id="any instance"),
        pytest.param([("cat", [5, 5, 6, 6]), ("cat", UNIT)], [UNIT], (True, 1.0, True), id="the best of two guesses"),
        pytest.param([], [UNIT], (False, 0.0, False), id="no guess"),
    ],
)
def test_one_image(
    guesses: list[tuple[str, list[float]]], instances: list[list[float]], expected: tuple[bool, float, bool]
) -> None:
    boxes_G4 = torch.tensor([box for _, box in guesses]).reshape(-1, 4)
    outcome = image_outcome([label for label, _ in guesses], boxes_G4, "cat", torch.tensor(instances))
    assert (outcome.guessed, outcome.right) == (expected[0], expected[2])
    assert outcome.iou == pytest.approx(expected[1], abs=1e-6)


OUTCOMES = [
    ImageOutcome("cat", True, 0.75),
    ImageOutcome("ant", True, 0.5),
    ImageOutcome("cat", False, 0.0),
    ImageOutcome("cat", True, 0.25),
]


def test_the_error_of_a_set_is_the_sum_of_its_parts() -> None:
    result = localisation(OUTCOMES)
    assert (result.images, result.correct, result.guessed, result.mean_iou) == (4, 1, 3, 0.375)
    assert (result.localisation_error, result.classification_part, result.box_part) == (75.0, 25.0, 50.0)
    assert result.mean_iou_guessed == 0.5
    assert result.to_json() == {
        "images": 4,
        "correct": 1,
        "guessed": 3,
        "mean_iou": 0.375,
        "localisation_error": 75.0,
        "classification_part": 25.0,
        "box_part": 50.0,
        "mean_iou_guessed": 0.5,
    }
    assert localisation(OUTCOMES[2:3]).mean_iou_guessed == 0.0


def test_the_error_by_class() -> None:
    by_class = localisation_by_class(OUTCOMES)
    assert list(by_class) == ["ant", "cat"]
    assert by_class["ant"] == localisation(OUTCOMES[1:2])
    assert by_class["cat"].images == 3
    assert sum(result.correct for result in by_class.values()) == localisation(OUTCOMES).correct


def test_mcnemar_is_the_exact_binomial_test_of_what_differs() -> None:
    draw = random.Random(0)
    for count in (0, 1, 10, 60, 400):
        first, second = ([draw.random() < share for _ in range(count)] for share in (0.5, 0.6))
        wins = sum(one > other for one, other in zip(first, second, strict=True))
        losses = sum(one < other for one, other in zip(first, second, strict=True))
        expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
        assert mcnemar(first, second) == pytest.approx(expected)
        assert mcnemar(second, first) == mcnemar(first, second)
