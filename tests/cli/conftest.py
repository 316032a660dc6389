"""A run on a folder of photos, trained once and copied for each test."""

import os
import shutil
from pathlib import Path

import pytest

from tests.cli.test_train import train
from tests.conftest import write_photos


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos/ and, below here/, a run of network A trained on them for an epoch."""
    root, before = tmp_path_factory.mktemp("trained"), Path.cwd()
    (root / "here").mkdir()
    os.chdir(root / "here")
    try:
        assert train(write_photos(root / "photos"), "--epochs", "1") == 0
    finally:
        os.chdir(before)
    return root


@pytest.fixture
def photos(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of photos with a run of network A trained on it below the current folder."""
    for name in ("photos", "here"):
        shutil.copytree(trained / name, tmp_path / name)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "photos"
