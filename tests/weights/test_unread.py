"""Tensors that are read piece by piece: the shapes that are expected are the network's, and nothing is held twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.zoo.nets import about, small
from vggcli import paper
from vggcli.weights.caffe_write import save_caffe
from vggcli.weights.checkpoint import save_checkpoint
from vggcli.weights.keras_write import save_keras
from vggcli.weights.torch_write import save_foreign
from vggcli.weights.unread import by_rows, expected_shapes
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG

PEAKS = """
import json, sys
from pathlib import Path
import torch
from vggcli.weights.checkpoint import load_checkpoint

def kilobytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])

load_checkpoint(Path(sys.argv[1]))  # whatever is imported and kept on first use
found = {}
for path in sys.argv[2:]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = kilobytes("VmRSS")
    load_checkpoint(Path(path))
    found[path] = 1024 * (kilobytes("VmHWM") - before)
print(json.dumps(found))
"""


@pytest.mark.parametrize("arch", paper.NETWORKS)
@pytest.mark.parametrize("head", ["fc", "gap"])
def test_expected_shapes_are_those_of_the_built_network(arch: str, head: str) -> None:
    config = NetworkConfig(arch, classes=7, crop=96, width=0.1, head=head)  # type: ignore[arg-type]
    assert expected_shapes(config) == {name: tuple(value.shape) for name, value in VGG(config).state_dict().items()}


def test_rows_come_in_pieces_that_cover_the_tensor_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vggcli.weights.unread.PIECE", 100)
    values = torch.arange(7 * 2 * 3 * 3.0).view(7, 2, 3, 3)
    target = torch.full((7, 2, 3, 3), -1.0).contiguous(memory_format=torch.channels_last)
    pieces = list(by_rows((7, 2, 3, 3), torch.float32, lambda first, last: values[first:last].flatten()).parts(target))
    assert len(pieces) == 7
    for place, read in pieces:
        assert (place == -1).all()
        place.copy_(read)
    assert torch.equal(target, values)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux' account of memory")
def test_loading_never_holds_the_weights_twice(tmp_path: Path) -> None:
    tiny, network = small("A"), small("A", crop=224, width=0.5)
    save_checkpoint(tmp_path / "tiny.safetensors", tiny, about(tiny))
    save_checkpoint(tmp_path / "w.safetensors", network, about(network))
    save_foreign(tmp_path / "w.pth", network, about(network), "torchvision")
    save_keras(tmp_path / "w.h5", network, about(network))
    save_caffe(tmp_path / "w.caffemodel", network, about(network))
    names = ["tiny.safetensors", "w.safetensors", "w.pth", "w.h5", "w.caffemodel"]
    command = [sys.executable, "-W", "ignore", "-c", PEAKS, *(str(tmp_path / name) for name in names)]
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back to the system at once
    peaks = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout)
    weights = sum(4 * parameter.numel() for parameter in network.parameters())
    assert weights > 100e6
    for path, peak in peaks.items():
        assert 0.9 * weights < peak < 1.25 * weights, path
