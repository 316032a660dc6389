"""Training by compiled passes: the same steps, names and bits after a stop, whichever layers learn."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import MakeFolder
from tests.rounding import assert_same_steps
from tests.training.sessions import RECIPE, Session, assert_same_bits, outcome
from vggcli.training import loop
from vggcli.training.frozen import Stages
from vggcli.training.options import Stopped
from vggcli.zoo.network import VGG

SHORT = replace(RECIPE, epochs=1)


@pytest.mark.parametrize(
    ("arch", "layers"), [("A-BN", "all"), ("A", "fc"), pytest.param("A", "last", marks=pytest.mark.slow)]
)
def test_compiled_steps_are_the_same_steps(
    make_folder: MakeFolder, tmp_path: Path, traced: Any, arch: str, layers: Any
) -> None:
    photos = make_folder(train=5)  # steps of 8 and 7 images, in micro-batches of 5, 3 and 2
    for compile in (False, True):
        session = Session(photos, tmp_path / str(compile), SHORT, arch, micro_batch=5, layers=layers, compile=compile)
        session.run()
        assert traced.frame_count == compile * {"all": 4, "fc": 8, "last": 8}[layers]  # validation has a batch of 12
    (plain, speeds, expected), (found, compiled_speeds, state) = outcome(tmp_path / "False"), outcome(tmp_path / "True")
    assert found.keys() == plain.keys()
    assert compiled_speeds.keys() == speeds.keys()
    learns = Stages(session.network, layers).learns
    assert all(torch.equal(found[name], plain[name]) for name in plain if not learns(name))
    assert_same_steps(
        {name: found[name] for name in speeds}, {name: plain[name] for name in speeds}, 2, session.network
    )
    assert_same_steps(compiled_speeds, speeds, 2, session.network)
    assert state.history[0].val_loss == pytest.approx(expected.history[0].val_loss, rel=1e-4)


def test_a_compiled_run_that_is_stopped_ends_in_the_same_bits(
    make_folder: MakeFolder, tmp_path: Path, traced: Any
) -> None:
    photos = make_folder(train=4)
    Session(photos, tmp_path / "straight", compile=True).run()
    with pytest.raises(Stopped):
        Session(photos, tmp_path / "stopped", compile=True).run(stop_after=2)
    Session(photos, tmp_path / "stopped", compile=True).run()
    assert_same_bits(tmp_path / "straight", tmp_path / "stopped")


def test_gradients_are_added_where_they_are(
    make_folder: MakeFolder, tmp_path: Path, traced: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CUDA graph gives them in its own memory, which the next micro-batch overwrites."""
    places: list[list[int]] = []
    session = Session(make_folder(train=4), tmp_path / "run", SHORT, micro_batch=3, compile=True)

    def see(*given: Any, record: Any = loop._step_record) -> Any:
        grads = [parameter.grad for parameter in session.network.parameters()]
        places.append([grad.data_ptr() for grad in grads if grad is not None])
        return record(*given)

    monkeypatch.setattr(loop, "_step_record", see)
    session.run()
    assert len(places) == 5  # micro-batches of steps of 8 and 4 images
    assert len(places[0]) == len(list(session.network.parameters()))
    assert all(one == places[0] for one in places)


def test_filters_kept_by_a_pass_before_are_not_those_after_a_compiled_step(
    make_folder: MakeFolder, tmp_path: Path, traced: Any
) -> None:
    session = Session(make_folder(train=4), tmp_path / "run", SHORT, compile=True)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = session.network.eval()(images)
    session.run()
    fresh = VGG(session.config)
    fresh.load_state_dict(session.network.state_dict())
    with torch.no_grad():
        after = session.network.eval()(images)
        assert torch.equal(after, fresh.eval()(images))
    assert not torch.equal(after, before)
