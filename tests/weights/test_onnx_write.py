"""ONNX models against ONNX Runtime and the network they were made from."""

import json
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from tests.rounding import depth, relative, rounding
from tests.zoo.nets import COLOUR, about, images, small
from vggcli import paper
from vggcli.errors import MachineError, WeightsError
from vggcli.weights.checkpoint import load_checkpoint
from vggcli.weights.onnx_write import save_onnx
from vggcli.zoo.network import VGG


def outputs(path: Path, batch: Tensor) -> tuple[Tensor, Tensor]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == ["posteriors", "descriptor"]
    posteriors, descriptor = session.run(None, {"images": batch.numpy()})
    return torch.from_numpy(posteriors), torch.from_numpy(descriptor)


@pytest.mark.parametrize(("arch", "head"), [*((arch, "fc") for arch in paper.NETWORKS), ("A", "gap"), ("D-BN", "gap")])
@torch.inference_mode()
def test_onnx_runtime_gives_posteriors_and_descriptors_of_any_size(arch: str, head: str, tmp_path: Path) -> None:
    network = small(arch, head=head)
    exported = save_onnx(tmp_path / "net.onnx", network, about(network))
    assert exported.runtime == onnxruntime.__version__
    onnx.checker.check_model(onnx.load(tmp_path / "net.onnx"), full_check=True)
    strong = 20 if arch == "A-LRN" else 1  # values that are normalised with an effect
    for batch in (images(64, 64, 3), strong * images(97, 130, 1)):
        posteriors, descriptor = outputs(tmp_path / "net.onnx", batch)
        expected = network.descriptor(network.convolve(batch))
        assert descriptor.shape == (len(batch), expected.shape[1])
        assert relative(descriptor, expected) < rounding(depth(network))
        assert relative(posteriors, network(batch).softmax(1)) < rounding(depth(network))
        assert relative(descriptor, network.descriptor(network.convolve(batch.flip(1)))) > 0.01


def test_the_model_says_what_its_pixels_must_be_brought_to(tmp_path: Path) -> None:
    network = small("D")
    save_onnx(tmp_path / "net.onnx", network, about(network))
    found = {entry.key: entry.value for entry in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert json.loads(found["mean"]) == list(COLOUR.mean)
    assert json.loads(found["divisor"]) == COLOUR.divisor
    assert json.loads(found["classes"])[1] == "klasse 1 é"
    assert (found["arch"], found["crop"], found["channel_order"]) == ("D", "64", "RGB")
    assert (found["input_range"], json.loads(found["scale"])) == ("[0, 255]", [70, 90])


def test_equal_networks_give_equal_files(tmp_path: Path) -> None:
    for name in ("one.onnx", "two.onnx"):
        save_onnx(tmp_path / name, small("A"), about(small("A")))
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()


def test_a_model_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = small("A-LRN")
    monkeypatch.setattr("vggcli.weights.onnx_write.paper.LRN_BETA", 0.7)  # after the network was built
    with pytest.raises(WeightsError, match="gives other outputs"):
        save_onnx(tmp_path / "net.onnx", network, about(network))
    assert not list(tmp_path.iterdir())


def test_without_onnx_runtime_nothing_is_said_to_be_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert save_onnx(tmp_path / "net.onnx", small(), about(small())).runtime is None
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MachineError, match=r"pip install 'vggcli\[onnx\]'"):
        save_onnx(tmp_path / "more.onnx", small(), about(small()))


def test_models_are_written_and_not_read(tmp_path: Path) -> None:
    save_onnx(tmp_path / "net.onnx", small(), about(small()))
    with pytest.raises(WeightsError, match="can only be written"):
        load_checkpoint(tmp_path / "net.onnx")


def test_more_than_two_gigabytes_are_refused(tmp_path: Path) -> None:
    from vggcli.zoo.layers import NetworkConfig

    with torch.device("meta"):
        network = VGG(NetworkConfig("D", width=2))
    with pytest.raises(WeightsError, match="over 2 GB"):
        save_onnx(tmp_path / "net.onnx", network, about(network))
