"""What is no regular file is never opened, so that nothing waits for the other end of a FIFO."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MakeFolder, picture
from tests.features.stores import checkpoint, network
from vggcli.cli.app import run
from vggcli.data.sources import load_training
from vggcli.data.survey import in_two_classes, repeated
from vggcli.errors import DataError, UsageError
from vggcli.regular_files import irregular, need_local, need_regular


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(os.path.relpath(path))


KINDS: dict[str, Callable[[Path], None]] = {
    "a FIFO": os.mkfifo,
    "a socket": make_socket,
    "a device": lambda path: path.symlink_to("/dev/null"),
    "a folder": Path.mkdir,
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_named(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    KINDS[kind](tmp_path / "it")
    (tmp_path / "file").touch()
    assert (irregular(tmp_path / "it"), irregular(tmp_path / "file"), irregular(tmp_path / "none")) == (
        kind,
        None,
        None,
    )
    with pytest.raises(DataError, match=f"it is {kind}"):
        need_regular(tmp_path / "it", DataError)


INPUTS = {  # code, words; FIFO stands for its path
    "f.jpg": (3, "predict FIFO --weights w.safetensors -j 0"),
    "f.csv": (3, "predict FIFO --weights w.safetensors -j 0"),
    "f.tar": (3, "features FIFO --gap --weights w.safetensors -j 0"),
    "w.pth": (4, "predict photo.jpg --weights FIFO -j 0"),
    "data.csv": (3, "data FIFO"),
    "c.json": (2, "train --data photos --config FIFO"),
    "p.json": (2, "predict photo.jpg --weights w.safetensors --preprocessing FIFO -j 0"),
    "s.safetensors": (4, "ensemble FIFO w.safetensors --data photos -j 0"),
    "d.pth": (4, "convert FIFO out.safetensors"),
    "i.safetensors": (4, "train --data photos --recipe tiny --arch A --crop 32 --width 0.125 -j 0 --init-from FIFO"),
}


@pytest.mark.parametrize("name", INPUTS)
def test_a_fifo_as_an_input_is_refused(
    name: str,
    make_folder: MakeFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    make_folder()
    checkpoint(Path("w.safetensors"), network())
    picture(0, 0).save("photo.jpg")
    os.mkfifo(name)
    code, words = INPUTS[name]
    assert run(words.replace("FIFO", name).split()) == code
    said = capsys.readouterr().err
    assert "regular file" in said.splitlines()[-1]
    assert "Traceback" not in said


def test_fifos_among_images_and_annotations_are_not_opened(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder()
    for name in ("train/class0/f.jpg", "train/class1/f.jpg", "val/class0/f.jpg", "train/class0/config.json"):
        os.mkfifo(root / name)
    for name in ("train/class1/views.png", "train/class1/no suffix"):
        os.mkfifo(root / name)
    train, val = load_training(root)
    assert "train/class0/f.jpg" in train.names
    assert repeated(train, val) == in_two_classes(train) == ()
    voc = tmp_path / "voc"
    (voc / "annots").mkdir(parents=True)
    picture(0, 0).save(voc / "0.jpg")
    os.mkfifo(voc / "annots" / "0.xml")
    with pytest.raises(DataError, match="a FIFO"):
        load_training(voc)


@pytest.mark.parametrize("given", ["https://a.org/b c.zip", Path("https://a.org/b c.zip"), "S3://bucket"])
def test_a_url_is_told_whole(given: str | Path) -> None:
    with pytest.raises(UsageError, match=r"^(https://a.org/b c.zip|S3://bucket) is a URL"):
        need_local(given)


def test_a_path_is_no_url() -> None:
    refused = []
    for given in ("a:b", "C:/photos", "a/b:/c", "runs/A-1", "label:/", "s3://bucket"):
        try:
            need_local(given)
        except UsageError:
            refused.append(given)
    assert refused == ["s3://bucket"]
