"""Errors against a slow count, and the files an evaluation leaves."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from sklearn.metrics import confusion_matrix

from vggcli import paper
from vggcli.errors import MachineError
from vggcli.evaluation.protocol import Scores
from vggcli.evaluation.result import Evaluation, class_reports, correct_counts, worst_mistakes
from vggcli.evaluation.scores_file import save_scores
from vggcli.metrics import calibration_error, confusion_counts, count_correct, error_rate

EVALUATION = Evaluation(
    "D",
    "w",
    "ab" * 32,
    "data",
    "val",
    "dense",
    (256, 384),
    True,
    0,
    40,
    1,
    7,
    30,
    38,
    2.5,
    {},
    8.0,
    {"crop": 224, "width": 1.0, "head": "fc", "scale": [256, 512]},
)


def scores(images: int = 40, classes: int = 7) -> Scores:
    generator = torch.Generator().manual_seed(0)
    posteriors = torch.randn(images, classes, generator=generator).softmax(1)
    labels = torch.randint(0, classes, (images,), generator=generator)
    return Scores(posteriors, labels, tuple(f"{i}\n,\udcff.jpg" for i in range(images)), tuple("abcdefg"))


@pytest.mark.parametrize("k", [1, 5, 9])
def test_counts_equal_a_slow_loop(k: int) -> None:
    given = scores()
    slow = sum(
        int(label) in sorted(range(7), key=lambda c: -float(row[c]))[:k]
        for row, label in zip(given.posteriors_NK, given.labels_N, strict=True)
    )
    assert count_correct(given.posteriors_NK, given.labels_N, k) == slow


def test_an_evaluation_counts_the_first_and_the_first_five() -> None:
    """Images whose class comes 1st, 2nd, … 7th."""
    posteriors = torch.tensor([0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.05]).expand(7, 7)
    assert correct_counts(Scores(posteriors, torch.arange(7), tuple("tuvwxyz"), tuple("abcdefg"))) == (1, 5)


def test_a_constant_answer_earns_nothing() -> None:
    constant = Scores(torch.full((4, 7), 1 / 7), torch.arange(4), tuple("abcd"), tuple("abcdefg"))
    assert correct_counts(constant) == (0, 0)


def test_of_equal_scores_every_figure_takes_the_true_class_for_the_lower() -> None:
    generator = torch.Generator().manual_seed(1)
    posteriors = torch.randint(1, 4, (60, 7), generator=generator).float()  # three values: most rows have ties
    posteriors /= 16  # exact, so that ties stay ties
    labels = torch.randint(0, 7, (60,), generator=generator)
    given = Scores(posteriors, labels, tuple(f"{row:02}" for row in range(60)), tuple("abcdefg"))
    right = [
        bool((row > row[label]).sum() == 0 and (row == row[label]).sum() == 1)
        for row, label in zip(posteriors, labels, strict=True)
    ]
    assert 0 < sum(right) < int((posteriors.gather(1, labels[:, None])[:, 0] == posteriors.amax(1)).sum())
    assert correct_counts(given)[0] == sum(right)
    assert int(confusion_counts(given.posteriors_NK, given.labels_N).diagonal().sum()) == sum(right)
    errors = [report.support * report.top1_error / 100 for report in class_reports(given)]
    assert sum(errors) == pytest.approx(60 - sum(right))
    mistakes = worst_mistakes(given, 60)
    assert {one.image for one in mistakes} == {f"{row:02}" for row in range(60) if not right[row]}
    assert all(one.answer != one.label and one.posterior == float(posteriors[int(one.image)].max()) for one in mistakes)
    rows = range(60)
    bins: dict[int, list[float]] = {}
    for row in rows:
        sure = float(posteriors[row].max())
        bins.setdefault(math.ceil(sure * 15), []).append(sure - right[row])
    slow = 100 * sum(abs(sum(gaps)) for gaps in bins.values()) / 60
    assert calibration_error(given.posteriors_NK, given.labels_N) == pytest.approx(slow)


def test_errors_are_percentages() -> None:
    assert error_rate(30, 40) == 25.0
    assert EVALUATION.to_json()["top5_error"] == 5.0
    assert EVALUATION.to_json()["images_per_second"] == 5.0


def test_saved_scores_hold_what_the_interface_names(tmp_path: Path) -> None:
    given = scores()
    save_scores(tmp_path / "s.safetensors", given, EVALUATION.to_json())
    with safe_open(tmp_path / "s.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("posteriors"), given.posteriors_NK)
        assert file.get_tensor("posteriors").dtype == torch.float32
        assert torch.equal(file.get_tensor("labels"), given.labels_N)
        metadata = file.metadata()
    assert tuple(json.loads(metadata["images"])) == given.images
    assert json.loads(metadata["classes"]) == list("abcdefg")
    assert (metadata["arch"], metadata["protocol"]) == ("D", "dense")
    assert json.loads(metadata["scales"]) == [256, 384]
    assert metadata["weights"] == "ab" * 32


def test_scores_that_cannot_be_written_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot write"):
        save_scores(tmp_path / "missing" / "s.safetensors", scores(), EVALUATION.to_json())
    assert list(tmp_path.iterdir()) == []


def test_confusions_equal_scikit_learns() -> None:
    given = scores(200)
    answers = given.posteriors_NK.argmax(1)
    expected = confusion_matrix(given.labels_N, answers, labels=range(7))
    assert confusion_counts(given.posteriors_NK, given.labels_N).tolist() == expected.tolist()
    for index, report in enumerate(class_reports(given)):
        mine = given.labels_N == index
        assert report.support == int(mine.sum())
        assert report.top1_error == pytest.approx(100 * float((answers[mine] != index).float().mean()))
        assert report.confused == expected[index][[k for k in range(7) if k != index]].max()
        assert expected[index][given.classes.index(str(report.confused_with))] == report.confused


def test_calibration_equals_a_loop_over_bins() -> None:
    given = scores(300)
    confidence, answer = given.posteriors_NK.double().max(1)
    right = (answer == given.labels_N).double()
    slow = 0.0
    for index in range(15):
        inside = (confidence > index / 15) & (confidence <= (index + 1) / 15)
        if inside.any():
            slow += float(inside.sum()) / 300 * abs(float(confidence[inside].mean() - right[inside].mean()))
    assert calibration_error(given.posteriors_NK, given.labels_N) == pytest.approx(100 * slow)


def test_calibration_has_fifteen_bins() -> None:
    """Answers of 0.61 that are right and of 0.65 that are wrong share a bin (9/15 is 0.6, 10/15 is 0.667), those of
    0.68 have the next; of ten bins all three would share one and cancel."""
    sure = torch.tensor([0.61] * 3 + [0.65] * 2 + [0.68] * 4)
    posteriors = torch.stack([sure, 1 - sure], 1)
    labels = torch.tensor([0, 0, 0, 1, 1, 0, 0, 0, 0])
    gaps = abs(3 * (0.61 - 1) + 2 * 0.65) + abs(4 * 0.68 - 4)
    given = Scores(posteriors, labels, tuple("abcdefghi"), ("x", "y"))
    assert calibration_error(given.posteriors_NK, given.labels_N) == pytest.approx(100 * gaps / 9, rel=1e-5)


def test_a_bin_holds_its_upper_end_and_doubt_counts_as_certainty_does() -> None:
    sure = torch.tensor([0.75, 0.8, 0.9, 0.95, 1.0], dtype=torch.float64)  # bins 12, 12, 14, 15 and 15
    posteriors = torch.stack([sure, 1 - sure], 1)
    given = Scores(posteriors, torch.tensor([1, 0, 1, 0, 0]), tuple("abcde"), ("x", "y"))
    gaps = abs(0.75 + (0.8 - 1)) + 0.9 + abs((0.95 - 1) + (1.0 - 1))
    assert calibration_error(given.posteriors_NK, given.labels_N) == pytest.approx(100 * gaps / 5)


def test_the_worst_mistakes_are_the_surest() -> None:
    given = scores(50)
    worst = worst_mistakes(given, 5)
    confidence, answer = given.posteriors_NK.max(1)
    slow = sorted(
        (float(c) for c, a, b in zip(confidence, answer, given.labels_N, strict=True) if a != b), reverse=True
    )
    assert [mistake.posterior for mistake in worst] == slow[:5]
    assert all(mistake.label != mistake.answer for mistake in worst)
    assert len(worst_mistakes(given, 1000)) == len(slow)


def test_of_equally_sure_mistakes_names_decide() -> None:
    posteriors = torch.tensor([[0.9, 0.1]]).expand(3, 2)
    given = Scores(posteriors, torch.ones(3, dtype=torch.int64), ("b", "c", "a"), ("x", "y"))
    assert [mistake.image for mistake in worst_mistakes(given, 2)] == ["a", "b"]


def test_the_zoos_errors_are_the_papers_best_single_scale_results() -> None:
    for arch, row in paper.NETWORKS.items():
        errors = [(one.top1_error, one.top5_error) for one in paper.RESULTS if (one.arch, one.table) == (arch, 3)]
        if errors:
            assert (row.top1_error, row.top5_error) == min(errors)
