"""The package from Python: light until it is used, its names the functions, and the examples of these as they stand."""

import doctest
import inspect
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import PIL.Image
import pytest

import vggcli
from tests.conftest import picture, write_photos
from tests.zoo.nets import about, small
from vggcli.weights.checkpoint import Checkpoint, save_checkpoint

ORDER = "convert load evaluate ensemble predict Features features search probe train finetune".split()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos in three classes, and runs of networks that know them, as the examples name them."""
    folder = tmp_path_factory.mktemp("home")
    write_photos(folder / "photos")
    for index, name in enumerate(("photo.jpg", "a.jpg", "b.jpg")):
        picture(0, index).save(folder / name, quality=95)
    for run, arch in (("A-1", "A"), ("A-2", "A"), ("D-1", "D")):
        network = small(arch, classes=3)
        classes, colour = ("class0", "class1", "class2"), about(network).preprocessing
        (folder / "runs" / run).mkdir(parents=True)
        save_checkpoint(
            folder / "runs" / run / "best.safetensors", network, Checkpoint(network.config, classes, colour, (70, 90))
        )
    return folder


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # Image.open of an example
@pytest.mark.parametrize("name", ORDER)
def test_examples_run_one_after_the_other(
    name: str, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setattr(logging.getLogger("vggcli"), "handlers", [])  # those of a command line before
    function: Any = getattr(vggcli, name)
    found = doctest.DocTestParser().get_doctest(
        function.__doc__, {"vggcli": vggcli, "PIL": PIL, "numpy": numpy}, name, None, None
    )
    assert found.examples
    said: list[str] = []
    doctest.DocTestRunner().run(found, out=said.append)
    assert not said, "".join(said)
    assert capsys.readouterr() == ("", "")


def test_every_name_has_an_example_and_a_signature_without_the_users_folders() -> None:
    assert set(vggcli.__all__) == {*ORDER, "__version__"}
    assert set(dir(vggcli)) >= set(vggcli.__all__)
    for name in ORDER:
        parameters = inspect.signature(getattr(vggcli, name)).parameters
        assert not {"around", "asked"} & set(parameters)
        assert name == "Features" or "places" not in parameters
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        vggcli.trian  # noqa: B018


def test_the_package_is_light_and_two_names_mean_functions_though_rooms_are_called_so() -> None:
    code = (
        "import sys, vggcli; print('torch' in sys.modules); import vggcli.features.search, vggcli.probe.svm; "
        "import vggcli.features.extract as one; from vggcli.features import extract as other; "
        "assert one is other is vggcli.features.extract; "
        "print(vggcli.features.__module__, vggcli.probe.__module__, 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "vggcli.features.describe", "vggcli.probe.measure", "True"]
