"""What a .caffemodel says of its own operations, in files that protocol buffers' own library writes, in both forms."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.rounding import depth, relative, rounding
from tests.weights.caffe_proto import KINDS_2014, MESSAGES, blob
from tests.weights.test_caffe import opencv_scores
from tests.zoo.nets import about, assert_same_bits, images, small
from vggcli.errors import WeightsError
from vggcli.weights.caffe_write import deploy_prototxt, save_caffe
from vggcli.weights.checkpoint import load_checkpoint, read_checkpoint
from vggcli.zoo.layers import network_layers
from vggcli.zoo.network import VGG

NETWORK = small("C", width=1 / 16)
Layers = list[Any]


def whole_net(network: VGG, of_2014: bool) -> Any:
    """A NetParameter as Caffe saves one in training: every layer with its parameters, its input and its output."""
    state, message = network.state_dict(), MESSAGES["NetParameter"](name="VGG")
    below = "data"

    def add(name: str, kind: str, bottom: str, top: str) -> Any:
        layer = message.layers.add() if of_2014 else message.layer.add()
        layer.name, layer.type = name, KINDS_2014[kind] if of_2014 else kind
        layer.bottom.append(bottom)
        layer.top.append(top)
        return layer

    data = add("data", "Data", "", "data")
    del data.bottom[:]
    add("label_data_1_split", "Split", "label", "label_data_1_split_0")
    for one in network_layers(network.config):
        kind = {"conv": "Convolution", "pool": "Pooling", "fc": "InnerProduct"}[one.kind]
        layer = add(one.name, kind, below, one.name)
        below = one.name
        if one.kind == "pool":
            layer.pooling_param.kernel_size = layer.pooling_param.stride = 2
            continue
        if one.kind == "conv":
            layer.convolution_param.num_output = one.channels
            layer.convolution_param.kernel_size.append(one.kernel)
            if one.kernel > 1:
                layer.convolution_param.pad.append(one.kernel // 2)
        weight = state[f"{one.name}.weight"]
        weight = weight.flip(1) if one.name == "conv1_1" else weight
        weight = weight.flatten(1) if one.kind == "fc" else weight
        layer.blobs.extend([blob(weight, of_2014), blob(state[f"{one.name}.bias"], of_2014)])
        if one.name != "fc8":
            add(f"relu_{one.name}", "ReLU", one.name, one.name)
        if one.name in ("fc6", "fc7"):
            add(f"drop_{one.name}", "Dropout", one.name, one.name)
    add("loss", "SoftmaxWithLoss", "fc8", "loss").bottom.append("label_data_1_split_0")
    add("accuracy", "Accuracy", "fc8", "accuracy")
    add("prob", "Softmax", "fc8", "prob")
    return message


def written(path: Path, message: Any) -> Path:
    path.write_bytes(message.SerializeToString())
    return path


def listed(message: Any, of_2014: bool) -> Any:
    return message.layers if of_2014 else message.layer


@pytest.mark.parametrize("of_2014", [True, False])
@torch.inference_mode()
def test_a_whole_training_net_is_read_and_computes_what_opencv_does(of_2014: bool, tmp_path: Path) -> None:
    path = written(tmp_path / "net.caffemodel", whole_net(NETWORK, of_2014))
    checkpoint = assert_same_bits(path, NETWORK)
    assert "operations" not in checkpoint.training
    (tmp_path / "net.prototxt").write_text(deploy_prototxt(about(NETWORK)))
    scores, _ = opencv_scores(path, tmp_path / "net.prototxt", images())
    assert relative(load_checkpoint(path)[0](images()), scores) < rounding(depth(NETWORK))


def test_what_is_written_here_says_its_operations(tmp_path: Path) -> None:
    save_caffe(tmp_path / "net.caffemodel", NETWORK, about(NETWORK))
    message = MESSAGES["NetParameter"].FromString((tmp_path / "net.caffemodel").read_bytes())
    message.name = "VGG"  # without this program's own note
    kinds = [layer.type for layer in message.layer]
    assert (kinds.count("Pooling"), kinds.count("ReLU"), kinds.count("Convolution")) == (5, 15, 13)
    assert "operations" not in assert_same_bits(written(tmp_path / "net.caffemodel", message), NETWORK).training
    message.layer[4].pooling_param.pool = 1
    with pytest.raises(WeightsError, match="'pool1'"):
        read_checkpoint(written(tmp_path / "net.caffemodel", message))


def named(layers: Layers, name: str) -> Any:
    return next(layer for layer in layers if layer.name == name)


def setting(name: str, message: str, field: str, value: Any) -> Callable[[Layers], None]:
    def change(layers: Layers) -> None:
        given = getattr(named(layers, name), message)
        if isinstance(value, list):
            del getattr(given, field)[:]
            getattr(given, field).extend(value)
        else:
            setattr(given, field, value)

    return change


def cleared(name: str, message: str, field: str) -> Callable[[Layers], None]:
    return lambda layers: getattr(named(layers, name), message).ClearField(field)


ODD: list[tuple[Callable[[Layers], None], str]] = [
    (setting("pool2", "pooling_param", "pool", 1), "'pool2' .Pooling. has average pooling"),
    (setting("pool2", "pooling_param", "pool", 2), "'pool2' .Pooling. has stochastic pooling"),
    (setting("pool2", "pooling_param", "kernel_size", 3), "'pool2' .* kernel_size 3 where 2"),
    (setting("pool2", "pooling_param", "pad", 1), "'pool2' .* pad 1 where 0"),
    (setting("pool2", "pooling_param", "global_pooling", True), "'pool2' .* global_pooling 1"),
    (cleared("pool2", "pooling_param", "stride"), "'pool2' .* stride 1 where 2"),
    (setting("conv2_1", "convolution_param", "pad", [0]), "'conv2_1' .* pad 0 where 1"),
    (cleared("conv2_1", "convolution_param", "pad"), "'conv2_1' .* pad 0 where 1"),
    (setting("conv2_1", "convolution_param", "pad", [1, 2]), "'conv2_1' .* pad 2 where 1"),
    (setting("conv2_1", "convolution_param", "pad_h", 1), "'conv2_1' .* pad 0 where 1"),  # and pad_w is left out
    (setting("conv3_3", "convolution_param", "pad", [1]), "'conv3_3' .* pad 1 where 0"),  # 1x1
    (setting("conv2_1", "convolution_param", "stride", [2]), "'conv2_1' .* stride 2 where 1"),
    (setting("conv2_1", "convolution_param", "stride_h", 2), "'conv2_1' .* stride 2 where 1"),
    (setting("conv2_1", "convolution_param", "dilation", [2]), "'conv2_1' .* dilation 2 where 1"),
    (setting("conv2_1", "convolution_param", "group", 2), "'conv2_1' .* group 2 where 1"),
    (setting("relu_conv2_1", "relu_param", "negative_slope", 0.1), "'relu_conv2_1' .* negative_slope 0.1"),
    (setting("fc7", "inner_product_param", "transpose", True), "'fc7' .* transpose 1"),
]


@pytest.mark.parametrize("of_2014", [True, False])
@pytest.mark.parametrize(("change", "message"), ODD)
def test_settings_that_are_not_vggs_are_named(
    change: Callable[[Layers], None], message: str, of_2014: bool, tmp_path: Path
) -> None:
    net = whole_net(NETWORK, of_2014)
    change(listed(net, of_2014))
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(written(tmp_path / "net.caffemodel", net))


@pytest.mark.parametrize("of_2014", [True, False])
@pytest.mark.parametrize("kind", ["Sigmoid", "TanH", "LRN"])
def test_kinds_that_are_not_vggs_are_named(kind: str, of_2014: bool, tmp_path: Path) -> None:
    net = whole_net(NETWORK, of_2014)
    named(listed(net, of_2014), "relu_conv2_1").type = KINDS_2014[kind] if of_2014 else kind
    with pytest.raises(WeightsError, match=f"'relu_conv2_1' of type {kind}"):
        read_checkpoint(written(tmp_path / "net.caffemodel", net))


@pytest.mark.parametrize("kind", ["PReLU", "ELU", "BatchNorm", "Scale", "SigmoidCrossEntropyLoss", "Eltwise"])
def test_kinds_of_later_years_are_named(kind: str, tmp_path: Path) -> None:
    net = whole_net(NETWORK, of_2014=False)
    named(net.layer, "relu_conv2_1").type = kind
    with pytest.raises(WeightsError, match=f"'relu_conv2_1' of type {kind}"):
        read_checkpoint(written(tmp_path / "net.caffemodel", net))


@pytest.mark.parametrize("of_2014", [True, False])
@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (["pool2"], "relu_conv2_2 is followed by the convolution of conv3_1 where network C has the pooling of pool2"),
        (["relu_conv2_1"], "conv2_1 is followed by the convolution of conv2_2"),
        (["pool1", "pool2", "pool3", "pool4", "pool5"], "the pooling of pool1"),
    ],
)
def test_a_missing_layer_is_named(gone: list[str], message: str, of_2014: bool, tmp_path: Path) -> None:
    net = whole_net(NETWORK, of_2014)
    layers = listed(net, of_2014)
    for name in gone:
        below = next(index for index, layer in enumerate(layers) if layer.name == name)
        source = layers[below].bottom[0]
        for layer in layers[below + 1 :]:
            if layer.bottom and layer.bottom[0] == name and layer.name != name:
                layer.bottom[0] = source
        del layers[below]
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(written(tmp_path / "net.caffemodel", net))


def test_a_layer_that_skips_the_one_before_it_is_named(tmp_path: Path) -> None:
    net = whole_net(NETWORK, of_2014=False)
    named(net.layer, "conv3_1").bottom[0] = "conv2_2"
    with pytest.raises(WeightsError, match="'conv3_1' .* takes 'conv2_2'"):
        read_checkpoint(written(tmp_path / "net.caffemodel", net))


@pytest.mark.parametrize("of_2014", [True, False])
def test_layers_without_parameters_are_taken_to_be_vggs_and_that_is_recorded(of_2014: bool, tmp_path: Path) -> None:
    net = whole_net(NETWORK, of_2014)
    layers = listed(net, of_2014)
    for layer in layers:
        layer.ClearField("convolution_param")
    path = written(tmp_path / "net.caffemodel", net)
    assert assert_same_bits(path, NETWORK).training["operations"] == "assumed"
    for layer in [one for one in layers if not one.blobs]:
        layers.remove(layer)
    assert assert_same_bits(written(path, net), NETWORK).training["operations"] == "assumed"


def test_a_renamed_last_layer_is_read_and_a_net_without_a_classifier_too(tmp_path: Path) -> None:
    net = whole_net(NETWORK, of_2014=False)
    for layer in net.layer:
        for field in (layer.bottom, layer.top):
            field[:] = ["fc8_flowers" if name == "fc8" else name for name in field]
    named(net.layer, "fc8").name = "fc8_flowers"
    path = written(tmp_path / "net.caffemodel", net)
    assert_same_bits(path, NETWORK)
    last = next(index for index, layer in enumerate(net.layer) if layer.name == "fc6")
    del net.layer[last:]
    network, checkpoint = load_checkpoint(written(path, net))
    assert (checkpoint.config.head, checkpoint.config.arch, checkpoint.classes) == ("none", "C", ())
    assert torch.equal(network.convolve(images()), NETWORK.convolve(images()))


@pytest.mark.parametrize("of_2014", [True, False])
def test_the_pixels_of_a_data_layer_are_used(of_2014: bool, tmp_path: Path) -> None:
    net = whole_net(NETWORK, of_2014)
    data = listed(net, of_2014)[0]
    data.transform_param.crop_size = 64
    path = tmp_path / "net.caffemodel"
    assert "pixels" not in read_checkpoint(written(path, net)).training
    data.transform_param.mean_value.extend([10, 20, 30])
    data.transform_param.scale = 0.0078125
    checkpoint = assert_same_bits(written(path, net), NETWORK)
    assert checkpoint.preprocessing.mean == (30, 20, 10)  # from BGR
    assert checkpoint.preprocessing.divisor == 128
    assert checkpoint.training["pixels"] == "BGR"
    data.transform_param.scale = -1
    with pytest.raises(WeightsError, match="'data' .* cannot be used"):
        read_checkpoint(written(path, net))
    data.transform_param.mean_file = "mean.binaryproto"
    assert read_checkpoint(written(path, net)).preprocessing.mean == (123.68, 116.779, 103.939)
