"""State dicts as training scripts leave them: old pickles, wrapped names, nested dictionaries, other things beside them."""

import argparse
import collections
import itertools
import pickle
import re
import tarfile
import types
import warnings
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.weights.refusals import refusal
from tests.zoo.nets import assert_same_bits, small
from vggcli.weights.torch_names import to_framework
from vggcli.zoo.network import VGG


def state_of(network: VGG) -> dict[str, Tensor]:
    state = to_framework(network.state_dict(), network.config, "torchvision")
    return {name: value.contiguous() for name, value in state.items()}


def parts(tensor: Tensor) -> tuple[Any, ...]:
    storage = torch.storage.TypedStorage(wrap_storage=tensor.untyped_storage(), dtype=tensor.dtype, _internal=True)
    return storage, tensor.storage_offset(), tuple(tensor.size()), tensor.stride()


class Rebuilt(pickle.Pickler):
    """As torch 0.2 and 0.3 pickled tensors."""

    def reducer_override(self, value: Any) -> Any:
        return (torch._utils._rebuild_tensor, parts(value)) if isinstance(value, Tensor) else NotImplemented


PICKLER: Any = vars(pickle)["_Pickler"]  # the one in Python, whose steps can be replaced


class Built(PICKLER):  # type: ignore[misc]
    """As torch 0.1 did: an empty tensor that is given its state."""

    def save(self, value: Any, save_persistent_id: bool = True) -> None:
        if not isinstance(value, Tensor):
            super().save(value, save_persistent_id)
            return
        self.write(b"ctorch\nFloatTensor\n" + pickle.EMPTY_TUPLE + pickle.NEWOBJ)
        super().save(parts(value))
        self.write(pickle.BUILD)


@pytest.mark.parametrize("pickler", [Rebuilt, Built])
def test_pickles_older_than_torch_0_4_are_read(pickler: type, tmp_path: Path) -> None:
    network = small("A")
    module = types.SimpleNamespace(Pickler=pickler, dump=pickle.dump, __name__="pickle")
    torch.save(state_of(network), tmp_path / "w.pth", pickle_module=module, _use_new_zipfile_serialization=False)
    assert_same_bits(tmp_path / "w.pth", network)


def test_the_tar_archives_before_them_are_named(tmp_path: Path) -> None:
    (tmp_path / "sys_info").write_bytes(b"x")
    with tarfile.open(tmp_path / "w.pth", "w", format=tarfile.USTAR_FORMAT) as tar:
        tar.add(tmp_path / "sys_info", "sys_info")
    assert re.search("tar archive", refusal(tmp_path / "w.pth"))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_batch_normalisation_without_counters_is_read(suffix: str, tmp_path: Path) -> None:
    network = small("A-BN")
    state = {name: value for name, value in state_of(network).items() if not name.endswith("num_batches_tracked")}
    path = tmp_path / f"w{suffix}"
    torch.save(state, path) if suffix == ".pth" else save_file(state, path)
    assert_same_bits(path, network)
    del state["features.1.running_var"]
    torch.save(state, tmp_path / "v.pth")
    assert re.search("no weights for bn1_1.running_var", refusal(tmp_path / "v.pth"))


WORDS = ("module.", "_orig_mod.", "model.", "net.")
PREFIXES = ["", *("".join(some) for count in (1, 2, 3) for some in itertools.permutations(WORDS, count))]


@pytest.mark.parametrize("inner", ["features.", "features.module.", "features._orig_mod.module."])
def test_prefixes_in_any_order_and_depth_are_taken_off(inner: str, tmp_path: Path) -> None:
    network = small("A", width=1 / 64)
    state = state_of(network)
    for prefix in PREFIXES:
        named = {prefix + name.replace("features.", inner): value for name, value in state.items()}
        save_file(named, tmp_path / "w.safetensors")
        assert_same_bits(tmp_path / "w.safetensors", network)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {f"{side}.{name}": value for side in "ab" for name, value in state.items()}, "2 networks"),
        (lambda state: {**state, **{f"module.{name}": value for name, value in state.items()}}, "twice"),
        (lambda state: {f"model.{name}": v for name, v in state.items()} | {"head.weight": torch.ones(2, 2)},
         "head.weight beside the network model"),
        (lambda state: state | {"mean": torch.zeros(3)}, "holds mean, which"),
    ],
)  # fmt: skip
def test_what_prefixes_leave_open_is_named(change: Any, message: str, tmp_path: Path) -> None:
    torch.save(change(state_of(small("A", width=1 / 64))), tmp_path / "w.pth")
    assert re.search(message, refusal(tmp_path / "w.pth"))


BESIDE = {
    "args": argparse.Namespace(lr=0.1, names=["a"], out=Path("runs")),
    "best": numpy.float64(71.5),
    "curve": numpy.arange(3.0),
    "milestones": collections.Counter([30, 60]),
    "history": collections.defaultdict(list, {"loss": [0.5]}),
    "best_acc1": torch.tensor(71.0),
    "optimizer": {"state": {0: {"momentum_buffer": torch.zeros(3)}}},
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "key",
    [
        "state_dict",
        "model",
        "net",
        "model_state_dict",
        "state_dict_ema",
        "model.state_dict",
        "teacher",
        "best_model.params_dict",
        "checkpoint",
    ],
)
def test_nested_dictionaries_are_opened_whatever_stands_beside(key: str, zipped: bool, tmp_path: Path) -> None:
    network = small("A", width=1 / 64)
    kept: Any = state_of(network)
    for name in reversed(key.split(".")):
        kept = {name: kept, **BESIDE}
    torch.save(kept, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert_same_bits(tmp_path / "w.pth", network)


def test_what_stands_beside_the_weights_is_never_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(argparse.Namespace, "__setstate__", lambda self, state: made.append(state), raising=False)
    network = small("A", width=1 / 64)
    torch.save({"model": state_of(network), "args": argparse.Namespace(lr=0.1)}, tmp_path / "w.pth")
    assert_same_bits(tmp_path / "w.pth", network)
    assert made == []


def test_what_cannot_be_read_says_how_to_save(tmp_path: Path) -> None:
    how = r"torch\.save\(model\.state_dict\(\), 'weights\.pth'\)"
    torch.save(nn.Sequential(nn.Linear(2, 2)), tmp_path / "model.pth")
    assert re.search(how, refusal(tmp_path / "model.pth"))
    torch.save({"epoch": 3}, tmp_path / "nothing.pth")
    assert re.search(how, refusal(tmp_path / "nothing.pth"))
    torch.save(state_of(small("A", width=1 / 64)), tmp_path / "four.pth", pickle_protocol=4)
    assert re.search(f"protocol.*{how}", refusal(tmp_path / "four.pth"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has become old in torch, files of it have not
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), tmp_path / "script.pt")
    assert re.search(
        r"TorchScript program.*torch\.save\(torch\.jit\.load\('script\.pt'\)\.state_dict\(\)",
        refusal(tmp_path / "script.pt"),
    )


@pytest.mark.parametrize(
    "names",
    [("classifier.0", "classifier.3", "classifier.6.0"), ("classifier.0", "classifier.3", "classifier.6.1"),
     ("classifier.0", "classifier.2", "classifier.4")],
)  # fmt: skip
def test_a_moved_last_layer_is_read(names: tuple[str, ...], tmp_path: Path) -> None:
    network = small("A")
    new = dict(zip(("classifier.0", "classifier.3", "classifier.6"), names, strict=True))
    state = {
        f"{new.get(name.rpartition('.')[0], name.rpartition('.')[0])}.{name.rpartition('.')[2]}": value
        for name, value in state_of(network).items()
    }
    torch.save(state, tmp_path / "w.pth")
    assert_same_bits(tmp_path / "w.pth", network)


@pytest.mark.parametrize(
    "head",
    [
        {"classifier.weight": torch.ones(5, 64), "classifier.bias": torch.ones(5)},
        {"classifier.0.weight": torch.ones(9, 64), "classifier.2.weight": torch.ones(5, 9)},
        {f"classifier.{place}.weight": torch.ones(64, 64) for place in ("0", "3", "6.0", "6.3")},
        {f"classifier.{place}.weight": torch.ones(8, 64) for place in ("0", "3", "6")},  # not one after the other
    ],
)
def test_another_classifier_is_named(head: dict[str, Tensor], tmp_path: Path) -> None:
    state = {name: value for name, value in state_of(small("A")).items() if name.startswith("features")}
    torch.save(state | head, tmp_path / "w.pth")
    first = next(iter(head)).replace(".", r"\.")
    assert re.search(rf"not VGG's three linear layers: {first} \[", refusal(tmp_path / "w.pth"))
