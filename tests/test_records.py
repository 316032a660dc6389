"""Records from JSON: what is no such record is one sentence, and no damage to a file of ours ends in anything else."""

import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.mutations import changed_json, damaged
from tests.zoo.nets import COLOUR, about, small
from vggcli.colour import ColourStatistics
from vggcli.data.csv_file import csv_records
from vggcli.data.voc import listed_stems, read_annotation
from vggcli.errors import VGGError
from vggcli.evaluation.scores_file import load_scores
from vggcli.records import RECORD, Amount, Side, parsed, read_record
from vggcli.training.plan import Plan
from vggcli.training.state import EpochRecord, RunState
from vggcli.weights.checkpoint import load_tensors, read_checkpoint, save_checkpoint, save_tensors
from vggcli.weights.preprocessing import read_pixels

EPOCH = EpochRecord(
    epoch=1,
    step=4,
    loss=2.0,
    top1_error=50.0,
    top5_error=10.0,
    val_loss=1.9,
    learning_rate=0.01,
    images_per_second=123.0,
    seconds=4.5,
)
STATE = replace(RunState().after_epoch(EPOCH, 5), total_steps=4).after_step(2.5, 3, 8, 1.0)


@dataclass(frozen=True)
class Inner:
    """A record inside another."""

    count: int
    __pydantic_config__ = RECORD


@dataclass(frozen=True)
class Outer:
    """A record with one field of each sort."""

    name: str
    scale: tuple[Side, Side]
    loss: Amount
    inner: tuple[Inner, ...] = ()
    more: dict[str, Any] = field(default_factory=dict)
    maybe: float | None = None
    __pydantic_config__ = RECORD


GOOD: dict[str, Any] = {
    "name": "é\udcff", "scale": [1, 2], "loss": 3, "inner": [{"count": 4}], "more": {"\udc80": [None]}, "maybe": None
}  # fmt: skip


def test_a_record_is_what_was_written() -> None:
    wanted = Outer("é\udcff", (1, 2), 3.0, (Inner(4),), {"\udc80": [None]}, None)
    text = json.dumps(GOOD)
    for given in (text, text.encode(), b"\xef\xbb\xbf" + text.encode(), "\ufeff" + text, GOOD):
        assert read_record(Outer, given) == wanted
    assert read_record(Outer, json.dumps(asdict(wanted))) == wanted
    assert read_record(Outer, {name: GOOD[name] for name in ("name", "scale", "loss")}, partly=True).inner == ()
    assert read_record(tuple[str, ...], '["\\u0101", "b"]') == ("ā", "b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 1}, "name is 1, and should be text"),
        ({"name": "\ud800"}, "it has a character that is not allowed in names"),
        ({"name": "a\0"}, "it has a character that is not allowed in names"),
        ({"scale": [1, 2.0]}, "scale.1 is 2.0, and should be a whole number"),
        ({"scale": [1, True]}, "scale.1 is True, and should be a whole number"),
        ({"scale": [1, "2"]}, "scale.1 is '2', and should be a whole number"),
        ({"scale": [1]}, "scale.1 is missing"),
        ({"scale": [1, 10**23]}, f"scale.1 is {10**23}, and should be at most 100000"),
        ({"loss": float("nan")}, "loss is nan, and should be a finite number"),
        ({"loss": float("inf")}, "loss is inf, and should be a finite number"),
        ({"loss": -1}, "loss is -1, and should be at least 0"),
        ({"inner": [{}]}, "inner.0.count is missing"),
        ({"inner": [{"count": 1, "n": 2}]}, "it has an unknown field 'inner.0.n'"),
        ({"inner": 7}, "inner is 7, and should be a list"),
        ({"inner": [7]}, "inner.0 is 7, and should be an object"),
        ({"\x1b[31m": 1}, "it has an unknown field '\\x1b[31m'"),
        (
            {"more": 10**400},
            "more is 1000000000000000000000000000...00000000000000000000000000000, and should be an object",
        ),
    ],
)
def test_a_field_that_is_wrong_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=".") as caught:
        read_record(Outer, json.dumps({**GOOD, **change}))
    assert str(caught.value) == message


def test_a_field_that_is_missing_is_named() -> None:
    for name in GOOD:
        with pytest.raises(ValueError, match=f"^{name} is missing$"):
            read_record(Outer, {one: value for one, value in GOOD.items() if one != name})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is not JSON"), ("{", "it is not JSON"), (b"{\xff}", "not UTF-8 at byte 1"), ("[" * 100_000, "deeply"),
        ('{"a":' * 100_000, "deeply"), ("7" * 5000, "too many digits"), ('{"a": 1, "a": 1}', "it names 'a' twice"),
    ],
)  # fmt: skip
def test_what_is_no_json_is_said(text: str | bytes, message: str) -> None:
    for read in (parsed, lambda given: read_record(Outer, given)):
        with pytest.raises(ValueError, match=message):
            read(text)


@pytest.mark.parametrize(
    "change",
    [
        {"total_steps": 10**9}, {"total_steps": 4}, {"epoch": 2}, {"epoch": 0}, {"step": 0}, {"correct": 9}, {"seen": 0},
        {"seen": -8}, {"loss_sum": float("nan")}, {"loss_sum": float("inf")}, {"history": []}, {"partial": asdict(EPOCH)},
        {"plateau": {"best_error": 50.0, "stalled": -1, "drops": 0}}, {"plateau": {"best_error": 50.0, "stalled": 0}},
        {"plateau": {"best_error": 50.0, "stalled": 0, "drops": 9}}, {"scaler": {"scale": float("inf")}},
    ],
)  # fmt: skip
def test_a_state_that_no_run_can_come_to_is_refused(change: dict[str, Any]) -> None:
    fields = json.loads(json.dumps(STATE.to_json()))
    assert RunState.from_json(fields) == STATE
    with pytest.raises(ValueError, match="is|it"):
        RunState.from_json({**fields, **change})


def test_the_state_of_a_new_run_is_read() -> None:
    fields = json.loads(json.dumps(RunState().to_json()))
    assert fields["plateau"]["best_error"] == float("inf")
    assert RunState.from_json(fields) == RunState()


ANNOTATION = (
    '<?xml version="1.0" encoding="UTF-8"?><annotation><filename>a.jpg</filename><object><name>dog</name>'
    "<difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>31.5</ymax></bndbox></object>"
    "</annotation>"
)
ROWS = "path,label,split,xmin,ymin,xmax,ymax\na.jpg,dog,train,1,2,30,31\nb.jpg,cat,val,1,2,30,31.5\n"


def list_of(path: Path) -> object:
    return listed_stems(path.parents[2], ["train"], {"a", "b"})


def scores(path: Path) -> None:
    tensors = {"posteriors": torch.tensor([[0.25, 0.75], [0.5, 0.5]]), "labels": torch.tensor([1, 0])}
    network = {"crop": 32, "width": 1.0, "head": "fc", "scale": [32, 32]}
    details = {"flip": True, "crops": 0, "skipped": 1, "network": network}
    texts = {"images": ["a", "b"], "classes": ["x", "y"], "scales": [256], "details": details}
    more = {"arch": "D", "protocol": "dense", "weights": "0" * 64}
    save_tensors(path, tensors, {name: json.dumps(value) for name, value in texts.items()} | more)


def written(folder: Path, kind: str) -> tuple[Path, Callable[[Path], object]]:
    """A valid file of a kind and what reads it."""
    path = folder / "f.safetensors"
    network = small("A", width=1 / 64, crop=32)
    texts = {"annotation": ANNOTATION, "list": "a\nb  1\n", "rows": ROWS, "config": Plan().to_text()}
    if kind == "list":
        path = folder / "ImageSets" / "Main" / "train.txt"
        path.parent.mkdir(parents=True)
    if kind in texts:
        path.write_text(texts[kind])
    if kind == "pixels":
        path = folder / "p.json"
        path.write_text(json.dumps({"channels": "BGR", "mean": [1.5, 2, 3], "divisor": [58, 57, 56]}))
    if kind == "checkpoint":
        save_checkpoint(path, network, about(network))
    if kind == "momentum":
        save_tensors(path, {"a": torch.ones(3)}, {"vgg": "{}"})
    if kind == "scores":
        scores(path)
    readers: dict[str, Callable[[Path], object]] = {
        "annotation": read_annotation, "list": list_of, "rows": csv_records, "config": Plan.from_file,
        "pixels": lambda path: read_pixels(str(path)), "checkpoint": read_checkpoint, "momentum": load_tensors,
        "scores": load_scores,
    }  # fmt: skip
    return path, readers[kind]


def refused(read: Callable[[], object], what: object) -> bool:
    """Whether `read` refuses what it was given, in one short sentence; nothing else may come of it."""
    started = time.monotonic()
    try:
        found = read()
    except (VGGError, ValueError) as error:
        assert type(error) is ValueError or isinstance(error, VGGError), what
        assert "\n" not in str(error), what
        assert len(str(error)) < 600, what
        return True
    finally:
        assert time.monotonic() - started < 2, what
    return found is None


@pytest.mark.parametrize("kind", ["config", "pixels", "checkpoint", "momentum", "scores", "annotation", "list", "rows"])
def test_damaged_files_are_read_or_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    draw = random.Random(f"{kind} 12")
    path, read = written(tmp_path, kind)
    whole = path.read_bytes()
    assert not refused(lambda: read(path), kind)
    for _ in range(120):
        changed = damaged(whole, draw)
        path.write_bytes(changed)
        no = refused(lambda: read(path), changed[:3000])
        assert no or changed == whole or kind not in ("checkpoint", "momentum", "scores"), changed[:3000]


JSON_READERS: dict[str, tuple[Any, Callable[[Path], object]]] = {
    "config": (json.loads(Plan().to_text()), Plan.from_file),
    "pixels": ({"mean": [0.5, 0.25, 0.75], "std": 0.5}, lambda path: read_pixels(str(path))),
    "state": (STATE.to_json(), lambda path: RunState.from_json(parsed(path.read_bytes()))),
    "colour": ({**asdict(COLOUR), "divisor": [1, 2, 3]}, lambda path: read_record(ColourStatistics, path.read_bytes())),
}


@pytest.mark.parametrize("kind", JSON_READERS)
def test_changed_json_is_read_or_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    draw, path = random.Random(f"{kind} 13"), tmp_path / "f.json"
    value, read = JSON_READERS[kind]
    path.write_text(json.dumps(value))
    assert not refused(lambda: read(path), kind)
    outcomes = set()
    for _ in range(150):
        text = changed_json(value, draw)
        path.write_text(text)
        outcomes.add(refused(lambda: read(path), text[:3000]))
    assert True in outcomes


@pytest.mark.parametrize("kind", ["checkpoint", "scores"])
def test_changed_metadata_are_read_or_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    draw = random.Random(f"{kind} 14")
    path, read = written(tmp_path, kind)
    network = small("A", width=1 / 64, crop=32)
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    note = json.loads(replace(about(network), training={"step": 5, "state": STATE.to_json(), "data": "x"}).to_json())
    for _ in range(100):
        if kind == "checkpoint":
            texts = {"vgg": changed_json(note, draw)}
        else:
            tensors = {"posteriors": torch.tensor([[0.25, 0.75]]), "labels": torch.tensor([1])}
            fields = {"images": ["a"], "classes": ["x", "y"], "scales": [256], "details": {}}
            name = draw.choice(list(fields))
            texts = {one: json.dumps(value) for one, value in fields.items()} | {
                "arch": "D",
                "protocol": "",
                "weights": "",
            }
            texts[name] = changed_json({"x": fields[name]}, draw).partition(": ")[2][:-1]
        save_file(tensors, path, texts)
        refused(lambda: read(path), str(texts)[:3000])
