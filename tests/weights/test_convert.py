"""The conversion that a notebook calls: what it gives back, and what it refuses before any work."""

from pathlib import Path
from typing import Any

import pytest

from tests.zoo.nets import about, assert_same_bits, small
from vggcli.errors import UsageError
from vggcli.places import Places
from vggcli.weights.checkpoint import save_checkpoint
from vggcli.weights.convert import convert


def test_a_conversion_says_what_anyone_who_uses_it_must_know(tmp_path: Path) -> None:
    places = Places(tmp_path / "runs", tmp_path / "cache")
    network = small()
    save_checkpoint(tmp_path / "w.safetensors", network, about(network))
    found = convert(places, tmp_path / "w.safetensors", str(tmp_path / "w.caffemodel"))
    assert (found.layout, found.prototxt) == ("caffe", tmp_path / "w.prototxt")
    facts = found.to_json()
    assert (facts["channels"], facts["mean"]) == ("BGR", [99.125, 110.25, 120.5])
    assert list(facts)[:3] == ["written", "layout", "prototxt"]
    back = convert(places, tmp_path / "w.caffemodel", tmp_path / "back.safetensors")
    assert back.checkpoint == assert_same_bits(tmp_path / "back.safetensors", network)
    assert back.exported is None


@pytest.mark.parametrize(
    ("target", "to", "message"),
    [
        ("w.pth", "tflite", "no layout 'tflite'; give vgg, "),
        ("w.h5", "caffe", "cannot have the layout"),
        ("w.x", None, "must"),
    ],
)
def test_a_target_that_cannot_be_is_refused(tmp_path: Path, target: str, to: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        convert(Places(tmp_path / "runs", tmp_path / "cache"), "nowhere", tmp_path / target, to=to)
