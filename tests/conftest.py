"""Fixtures that several rooms use: small folders of pictures with classes that a network can tell apart."""

import gc
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

torch.set_num_threads(1)  # the networks here are so small that a second thread only waits for the first

MakeFolder = Callable[..., Path]


def pytest_collection_finish() -> None:
    """What all modules have imported is no garbage; looking through it took an eighth of the time of the tests."""
    gc.set_threshold(10_000)
    gc.freeze()


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """A folder with train/ and val/, one folder a class, pictures of one dominant colour a class in several shapes."""

    def make(name: str = "photos", classes: int = 3, train: int = 8, val: int = 4) -> Path:
        return write_photos(tmp_path / name, classes, train, val)

    return make


def write_photos(root: Path, classes: int = 3, train: int = 8, val: int = 4) -> Path:
    """The folder that `make_folder` makes, at `root`."""
    for split, count in (("train", train), ("val", val)):
        for label in range(classes):
            folder = root / split / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                picture(label, index, split).save(folder / f"{index}.jpg", quality=95)
    return root


def picture(label: int, index: int, split: str = "train") -> Image.Image:
    """Coarse noise with one channel brightened; its shape depends on the index."""
    draw = Random(f"{split} {label} {index}")
    size = ((48, 64), (64, 48), (56, 56), (80, 50))[index % 4]
    noise = Image.frombytes("RGB", (8, 8), draw.randbytes(192)).resize(size, Image.Resampling.BILINEAR)
    colour = [30, 30, 30]
    colour[label % 3] = 220
    return Image.blend(noise, Image.new("RGB", size, (colour[0], colour[1], colour[2])), 0.5)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """torch.compile without a compiler: each pass is traced, in one piece, and run by the operations found there. Its
    `frame_count` is the number of compilations."""
    from torch._dynamo.testing import CompileCounter

    from vggcli.zoo import inductor

    torch.compiler.reset()
    monkeypatch.setattr(logging.getLogger("torch.__trace"), "disabled", True)  # which pytest would gather
    counter, compile = CompileCounter(), torch.compile
    monkeypatch.setattr(inductor, "BACKEND", counter)
    monkeypatch.setattr(torch, "compile", lambda function, **how: compile(function, fullgraph=True, **how))
    yield counter
    torch.compiler.reset()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are saved, in order, with everything that was drawn into them."""
    figures: list[Any] = []
    save = Figure.savefig

    def savefig(self: Figure, *words: Any, **options: Any) -> None:
        figures.append(self)
        save(self, *words, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return figures
