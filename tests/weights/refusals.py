"""What is said of a file that is refused."""

from pathlib import Path

import pytest

from vggcli.errors import WeightsError
from vggcli.weights.checkpoint import load_checkpoint


def refusal(path: Path) -> str:
    """The sentence with which `path` is refused: one line, which names it."""
    with pytest.raises(WeightsError) as caught:
        load_checkpoint(path)
    said = str(caught.value)
    assert str(path) in said
    assert "\n" not in said
    return said
