"""The paper's figures: as its tables print them, and only beside measurements that are theirs."""

from dataclasses import replace
from typing import Any

import pytest

from tests.evaluation.test_result import EVALUATION
from vggcli import paper
from vggcli.evaluation.paper_figures import imagenet_validation, published_fusion, published_result
from vggcli.evaluation.result import Evaluation
from vggcli.imagenet import imagenet_ids, imagenet_names

IDS = imagenet_ids()
JITTER: dict[str, Any] = {"crop": 224, "width": 1.0, "head": "fc", "scale": [256, 512]}


def measured(arch: str, low: int = 256, high: int = 512, scales: tuple[int, ...] = (256, 384, 512)) -> Evaluation:
    """A dense evaluation of the paper's own kind over ImageNet's validation images."""
    network = {**JITTER, "scale": [low, high]}
    return replace(EVALUATION, arch=arch, scales=scales, images=50_000, skipped=0, network=network)


def crops(given: Evaluation, protocol: str = "multi-crop") -> Evaluation:
    """The same with the paper's 50 crops a scale."""
    return replace(given, protocol=protocol, crops=50 * len(given.scales))


def test_the_papers_result_is_named_for_imagenets_validation_images_alone() -> None:
    evaluation = replace(measured("D"), scales=(512, 256, 384))
    found = published_result(evaluation, IDS)
    assert found is not None
    assert (found.table, found.top1_error, found.top5_error) == (4, 24.8, 7.5)
    assert published_result(replace(evaluation, images=49_999, skipped=1), IDS) == found
    assert published_result(evaluation, imagenet_names()) == found
    assert published_result(evaluation, ("tench", *IDS[1:])) is None
    assert published_result(evaluation, IDS[1:]) is None
    others: list[dict[str, Any]] = [
        {"images": 10_000},
        {"flip": False},
        {"scales": (256,)},
        {"protocol": "centre-crop"},
        {"network": {}},
    ]
    for other in others:
        assert published_result(replace(evaluation, **other), IDS) is None
    for change in ({"width": 0.5}, {"crop": 192}, {"head": "gap"}, {"scale": [256, 256]}):
        assert published_result(replace(evaluation, network={**JITTER, **change}), IDS) is None


def test_other_crops_than_the_papers_have_no_result() -> None:
    evaluation = crops(measured("D"))
    found = published_result(evaluation, IDS)
    assert found is not None
    assert (found.table, found.top1_error) == (5, 24.6)
    other = replace(evaluation, crops=2 * 9 * 3)
    assert published_result(other, IDS) is None
    whole = replace(other, protocol="dense+multi-crop")
    assert published_result(whole, IDS) is None
    assert published_result(whole, IDS, 5, "dense") is not None  # which no crop takes part in


@pytest.mark.parametrize(
    ("arch", "dense", "multi_crop", "both"),
    [("D", (24.8, 7.5), (24.6, 7.5), (24.4, 7.2)), ("E", (24.8, 7.5), (24.6, 7.4), (24.4, 7.1))],
)
def test_table_5_as_printed(
    arch: str, dense: tuple[float, float], multi_crop: tuple[float, float], both: tuple[float, float]
) -> None:
    whole = crops(measured(arch), "dense+multi-crop")
    for protocol, errors in (("dense", dense), ("multi-crop", multi_crop), (None, both)):
        found = published_result(whole, IDS, 5, protocol)
        assert found is not None
        assert (found.table, found.top1_error, found.top5_error) == (5, *errors)
    assert published_result(crops(measured("C"), "dense+multi-crop"), IDS, 5) is None


SUBMISSION = [
    measured("D", 256, 256, (224, 256, 288)),
    measured("D", 384, 384, (352, 384, 416)),
    measured("D"),
    measured("C", 256, 256, (224, 256, 288)),
    measured("C", 384, 384, (352, 384, 416)),
    measured("E", 256, 256, (224, 256, 288)),
    measured("E", 384, 384, (352, 384, 416)),
]


@pytest.mark.parametrize(
    ("members", "protocol", "printed"),
    [
        (SUBMISSION, "dense", (24.7, 7.5, 7.3)),
        ([measured("E"), measured("D")], "dense", (24.0, 7.1, 7.0)),
        ([crops(measured("D")), crops(measured("E"))], "multi-crop", (23.9, 7.2, None)),
        ([crops(measured("D"), "dense+multi-crop"), crops(measured("E"))], "dense+multi-crop", (23.7, 6.8, 6.8)),
        (SUBMISSION[1:], "dense", None),
        ([*SUBMISSION, measured("E")], "dense", None),
        ([measured("D"), measured("D")], "dense", None),
        ([measured("D"), replace(measured("E"), flip=False)], "dense", None),
        ([measured("D"), replace(measured("E"), network={})], "dense", None),
        ([measured("D"), measured("E")], "mixed", None),
    ],
)
def test_table_6_as_printed(members: list[Evaluation], protocol: str, printed: tuple[Any, ...] | None) -> None:
    for order in (members, members[::-1]):
        found = published_fusion([one.to_json() for one in order], protocol)
        assert (found and (found.top1_error, found.top5_error, found.test_top5_error)) == printed


def test_table_7_as_printed() -> None:
    """Top-1 and top-5 on the validation images, top-5 on the test images; GoogLeNet's cell spans both columns."""
    printed = """VGG 23.7 6.8 6.8, VGG 24.4 7.1 7.0, VGG 24.7 7.5 7.3, GoogLeNet - 7.9 7.9, GoogLeNet - 6.7 6.7,
    MSRA - - 8.1, MSRA 27.9 9.1 9.1, Clarifai - - 11.7, Clarifai - - 12.5, Zeiler 36.0 14.7 14.8, Zeiler 37.5 16.0 16.1,
    OverFeat 34.0 13.2 13.6, OverFeat 35.7 14.2 -, Krizhevsky 38.1 16.4 16.4, Krizhevsky 40.7 18.2 -"""
    nets = "2 1 7 1 7 11 1 several 1 6 1 7 1 5 1".split()
    for row, line, count in zip(paper.TABLE7, printed.split(","), nets, strict=True):
        figures = (row.top1_error, row.top5_error, row.test_top5_error)
        shown = ["-" if figure is None else str(figure) for figure in figures]
        assert [row.method.split()[0], *shown] == line.split()
        assert row.nets.split()[0] == count
        assert row.one_cell == (row.method == "GoogLeNet")


def test_imagenets_validation_images_are_50000_of_its_1000_classes() -> None:
    assert imagenet_validation(IDS[::-1], 50_000)
    assert imagenet_validation(imagenet_names(), 50_000)
    assert not imagenet_validation(IDS, 49_999)
    assert not imagenet_validation(IDS[:-1], 50_000)
