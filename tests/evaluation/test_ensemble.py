"""Fusion by names: orders may differ, sets may not; networks together give what each gives alone."""

import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.conftest import MakeFolder
from tests.evaluation.test_protocol import COLOUR, OPTIONS
from tests.evaluation.test_result import EVALUATION, scores
from tests.rounding import assert_same_sums
from vggcli.data.decode import ImageError
from vggcli.data.image_set import match_classes
from vggcli.data.sources import load_split
from vggcli.errors import DataError, WeightsError
from vggcli.evaluation import together as taking_turns
from vggcli.evaluation.ensemble import fused
from vggcli.evaluation.protocol import Scores, image_posteriors
from vggcli.evaluation.scores_file import load_scores, save_scores
from vggcli.evaluation.together import NetworkMember, networks_posteriors
from vggcli.zoo.initialise import initialise
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.network import VGG


def shuffled(given: Scores, seed: int) -> Scores:
    """The same scores with images and classes in another order."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (torch.randperm(size, generator=generator) for size in given.posteriors_NK.shape)
    place = {int(old): new for new, old in enumerate(columns)}
    return Scores(
        given.posteriors_NK[rows][:, columns],
        torch.tensor([place[int(given.labels_N[row])] for row in rows]),
        tuple(given.images[int(row)] for row in rows),
        tuple(given.classes[int(column)] for column in columns),
    )


def test_orders_may_differ() -> None:
    given = scores()
    whole = fused([given, shuffled(given, 1), shuffled(given, 2)], ["a", "b", "c"])
    torch.testing.assert_close(whole.posteriors_NK, given.posteriors_NK)
    assert whole.images == given.images


def test_the_mean_is_of_posteriors() -> None:
    first = scores()
    second = replace(first, posteriors_NK=first.posteriors_NK.flip(1))
    expected = (first.posteriors_NK + second.posteriors_NK) / 2
    torch.testing.assert_close(fused([first, shuffled(second, 3)], ["a", "b"]).posteriors_NK, expected)


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"images": ("new.jpg",)}, DataError, "only b has 'new.jpg'"),
        ({"classes": ("z",)}, WeightsError, "only b has 'z'"),
    ],
)
def test_different_sets_are_named(change: dict[str, tuple[str]], kind: type[Exception], message: str) -> None:
    first = scores()
    fields = {name: value + getattr(first, name)[1:] for name, value in change.items()}
    with pytest.raises(kind, match=message):
        fused([first, replace(first, **fields)], ["a", "b"])


def test_labels_that_disagree_are_named() -> None:
    first = scores()
    labels = first.labels_N.clone()
    labels[4] = (labels[4] + 1) % 7
    with pytest.raises(DataError, match="same labels"):
        fused([first, replace(first, labels_N=labels)], ["a", "b"])


def test_the_mean_of_scores_keeps_no_parts_of_its_members() -> None:
    given = replace(scores(), parts={"dense": scores().posteriors_NK})
    assert not fused([given, given], ["a", "b"]).parts


def test_saved_scores_come_back_and_other_files_are_none(tmp_path: Path) -> None:
    save_scores(tmp_path / "s.safetensors", scores(), EVALUATION.to_json())
    loaded = load_scores(tmp_path / "s.safetensors")
    assert loaded is not None
    assert torch.equal(loaded.scores.posteriors_NK, scores().posteriors_NK)
    assert (loaded.arch, loaded.protocol, loaded.scales) == ("D", "dense", (256, 384))
    details = {
        "flip": True,
        "crops": 0,
        "skipped": 1,
        "network": EVALUATION.network,
        "decode": "cpu",
        "precision": None,
    }
    assert loaded.details == details
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors", {"vgg": "{}"})
    assert load_scores(tmp_path / "w.safetensors") is None
    (tmp_path / "junk").write_bytes(b"junk")
    assert load_scores(tmp_path / "junk") is None


@pytest.mark.parametrize("change", ["rows", "large sums", "small sums", "zeros", "negative", "nan", "labels"])
def test_damaged_scores_are_refused(tmp_path: Path, change: str) -> None:
    given = scores()
    posteriors, labels = given.posteriors_NK.clone(), given.labels_N.clone()
    if change == "rows":
        posteriors = posteriors[1:]
    if change == "large sums":
        posteriors[0] *= 1.01
    if change == "small sums":
        posteriors[0] *= 0.99
    if change == "zeros":
        posteriors[0] = 0
    if change == "negative":  # and still of sum 1
        posteriors[0] = torch.tensor([-0.5, 0.5, 0.5, 0.5, 0, 0, 0])
    if change == "nan":
        posteriors[0, 0] = float("nan")
    if change == "labels":
        labels[0] = 7
    save_scores(
        tmp_path / "s.safetensors", replace(given, posteriors_NK=posteriors, labels_N=labels), EVALUATION.to_json()
    )
    with pytest.raises(WeightsError, match="scores file"):
        load_scores(tmp_path / "s.safetensors")


@pytest.mark.parametrize(
    "details",
    ["[]", "{}", None, '{"flip": true}', '{"flip": 1, "crops": 1e999, "skipped": 0, "network": {}}', "1", "{"],
)
def test_scores_without_details_are_read_and_details_of_no_use_refused(tmp_path: Path, details: str | None) -> None:
    about = {
        "images": '["a"]',
        "classes": '["x", "y"]',
        "arch": "D",
        "protocol": "dense",
        "scales": "[256]",
        "weights": "",
    }
    about |= {} if details is None else {"details": details}
    tensors = {"posteriors": torch.tensor([[0.25, 0.75]]), "labels": torch.tensor([1])}
    save_file(tensors, tmp_path / "s.safetensors", about)
    if details in ("[]", "{}", None):
        loaded = load_scores(tmp_path / "s.safetensors")
        assert loaded is not None
        assert loaded.details == {}
        return
    with pytest.raises(WeightsError, match="metadata"):
        load_scores(tmp_path / "s.safetensors")


def networks() -> list[VGG]:
    made = []
    for seed, (arch, crop) in enumerate((("A", 32), ("B", 64))):
        network = VGG(NetworkConfig(arch, classes=3, crop=crop, width=0.0625))
        initialise(network, "he", seed)
        made.append(network.eval())
    return made


@pytest.mark.parametrize("protocol", ["centre-crop", "dense", "dense+multi-crop"])
@pytest.mark.parametrize("block", [1, 1 << 30])
def test_networks_together_give_what_each_gives_alone(
    make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch, protocol: str, block: int
) -> None:
    monkeypatch.setattr(taking_turns, "_BLOCK_BYTES", block)
    images = load_split(make_folder(), "val")
    loads: list[str] = []
    members, alone = [], []
    for network, scales, order in zip(
        networks(), ((40, 66), (66, 70)), (("class0", "class1", "class2"),) * 2, strict=True
    ):
        options = replace(OPTIONS, protocol=protocol, scales=scales, flip=True, grid=3, apart=True)  # type: ignore[arg-type]
        mine = match_classes(images, order)

        def load(network: VGG = network) -> VGG:
            loads.append(network.config.arch)
            return network

        members.append(NetworkMember(load, network.config, COLOUR, mine, options))
        alone.append(image_posteriors(network, mine, COLOUR, options))
    views: list[int] = []
    together = networks_posteriors(members, views.append)
    assert sum(views) == 4 * len(images)  # two scales of each of the two networks
    for (one, seconds), other in zip(together, alone, strict=True):
        assert seconds > 0
        assert_same_sums(one.posteriors_NK, other.posteriors_NK, networks()[0])
        assert len(one.parts) == (2 if protocol == "dense+multi-crop" else 0)
        for part in one.parts:
            assert_same_sums(one.parts[part], other.parts[part], networks()[0])
    assert loads[:2] == ["A", "B"]
    assert (len(loads) == 2) == (block > 1)


def test_a_broken_image_is_left_out_of_every_member(make_folder: MakeFolder) -> None:
    root = make_folder()
    (root / "val" / "class1" / "0.jpg").write_bytes(b"no image")
    images = load_split(root, "val")
    members = []
    for network in networks():
        options = replace(OPTIONS, scales=(66,), skip_bad=True)
        members.append(NetworkMember(partial(_same, network), network.config, COLOUR, images, options))
    assert [len(one.images) for one, _ in networks_posteriors(members, lambda views: None)] == [11, 11]
    strict = [replace(member, options=replace(member.options, skip_bad=False)) for member in members]
    with pytest.raises(ImageError, match="class1/0.jpg"):
        networks_posteriors(strict, lambda views: None)


def test_one_network_is_in_memory_at_a_time(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking_turns, "_BLOCK_BYTES", 1)
    images = load_split(make_folder(), "val")
    loaded: list[weakref.ref[VGG]] = []

    def load() -> VGG:
        assert not any(one() for one in loaded)
        network = networks()[0]
        loaded.append(weakref.ref(network))
        return network

    member = NetworkMember(load, networks()[0].config, COLOUR, images, replace(OPTIONS, scales=(40,)))
    networks_posteriors([member, member], lambda views: None)
    assert len(loaded) > 2


def _same(network: VGG) -> VGG:
    return network
