"""The SHA-256 of a file: whatever bit of it flips is found, older files are read all the same."""

import hashlib
import json
import os
import random
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.zoo.nets import about, assert_same_bits, small
from vggcli.errors import WeightsError
from vggcli.weights.checked_once import once
from vggcli.weights.checkpoint import load_checkpoint, load_tensors, read_checkpoint, save_checkpoint, save_tensors
from vggcli.weights.seal import check_seal
from vggcli.weights.torch_write import save_foreign

NETWORK = small("A-BN", width=1 / 64, crop=32)
MOMENTUM = {"b": torch.arange(6.0).view(2, 3), "a": torch.ones((), dtype=torch.bfloat16), "c": torch.zeros(0)}


def unnoticed(path: Path, read: Callable[[Path], object], bits: Iterable[int]) -> list[int]:
    """The bits of a file that can flip without `read` refusing it."""
    whole, found = path.read_bytes(), []
    for bit in bits:
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            read(path)
            found.append(bit)
        except WeightsError as error:
            assert "\n" not in str(error)
    path.write_bytes(whole)
    read(path)
    return found


def some(path: Path, count: int) -> list[int]:
    return random.Random(4).sample(range(8 * path.stat().st_size), count)


def test_a_flipped_bit_of_a_checkpoint_is_found(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_checkpoint(path, NETWORK, about(NETWORK))
    head = 8 * (8 + int.from_bytes(path.read_bytes()[:8], "little"))
    assert unnoticed(path, read_checkpoint, [*random.Random(5).sample(range(head), 300), *some(path, 60)]) == []
    flipped = bytearray(path.read_bytes())
    flipped[-1] ^= 1
    path.write_bytes(flipped)
    with pytest.raises(WeightsError, match="w.safetensors is damaged: its SHA-256"):
        load_checkpoint(path)


def test_a_flipped_bit_of_weights_in_another_layout_is_found(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_foreign(path, NETWORK, about(NETWORK), "torchvision")
    note = path.read_bytes().index(b"vgg_note")
    bits = [*range(8 * note, 8 * (note + 100)), *some(path, 100)]
    assert unnoticed(path, read_checkpoint, bits) == []
    assert assert_same_bits(path, NETWORK) == about(NETWORK)


def test_any_flipped_bit_of_a_momentum_file_is_found(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_tensors(path, MOMENTUM, {"vgg": "{}"})
    assert unnoticed(path, load_tensors, range(8 * path.stat().st_size)) == []


def test_a_flipped_bit_of_a_pickle_is_found_or_of_no_meaning(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    save_foreign(path, NETWORK, about(NETWORK), "torchvision")
    whole, refused = path.read_bytes(), 0
    for bit in [*some(path, 40), *range(8 * whole.rindex(b"vgg_note"), 8 * whole.rindex(b"vgg_note") + 64)]:
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            assert assert_same_bits(path, NETWORK).classes == about(NETWORK).classes
        except WeightsError:
            refused += 1
    assert refused >= 90


def test_a_file_is_read_for_its_check_once_while_it_stays_as_it_is(tmp_path: Path) -> None:
    read: list[Path] = []
    path = tmp_path / "f"
    path.write_bytes(b"1")
    check = once(lambda path: read.append(path) or len(read))  # type: ignore[func-returns-value]
    assert [check(path), check(path)] == [1, 2]  # so new that a change might not show in its time
    os.utime(path, (1e9, 1e9))
    assert [check(path), check(path)] == [3, 3]
    os.utime(path, (1e9 + 1, 1e9 + 1))
    assert [check(path), check(path)] == [4, 4]


def test_the_seal_is_over_names_types_shapes_bytes_and_texts(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    seal = save_tensors(path, MOMENTUM, {"vgg": "{}", "more": "é"})
    types = {"a": ("bfloat16", []), "b": ("float32", [2, 3]), "c": ("float32", [0])}
    said = [[["more", "é"], ["vgg", "{}"]], [[name, *types[name]] for name in "abc"]]
    parts = [MOMENTUM["a"].view(1).view(torch.int16).numpy().tobytes(), MOMENTUM["b"].numpy().tobytes()]
    assert seal == hashlib.sha256(json.dumps(said).encode() + b"".join(parts)).hexdigest() == check_seal(path)
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["vgg"]) == {"sha256": seal}


def test_another_momentum_file_is_refused(tmp_path: Path) -> None:
    wanted = save_tensors(tmp_path / "one.safetensors", MOMENTUM, {"vgg": "{}"})
    save_tensors(tmp_path / "emptied.safetensors", {}, {"vgg": "{}"})
    save_file(MOMENTUM, tmp_path / "older.safetensors", {"vgg": "{}"})
    tensors, note = load_tensors(tmp_path / "one.safetensors", wanted)
    assert note == "{}" and tensors.keys() == MOMENTUM.keys()
    assert all(torch.equal(tensors[name], value) for name, value in MOMENTUM.items())
    for name in ("emptied", "older"):
        load_tensors(tmp_path / f"{name}.safetensors")
        with pytest.raises(WeightsError, match=f"{name}.safetensors is not the file that was saved"):
            load_tensors(tmp_path / f"{name}.safetensors", wanted)


def test_files_of_before_the_seal_are_read(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_checkpoint(path, NETWORK, about(NETWORK))
    save_file(load_file(path), path, {"vgg": about(NETWORK).to_json()})
    assert check_seal(path) is None
    assert assert_same_bits(path, NETWORK) == about(NETWORK)
