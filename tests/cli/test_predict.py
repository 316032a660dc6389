"""`vgg predict` from the command line."""

import csv
import io
import json
import os
import shutil
from pathlib import Path

import pytest

from vggcli.cli.app import run


def lines(capsys: pytest.CaptureFixture[str], *flags: str, code: int = 0) -> list[dict[str, object]]:
    capsys.readouterr()
    assert run(["predict", "--arch", "A", "-q", "--json", *flags]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_images_folders_globs_and_a_list_on_stdin(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    val = photos / "val"
    one = lines(capsys, str(val / "class0" / "0.jpg"))
    assert len(one) == 1
    assert len(lines(capsys, str(val))) == 12
    assert len(lines(capsys, f"{val}/*/1.jpg")) == 3
    listed = f"{val}/class0/0.jpg\n{val}/class1\n\n".encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed)))
    assert len(lines(capsys, "-")) == 5
    assert len(lines(capsys, str(val), str(val / "class0" / "0.jpg"))) == 12  # each image once
    top = one[0]["predictions"]
    assert isinstance(top, list)
    assert sum(entry["posterior"] for entry in top) == pytest.approx(1, abs=1e-5)  # all three classes
    assert [entry["posterior"] for entry in top] == sorted((entry["posterior"] for entry in top), reverse=True)


def test_predictions_are_the_posteriors_of_evaluation(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = lines(capsys, str(photos / "val"), "--dense", "--scales", "36", "48", "--top", "1")
    right = sum(f"/{line['predictions'][0]['class']}/" in str(line["path"]) for line in found)  # type: ignore[index]
    assert run(["eval", "--arch", "A", "--data", str(photos), "--dense", "--scales", "36", "48", "--json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["correct_top1"] == right


def test_one_bad_file_does_not_stop_the_rest(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (photos / "bad.jpg").write_bytes(b"no image")
    found = lines(capsys, str(photos / "bad.jpg"), str(photos / "missing.jpg"), str(photos / "val" / "class0"), code=3)
    errors = {str(line["path"]): line["error"] for line in found if "error" in line}
    assert set(errors) == {str(photos / "bad.jpg"), str(photos / "missing.jpg")}
    assert len(found) == 6


@pytest.mark.parametrize("suffix", ["csv", "json"])
def test_tables_are_written_whole_and_never_over_another(
    photos: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    flags = ["predict", str(photos / "val"), "--arch", "A", "-q", "--out", f"t.{suffix}"]
    assert run(flags) == 0
    text = Path(f"t.{suffix}").read_text()
    rows = json.loads(text) if suffix == "json" else list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 12 * 3
    assert list(rows[0]) == ["path", "rank", "class", "posterior"]
    assert [int(row["rank"]) for row in rows[:3]] == [1, 2, 3]
    assert run(flags) == 2
    assert "exists already" in capsys.readouterr().err


def test_a_terminal_gets_bars(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["predict", str(photos / "val" / "class0"), "--arch", "A", "-q"]) == 0
    assert "█" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [("empty/", 3, "no image in"), ("x.jpg --out t.txt", 2, ".csv or .json"), ("x.jpg --top 0", 2, "--top")],
)
def test_held_wrong(photos: Path, capsys: pytest.CaptureFixture[str], flags: str, code: int, message: str) -> None:
    Path("empty").mkdir()
    assert run(["predict", "--arch", "A", *flags.split()]) == code
    assert message in capsys.readouterr().err


def test_where_nothing_can_be_used_the_reason_is_said(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["predict", "nope.jpg", "--arch", "A", "-q"]) == 3
    assert capsys.readouterr().err.endswith("vgg: nope.jpg cannot be used: there is no such file\n")
    assert run(["predict", "nope.jpg", "none.jpg", "--arch", "A", "-q"]) == 3
    said = "vgg: none of the 2 images can be used; the first is nope.jpg: there is no such file\n"
    assert capsys.readouterr().err.endswith(said)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_a_list_on_stdin_in_any_encoding(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    images = [str(path) for path in sorted(photos.glob("val/class1/*"))]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\r\n".join([*images, ""]).encode(encoding))))
    assert [found["path"] for found in lines(capsys, "-")] == images


def test_a_folder_in_a_list_is_said_and_the_whole_file_system_is_never_searched(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"{photos}/val/class1\n".encode())))
    assert run(["predict", "--arch", "A", "-q", "-"]) == 0
    assert f"names the folder {photos}/val/class1" in " ".join(capsys.readouterr().err.split())
    for words, listed in ((["-"], b"/\n"), (["/"], b""), (["/../."], b"")):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed)))
        assert run(["predict", "--arch", "A", "-q", *words]) == 3
        assert "root of the file system" in capsys.readouterr().err


def test_a_name_that_is_no_utf_8_keeps_its_bytes_in_a_table(photos: Path) -> None:
    name = os.fsdecode(b"odd \xff.jpg")
    shutil.copy(photos / "val" / "class1" / "0.jpg", name)
    assert run(["predict", "--arch", "A", "-q", "--out", "f.csv", name]) == 0
    assert b"odd \xff.jpg,1,class" in Path("f.csv").read_bytes()


def test_an_image_on_stdin_is_no_list(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = (photos / "val" / "class1" / "0.jpg").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(image)))
    assert run(["predict", "--arch", "A", "-q", "-"]) == 3
    assert "stdin is an image" in capsys.readouterr().err


def test_an_image_named_twice_is_taken_once_and_said(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = str(photos / "val" / "class1" / "0.jpg")
    assert run(["predict", "--arch", "A", "-q", "--json", image, image, str(photos / "val" / "class1")]) == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 4
    assert "2 images are named more than once, and used once" in shown.err


@pytest.mark.parametrize("form", ["{}", "{}*", "{}/[x]", "{}.csv", "{}.tar", "a/{}"])
def test_names_longer_than_any_file_can_have_are_listed_as_such(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    name = form.format("a" * 300)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(name.encode())))
    for words in (["-"], [name]):
        assert run(["predict", "--arch", "A", "-q", *words]) == 3
        assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("path;label\n{};hat\n", "utf-8"),
        ("label\tPath \nhat\t{}\n", "utf-16"),
        ("sep=;\nPATH;note\n{};\n", "utf-8-sig"),
        ('label, path, \nhat, "{}", \n, , \n', "utf-8"),
        ("path\r{}\r", "utf-8"),
    ],
)
def test_a_csv_is_read_as_the_data_are(
    photos: Path, capsys: pytest.CaptureFixture[str], text: str, encoding: str
) -> None:
    (photos / "list.csv").write_bytes(text.format("val/class1/0.jpg").encode(encoding))
    (found,) = lines(capsys, str(photos / "list.csv"))
    assert found["path"] == f"{photos}/val/class1/0.jpg"


def test_names_in_quotes_or_with_spaces_around_are_found(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = f"{photos}/val/class1/0.jpg"
    shutil.copy(image, " spaced.jpg ")
    listed = f'"{image}"\n  {photos}/val/class1/1.jpg \n spaced.jpg \n'
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed.encode())))
    assert [found["path"] for found in lines(capsys, "-")] == [image, f"{photos}/val/class1/1.jpg", " spaced.jpg "]
