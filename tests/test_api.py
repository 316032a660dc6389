"""The package from Python: light until it is used, its names the functions, and the examples of these as they stand."""

import dataclasses
import doctest
import inspect
import logging
import re
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
from vggcli.errors import UsageError
from vggcli.evaluation.options import MeasureOptions
from vggcli.features.bulk_options import BulkOptions
from vggcli.localisation.evaluate import BoxOptions
from vggcli.probe.plan import ProbePlan
from vggcli.training.options import FinetuneOptions, TrainOptions
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


face: Any = vggcli  # for calls that the type checker would refuse


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: face.train("photos", epochs="3"), "epochs is '3', and should be a whole number"),
        (lambda: face.train("photos", seed=1.5), "seed is 1.5, and should be a whole number"),
        (lambda: face.train("photos", batch_size=True), "batch_size is True, and should be a whole number"),
        (lambda: face.train("photos", scale_jitter=256), "scale_jitter is 256, and should be a list"),
        (lambda: face.train("photos", workers=600), "workers is 600, and should be at most 512"),
        (lambda: face.train("photos", recipe="huge"), "recipe is 'huge', and should be 'paper' or 'tiny'"),
        (lambda: face.finetune("w", layers="x"), "layers is 'x', and should be 'all', 'fc' or 'last'"),
        (lambda: face.evaluate(["v", "w"]), "weights is ['v', 'w'], and should be text"),
        (lambda: face.evaluate("w", scales=72), "scales is 72, and should be a list"),
        (lambda: face.evaluate("w", scales=["72"]), "scales is ['72'], and should be a whole number"),
        (lambda: face.evaluate("w", dense="yes"), "dense is 'yes', and should be true or false"),
        (lambda: face.evaluate("w", batch_size=0), "batch_size is 0, and should be at least 1"),
        (lambda: face.ensemble("w"), "an ensemble needs at least two members"),
        (lambda: face.predict("photo.jpg", "w", top=0), "top is 0, and should be at least 1"),
        (lambda: face.predict([], "runs/A-1"), "there is nothing to predict"),
        (lambda: face.features(["photo.jpg"], "w", scales=256), "scales is 256, and should be a list"),
        (lambda: face.features(["photo.jpg"], "w", norm="zzz"), "norm is 'zzz', and should be 'l2', 'l1' or 'none'"),
        (lambda: face.search("photo.jpg", "s.npz", top="3"), "top is '3', and should be a whole number"),
        (lambda: face.probe("s.npz", norm="l1"), "norm is 'l1', and should be 'l2' or 'none'"),
        (lambda: face.probe([]), "there is no store of descriptors to probe"),
        (lambda: face.load("runs/A-1")("photo.jpg"), "give Pillow images, such as Image.open('photo.jpg')"),
    ],
)
def test_a_wrong_argument_is_named(home: Path, monkeypatch: pytest.MonkeyPatch, call: Any, said: str) -> None:
    monkeypatch.chdir(home)
    with pytest.raises(UsageError) as caught:
        call()
    assert str(caught.value).startswith(said)


def test_a_keyword_that_there_is_not_is_named() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'lr'"):
        face.train("photos", lr=0.1)
    assert face.train.__name__ == "train"
    assert face.finetune.__qualname__ == "finetune"


def test_a_single_path_stands_for_a_list_of_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    one, same = (face.features(paths, "runs/A-1", device="cpu") for paths in ("photo.jpg", ["photo.jpg"]))
    assert one.single is not None
    assert same.single is not None
    assert (one.single.rows[0] == same.single.rows[0]).all()


KINDS: dict[str, list[Any]] = {
    **{"train": [TrainOptions], "finetune": [FinetuneOptions], "evaluate": [MeasureOptions, BoxOptions]},
    **{"ensemble": [MeasureOptions, BoxOptions], "predict": [MeasureOptions, BoxOptions], "features": [BulkOptions]},
    "probe": [ProbePlan],
}


@pytest.mark.parametrize("name", KINDS)
def test_help_has_plain_types_and_a_line_for_every_keyword(name: str) -> None:
    function, kinds = getattr(vggcli, name), KINDS[name]
    signature = inspect.signature(function)
    text = f"{name}{signature}"
    assert not re.search("Annotated|FieldInfo|Literal|Callable|Optional|pathlib|0x", text)
    assert ("progress: Progress = silent" in text) is ("progress" in signature.parameters)
    own = {field.name for kind in kinds for field in dataclasses.fields(kind)} & set(signature.parameters)
    listed = function.__doc__.partition("\nKeywords:\n")[2]
    names = re.findall(r"^    (\w+): \S", listed, re.MULTILINE)
    assert names == [one for one in signature.parameters if one in own | {"progress"}]
    assert max(map(len, listed.splitlines())) <= 120


def test_an_unknown_keyword_is_named_with_the_function_that_was_called(tmp_path: Path) -> None:
    functions: list[Any] = [vggcli.evaluate, vggcli.ensemble, vggcli.predict, vggcli.train]
    for function in functions:
        with pytest.raises(TypeError, match="unexpected keyword argument 'dence'$"):
            function(str(tmp_path), dence=True)
