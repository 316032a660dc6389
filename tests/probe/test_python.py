"""The example of `probe`, run."""

import doctest
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import MakeFolder
from vggcli.places import Places
from vggcli.probe import measure


def test_the_example_runs(make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = sorted(path.relative_to(tmp_path).as_posix() for path in make_folder().rglob("*.jpg"))
    rows_ND = np.array([[f"class{label}" in name for label in range(3)] for name in names], np.float32)
    np.savez("photos.npz", features=rows_ND, images=np.array(names))
    known = {"probe": measure.probe, "places": Places(Path("runs"), tmp_path / "cache")}
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder().find(measure.probe, module=measure, globs=known):
        runner.run(test)
    assert runner.summarize() == (0, 2)
