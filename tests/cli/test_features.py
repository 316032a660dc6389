"""`vgg features` from the command line: inputs, outputs, the table of odd images, search, pictures, and held wrong."""

import csv
import io
import json
import os
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from tests.features.stores import checkpoint, network, pictures
from tests.rounding import assert_same_sums
from vggcli import Features, search
from vggcli.choices import Precision
from vggcli.cli.app import run
from vggcli.features import bulk
from vggcli.features.extract import image_rows
from vggcli.files import file_sha256

WEIGHTS = ["--weights", "w.safetensors", "-q"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with weights and six images in photos/."""
    monkeypatch.chdir(tmp_path)
    checkpoint(Path("w.safetensors"), network())
    pictures(Path("photos"), 6)
    return tmp_path


def features(*words: str, code: int = 0) -> None:
    assert run(["features", *words, *WEIGHTS]) == code


def stored(path: str) -> tuple[list[str], np.ndarray[Any, Any], dict[str, str]]:
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        return json.loads(metadata["images"]), file.get_tensor("features"), metadata


def test_one_image_is_summed_up_and_nothing_is_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(here.iterdir())
    features("photos/000.jpg", "--gap")
    shown = capsys.readouterr().out
    row = Features("w.safetensors")(["photos/000.jpg"])[0]
    for words in ("512", "L2 length 1", f"strongest channels: {row.argmax()} ", "fc7", "norm l2"):
        assert words in " ".join(shown.split())
    features("photos/000.jpg", "--gap", "--json", "--layer", "fc6", "pool5")
    result = json.loads(capsys.readouterr().out)
    assert [len(values) for values in result["features"]] == [512, 64]
    assert result["layer"] == "fc6 pool5"
    features("photos/000.jpg", "--json", "--layer", "pool5")
    assert np.array(json.loads(capsys.readouterr().out)["features"]).shape == (64, 1, 1)
    assert sorted(here.iterdir()) == before


def test_one_file_for_many_images(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features("photos", "--gap", "--out", "f.safetensors", "--json", "--scales", "40", "48", "--aggregate", "stack")
    result = json.loads(capsys.readouterr().out)
    assert {key: result[key] for key in ("images", "skipped", "shape", "pool", "norm", "aggregate", "out")} == {
        "images": 6,
        "skipped": [],
        "shape": [1024],
        "pool": "gap",
        "norm": "l2",
        "aggregate": "stack",
        "out": "f.safetensors",
    }
    names, rows, about = stored("f.safetensors")
    assert names == [f"photos/{index:03d}.jpg" for index in range(6)]
    assert about["root"] == str(here)
    assert about["weights"] == str(here / "w.safetensors")
    assert (about["layer"], about["scales"], about["flip"]) == ("fc7", "[40, 48]", "true")
    python = Features("w.safetensors", scales=(40, 48), aggregate="stack")(names)
    assert_same_sums(rows, python, Features("w.safetensors").network)


def test_a_name_without_suffix_is_safetensors_and_float16_halves_it(here: Path) -> None:
    features("photos", "--gap", "--out", "full")
    features("photos", "--gap", "--out", "half", "--dtype", "float16")
    full, half = stored("full.safetensors")[1], stored("half.safetensors")[1]
    assert half.dtype == np.float16
    assert np.array_equal(full.astype(np.float16), half)


def test_layers_are_greedy_and_leave_paths_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features("--layer", "conv3_1:pre", "pool5", "photos/000.jpg", "--gmp", "--json")
    assert json.loads(capsys.readouterr().out)["shape"] == [[32], [64]]
    features("--scales", "40", "50", "photos/000.jpg", "--gap", "--json")
    assert json.loads(capsys.readouterr().out)["scales"] == [40, 50]


def test_every_way_to_name_images(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "lists").mkdir()
    with Path("lists/some.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["note", "path"], ["a, b", "../photos/001.jpg"], ["", "../photos/002.jpg"]])
    with tarfile.open("shard.tar", "w") as tar:
        for index in (3, 4):
            tar.add(f"photos/00{index}.jpg", f"sample{index}.jpg")
            tar.addfile(tarfile.TarInfo(f"sample{index}.cls"), io.BytesIO())
    odd = os.fsdecode(b"new\nline \xff.jpg")
    Path(odd).write_bytes(Path("photos/005.jpg").read_bytes())
    listed = f"photos/000.jpg\0{odd}".encode(errors="surrogateescape")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed)))
    features("lists/some.csv", "shard.tar", "-", "photos/00[01].jpg", "--gap", "--out", "f.safetensors")
    names, rows, _ = stored("f.safetensors")
    assert names == [
        "lists/../photos/001.jpg",
        "lists/../photos/002.jpg",
        "shard.tar/sample3.jpg",
        "shard.tar/sample4.jpg",
        "photos/000.jpg",
        odd,
        "photos/001.jpg",
    ]
    plain = Features("w.safetensors")([f"photos/00{index}.jpg" for index in (1, 2, 3, 4, 0, 5, 1)])
    assert_same_sums(rows, plain, Features("w.safetensors").network)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"photos\r\n\nphotos/000.jpg\n")))
    features("-", "--gap", "--out", "g.safetensors")
    assert len(stored("g.safetensors")[0]) == 6


def test_a_name_that_no_terminal_shows(here: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    odd = os.fsdecode(b"\xff [bold].jpg")
    Path(odd).write_bytes(Path("photos/005.jpg").read_bytes())
    features(odd, "--gap")
    features("photos", odd, "--gap", "--out", "f.safetensors")
    assert run(["features", "--search", odd, "f.safetensors"]) == 0
    assert run(["features", "--search", "photos/005.jpg", "f.safetensors"]) == 0
    assert run(["predict", odd, *WEIGHTS]) == 0
    assert capfdbinary.readouterr().out.count(rb"\udcff [bold].jpg") == 4  # the searches name the query, and an image


def test_the_images_of_a_data_set(here: Path) -> None:
    for split, count in (("train", 4), ("val", 2)):
        for label in ("cat", "dog"):
            pictures(here / "set" / split / label, count)
    features("--data", "set", "--gap", "--out", "all.safetensors")
    names, _, about = stored("all.safetensors")
    assert (len(names), names[0], names[-1]) == (12, "train/cat/000.jpg", "val/dog/001.jpg")
    assert about["root"] == str(here / "set")
    features("--data", "set", "--split", "val", "--gap", "--out", "val.safetensors")
    assert len(stored("val.safetensors")[0]) == 4


def odd_images(folder: Path) -> dict[str, str]:
    """One image of each oddity, and what is to come of it: "row", or words of the reason why not."""
    folder.mkdir()
    plain = Image.open("photos/000.jpg").convert("RGB")
    outcomes = {}

    def put(name: str, image: Image.Image, outcome: str = "row", **how: Any) -> Path:
        image.save(folder / name, **how)
        outcomes[name] = outcome
        return folder / name

    exif = Image.Exif()
    exif[0x0112] = 6
    put("turned.jpg", plain, exif=exif)
    put("cmyk.jpg", plain.convert("CMYK"))
    put("deep.png", Image.fromarray(np.asarray(plain.convert("L")).astype(np.uint16) * 257))
    put("palette.png", plain.quantize(16), transparency=3)
    put("moving.gif", plain, save_all=True, append_images=[Image.new("RGB", plain.size, "red")])
    whole = put("short.jpg", plain, "cut short").read_bytes()
    (folder / "short.jpg").write_bytes(whole[: len(whole) // 2])
    put("large.png", Image.new("1", (12_000, 9_000)), "more than 100 megapixels")
    put("line.png", Image.new("RGB", (60_000, 1)), "more than 100 megapixels")  # once its shorter side is 44
    (folder / "empty.jpg").touch()
    (folder / "text.png").write_text("hello")
    os.mkfifo(folder / "fifo.jpg")
    (folder / "locked.jpg").write_bytes(whole)
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    others = {"empty.jpg": "not an image", "text.png": "not an image", "fifo.jpg": "not a regular file"}
    return {**outcomes, **others, "locked.jpg": "permission denied", "dangling.jpg": "no such file"}


def test_every_odd_image_has_one_outcome(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vggcli.data import decode

    opened = decode.open_image

    def guarded(place: decode.Origin) -> Any:  # a test that runs as root may read anything
        if str(place).endswith("locked.jpg"):
            raise PermissionError(13, "Permission denied")
        return opened(place)

    monkeypatch.setattr(decode, "open_image", guarded)
    outcomes = odd_images(here / "odd")
    features("odd", "--gap", "--out", "f.safetensors", "--json", "-j", "0", "--scales", "44", code=3)
    said = capsys.readouterr()
    result = json.loads(said.out)
    reasons = {entry["path"].removeprefix("odd/"): entry["reason"] for entry in result["skipped"]}
    names, rows, about = stored("f.safetensors")
    assert {name.removeprefix("odd/") for name in names} | set(reasons) == set(outcomes)
    for name, outcome in outcomes.items():
        assert (outcome == "row") == (f"odd/{name}" in names), name
        assert outcome == "row" or outcome in reasons[name], (name, reasons.get(name))
    assert json.loads(about["skipped"]) == [[entry["path"], entry["reason"]] for entry in result["skipped"]]
    assert result["turned"] == 1
    assert f"{len(reasons)} of {len(outcomes)} files could not be used" in said.err
    row = dict(zip(names, rows, strict=True))
    still = Features("w.safetensors", scales=(44,))
    Image.open("photos/000.jpg").convert("RGB").transpose(Image.Transpose.ROTATE_270).save("upright.png")
    assert row["odd/turned.jpg"] @ still(["upright.png"])[0] > 0.99  # both of length 1
    assert row["odd/moving.gif"] @ still(["photos/000.jpg"])[0] > 0.9  # the first frame, not the red one


def test_the_summary_says_that_an_image_was_turned(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open("photos/000.jpg").save("t.jpg", exif=exif)
    features("t.jpg", "--gap")
    assert "turned upright by EXIF" in " ".join(capsys.readouterr().out.split())


def test_a_store_has_the_hash_of_the_weights_that_described(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = file_sha256(Path("w.safetensors"))
    Path("other").write_bytes(Path("w.safetensors").read_bytes() + b" ")

    def replaced_meanwhile(*given: Any) -> Any:
        Path("other").replace("w.safetensors")
        return image_rows(*given)

    monkeypatch.setattr(bulk, "image_rows", replaced_meanwhile)
    features("photos", "--gap", "--out", "f.safetensors")
    assert not Path("other").exists()
    assert stored("f.safetensors")[2]["weights_sha256"] == described


def test_a_query_is_described_in_the_precision_of_the_store(here: Path) -> None:
    features("photos", "--gap", "--precision", "bf16", "--out", "f.safetensors")
    asked: tuple[Precision, ...] = ("auto", "bf16", "fp32")
    auto, bf16, fp32 = (
        [one.cosine for one in search("photos/002.jpg", "f.safetensors", device="cpu", precision=precision).found]
        for precision in asked
    )
    assert auto == bf16 != fp32


def test_search_finds_others_than_the_image_itself(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features("photos", "--gap", "--layer", "pool5", "--scales", "40", "50", "--out", "f.safetensors")
    features("photos", "--gap", "--layer", "pool5", "--scales", "40", "50", "--out", "s", "--shard-size", "4")
    capsys.readouterr()
    for store in ("f.safetensors", "s"):
        assert run(["features", "--search", "photos/002.jpg", store, "--top", "3", "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        found = printed["neighbours"]
        assert printed["query_stored_as"] == "photos/002.jpg"
        assert len(found) == 3
        assert "photos/002.jpg" not in [one["path"] for one in found]
        assert found[0]["cosine"] >= found[1]["cosine"] >= found[2]["cosine"]
        assert {one["class"] for one in found} == {None}  # all in one folder
    assert run(["features", "--search", "photos/002.jpg", "f.safetensors", "--out", "sheet.png"]) == 0
    shown = capsys.readouterr().out
    assert "the query itself, which is stored too, is left out" in " ".join(shown.split())
    assert "5   photos/" in shown
    assert "class" not in shown
    with Image.open("sheet.png") as sheet:
        assert sheet.size == (900, 24 + 2 * 30 + 12 + 2 * (224 + 2 * 22 + 18) + 24)  # the query and five images
    assert run(["features", "--search", "photos/002.jpg", "f.safetensors", "--out", "sheet.png"]) == 2
    assert run(["features", "--search", "photos/002.jpg", "f.safetensors", "--gap"]) == 2
    assert "--gap has no effect with --search" in capsys.readouterr().err
    checkpoint(here / "w.safetensors", network(seed=5))
    assert run(["features", "--search", "photos/002.jpg", "f.safetensors"]) == 4
    assert "other weights" in capsys.readouterr().err


def test_a_contact_sheet_of_images_in_a_tar(here: Path) -> None:
    with tarfile.open("shard.tar", "w") as tar:
        tar.add("photos/003.jpg", "a/3.jpg")
        tar.add("photos/004.jpg", "a/4.jpg")
    features("shard.tar", "--gap", "--out", "f.npz")
    assert run(["features", "--search", "photos/003.jpg", "f.npz", "--out", "sheet.png"]) == 0
    with Image.open("sheet.png") as sheet:
        assert sheet.width == 900  # the least
        assert sheet.height > 250


def test_a_search_names_classes_and_knows_the_query_by_whatever_path(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in ("cat", "$dog"):
        pictures(here / "set" / "train" / label, 3)
        pictures(here / "set" / "val" / label, 2)
    (here / "link").symlink_to(here / "set" / "train")
    (here / "copy.jpg").write_bytes((here / "set/train/cat/001.jpg").read_bytes())
    features("--data", "set", "--gap", "--out", "f.safetensors")
    capsys.readouterr()
    found = search(here / "link" / "cat" / "001.jpg", "f.safetensors", top=9)
    assert (found.itself, found.label, len(found.found)) == ("train/cat/001.jpg", "cat", 9)
    assert [one.label for one in found.found] == [one.name.split("/")[1] for one in found.found]
    copied = search("copy.jpg", "f.safetensors", top=4)
    assert (copied.itself, copied.label, len(copied.found)) == (None, None, 4)
    assert copied.found[0].cosine == pytest.approx(1, abs=1e-5)
    assert "left out" not in copied.sentence()
    assert run(["features", "--search", "copy.jpg", "f.safetensors"]) == 0
    assert re.search(r"1   (cat|\$dog) +train/", capsys.readouterr().out)


def test_maps_are_drawn_over_the_image(here: Path) -> None:
    features("photos/000.jpg", "--gap", "--layer", "conv2_1", "--maps", "maps.png")
    with Image.open("maps.png") as sheet:
        assert sheet.height > 2 * 48
        colours = np.asarray(sheet.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) > 500
    features("photos/000.jpg", "--gap", "--layer", "conv2_1", "--maps", "again.png", "--out", "f.npz")
    assert Path("again.png").read_bytes() == Path("maps.png").read_bytes()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("photos --gap", 2, "there are 6 images; give a file for their descriptors (--out)"),
        ("photos/000.jpg --gap --gmp", 2, "contradict"),
        ("photos --gap --out f.txt", 2, "ends in .safetensors"),
        ("photos --gap --out w.safetensors", 2, "exists already"),
        ("photos --gap --out photos/f.npy", 2, "inside the input folder photos"),
        ("photos --gap --out none/f.npy", 2, "there is no folder none"),
        ("photos --layer pool3 --out f.npy", 3, "unpooled maps must all have one size, but photos/"),
        ("photos --out f.csv", 2, "not maps"),
        ("photos/000.jpg --layer conv9_9", 2, "did you mean conv"),
        ("photos/000.jpg --layer pool5:pre", 2, "no ReLU"),
        ("photos/000.jpg --flip", 2, "cannot be averaged with that of the mirror image"),
        ("photos/000.jpg --gap --scales 20", 2, "smallest Q is 32"),
        ("photos/000.jpg --scales 40 50", 2, "cannot be combined; pool them over space (--gap or --gmp)"),
        (
            "photos/000.jpg --gap --aggregate max",
            2,
            "combining scales by max has no effect on one scale; give several (--aggregate, --scales)",
        ),
        ("photos/000.jpg --gap --top 3", 2, "--top has no effect"),
        ("photos/000.jpg --gap --dtype float16", 2, "has no effect without an output file (--dtype, --out)"),
        ("photos/000.jpg --gap --split val", 2, "a split has no effect"),
        ("photos/000.jpg --gap --data photos", 2, "give either PATHs or a data set"),
        ("--gap", 2, "nothing to describe"),
        ("photos --gap --maps m.png --out f.npy", 2, "one layer of one image"),
        ("empty --gap", 3, "there is no image in empty"),
        ("bad.jpg --gap", 3, "bad.jpg cannot be used: it is not an image"),
        ("bad.jpg --gap --out f.npy", 3, "vgg: bad.jpg cannot be used: it is not an image"),
        ("bad.jpg none.jpg --gap --out f.npy", 3, "none of the 2 images can be used; the first is bad.jpg: it is not"),
        ("bad.csv --gap --out f.npy", 3, "no column 'path'"),
        ("bad.tar --gap --out f.npy", 3, "cannot be read as a tar"),
        ("bad.tar.gz --gap --out f.npy", 3, "decompress it"),
        ("--search photos/000.jpg", 2, "one store"),
        ("--search photos/000.jpg bad.csv", 3, "there is no bad.csv.json"),
    ],
)
def test_held_wrong(here: Path, capsys: pytest.CaptureFixture[str], words: str, code: int, said: str) -> None:
    Path("empty").mkdir()
    for name in ("bad.jpg", "bad.csv", "bad.tar", "bad.tar.gz"):
        Path(name).write_bytes(b"not what it is called\n" * 50)
    before = sorted(here.rglob("*"))
    assert run(["features", *words.split(), *([] if "--search" in words else WEIGHTS)]) == code
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert sorted(here.rglob("*")) == before


def test_weights_without_a_classifier_have_no_fc7(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint(here / "w.safetensors", network(head="gap"))
    features("photos/000.jpg", "--gap", code=4)
    assert "have no layer fc7" in capsys.readouterr().err
    features("photos/000.jpg", "--gap", "--layer", "pool5")


def test_a_full_disk_is_exit_5(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vggcli.features.write._write_chunks", full)
    features("photos", "--gap", "--out", "f.npy", code=5)
    assert "no space left" in capsys.readouterr().err
    assert not list(Path().glob("*f.npy*"))


def test_maps_that_cannot_be_in_one_table_are_refused_before_any_work(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vggcli.features.bulk.image_rows", None)
    before = sorted(here.rglob("*"))
    for out in ("f.npy", "shards --shard-size 2"):
        features("photos", "--layer", "pool3", "--out", *out.split(), code=3)
        said = capsys.readouterr().err
        assert re.search(r"photos/\S+ gives 32x\d+x\d+ and photos/\S+ 32x\d+x\d+; pool over space", said)
    assert sorted(here.rglob("*")) == before
