"""A run on a folder of photos, trained once and copied for each test."""

import os
import shutil
from pathlib import Path

import pytest

from tests.cli.test_train import train
from tests.conftest import write_photos


def trained_in(root: Path, *seeds: str) -> Path:
    """`root` with photos/ and, below here/, a run of network A trained on them for an epoch for each seed."""
    before = Path.cwd()
    (root / "here").mkdir()
    write_photos(root / "photos")
    os.chdir(root / "here")
    try:
        for seed in seeds:
            assert train(root / "photos", "--epochs", "1", "--seed", seed) == 0
    finally:
        os.chdir(before)
    return root


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `trained_in` makes it, with one run."""
    return trained_in(tmp_path_factory.mktemp("trained"), "0")


@pytest.fixture
def photos(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of photos with a run of network A trained on it below the current folder."""
    for name in ("photos", "here"):
        shutil.copytree(trained / name, tmp_path / name)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "photos"
