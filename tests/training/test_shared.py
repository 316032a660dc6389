"""Training that several processes share gives what one process gives, stops as one, and keeps what it has."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import MakeFolder
from tests.processes import Ended, in_processes, results
from tests.rounding import assert_same_steps
from tests.training.sessions import CPU, RECIPE, Session, outcome
from vggcli.choices import Layers
from vggcli.data.decode import ImageError
from vggcli.ranks import RankLost, Ranks
from vggcli.training.frozen import FrozenOutputs, FrozenView, Stages, frozen_outputs
from vggcli.training.options import Stopped
from vggcli.training.run import load_run
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG

TWO = replace(RECIPE, epochs=2)


def step_losses(session: Session) -> list[tuple[int, int, float]]:
    """The mean loss of the epoch so far after each step."""
    return [(one.epoch, one.step, one.loss) for one in session.shown if one.done == min(8 * one.step, one.images)]


@pytest.mark.parametrize("world", [2, 3])
def test_losses_weights_and_errors_are_those_of_one_process(
    make_folder: MakeFolder, tmp_path: Path, world: int
) -> None:
    """Ten images, eight a step: shares of 3, 3 and 2, and in the last step of two images one process has none."""
    photos = make_folder(classes=5, train=2)
    alone = Session(photos, tmp_path / "alone", TWO)
    records = alone.run()

    def work(ranks: Ranks) -> Any:
        shared = Session(photos, tmp_path / "shared", TWO, ranks=ranks, micro_batch=2)
        mine = shared.run()
        errors = [(one.top1_error, one.top5_error, one.step, one.val_loss) for one in mine]
        return step_losses(shared), errors, {name: one.clone() for name, one in shared.network.state_dict().items()}

    everyone = results(world, work)
    wanted = step_losses(alone)
    assert len(wanted) == 4
    for losses, errors, weights in everyone:
        assert [place[:2] for place in losses] == [place[:2] for place in wanted]
        assert [place[2] for place in losses] == pytest.approx([place[2] for place in wanted], rel=1e-5)
        assert [one[:3] for one in errors] == [(one.top1_error, one.top5_error, one.step) for one in records]
        assert [one[3] for one in errors] == pytest.approx([one.val_loss for one in records], rel=1e-5)
        assert all(torch.equal(weights[name], everyone[0][2][name]) for name in weights)
    (mine, _, state), (theirs, _, _) = outcome(tmp_path / "shared"), outcome(tmp_path / "alone")
    assert_same_steps(mine, theirs, 4, alone.network)
    assert all(torch.equal(mine[name], everyone[0][2][name]) for name in mine)
    log = [json.loads(line) for line in (tmp_path / "shared" / "log.jsonl").read_text().splitlines()]
    assert [one["step"] for one in log] == [2, 4] == [record.step for record in state.history]


def test_any_number_of_processes_goes_on_from_what_another_saved(make_folder: MakeFolder, tmp_path: Path) -> None:
    photos = make_folder(train=4)
    straight = Session(photos, tmp_path / "straight", TWO)
    straight.run()
    for world, steps in ((2, 1), (3, 3)):

        def work(ranks: Ranks, limit: int = steps) -> None:
            Session(photos, tmp_path / "turns", TWO, ranks=ranks, max_steps=limit).run()

        results(world, work)
    Session(photos, tmp_path / "turns", TWO).run()
    assert_same_steps(outcome(tmp_path / "turns")[0], outcome(tmp_path / "straight")[0], 4, straight.network)


def test_batch_normalisation_on_a_cpu_trains_and_saves_the_first_processes_statistics(
    make_folder: MakeFolder, tmp_path: Path
) -> None:
    """Each process has the statistics of its own images, so that losses differ from those of one."""
    photos = make_folder(classes=5, train=2)

    def work(ranks: Ranks) -> dict[str, torch.Tensor]:
        shared = Session(photos, tmp_path / "run", TWO, "A-BN", ranks=ranks)
        shared.run()
        return {name: one.clone() for name, one in shared.network.state_dict().items()}

    first, second, third = results(3, work)
    saved = outcome(tmp_path / "run")[0]
    for name in saved:
        assert torch.equal(saved[name], first[name])
        assert torch.equal(first[name], second[name]) and torch.equal(first[name], third[name])


@pytest.mark.parametrize("layers", ["fc", "last"])
def test_frozen_outputs_are_computed_together_to_the_same_bytes(
    make_folder: MakeFolder, tmp_path: Path, layers: Layers
) -> None:
    photos, fixed = make_folder(classes=5, train=2), replace(TWO, scale=(40, 40))

    def trained(session: Session, cache: Path, ranks: Ranks | None) -> list[float]:
        cache.mkdir(exist_ok=True)
        view = FrozenView(Stages(session.network, layers), session.data.colour, 40, CPU, "fp32")
        told: list[int] = []
        more = {} if ranks is None else {"ranks": ranks}
        rows = [
            frozen_outputs(cache, one, view, 0, told.append, **more) for one in (session.data.train, session.data.val)
        ]
        session.data = replace(session.data, frozen=FrozenOutputs(*rows))
        assert (ranks is not None and ranks.rank) or sum(told) == 30
        return [record.loss for record in session.run()]

    alone = trained(Session(photos, tmp_path / "alone", fixed, layers=layers), tmp_path / "one", None)

    def work(ranks: Ranks) -> list[float]:
        return trained(Session(photos, tmp_path / "run", fixed, layers=layers, ranks=ranks), tmp_path / "two", ranks)

    for losses in results(3, work):
        assert losses == pytest.approx(alone, rel=1e-5)
    files, others = (sorted((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert [one.name for one in files] == [one.name for one in others]
    assert all(one.read_bytes() == other.read_bytes() for one, other in zip(files, others, strict=True))


@pytest.mark.parametrize("after", [0, 3, 6])
def test_all_stop_where_one_is_asked_to(make_folder: MakeFolder, tmp_path: Path, after: int) -> None:
    """Three steps of two micro-batches each, then validation."""
    photos = make_folder(train=8)

    def work(ranks: Ranks) -> None:
        session = Session(photos, tmp_path / "run", TWO, ranks=ranks, micro_batch=2)
        session.run(stop_after=after if ranks.rank == 1 else None)

    stopped: list[Ended] = in_processes(2, work)
    errors = [one.error for one in stopped]
    assert [type(error) for error in errors] == [Stopped, Stopped]
    assert [error.steps for error in errors if isinstance(error, Stopped)] == [{0: 0, 3: 2, 6: 3}[after]] * 2
    assert load_run(tmp_path / "run", CPU).state.total_steps == {0: 0, 3: 2, 6: 3}[after]


def test_what_is_done_is_saved_where_another_process_is_killed(make_folder: MakeFolder, tmp_path: Path) -> None:
    photos = make_folder(train=8)

    def work(ranks: Ranks) -> None:
        session = Session(photos, tmp_path / "run", TWO, ranks=ranks, micro_batch=2)
        if ranks.rank == 1:
            layer, passes = session.network.get_submodule("fc8"), 0

            def counted(*_: object) -> None:
                nonlocal passes
                passes += 1
                if passes == 4:
                    os.kill(os.getpid(), signal.SIGKILL)

            session.network.get_submodule("conv1_1").register_forward_hook(counted)
            assert layer is not None
        session.run()

    first, second = in_processes(2, work)
    assert second.signal == signal.SIGKILL
    assert isinstance(first.error, RankLost)
    assert load_run(tmp_path / "run", CPU).state.total_steps == 1


def test_an_image_that_one_process_cannot_read_ends_all(make_folder: MakeFolder, tmp_path: Path) -> None:
    photos = make_folder(train=4)

    def work(ranks: Ranks) -> None:
        session = Session(photos, tmp_path / "run", TWO, ranks=ranks)
        ranks.gathered(None)
        (photos / "train" / "class1" / "2.jpg").write_bytes(b"no image")
        session.run()

    kinds = {type(one.error) for one in in_processes(2, work)}
    assert kinds == {ImageError, RankLost}
    assert load_run(tmp_path / "run", CPU).state.step <= 2


def test_the_gradients_of_a_share_without_an_image_are_zeros() -> None:
    network = VGG(NetworkConfig("A-BN", 3, 32, 0.0625))
    scores = network.eval()(torch.empty(0, 3, 32, 32), [torch.empty(0, 256), torch.empty(0, 256)])
    torch.nn.functional.cross_entropy(scores, torch.empty(0, dtype=torch.int64), reduction="sum").backward()
    assert all(one.grad is not None and not one.grad.any() for one in network.parameters())
