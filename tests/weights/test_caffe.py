"""Caffe's files: written ones run in OpenCV's reader of Caffe, and read ones were written by protocol buffers' own library,
in the form of 2014 as Oxford published and in the present one."""

from pathlib import Path

import cv2
import pytest
import torch
from torch import Tensor

from tests.rounding import depth, relative, rounding
from tests.weights.caffe_proto import net
from tests.zoo.nets import about, assert_same_bits, images, small
from vggcli.errors import MachineError, WeightsError
from vggcli.weights.caffe_write import deploy_prototxt, save_caffe
from vggcli.weights.checkpoint import load_checkpoint
from vggcli.zoo.network import VGG


def opencv_scores(model: Path, prototxt: Path, images_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """fc8 and posteriors as OpenCV computes them from BGR images."""
    net = cv2.dnn.readNetFromCaffe(str(prototxt), str(model))
    rows = []
    for image in images_NCHW.flip(1):
        net.setInput(image[None].numpy())
        rows.append([torch.from_numpy(out.copy()) for out in net.forward(["fc8", "prob"])])
    return torch.cat([row[0] for row in rows]), torch.cat([row[1] for row in rows])


@pytest.mark.parametrize("arch", ["A", "B", "C", "D", "E", "B-5x5"])
@torch.inference_mode()
def test_opencv_computes_what_was_written(arch: str, tmp_path: Path) -> None:
    network = small(arch)
    prototxt = save_caffe(tmp_path / "net.caffemodel", network, about(network))
    assert prototxt == tmp_path / "net.prototxt"
    scores, posteriors = opencv_scores(tmp_path / "net.caffemodel", prototxt, images())
    expected = network(images())
    assert relative(scores, expected) < rounding(depth(network))
    assert relative(posteriors, expected.softmax(1)) < rounding(depth(network))
    assert relative(network(images().flip(1)), expected) > 0.01  # BGR for RGB would be seen


@pytest.mark.parametrize("arch", ["A", "C", "E"])
def test_a_round_trip_gives_the_same_bits_and_the_same_record(arch: str, tmp_path: Path) -> None:
    network = small(arch, width=0.3)
    save_caffe(tmp_path / "net.caffemodel", network, about(network))
    assert assert_same_bits(tmp_path / "net.caffemodel", network) == about(network)


def test_the_prototxt_says_what_the_pixels_must_be_brought_to() -> None:
    text = deploy_prototxt(about(small("D")))
    assert "mean (BGR) 99.125, 110.25, 120.5" in text
    assert "divisor (BGR) 61.7, 61.7, 61.7" in text
    assert "shorter side of 70 to 90" in text


def layers_of(network: VGG) -> list[tuple[str, str, list[Tensor]]]:
    """Layers as Caffe has them, for BGR images."""
    layers = []
    for name, value in network.state_dict().items():
        layer, _, part = name.rpartition(".")
        kind = "InnerProduct" if layer.startswith("fc") else "Convolution"
        value = value.flip(1) if name == "conv1_1.weight" else value  # noqa: PLW2901
        value = value.flatten(1) if part == "weight" and kind == "InnerProduct" else value  # noqa: PLW2901
        if part == "weight":
            layers.append((layer, kind, [value]))
        else:
            layers[-1][2].append(value)
    return layers


@pytest.mark.parametrize("of_2014", [True, False])
@pytest.mark.parametrize("double", [False, True])
@torch.inference_mode()
def test_a_file_of_protocol_buffers_own_library_is_read(of_2014: bool, double: bool, tmp_path: Path) -> None:
    network = small("D")
    path = tmp_path / "theirs.caffemodel"
    layers: list[tuple[str, str, list[Tensor]]] = [*layers_of(network), ("loss", "SoftmaxWithLoss", [])]
    path.write_bytes(net(layers, of_2014, double).SerializeToString())
    checkpoint = assert_same_bits(path, network)
    assert checkpoint.preprocessing.mean == (123.68, 116.779, 103.939)  # RGB
    assert checkpoint.preprocessing.divisor == 1.0
    assert (checkpoint.config.arch, checkpoint.config.crop, checkpoint.classes) == ("D", 64, ())
    if not double:
        (tmp_path / "theirs.prototxt").write_text(deploy_prototxt(about(network)))
        scores, _ = opencv_scores(path, tmp_path / "theirs.prototxt", images())
        assert relative(load_checkpoint(path)[0](images()), scores) < rounding(depth(network))


def written(path: Path, layers: list[tuple[str, str, list[Tensor]]], of_2014: bool = False) -> Path:
    path.write_bytes(net(layers, of_2014).SerializeToString())
    return path


def test_what_is_no_plain_network_is_refused(tmp_path: Path) -> None:
    path, layers = tmp_path / "w.caffemodel", layers_of(small("A"))
    with pytest.raises(WeightsError, match=r"'norm1' of type LRN"):
        load_checkpoint(written(path, [*layers, ("norm1", "LRN", [])]))
    with pytest.raises(WeightsError, match=r"'norm1' of type LRN"):
        load_checkpoint(written(path, [*layers, ("norm1", "LRN", [])], of_2014=True))
    with pytest.raises(WeightsError, match="names 'fc8' twice"):
        load_checkpoint(written(path, [*layers, layers[-1]]))
    with pytest.raises(WeightsError, match="no layer fc8"):
        load_checkpoint(written(path, layers[:-1]))
    with pytest.raises(WeightsError, match="convolutions"):
        load_checkpoint(written(path, layers[1:3] + layers[:1] + layers[3:]))
    with pytest.raises(WeightsError, match="does not match the amount of data"):
        message = net(layers, of_2014=False)
        message.layer[2].blobs[0].shape.dim[0] = 10**12
        path.write_bytes(message.SerializeToString())
        load_checkpoint(path)


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    whole = net(layers_of(small("A", width=1 / 64)), of_2014=True).SerializeToString()
    path = tmp_path / "w.caffemodel"
    for share in (0.0001, 0.01, 0.3, 0.7, 0.99, 0.99999):
        path.write_bytes(whole[: max(1, int(share * len(whole)))])
        with pytest.raises(WeightsError, match="w.caffemodel"):
            load_checkpoint(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # a name longer than any file
        b"\xa2\x06\x05" + b"\xff" * 5,  # a number that does not end
        b"\x12\x02\x07\x00" * 10,  # an unknown wire type
        b"\x12\x00" * 300_000,  # layers without end
        b"\x0a\x03\xff\xfe\xfd" + b"\x12\x00",  # a name that is no text
    ],
)
def test_hostile_bytes_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.caffemodel").write_bytes(content)
    with pytest.raises(WeightsError, match="w.caffemodel"):
        load_checkpoint(tmp_path / "w.caffemodel")


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (small("A-LRN"), "A-LRN"),
        (small("A-BN"), "A-BN"),
        (small("A", head="gap"), "the head gap"),
        (small("A", crop=72), "multiple of 32"),
    ],
)
def test_what_caffe_cannot_hold_is_refused(network: VGG, message: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=message):
        save_caffe(tmp_path / "w.caffemodel", network, about(network))
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = small("A")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(MachineError, match="no space left"):
        save_caffe(tmp_path / "w.caffemodel", network, about(network))
    assert not list(tmp_path.iterdir())


def test_oxfords_own_networks_are_known_by_their_training_scale() -> None:
    from vggcli.weights.recognise import oxford_scale
    from vggcli.zoo.layers import NetworkConfig

    assert oxford_scale(NetworkConfig("D")) == oxford_scale(NetworkConfig("E")) == (256, 512)
    assert oxford_scale(NetworkConfig("D", classes=10)) == (256, 256)
