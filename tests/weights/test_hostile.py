"""Files made to mislead: each is refused with a sentence that names what is wrong, before memory is taken and without
anything in it being run."""

import json
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.weights.refusals import refusal
from tests.zoo.nets import about, small
from vggcli.errors import WeightsError
from vggcli.weights.checkpoint import load_checkpoint, load_tensors, save_checkpoint
from vggcli.weights.torch_names import to_framework
from vggcli.weights.torch_write import save_foreign


def with_header(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    """A safetensors file of a given header (a text, or what becomes JSON) that may claim another length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def tensor(shape: list[Any], *offsets: Any, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{not JSON}", "damaged or cut short"),
        (b"[1, 2]", "damaged or cut short"),
        (b"[" * 200_000, "nested too deeply|damaged"),
        (b'{"a":' * 100_000, "nested too deeply|damaged"),
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
         "names 'a' twice"),
        ({"a": tensor([2], 0, 8), "b": tensor([2], 4, 12)}, "invalid offset for tensor `b`"),  # overlapping
        ({"a": tensor([1], 0, 4), "b": tensor([1], 8, 12)}, "invalid offset for tensor `b`"),  # a hole
        ({"a": tensor([1], 0, 4)}, "file not fully covered"),  # bytes left over
        ({"a": tensor([1 << 40], 0, 4 << 40)}, "file not fully covered"),  # past the end
        ({"a": tensor([3], 0, 8), "b": tensor([1], 8, 12)}, "invalid shape"),
        ({"a": tensor([-3], 0, 12)}, "integer `-3`"),
        ({"a": tensor([3.0], 0, 12)}, "floating point `3.0`"),
        ({"a": tensor([3], 12, 0)}, "invalid offset for tensor `a`"),
        ({"a": tensor([3], 0)}, "invalid length 1"),
        ({"a": tensor([True, 3], 0, 12)}, "boolean `true`"),
        ({"a": tensor([3], 0, 12, dtype="F31")}, "unknown variant `F31`"),
        ({"a": 7}, "damaged or cut short"),
        ({"a": tensor([3], 0, 12), **{f"t{number}": tensor([0], 12, 12) for number in range(10_000)}}, "lists 10,001"),
        ({"__metadata__": {"vgg": 7}, "a": tensor([3], 0, 12)}, "expected a string"),
        ({"a": tensor([3], 0, 12)}, "its first entries are a"),
    ],
)  # fmt: skip
def test_hostile_safetensors_headers(header: Any, message: str, tmp_path: Path) -> None:
    assert re.search(message, refusal(with_header(tmp_path / "w.safetensors", header, bytes(12))))


@pytest.mark.parametrize("length", [1 << 62, (1 << 64) - 1, 1 << 40, 100, 9 << 20])
def test_header_lengths_that_no_file_has(length: int, tmp_path: Path) -> None:
    path = with_header(tmp_path / "w.safetensors", {}, length=length)
    if length == 9 << 20:
        with path.open("ab") as file:
            file.truncate(20 << 20)  # takes no room on the disk
    assert re.search("claims a header of|invalid header length", refusal(path))


def test_an_overlap_hidden_by_an_empty_tensor_is_seen(tmp_path: Path) -> None:
    header = {"a": tensor([2], 0, 8), "b": tensor([0], 4, 4), "c": tensor([1], 8, 12)}
    assert re.search(
        "invalid offset for tensor `b`", refusal(with_header(tmp_path / "w.safetensors", header, bytes(12)))
    )


def test_a_checkpoint_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    network = small("A", width=1 / 64)
    path = tmp_path / "w.safetensors"
    save_checkpoint(path, network, about(network))
    whole = path.read_bytes()
    for length in (1, 7, 8, 9, 500, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert re.search("damaged or cut short|holds", refusal(path))
        with pytest.raises(WeightsError):
            load_tensors(path)


def changed(path: Path, **fields: Any) -> None:
    """A good checkpoint whose metadata say something else; a dotted name reaches inside."""
    network = small("A", width=1 / 8)
    note = json.loads(about(network).to_json())
    for name, value in fields.items():
        outer, _, inner = name.partition("__")
        if inner:
            note[outer][inner] = value
        else:
            note[outer] = value
    save_file(
        {name: value.contiguous() for name, value in network.state_dict().items()}, path, {"vgg": json.dumps(note)}
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": 2}, "format 2"),
        ({"config__crop": 10**9}, "a crop of 1000000000 takes over"),
        ({"config__classes": 10**12, "classes": []}, "1000000000000 classes are out of range"),
        ({"config__width": 1e9}, "out of range"),
        ({"config__width": float("nan")}, "config.width is nan"),
        ({"config__width": "1"}, "config.width is '1', and should be a number"),
        ({"config__crop": 64.0}, "config.crop is 64.0, and should be a whole number"),
        ({"config__classes": True}, "config.classes is True"),
        ({"config__arch": "F"}, "no network 'F'"),
        ({"config__head": "none such"}, "config.head is 'none such'"),
        ({"config__more": 1}, "more"),
        ({"config": {}}, "config.arch is missing"),
        ({"config": 3}, "metadata that cannot be used"),
        ({"classes": ["a"] * 5}, "a class name that appears twice"),
        ({"classes": [1, 2, 3, 4, 5]}, "classes.0 is 1"),
        ({"classes": ["a"]}, "1 class names for 5"),
        ({"scale": [0, 10]}, "scale.0 is 0"),
        ({"scale": [20, 10]}, "training scale"),
        ({"scale": [10, 10**9]}, "scale.1 is 1000000000"),
        ({"scale": [1]}, "scale.1 is missing"),
        ({"preprocessing": {}}, "preprocessing.mean is missing"),
        ({"preprocessing__divisor": 0}, "divisor is 0"),
        ({"preprocessing__divisor": float("inf")}, "divisor is inf"),
        ({"preprocessing__mean": [1, 2]}, "mean.2 is missing"),
        ({"preprocessing__mean": ["1", 2, 3]}, "mean.0 is '1'"),
        ({"preprocessing__eigenvalues": [1.0]}, "eigenvalues"),
        ({"training": 3}, "metadata that cannot be used"),
        ({"training__framework": []}, "its training: framework is"),
        ({"training__resume": "../../x"}, "its training: resume is '../../x'"),
        ({"training__epoch": -1}, "its training: epoch is -1"),
    ],
)
def test_absurd_metadata(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    changed(tmp_path / "w.safetensors", **fields)
    assert re.search(message, refusal(tmp_path / "w.safetensors"))


def test_metadata_nested_without_end(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "w.safetensors", {"vgg": "[" * 200_000})
    assert re.search("metadata that cannot be used", refusal(tmp_path / "w.safetensors"))


def test_the_weights_of_e_under_the_name_of_d(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "w.safetensors", small("E"), about(small("D")))
    assert re.search("conv3_4.bias, which network D does not have", refusal(tmp_path / "w.safetensors"))
    save_checkpoint(tmp_path / "v.safetensors", small("D"), about(small("E")))
    assert re.search("no weights for conv3_4.weight", refusal(tmp_path / "v.safetensors"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_values_that_are_not_finite(value: float, suffix: str, tmp_path: Path) -> None:
    network = small("A")
    with torch.no_grad():
        network.get_parameter("fc6.weight")[7, 3, 1, 1] = value
    save_checkpoint(tmp_path / "w.safetensors", network, about(network))
    assert re.search("fc6.weight holds values that are not finite", refusal(tmp_path / "w.safetensors"))
    save_foreign(tmp_path / "w.pth", network, about(network), "torchvision")
    assert re.search("fc6.weight holds values that are not finite", refusal(tmp_path / "w.pth"))


def test_finite_values_whose_sum_is_not_are_no_error(tmp_path: Path) -> None:
    network = small("A")
    with torch.no_grad():
        network.get_parameter("fc6.weight").fill_(3e38)
    save_checkpoint(tmp_path / "w.safetensors", network, about(network))
    assert load_checkpoint(tmp_path / "w.safetensors")[0].get_parameter("fc6.weight").min() == 3e38


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("pickled", [False, True])
def test_other_floating_point_becomes_float32(dtype: torch.dtype, pickled: bool, tmp_path: Path) -> None:
    network = small("A-BN")
    theirs = to_framework(network.state_dict(), network.config, "torchvision")
    cast = {name: (t.to(dtype) if t.is_floating_point() else t).contiguous() for name, t in theirs.items()}
    path = tmp_path / ("w.pth" if pickled else "w.safetensors")
    torch.save(cast, path) if pickled else save_file(cast, path)
    loaded = load_checkpoint(path)[0].state_dict()
    for name, value in network.state_dict().items():
        assert loaded[name].dtype == value.dtype
        assert torch.equal(loaded[name], value.to(dtype).to(value.dtype) if value.is_floating_point() else value), name


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8, torch.bool])
def test_integers_are_no_weights(dtype: torch.dtype, tmp_path: Path) -> None:
    network = small("A")
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    tensors["fc7.weight"] = tensors["fc7.weight"].to(dtype)
    save_file(tensors, tmp_path / "w.safetensors", {"vgg": about(network).to_json()})
    assert re.search("fc7.weight holds", refusal(tmp_path / "w.safetensors"))


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, ("ran",)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_never_run(zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = to_framework(small().state_dict(), small().config, "torchvision")
    torch.save({**state, "a": Hostile()}, "w.pth", _use_new_zipfile_serialization=zipped)
    assert re.search("cannot be read as weights that torch has saved", refusal(Path("w.pth")))
    torch.save(Hostile(), "w.pt", _use_new_zipfile_serialization=zipped)
    assert re.search("cannot be read as weights that torch has saved", refusal(Path("w.pt")))
    assert not Path("ran").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_both_of_torchs_formats_are_read(zipped: bool, tmp_path: Path) -> None:
    network = small("A")
    state = to_framework(network.state_dict(), network.config, "torchvision")
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "w.pth",
               _use_new_zipfile_serialization=zipped)  # fmt: skip
    loaded = load_checkpoint(tmp_path / "w.pth")[0]
    assert all(
        torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), network.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_name_only_what_a_state_dict_needs(zipped: bool, tmp_path: Path) -> None:
    """torch would make a bytearray of any length for whoever asks."""
    state = to_framework(small().state_dict(), small().config, "torchvision")
    torch.save({**state, "a": bytearray(b"12")}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert re.search("it names .*, which no state dict needs", refusal(tmp_path / "w.pth"))


def test_archives_that_would_be_larger_unpacked_are_refused(tmp_path: Path) -> None:
    pickled(tmp_path / "w.pth")
    with zipfile.ZipFile(tmp_path / "w.pth") as good, zipfile.ZipFile(tmp_path / "v.pth", "w") as bad:
        for name in good.namelist():
            bad.writestr(name, good.read(name), zipfile.ZIP_DEFLATED)
        bad.writestr("archive/more", bytes(100 << 20), zipfile.ZIP_DEFLATED)
    assert re.search("compressed archive", refusal(tmp_path / "v.pth"))


def pickled(path: Path, **changes: Any) -> Path:
    state: dict[str, Any] = to_framework(small().state_dict(), small().config, "torchvision")
    torch.save({**state, **changes}, path)
    return path


def test_tensors_that_claim_more_than_their_file_holds(tmp_path: Path) -> None:
    huge = torch.zeros(1).expand(10**6, 512)  # four bytes
    last = {"classifier.6.weight": huge, "classifier.6.bias": torch.zeros(1).expand(10**6)}
    assert re.search("claims .* bytes of weights", refusal(pickled(tmp_path / "w.pth", **last)))
    meta = torch.empty(5, 512, device="meta")
    assert re.search("no state dict needs", refusal(pickled(tmp_path / "v.pth", **{"classifier.6.weight": meta})))
    sparse = torch.eye(5).to_sparse()
    assert re.search(
        "no state dict|cannot be read", refusal(pickled(tmp_path / "u.pth", **{"classifier.6.weight": sparse}))
    )


def test_a_pickle_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    path = pickled(tmp_path / "w.pth")
    whole = path.read_bytes()
    for length in (3, 30, 300, len(whole) // 2, len(whole) - 10):
        path.write_bytes(whole[:length])
        assert re.search("w.pth", refusal(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.safetensors", b"", "is empty"),
        ("w.pth", b"", "is empty"),
        ("w.h5", b"", "is empty"),
        ("w.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "text .perhaps the pointer"),
        ("w.caffemodel", b'name: "VGG"\nlayer { }\n', "holds text"),
        ("w.pth", "für uns".encode(), "holds text"),
        ("w.h5", b"\x89PNG\r\n\x1a\n\0\0", "an image"),
        ("w.h5", b"PK\x03\x04" + bytes(40), "not what its suffix .h5 says"),
        ("w.keras", b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5, not what its suffix .keras says"),
        ("w.h5", b"\x89HDF\r\n\x1a\n" + b"\xff" * 4000, "damaged"),
        ("w.h5", b"\0\1\2\3" * 50, "damaged"),
        ("w.keras", b"\0\1\2\3" * 50, "archive of weights"),
        ("w.caffemodel", b"\0\1\2\3" * 50, "damaged"),
        ("w.pth", b"\0\1\2\3" * 50, "cannot be read as weights that torch has saved"),
        ("w.bin", b"\0\1\2\3" * 50, "cannot be read as a checkpoint"),
    ],
)
def test_a_file_is_what_its_name_says_or_is_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert re.search(message, refusal(tmp_path / name))


def test_a_format_under_anothers_name_is_refused(tmp_path: Path) -> None:
    network = small("A")
    save_checkpoint(tmp_path / "w.pth", network, about(network))
    assert re.search("it holds safetensors, not what its suffix .pth says", refusal(tmp_path / "w.pth"))
    pickled(tmp_path / "w.safetensors")
    assert re.search("that torch has saved, not what its suffix .safetensors says", refusal(tmp_path / "w.safetensors"))
    save_checkpoint(tmp_path / "weights", network, about(network))  # no suffix promises anything
    assert load_checkpoint(tmp_path / "weights")[1] == about(network)


def test_folders_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").mkdir()
    assert re.search("there is no weights file", refusal(tmp_path / "w.safetensors"))
    assert re.search("there is no weights file", refusal(tmp_path / "none.pth"))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_note_in_other_layouts_is_read_back_and_theirs_to_ignore(suffix: str, tmp_path: Path) -> None:
    network = small("D-BN")
    path = tmp_path / f"w{suffix}"
    save_foreign(path, network, about(network), "timm")
    theirs = load_file(path) if suffix == ".safetensors" else torch.load(path, weights_only=True)
    assert theirs.keys() == to_framework(network.state_dict(), network.config, "timm").keys()
    assert torch.equal(theirs["head.fc.bias"], network.get_parameter("fc8.bias"))
    assert load_checkpoint(path)[1] == about(network)
