"""What `--weights` and `--arch` mean where no run is there: the published weights, said first and fetched only for data
that they fit."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.weights.test_published import Response
from vggcli.cli.app import run
from vggcli.imagenet import imagenet_ids, imagenet_names
from vggcli.weights import published
from vggcli.weights.torch_names import to_framework
from vggcli.zoo.initialise import initialise
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG


@pytest.fixture
def imagenet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Five photos in folders named as ImageNet's are; "published" weights of a narrow network A that a server gives;
    returns the addresses that were asked for."""
    for wordnet_id in imagenet_ids()[:5]:
        folder = tmp_path / "photos" / "val" / wordnet_id
        folder.mkdir(parents=True)
        Image.effect_noise((260, 256), 80).convert("RGB").save(folder / "x.png")
    network = VGG(NetworkConfig("A", width=1 / 64))
    initialise(network, "he", 0)
    torch.save(to_framework(network.state_dict(), network.config, "torchvision"), tmp_path / "w.pth")
    content = (tmp_path / "w.pth").read_bytes()
    one = replace(published.PUBLISHED[0], file=f"vgg11-{hashlib.sha256(content).hexdigest()[:8]}.pth")
    monkeypatch.setattr(published, "PUBLISHED", (one, *published.PUBLISHED[1:]))
    asked: list[str] = []

    def answer(url: str) -> Any:
        asked.append(url)
        return Response(content, len(content))

    monkeypatch.setattr(published, "open_https", answer)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return asked


def test_without_a_run_the_published_weights_are_fetched_once(
    imagenet: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert run(["eval", "--arch", "A", "--data", "photos", "-q", "-j", "0"]) == 0
    said = capsys.readouterr().err
    assert len(imagenet) == 1
    assert f"(no run of A under {Path('runs').resolve()})" in said
    assert "weights: published ImageNet weights, 507 MiB from https://" in said
    assert "licence: BSD-3-Clause" in said
    assert run(["predict", "photos", "--weights", "imagenet", "--arch", "A", "-q", "--json", "-j", "0"]) == 0
    assert run(["convert", "imagenet", "a.safetensors", "--arch", "A"]) == 0
    assert run(["eval", "a.safetensors", "--data", "photos", "-q", "-j", "0"]) == 0
    assert len(imagenet) == 1
    shown = capsys.readouterr().out
    assert any(name in shown for name in imagenet_names())


def test_a_damaged_copy_in_the_cache_is_refused(imagenet: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "--arch", "A", "--data", "photos", "-q", "-j", "0"]) == 0
    (kept,) = Path("cache/vgg/weights").glob("*.pth")
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    assert run(["eval", "--arch", "A", "--data", "photos", "-q", "-j", "0"]) == 5
    assert "has changed since it was fetched" in capsys.readouterr().err


def test_data_that_they_do_not_fit_are_said_before_anything_is_fetched(
    imagenet: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("photos/val/n01440764").rename("photos/val/my goldfish")
    assert run(["eval", "--arch", "A", "--data", "photos"]) == 4
    said = capsys.readouterr().err
    assert "vgg train --arch A" in said
    assert "my goldfish" in said
    assert imagenet == []


@pytest.mark.parametrize("words", ["eval --data photos", "predict photos"])
def test_convolutions_alone_are_refused_before_they_are_fetched(
    imagenet: list[str], capsys: pytest.CaptureFixture[str], words: str
) -> None:
    assert run([*words.split(), "--weights", "features"]) == 4
    assert "have no classifier, so they give no posteriors" in capsys.readouterr().err
    assert imagenet == []


def test_without_a_network_it_says_what_else_to_do(
    imagenet: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(url: str) -> Any:
        raise OSError("no answer")

    monkeypatch.setattr(published, "open_https", unreachable)
    assert run(["eval", "--arch", "A", "--data", "photos"]) == 5
    said = capsys.readouterr().err
    assert "cannot fetch" in said
    assert "vgg train --arch A" in said
    assert list(Path("cache/vgg/weights").iterdir()) == []


@pytest.mark.parametrize("command", ["predict", "features"])
def test_a_misspelt_image_is_found_before_anything_is_fetched(
    imagenet: list[str], capsys: pytest.CaptureFixture[str], command: str
) -> None:
    images = ["photos/val/n01440764/x.png", "photos/val/n01440764/y.png"]
    out = ["--out", "f.safetensors"] if command == "features" else []
    assert run([command, *images, *out, "--arch", "A", "-q", "-j", "0"]) == 3
    assert "there is no image photos/val/n01440764/y.png, so nothing was fetched" in capsys.readouterr().err
    assert imagenet == []
