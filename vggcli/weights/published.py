"""Published weights: where they are, which errors they have, and how they are downloaded.

Only https is used. A download appears whole or not at all. The publisher's hash prefix is checked after it, and the full
SHA-256 is recorded beside the file and checked on every use.
"""

import hashlib
import http.client
import json
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from vggcli.errors import MachineError
from vggcli.files import file_sha256, replacing, write_text
from vggcli.records import read_record
from vggcli.servers import within

CONNECT_SECONDS = 9.0  # without a network an error comes within 10 s
_CHUNK = 1 << 20
BASE = "https://download.pytorch.org/models/"
IMAGENET, CONVOLUTIONS = "imagenet", "features"
TORCHVISION_LICENCE = "BSD-3-Clause"
OXFORD_LICENCE = "CC BY(-NC) 4.0"  # copies differ


@dataclass(frozen=True)
class Published:
    """Weights that anyone can fetch: their `name`, the network, the file, its size in MiB, the errors (per cent) that the
    publisher measured on the centre crop at 256 (None without a classifier), and the licence."""

    name: str
    arch: str
    file: str
    mebibytes: float
    top1_error: float | None
    top5_error: float | None
    licence: str = TORCHVISION_LICENCE

    @property
    def url(self) -> str:
        return BASE + self.file

    @property
    def hash_prefix(self) -> str:
        """The first digits of its SHA-256, which are part of the file's name."""
        return self.file.rpartition("-")[2].partition(".")[0]

    def said(self) -> str:
        """Size and source, for messages."""
        return f"{self.mebibytes:.0f} MiB from {self.url}"


PUBLISHED = (
    Published(IMAGENET, "A", "vgg11-8a719046.pth", 506.840, 30.980, 11.372),
    Published(IMAGENET, "B", "vgg13-19584684.pth", 507.545, 30.072, 10.754),
    Published(IMAGENET, "D", "vgg16-397923af.pth", 527.796, 28.408, 9.618),
    Published(IMAGENET, "E", "vgg19-dcbb9e9d.pth", 548.051, 27.624, 9.124),
    Published(IMAGENET, "A-BN", "vgg11_bn-6002323d.pth", 506.881, 29.630, 10.190),
    Published(IMAGENET, "B-BN", "vgg13_bn-abd245e5.pth", 507.590, 28.414, 9.626),
    Published(IMAGENET, "D-BN", "vgg16_bn-6c64b313.pth", 527.866, 26.640, 8.484),
    Published(IMAGENET, "E-BN", "vgg19_bn-c79401a0.pth", 548.143, 25.782, 8.158),
    Published(CONVOLUTIONS, "D", "vgg16_features-amdegroot-88682ab5.pth", 527.802, None, None, OXFORD_LICENCE),
)


def find_published(name: str, arch: str) -> Published | None:
    """The weights of network `arch` that are published as `name`, or None."""
    return next((one for one in PUBLISHED if (one.name, one.arch) == (name, arch)), None)


def published_file(path: Path, folder: Path) -> Published | None:
    """The published weights whose file in the cache `folder` is `path`, downloaded or not, or None."""
    return next((one for one in PUBLISHED if path == folder / one.file), None)


def download(one: Published, folder: Path, progress: Callable[[int], None], open_url: Any = None) -> Path:
    """Fetch `one` into `folder` and return its path; `progress` gets the number of bytes of each piece.

    Raises MachineError, leaving nothing behind, where there is no network, the server does not have the file, its hash
    differs, or the disk refuses.
    """
    path = folder / one.file
    digest = hashlib.sha256()
    try:
        response = (open_url or open_https)(one.url)
    except (OSError, http.client.HTTPException) as error:
        raise _unreachable(one, path, error) from error
    with response, replacing(path) as temporary:
        received = 0
        with temporary.open("wb") as file:
            for piece in _pieces(response, one, path):
                file.write(piece)
                digest.update(piece)
                received += len(piece)
                progress(len(piece))
        length = response.headers.get("Content-Length")
        if length is not None and received != int(length):
            raise MachineError(f"the download of {one.url} stopped after {received} of {length} bytes; try again")
        found = digest.hexdigest()
        if not found.startswith(one.hash_prefix):
            raise MachineError(
                f"{one.url} is not the published file (its SHA-256 begins {found[:8]}, not {one.hash_prefix}); deleted it"
            )
    write_text(_record(path), json.dumps({"url": one.url, "sha256": found}) + "\n")
    return path


def _pieces(response: IO[bytes], one: Published, path: Path) -> Iterator[bytes]:
    try:
        while piece := response.read(_CHUNK):
            yield piece
    except (OSError, http.client.HTTPException) as error:  # of the network, not of the disk
        raise _unreachable(one, path, error) from error


def _unreachable(one: Published, path: Path, error: Exception) -> MachineError:
    reason = str(getattr(error, "reason", None) or error) or type(error).__name__
    return MachineError(
        f"cannot fetch {one.url}: {reason}; put that file at {path} yourself, train with `vgg train --arch {one.arch}`, or "
        "name other weights",
        "weights",
    )


def verify(one: Published, path: Path) -> None:
    """Check a fetched file against the SHA-256 that was recorded when it was fetched. A file that the user put there is
    checked against the publisher's prefix, and its SHA-256 recorded.

    Raises MachineError where it differs.
    """
    found = file_sha256(path)
    try:
        wanted = read_record(dict[str, str], _record(path).read_bytes())["sha256"]
    except (OSError, ValueError, KeyError):
        wanted = one.hash_prefix
        if found.startswith(wanted):
            write_text(_record(path), json.dumps({"url": one.url, "sha256": found}) + "\n")
    if not found.startswith(wanted):
        raise MachineError(
            f"{path} has changed since it was fetched (SHA-256 {found[:8]}…, not {wanted[:8]}…); delete it and run again"
        )


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def open_https(url: str) -> Any:
    """The response to a GET of `url`, over https even if redirected. Raises OSError within 10 s without an answer."""
    if not url.startswith("https://"):
        raise OSError(f"{url} is not https")
    return within(CONNECT_SECONDS, lambda: urllib.request.build_opener(_HttpsOnly).open(url, timeout=CONNECT_SECONDS))


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith("https://"):
            raise OSError(f"redirected to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
