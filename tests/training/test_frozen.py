"""What learns changes and what does not stays to the bit; cached outputs give what computing them anew gives."""

import itertools
import os
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from tests.conftest import MakeFolder
from tests.rounding import assert_same_sums
from tests.training.sessions import CPU, RECIPE, Session, assert_same_bits, outcome
from vggcli.choices import Layers
from vggcli.colour import normalise
from vggcli.data.decode import read_image
from vggcli.data.test_views import ViewPlan, rescaled_views
from vggcli.errors import DataError
from vggcli.training.frozen import FrozenOutputs, FrozenView, Stages, frozen_batch, frozen_outputs
from vggcli.training.options import Stopped
from vggcli.zoo.initialise import initialise
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG

FIXED = replace(RECIPE, scale=(40, 40))


@pytest.mark.parametrize(
    ("layers", "learning"),
    [("all", "conv1_1 bn1_1 conv5_2 fc6 fc7 fc8"), ("fc", "fc6 fc7 fc8"), ("last", "fc8")],
)
def test_what_learns_changes_and_the_rest_keeps_its_bits(
    make_folder: MakeFolder, tmp_path: Path, layers: Layers, learning: str
) -> None:
    session = Session(make_folder(train=4), tmp_path / "run", replace(RECIPE, epochs=2), "A-BN", layers=layers)
    before = {name: tensor.clone() for name, tensor in session.network.state_dict().items()}
    session.run()
    weights, momentum, _ = outcome(tmp_path / "run")
    changed = {name.split(".")[0] for name in weights if not torch.equal(weights[name], before[name])}
    assert set(learning.split()) <= changed
    if layers != "all":
        assert changed == set(learning.split())
    assert {name.split(".")[0] for name in momentum} == {name for name in changed if "." not in name}


@pytest.mark.parametrize(("layers", "arch"), list(itertools.product(get_args(Layers), ["A", "A-BN"])))
def test_scores_do_not_depend_on_where_the_network_is_cut(layers: Layers, arch: str) -> None:
    network = VGG(NetworkConfig(arch, 5, 32, 0.125)).eval()
    initialise(network, "he", 0)
    stages, images = Stages(network, layers), torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert_same_sums(stages.scores(stages.frozen(images)), network(images), network)


def test_the_gradient_of_what_learns_is_that_of_the_whole_network() -> None:
    network = VGG(NetworkConfig("A", 5, 32, 0.125))
    initialise(network, "he", 0)
    images, keep = torch.randn(3, 3, 32, 32), [torch.ones(3, 512), torch.full((3, 512), 2.0)]
    gradients = []
    for layers in get_args(Layers):
        stages = Stages(network, layers)
        stages.train()
        network.zero_grad()
        stages.scores(stages.frozen(images), keep).square().sum().backward()
        weight = dict(stages.parameters())["fc8.weight"]
        assert weight.grad is not None
        gradients.append(weight.grad.clone())
        assert all(one.grad is None for name, one in network.named_parameters() if not stages.learns(name))
    assert_same_sums(gradients[1], gradients[0], network)
    assert_same_sums(gradients[2], gradients[0], network)


def view_of(session: Session, layers: Layers) -> FrozenView:
    return FrozenView(Stages(session.network, layers), session.data.colour, 40, CPU, "fp32")


@pytest.mark.parametrize("layers", ["fc", "last"])
def test_cached_rows_are_what_each_image_gives_alone(make_folder: MakeFolder, tmp_path: Path, layers: Layers) -> None:
    session = Session(make_folder(), tmp_path / "run", FIXED)
    view, images, told = view_of(session, layers), session.data.train, list[int]()
    rows = frozen_outputs(tmp_path, images, view, 0, told.append)
    assert sum(told) == len(images) == len(rows)
    session.network.eval()
    plan = ViewPlan((40,), centre_crop=32)
    for index in range(len(images)):
        pixels = torch.tensor(rescaled_views(images.path(index), read_image(images.path(index)), plan)[0])
        with torch.no_grad():
            expected = view.stages.frozen(normalise(pixels[None], session.data.colour))[0]
        row = torch.from_numpy(rows[index].copy())
        assert_same_sums(row.permute(2, 0, 1) if layers == "fc" else row, expected, session.network)


def test_a_cache_is_used_again_until_something_that_decides_it_changes(make_folder: MakeFolder, tmp_path: Path) -> None:
    session = Session(make_folder(), tmp_path / "run", FIXED)
    images, view = session.data.train, view_of(session, "fc")
    frozen_outputs(tmp_path, images, view, 0, lambda more: None)
    frozen_outputs(tmp_path, images, view, 0, lambda more: pytest.fail("computed again"))
    key = view.key(images)
    assert view.key(session.data.val) != key
    assert replace(view, scale=44).key(images) != key
    assert replace(view, decode="gpu").key(images) != key
    assert replace(view, colour=replace(view.colour, divisor=99.0)).key(images) != key
    last = view_of(session, "last")
    last_key = last.key(images)
    assert last_key != key
    session.network.get_submodule("fc6").state_dict()["bias"][0] = 7  # learns, so it decides nothing
    assert view.key(images) == key
    assert last.key(images) != last_key  # where it does not learn, it decides
    session.network.get_submodule("conv1_1").state_dict()["bias"][0] = 7
    assert view.key(images) != key
    other = view.key(images)
    (images.root / images.names[0]).write_bytes((images.root / images.names[1]).read_bytes())
    assert view.key(images) != other


def test_a_damaged_cache_is_said_and_computed_again(
    make_folder: MakeFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "vggcli")
    session = Session(make_folder(train=4), tmp_path / "run", FIXED)
    images, view, folder = session.data.train, view_of(session, "last"), tmp_path / "cache"
    folder.mkdir()
    rows = np.array(frozen_outputs(folder, images, view, 0, lambda more: None))
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    assert np.array_equal(np.load(path), rows)  # anybody can read it
    draw = np.random.default_rng(0)
    mutants = [
        b"",
        whole[:-32],
        whole + b"more",
        whole[:9],
        whole.replace(b"<f4", b"<i4"),
        whole.replace(b"(12,", b"(11,"),
    ]
    mutants += [whole[: int(draw.integers(len(whole)))] for _ in range(3)]
    for _ in range(12):
        flipped = bytearray(whole)
        flipped[int(draw.integers(len(whole)))] ^= 1 << int(draw.integers(8))
        mutants.append(bytes(flipped))
    for mutant in mutants:
        path.write_bytes(mutant)
        caplog.clear()
        found = frozen_outputs(folder, images, view, 0, lambda more: None)
        assert np.array_equal(found, rows)
        assert len(caplog.messages) == 1
        assert f"{path}, outputs of frozen layers, is damaged" in caplog.messages[0]
        assert path.read_bytes() == whole
    path.unlink()
    os.mkfifo(path)
    assert np.array_equal(frozen_outputs(folder, images, view, 0, lambda more: None), rows)
    assert path.is_file()


def test_a_batch_of_cached_maps_has_rows_and_columns_where_they_were() -> None:
    rows_NHWC = np.arange(3 * 2 * 4 * 5, dtype=np.float32).reshape(3, 2, 4, 5)
    batch = frozen_batch(rows_NHWC, [7, 8, 9], [2, 0], CPU)
    assert batch.labels_N.tolist() == [9, 7]
    for row, index in enumerate((2, 0)):
        for channel in range(5):
            assert batch.outputs[row, channel].numpy().tolist() == rows_NHWC[index, :, :, channel].tolist()


def test_a_broken_image_leaves_no_cache(make_folder: MakeFolder, tmp_path: Path) -> None:
    session = Session(make_folder(), tmp_path / "run", FIXED)
    (session.data.train.root / session.data.train.names[5]).write_bytes(b"\xff\xd8\xff cut")
    (tmp_path / "cache").mkdir()
    with pytest.raises(DataError, match=session.data.train.names[5]):
        frozen_outputs(tmp_path / "cache", session.data.train, view_of(session, "fc"), 0, lambda more: None)
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize("layers", ["fc", "last"])
def test_training_on_cached_rows_learns_and_a_stop_changes_no_bit(
    make_folder: MakeFolder, tmp_path: Path, layers: Layers
) -> None:
    photos = make_folder(train=8)

    def session(out: str) -> Session:
        made = Session(
            photos,
            tmp_path / out,
            replace(FIXED, width=0.125, dropout=0.0, learning_rate=1e-3, batch_size=4, epochs=6),
            layers=layers,
        )
        train, val = (
            frozen_outputs(tmp_path, images, view_of(made, layers), 0, lambda more: None)
            for images in (made.data.train, made.data.val)
        )
        made.data = replace(made.data, frozen=FrozenOutputs(train, val))
        return made

    records = session("straight").run()
    assert records[-1].loss < records[0].loss
    with pytest.raises(Stopped):
        session("stopped").run(stop_after=7)
    session("stopped").run()
    assert_same_bits(tmp_path / "straight", tmp_path / "stopped")
    assert np.isfinite([record.val_loss for record in records]).all()
