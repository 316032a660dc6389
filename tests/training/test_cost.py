"""What training costs on paper, against sums by hand and the tensors that autograd keeps."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.conftest import MakeFolder
from vggcli.data.sources import load_split
from vggcli.errors import UsageError
from vggcli.training import memory
from vggcli.training.cost import Times, Training, cost, costs, exchanged_bytes
from vggcli.training.memory import training_memory, validation_memory
from vggcli.training.timing import Trial, view_seconds
from vggcli.zoo.initialise import initialise
from vggcli.zoo.layers import NetworkConfig, layer_costs
from vggcli.zoo.network import VGG

CPU = torch.device("cpu")
TIMES = Times(image=0.5, update=2.0, val_image=0.25)


def test_a_step_has_three_passes_but_no_gradient_to_the_images() -> None:
    training = Training(NetworkConfig("D"), CPU, "fp32", micro_batch=8)
    first, *others = (one.macs for one in layer_costs(NetworkConfig("D")))
    assert training.macs == 256 * (2 * first + 3 * sum(others))


@pytest.mark.parametrize("devices", [1, 2, 3, 4, 7])
def test_what_a_ring_exchanges_is_counted_message_by_message(devices: int) -> None:
    """Each device passes one part of N at a time to its neighbour: N - 1 times to add up, N - 1 times to hand out."""
    parameters = 840
    sent = sum(4 * parameters // devices for _ in ("add up", "hand out") for _ in range(devices - 1))
    assert exchanged_bytes(parameters, devices) == sent


def test_an_epoch_adds_up_its_steps_the_short_last_one_and_the_validation() -> None:
    training = Training(NetworkConfig("A"), CPU, "fp32", 4, batch_size=16, images=40, val_images=10, epochs=3)
    found = cost(training, TIMES, 1)
    assert found.step_seconds == 16 * 0.5 + 2
    assert found.epoch_seconds == 2 * (16 * 0.5 + 2) + (8 * 0.5 + 2) + 10 * 0.25
    assert found.seconds == 3 * found.epoch_seconds
    assert (found.exchanged, found.bound) == (0, "network")


def test_the_papers_four_devices_are_3_75_times_as_fast_as_one() -> None:
    training = Training(NetworkConfig("A"), CPU, "fp32", 4, batch_size=256)
    one, four = costs(training, replace(TIMES, update=0.0), 1)
    assert (one.devices, four.devices, four.images) == (1, 4, 64)
    assert one.step_seconds / four.step_seconds == pytest.approx(3.75)
    assert four.memory.kept < one.memory.whole
    assert [each.devices for each in costs(training, TIMES, 8)] == [1, 4, 8]


@pytest.mark.parametrize(
    ("workers", "cores", "view", "seconds", "bound"),
    [
        (0, 2, 0.1, 11.6, "network"),  # this process makes the views before it runs the network
        (2, 2, 0.1, 11.6, "network"),  # which waits while a worker has a core
        (2, 0, 0.1, 10.0, "network"),  # a GPU does not
        (2, 0, 2.0, 16.0, "loaders"),
        (1, 0, 2.0, 32.0, "loaders"),
    ],
)
def test_a_step_takes_as_long_as_the_slower_of_the_network_and_its_loaders(
    workers: int, cores: int, view: float, seconds: float, bound: str
) -> None:
    training = Training(NetworkConfig("A"), CPU, "fp32", 4, batch_size=16)
    found = cost(training, replace(TIMES, workers=workers, cores=cores, view=view), 1)
    assert found.step_seconds == pytest.approx(seconds)
    assert found.bound == bound


def test_several_gpus_wait_for_the_same_loaders() -> None:
    training = Training(NetworkConfig("A"), CPU, "fp32", 4, batch_size=16)
    times = replace(TIMES, workers=2, view=1.0)
    assert cost(training, times, 4).step_seconds == 16 * 1.0 / 2
    assert cost(training, replace(times, cores=2), 4).step_seconds == pytest.approx((4 * 0.5 + 2) / 0.9375 + 4)


def test_a_step_has_an_image_for_every_device() -> None:
    with pytest.raises(UsageError, match="5 devices cannot divide 4 images"):
        Training.of(NetworkConfig("A", width=0.0625), CPU, "fp32", devices=5, batch_size=4)


@pytest.mark.parametrize("arch", ["A", "A-LRN", "C", "D-BN"])
def test_the_outputs_kept_are_the_tensors_that_autograd_saves(arch: str) -> None:
    """Once each; at the end of the forward pass they are all there."""
    config, images = NetworkConfig(arch, 3, 64, 0.5, head="gap"), 3
    network, saved = VGG(config), dict[int, int]()
    initialise(network, "he", 0)
    network.train()
    weights = {one.untyped_storage().data_ptr() for one in network.parameters()}

    def save(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    for _, layer in network.named_children():  # watched layers are not joined, as in training
        layer.register_forward_hook(lambda *_: None)
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        network(torch.rand(images, 3, 64, 64))
    *_, (kept, _) = memory._moments(config, images, CPU, "fp32")
    assert kept == pytest.approx(sum(saved.values()), rel=0.02)


def test_memory_grows_by_the_images_at_once_and_holds_three_copies_of_the_weights() -> None:
    config = NetworkConfig("D")
    weights = 4 * sum(one.parameters for one in layer_costs(config))
    sizes = [training_memory(config, images, CPU) for images in (1, 2, 3)]
    assert [one.weights + one.gradients + one.momentum for one in sizes] == 3 * [3 * weights]
    assert sizes[2].whole - sizes[1].whole == sizes[1].whole - sizes[0].whole > 0
    assert sizes[0].working >= 4 * 25_088 * 4096  # the gradient to fc6's weights
    half = training_memory(config, 2, torch.device("cuda"), "bf16")
    assert half.kept - weights // 2 < sizes[1].kept
    assert validation_memory(config, 64) > 2 * 64 * 4 * 64 * 224**2  # both outputs of the first block


def test_a_trial_learns_updates_and_validates_as_training_does() -> None:
    trial = Trial(NetworkConfig("A", 3, 32, 0.0625), 2, CPU, "fp32")
    trial.learn()
    gradients = [one.grad for one in trial.network.parameters()]
    assert all(one is not None and one.isfinite().all() for one in gradients)
    trial.update()
    trial.validate()
    assert all(one.grad is not None and not one.grad.any() for one in trial.network.parameters())


def test_views_are_timed_as_workers_make_them(make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vggcli.training.timing.VIEW_SECONDS", 0.0)
    assert view_seconds(load_split(make_folder(), "train"), 36, 32) > 0
