"""Descriptors equal a slow obvious way through torchvision's `create_feature_extractor`, one view at a time."""

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

from tests.features.stores import COLOUR, checkpoint, network, pictures
from tests.rounding import assert_same_sums
from vggcli import Features, paper
from vggcli.data.decode import ImageError
from vggcli.data.paths import ImageList
from vggcli.errors import DataError, UsageError, WeightsError
from vggcli.evaluation.protocol import EvaluateOptions, view_posteriors
from vggcli.features.extract import FeatureOptions, check_options, described, image_rows
from vggcli.features.layer_maps import layer_outputs, layer_results, named_layers, smallest_scale
from vggcli.weights.torch_names import to_framework
from vggcli.zoo.network import VGG

OPTIONS = FeatureOptions(("fc7",), "gap", (40,), "mean", "l2", True, torch.device("cpu"), "fp32")
NODES = {  # ours to torchvision's, before and after the ReLU
    "A": {"conv1_1": "features.1", "conv3_2:pre": "features.8", "pool4": "features.15", "conv5_2": "features.19"},
    "A-BN": {"conv1_1": "features.2", "conv1_1:pre": "features.0", "bn1_1:pre": "features.1", "bn1_1": "features.2"},
}
FCS = {"fc6:pre": 0, "fc6": 1, "fc7:pre": 3, "fc7": 4, "fc8": 6}


def theirs(net: VGG) -> nn.Module:
    """torchvision's network with the same weights, as narrow as ours; ReLUs not in place, so that what an extractor has
    taken stays as it was."""
    vgg = torchvision.models.vgg
    row, width, crop = paper.NETWORKS[net.config.arch], net.config.width, net.config.crop
    plan: list[int | str] = []
    for kernels, channels in zip(row.blocks, paper.BLOCK_CHANNELS, strict=True):
        plan += [int(channels * width)] * len(kernels) + ["M"]
    with torch.device("meta"):
        model: Any = vgg.VGG(nn.Sequential(), init_weights=False)
    model.features = vgg.make_layers(plan, batch_norm=row.batch_norm)
    model.avgpool = nn.AdaptiveAvgPool2d(crop // 32)
    inputs, hidden = int(512 * width) * (crop // 32) ** 2, int(4096 * width)
    sizes = [(inputs, hidden), (hidden, hidden), (hidden, net.config.classes)]
    head = [nn.Linear(*size) for size in sizes]
    model.classifier = nn.Sequential(head[0], nn.ReLU(), nn.Dropout(), head[1], nn.ReLU(), nn.Dropout(), head[2])
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    model.load_state_dict(to_framework(net.state_dict(), net.config, "torchvision"))
    return model.eval()  # type: ignore[no-any-return]


def slow_map(net: VGG, layer: str, view_NCHW: Tensor) -> Tensor:
    """A layer's whole map of one view; of the FC layers, torchvision's classifier at every window of the last map."""
    model: Any = theirs(net)
    extractor = importlib.import_module("torchvision.models.feature_extraction").create_feature_extractor
    if layer not in FCS:
        whole: Tensor = extractor(model, {NODES[net.config.arch][layer]: "out"})(view_NCHW)["out"]
        return whole
    last = model.features(view_NCHW)
    side, node = net.config.crop // 32, f"{FCS[layer]}"
    rows, columns = last.shape[2] - side + 1, last.shape[3] - side + 1
    head = extractor(model.classifier, {node: "out"})
    windows = [
        head(last[:, :, row : row + side, column : column + side].flatten(1))["out"]
        for row in range(rows)
        for column in range(columns)
    ]
    dense: Tensor = torch.stack(windows, 2).unflatten(2, (rows, columns))
    return dense


@torch.no_grad()
def slow_row(net: VGG, path: Path, layer: str, options: FeatureOptions) -> np.ndarray[Any, Any]:
    transforms = torchvision.transforms
    pool: Callable[[Tensor], Tensor] = {
        "gap": lambda maps: maps.mean((2, 3)),
        "gmp": lambda maps: maps.amax((2, 3)),
        "none": lambda maps: maps,
    }[options.pool]
    scales = []
    for scale in options.scales:
        view = transforms.Resize(scale)(Image.open(path).convert("RGB"))
        mirrors = [view, transforms.functional.hflip(view)] if options.flip else [view]
        flips = []
        for mirror in mirrors:
            pixels = 255 * transforms.ToTensor()(mirror)
            inputs = (pixels - torch.tensor(COLOUR.mean)[:, None, None]) / torch.tensor(COLOUR.divisor)
            flips.append(pool(slow_map(net, layer, inputs[None]))[0])
        scales.append(sum(flips) / len(flips))
    rows = torch.stack(scales)  # type: ignore[arg-type]
    row = {"mean": rows.mean(0), "max": rows.max(0).values, "stack": torch.cat(list(rows))}[options.aggregate]
    length = {"l2": row.square().sum().sqrt(), "l1": row.abs().sum(), "none": torch.tensor(1.0)}[options.norm]
    return (row / length).numpy()


@pytest.mark.parametrize(
    ("changes", "layers"),
    [
        ({}, ("fc7", "fc6:pre", "conv1_1", "conv3_2:pre", "pool4")),
        ({"pool": "gmp", "norm": "none"}, ("conv5_2", "fc7:pre", "fc8")),
        ({"scales": (64, 40, 50), "norm": "l2"}, ("fc7", "conv5_2")),
        ({"scales": (64, 40, 50), "aggregate": "stack", "norm": "l1"}, ("fc6", "pool4")),
        ({"scales": (64, 40), "aggregate": "max", "flip": False}, ("fc7",)),
    ],
    ids=["gap", "gmp", "mean", "stack", "max"],
)
def test_rows_equal_the_slow_way(tmp_path: Path, changes: dict[str, Any], layers: tuple[str, ...]) -> None:
    net, paths = network(), pictures(tmp_path, 4)
    options = replace(OPTIONS, layers=layers, **changes)
    images = ImageList(tmp_path, tuple(path.name for path in paths))
    found = described(net, images, COLOUR, options)
    for layer, rows in zip(layers, found, strict=True):
        slow = np.stack([slow_row(net, path, layer, options) for path in paths])
        assert_same_sums(rows, slow, net)


@pytest.mark.parametrize("arch", ["A", "A-BN"])
def test_maps_as_they_are_equal_the_slow_way(tmp_path: Path, arch: str) -> None:
    net, paths = network(arch, crop=64), pictures(tmp_path, 2, shapes=((96, 70),))
    layers = (*NODES[arch], "fc7")
    options = replace(OPTIONS, layers=layers, pool="none", norm="none", flip=False, scales=(70,))
    found = described(net, ImageList(tmp_path, ("000.jpg", "001.jpg")), COLOUR, options)
    for layer, maps in zip(layers, found, strict=True):
        slow = np.stack([slow_row(net, path, layer, options) for path in paths])
        assert_same_sums(maps, slow, net)


def test_gap_of_fc7_is_the_descriptor_of_dense_scores() -> None:
    net = network()
    views = torch.rand(2, 3, 70, 50, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        (rows,) = layer_results(net, views, layer_outputs(net, ["fc7"]), lambda maps: maps.mean((2, 3)))
        assert torch.equal(rows, net.descriptor(net.convolve(views)))
        dense = EvaluateOptions("dense", (50,), False, torch.device("cpu"), "fp32")
        assert torch.equal(net.classify(rows).softmax(1), view_posteriors(net, views, dense)[0])


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_every_image_has_one_row_whatever_the_batches(tmp_path: Path, batch_size: int) -> None:
    net, paths = network(), pictures(tmp_path, 7)
    images = ImageList(tmp_path, tuple(path.name for path in paths))
    options = replace(OPTIONS, scales=(40, 50), batch_size=batch_size, workers=2)
    alone = np.concatenate([described(net, ImageList(tmp_path, (p.name,)), COLOUR, OPTIONS)[0] for p in paths])
    found = described(net, images, COLOUR, replace(options, scales=(40,)))[0]
    assert_same_sums(found, alone, net)
    rows: list[int] = []
    for done in image_rows(net, images, COLOUR, options):
        assert not isinstance(done, ImageError)
        rows += done.indices
    assert sorted(rows) == list(range(7))


def test_a_blocks_rows_do_not_depend_on_the_other_blocks(tmp_path: Path) -> None:
    net, paths = network(), pictures(tmp_path, 11)
    images = ImageList(tmp_path, tuple(path.name for path in paths))

    def rows(order: list[int]) -> dict[int, bytes]:
        found = {}
        for done in image_rows(net, images, COLOUR, OPTIONS, order, block=4):
            assert not isinstance(done, ImageError)
            assert len({index // 4 for index in done.indices}) == 1
            for place, index in enumerate(done.indices):
                found[index] = done.layers[0][place].tobytes()
        return found

    whole = rows(list(range(11)))
    assert len(whole) == 11
    assert rows([4, 5, 6, 7]) == {index: whole[index] for index in (4, 5, 6, 7)}
    assert rows([8, 9, 10]) == {index: whole[index] for index in (8, 9, 10)}


def test_only_the_layers_up_to_the_deepest_run() -> None:
    net, ran = network("D"), list[str]()
    for name, module in net.named_children():
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
    outputs = layer_outputs(net, ["conv2_1", "conv3_3:pre"])
    first, second = layer_results(net, torch.rand(1, 3, 64, 64), outputs, lambda maps: maps.clone())
    assert ran[-1] == "conv3_3"
    assert "relu3_2" in ran
    assert first.min() >= 0
    assert second.min() < 0  # not what the ReLU, which works in place, would make of it


def test_layers_by_name() -> None:
    net = network("A-LRN")
    assert named_layers(net)[:4] == ["conv1_1", "lrn1", "pool1", "conv2_1"]
    outputs = layer_outputs(net, ["lrn1", "pool5", "fc8", "conv4_2"])
    assert [output.channels for output in outputs] == [8, 64, 3, 64]
    assert [smallest_scale(network("A-LRN", crop=64).config, [one]) for one in outputs] == [1, 32, 64, 8]
    for names, error, words in [
        (["conv3_3"], UsageError, "did you mean conv3_"),
        (["fc9"], UsageError, "fc8"),
        (["pool5:pre"], UsageError, "no ReLU follows pool5"),
        (["fc7", "fc7"], UsageError, "twice"),
    ]:
        with pytest.raises(error, match=words):
            layer_outputs(net, names)
    with pytest.raises(WeightsError, match="no layer fc7.*pool5, fc8"):
        layer_outputs(network(head="gap"), ["fc7"])


def test_what_cannot_be_combined() -> None:
    net = network(crop=64)
    for changes, words in [
        ({"scales": (63,)}, "smallest Q is 64"),
        ({"scales": (64, 64)}, "twice"),
        ({"pool": "none", "flip": False, "scales": (64, 70)}, "cannot be combined"),
        ({"pool": "none", "scales": (64,)}, "mirror image"),
    ]:
        with pytest.raises(UsageError, match=words):
            check_options(net, replace(OPTIONS, **changes))  # type: ignore[arg-type]
    assert check_options(net, replace(OPTIONS, layers=("pool5",), scales=(32,)))  # no FC layer, no crop


def test_weights_whose_rows_are_not_finite_are_refused(tmp_path: Path) -> None:
    net = network()
    net.load_state_dict({name: value * 1e30 for name, value in net.state_dict().items()})
    pictures(tmp_path, 1)
    with pytest.raises(WeightsError, match="not finite"):
        described(net, ImageList(tmp_path, ("000.jpg",)), COLOUR, OPTIONS)


def test_features_in_python(tmp_path: Path) -> None:
    weights, paths = checkpoint(tmp_path / "w.safetensors", network()), pictures(tmp_path / "p", 3)
    rows = Features(weights)([str(path) for path in paths])
    assert rows.shape == (3, 512)
    slow = np.stack([slow_row(network(), path, "fc7", OPTIONS) for path in paths])  # 40 is the scale trained at
    assert_same_sums(rows, slow, network())
    maps = Features(weights, "conv4_1", "none")(paths[:1])
    assert maps.shape == (1, 64, 6, 5)
    with pytest.raises(DataError, match=r"001.jpg gives 64x5x6 and .*000.jpg 64x6x5"):
        Features(weights, "conv4_1", "none")(paths)
    with pytest.raises(ImageError, match="no such file"):
        Features(weights)([tmp_path / "none.jpg"])
    with pytest.raises(ImageError, match="no such file"):
        Features(weights)("none.jpg")  # one alone
    for wrong in ({"pool": "avg"}, {"layer": "fc9"}, {"norm": "l3"}, {"layer": ["fc6", "fc7"]}, {"scales": 64}):
        with pytest.raises(UsageError):
            Features(weights, **wrong)
    wrong_lists: tuple[Any, ...] = ([], [3], [None])
    for images in wrong_lists:
        with pytest.raises(UsageError, match="give"):
            Features(weights)(images)
