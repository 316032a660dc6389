"""`--table` in the form of Tables 5 to 7: figures against a slow combination of saved posteriors."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.conftest import MakeFolder
from vggcli import paper
from vggcli.cli.app import run
from vggcli.cli.options import stdout_console
from vggcli.colour import ColourStatistics
from vggcli.data.image_set import ImageSet
from vggcli.evaluation.measure import Measured
from vggcli.evaluation.protocol import Scores
from vggcli.evaluation.result import Evaluation
from vggcli.evaluation.scores_file import save_scores
from vggcli.imagenet import imagenet_ids
from vggcli.report.evaluations import networks_table
from vggcli.weights.checkpoint import Checkpoint, save_checkpoint
from vggcli.zoo.initialise import initialise
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG

VIEWS = ["--scales", "36", "48", "--grid", "2"]
EYE = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
Rows = list[list[float]]


@pytest.fixture
def photos(make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of photos of seven classes, the current one, with the weights of two sure networks."""
    folder = make_folder(classes=7, train=1, val=6)
    monkeypatch.chdir(tmp_path)
    names = tuple(f"class{label}" for label in range(7))
    for seed in (1, 2):
        network = VGG(NetworkConfig("A", 7, 32, 0.125))
        initialise(network, "he", seed)
        with torch.no_grad():
            network.get_parameter("fc8.weight").mul_(4)
        colour = ColourStatistics((120.0, 110.0, 100.0), 20.0, (1, 1, 1), EYE)
        about = Checkpoint(network.config, names, colour, (36, 36), training={"step": 1})
        save_checkpoint(tmp_path / f"a{seed}.safetensors", network, about)
    return folder


def cells(text: str) -> list[list[str]]:
    """The cells of each line of a table."""
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


def saved(weights: str, photos: Path, *protocol: str) -> tuple[Rows, list[int]]:
    """The posteriors and labels of one network by one protocol, as an evaluation of its own saves them."""
    file = Path(f"{Path(weights).stem}{''.join(protocol)}.safetensors")
    views = VIEWS if "--multi-crop" in protocol else VIEWS[:3]
    assert run(["eval", weights, "--data", str(photos), *protocol, *views, "-q", "--save-scores", str(file)]) == 0
    with safe_open(file, "pt") as opened:
        return opened.get_tensor("posteriors").tolist(), opened.get_tensor("labels").tolist()


def mean(several: list[Rows]) -> Rows:
    return [[sum(column) / len(column) for column in zip(*rows, strict=True)] for rows in zip(*several, strict=True)]


def errors(posteriors: Rows, labels: list[int]) -> str:
    """Top-1 and top-5 error, image by image, as the tables write them."""
    places = [sum(one >= row[label] for one in row) - 1 for row, label in zip(posteriors, labels, strict=True)]
    return ", ".join(f"{100 * sum(place >= k for place in places) / len(places):.1f}" for k in (1, 5))


def test_table_5_compares_dense_multi_crop_and_both(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = {}
    for weights in ("a1.safetensors", "a2.safetensors"):
        dense, labels = saved(weights, photos, "--dense")
        crops, _ = saved(weights, photos, "--multi-crop")
        expected[weights] = [errors(rows, labels) for rows in (dense, crops, mean([dense, crops]))]
    for several in (["a1.safetensors"], ["a1.safetensors", "a2.safetensors"]):
        capsys.readouterr()
        assert run(["eval", *several, "--data", str(photos), "--dense", "--multi-crop", "--table", "-q", *VIEWS]) == 0
        lines = cells(capsys.readouterr().out)
        assert ["config.", "test (Q)", *["top-1, top-5"] * 3, "weights"] in lines
        for weights in several:
            row = next(line for line in lines if line[-1:] == [weights])
            assert row[-4:-1] == expected[weights]
        assert sum(line[-1:] == ["36, 48"] for line in lines) == len(several)
    assert len(set(expected["a1.safetensors"] + expected["a2.safetensors"])) > 2  # figures that could be told apart


def test_table_6_combines_networks_by_each_protocol(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dense, crops = (
        [saved(one, photos, how) for one in ("a1.safetensors", "a2.safetensors")] for how in ("--dense", "--multi-crop")
    )
    labels = dense[0][1]
    by_dense, by_crops = (mean([rows for rows, _ in several]) for several in (dense, crops))
    expected = [errors(rows, labels) for rows in (by_dense, by_crops, mean([by_dense, by_crops]))]
    capsys.readouterr()
    flags = ["--data", str(photos), "--dense", "--multi-crop", "--table", "-q", *VIEWS]
    assert run(["ensemble", "a1.safetensors", "a2.safetensors", *flags]) == 0
    text = capsys.readouterr().out
    lines = cells(text)
    first = next(place for place, line in enumerate(lines) if "dense" in line)
    assert lines[first][0] == lines[first + 1][0] == "A (width 0.125, crop 32)/36/36,48"
    shown = [line[-3:] for line in lines[first:] if line[-3:-2] and line[-3] in ("dense", "multi-crop", "dense and")]
    assert [(how, f"{top1}, {top5}") for how, top1, top5 in shown] == list(
        zip(("dense", "multi-crop", "dense and"), expected, strict=True)
    )
    assert "paper" not in text  # these photos are not ImageNet


def test_table_6_of_saved_scores_has_what_they_say(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dense, labels = saved("a1.safetensors", photos, "--dense")
    crops, _ = saved("a2.safetensors", photos, "--multi-crop")
    files = ["a1--dense.safetensors", "a2--multi-crop.safetensors"]
    capsys.readouterr()
    assert run(["ensemble", *files, "--table"]) == 0
    lines = cells(capsys.readouterr().out)
    row = next(line for line in lines if "mixed" in line)
    assert row[0] == "A (width 0.125, crop 32)/36/36,48 dense"
    assert ", ".join(row[-2:]) == errors(mean([dense, crops]), labels)
    assert ["A (width 0.125, crop 32)/36/36,48 multi-crop"] in lines
    with safe_open(files[0], "pt") as opened:
        metadata = {name: text for name, text in opened.metadata().items() if name not in ("details", "vgg_sha256")}
        save_file({name: opened.get_tensor(name) for name in ("posteriors", "labels")}, "old.safetensors", metadata)
    assert run(["ensemble", "old.safetensors", files[0], "--table"]) == 0
    assert "A/?/36,48" in capsys.readouterr().out


def imagenet_scores(images: int, seed: int) -> Scores:
    posteriors = torch.rand(images, 1000, generator=torch.Generator().manual_seed(seed))
    posteriors[: images // 2, 7] = 9.0
    posteriors = posteriors / posteriors.sum(1, keepdim=True)
    return Scores(posteriors, torch.full((images,), 7), tuple(map(str, range(images))), imagenet_ids())


def imagenet_evaluation(arch: str, protocol: str, images: int) -> Evaluation:
    crops = 0 if protocol == "dense" else 150
    network = {"crop": 224, "width": 1.0, "head": "fc", "scale": [256, 512]}
    scales = (256, 384, 512)
    return Evaluation(
        arch, "w", arch, "imagenet", "val", protocol, scales, True, crops, images, 0, 1000, 9, 9, 1.0, {}, 1.0, network
    )


@pytest.mark.parametrize(
    ("protocol", "printed", "ours"),
    [("dense", "24.0, 7.1, 7.0", "dense"), ("dense+multi-crop", "23.7, 6.8, 6.8", "dense and multi-crop")],
)
def test_imagenets_validation_images_stand_beside_tables_6_and_7(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    protocol: str,
    printed: str,
    ours: str,
) -> None:
    monkeypatch.setattr(paper, "IMAGENET_VALIDATION", 21)  # of which one was left out
    files = [str(tmp_path / f"{arch}.safetensors") for arch in "DE"]
    for seed, (arch, file) in enumerate(zip("DE", files, strict=True)):
        about = replace(imagenet_evaluation(arch, protocol, 20), skipped=1).to_json()
        save_scores(Path(file), imagenet_scores(20, seed), about)
    assert run(["ensemble", *files, "--table"]) == 0
    text = capsys.readouterr().out
    assert "20 images (1 left out)" in text
    lines = cells(text)
    first = next(line for line in lines if line[0:1] == ["D/[256;512]/256,384,512"])
    assert (first[2:4], first[-1]) == (["50.0", "50.0"], printed)
    assert ["these networks", f"2 nets, {ours}", "50.0", "50.0", "-"] in lines
    assert ["GoogLeNet", "7 nets", "-", "(6.7)", "(6.7)"] in lines
    assert ["Krizhevsky et al.", "1 net", "40.7", "18.2", "-"] in lines
    monkeypatch.setattr(paper, "IMAGENET_VALIDATION", 20)
    assert run(["ensemble", *files, "--table"]) == 0
    shown = capsys.readouterr().out
    assert "23.7" not in shown
    assert "GoogLeNet" not in shown


def test_imagenets_validation_images_stand_beside_table_5(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(paper, "IMAGENET_VALIDATION", 20)
    scores = imagenet_scores(20, 0)
    scores = Scores(
        scores.posteriors_NK,
        scores.labels_N,
        scores.images,
        scores.classes,
        parts={"dense": scores.posteriors_NK, "multi-crop": scores.posteriors_NK.flip(0)},
    )
    evaluation = imagenet_evaluation("E", "dense+multi-crop", 20)
    checkpoint = Checkpoint(NetworkConfig("E"), imagenet_ids(), ColourStatistics((0, 0, 0), 1), (256, 512))
    images = ImageSet(Path(), "val", imagenet_ids(), (), (), ())
    measured = Measured(evaluation, scores, images, checkpoint, Path("runs/E-1/best.safetensors"))
    stdout_console().print(networks_table([measured]))
    lines = cells(capsys.readouterr().out)
    assert ["256, 384, 512", "(24.8, 7.5)", "(24.6, 7.4)", "(24.4, 7.1)"] in lines


def test_a_table_that_nobody_would_see_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ensemble", "a", "b", "--table", "--json"]) == 2
    assert "--table has no effect with --json" in capsys.readouterr().err
