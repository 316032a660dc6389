"""Published weights come whole, checked and over https, or not at all; ImageNet's classes are in torchvision's order."""

import hashlib
import importlib.util
import io
import json
import socket
import time
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import torchvision

from vggcli.errors import MachineError
from vggcli.imagenet import imagenet_ids, imagenet_names
from vggcli.weights.published import PUBLISHED, Published, _HttpsOnly, download, find_published, open_https, verify

CONTENT = b"weights" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
ONE = Published("imagenet", "D", f"vgg16-{DIGEST[:8]}.pth", 0.01, 28.4, 9.6)


class Response(io.BytesIO):
    """What a server sends, with the length that it promises."""

    def __init__(self, content: bytes, length: int) -> None:
        super().__init__(content)
        self.headers = {"Content-Length": str(length)}


class Breaking(Response):
    """A connection that is lost after the first piece."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise TimeoutError("timed out")
        return super().read(10)


def test_a_download_appears_whole_and_is_checked_whenever_it_is_used(tmp_path: Path) -> None:
    told: list[int] = []
    path = download(ONE, tmp_path, told.append, lambda url: Response(CONTENT, len(CONTENT)))
    assert path.read_bytes() == CONTENT
    assert sum(told) == len(CONTENT)
    assert json.loads((tmp_path / f"{ONE.file}.json").read_text())["sha256"] == DIGEST
    verify(ONE, path)
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(MachineError, match="has changed since it was fetched"):
        verify(ONE, path)


def test_a_file_put_there_by_hand_is_checked_by_its_publishers_prefix(tmp_path: Path) -> None:
    path = tmp_path / ONE.file
    path.write_bytes(CONTENT)
    verify(ONE, path)
    assert json.loads((tmp_path / f"{ONE.file}.json").read_text())["sha256"] == DIGEST
    (tmp_path / f"{ONE.file}.json").unlink()
    path.write_bytes(b"something else")
    with pytest.raises(MachineError, match="has changed"):
        verify(ONE, path)


def refused(url: str) -> Any:
    raise urllib.error.URLError(socket.gaierror(-2, "Name or service not known"))


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda url: Response(CONTENT[:-1] + b"x", len(CONTENT)), "SHA-256 begins"),
        (lambda url: Response(CONTENT[:100], len(CONTENT)), "stopped after 100 of 7000 bytes"),
        (lambda url: Breaking(CONTENT, len(CONTENT)), "timed out"),
        (refused, "Name or service not known; put that file at"),
    ],
)
def test_what_goes_wrong_is_said_and_leaves_nothing(tmp_path: Path, answer: Any, message: str) -> None:
    with pytest.raises(MachineError, match=message):
        download(ONE, tmp_path, lambda amount: None, answer)
    assert list(tmp_path.iterdir()) == []


def test_only_https_is_spoken_to_the_last_redirection() -> None:
    with pytest.raises(OSError, match="not https"):
        open_https("http://127.0.0.1/vgg16.pth")
    request = urllib.request.Request("https://a.example/w.pth")
    follow = _HttpsOnly().redirect_request
    assert follow(request, None, 302, "", Message(), "https://b.example/w.pth").full_url == "https://b.example/w.pth"
    with pytest.raises(OSError, match="redirected to http://b.example"):
        follow(request, None, 302, "", Message(), "http://b.example/w.pth")


def test_a_network_that_never_answers_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vggcli.weights.published.CONNECT_SECONDS", 0.05)
    monkeypatch.setattr(urllib.request.OpenerDirector, "open", lambda *args, **kwargs: time.sleep(0.5))
    with pytest.raises(OSError, match="no answer"):
        open_https("https://a.example/w.pth")


def test_the_table_is_torchvisions() -> None:
    models = torchvision.models
    for one in PUBLISHED:
        alias = {"A": "vgg11", "B": "vgg13", "D": "vgg16", "E": "vgg19"}[one.arch.removesuffix("-BN")]
        alias += "_bn" if one.arch.endswith("-BN") else ""
        entry = getattr(models.get_model_weights(alias), f"IMAGENET1K_{'V1' if one.name == 'imagenet' else 'FEATURES'}")
        assert entry.url == one.url
        assert entry.meta["_file_size"] == pytest.approx(one.mebibytes)
        if one.top1_error is not None and one.top5_error is not None:
            figures = entry.meta["_metrics"]["ImageNet-1K"]
            assert (100 - figures["acc@1"], 100 - figures["acc@5"]) == pytest.approx((one.top1_error, one.top5_error))


def test_imagenets_classes_are_torchvisions_in_the_order_of_their_ids() -> None:
    spec = importlib.util.find_spec("torchvision.models._meta")
    assert spec is not None
    assert spec.loader is not None
    meta = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(meta)
    assert list(imagenet_names()) == meta._IMAGENET_CATEGORIES
    assert list(imagenet_ids()) == sorted(set(imagenet_ids()))
    assert dict(zip(imagenet_ids(), imagenet_names(), strict=True))["n02123045"] == "tabby"


def test_what_is_not_published_is_not_found() -> None:
    assert find_published("imagenet", "C") is None
    assert find_published("features", "E") is None
