"""The examples in the docstrings of Python's functions run as they stand."""

import doctest
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import PIL.Image
import pytest

from tests.conftest import picture, write_photos
from tests.zoo.nets import about, small
from vggcli.evaluation.ensemble import ensemble
from vggcli.evaluation.load import load
from vggcli.evaluation.measure import evaluate
from vggcli.evaluation.predict import predict
from vggcli.places import Places
from vggcli.weights.checkpoint import Checkpoint, save_checkpoint
from vggcli.weights.convert import convert


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # Image.open of an example
@pytest.mark.parametrize("function", [evaluate, ensemble, predict, load, convert])
def test_examples_run(function: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_photos(Path("photos"))
    picture(0, 0).save("photo.jpg")
    network = small(classes=3)
    known = Checkpoint(network.config, ("class0", "class1", "class2"), about(network).preprocessing, (70, 90))
    Path("runs/A-1").mkdir(parents=True)
    save_checkpoint(Path("runs/A-1/best.safetensors"), network, known)
    shutil.copytree("runs/A-1", "runs/A-2")
    places = Places(tmp_path / "runs", tmp_path / "cache")
    named = {one.__name__: partial(one, places=places) for one in (evaluate, ensemble, predict, load, convert)}
    (found,) = doctest.DocTestFinder().find(
        function, function.__name__, globs={"vggcli": SimpleNamespace(**named), "PIL": PIL}
    )
    assert found.examples
    said: list[str] = []
    doctest.DocTestRunner().run(found, out=said.append)
    assert not said, "".join(said)
