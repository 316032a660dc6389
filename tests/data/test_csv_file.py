"""CSV files of images as spreadsheets and other programs write them; no row of them is lost."""

import gzip
import io
import lzma
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import pytest

from tests.conftest import picture
from vggcli.data.sources import load_training
from vggcli.errors import DataError

ROWS = [("a.jpg", "cat", "train"), ("b.jpg", "dog", "train"), ("c, d.jpg", "cat", "val")]


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def table(delimiter: str = ",", header: str = "path,label,split", end: str = "\n") -> str:
    lines = [header.replace(",", delimiter)] + [delimiter.join(f'"{value}"' for value in row) for row in ROWS]
    return end.join(lines) + end


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (table(), "utf-8-sig"),
        (table(), "utf-16"),
        (table("\t"), "utf-16"),
        (table(";"), "utf-8"),
        (table("|"), "utf-8"),
        ("sep=;\r\n" + table(";", end="\r\n"), "utf-8"),
        (table(end="\r"), "utf-8"),
        (table(header="Path, LABEL , Split"), "utf-8"),
        (table().replace("\n", ",,\n") + ",,,,\n\n", "utf-8"),
        (table().replace(',"', ', "'), "utf-8"),
        (
            table().replace('"train"', '"TRAIN"', 1).replace('"train"', "Training").replace('"val"', "VALIDATION"),
            "utf-8",
        ),
        (table().replace('"val"', "Test"), "utf-8"),
    ],
)
def test_what_programs_write_is_read(tmp_path: Path, text: str, encoding: str) -> None:
    train, val = load_training(written(tmp_path / "set.csv", text, encoding))
    assert train.names == ("a.jpg", "b.jpg")
    assert train.classes == ("cat", "dog")
    assert val.names == ("c, d.jpg",)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,x,train\nb,y,holdout\n", r"line 3: the split 'holdout' is unknown; write train, val or test"),
        ("a,x,train\nb,y,UNASSIGNED\n", r"line 3: the split 'UNASSIGNED'"),
        ("a,x,train\nb,y,\n", r"line 3: the split is missing"),
        ("a,x,train\n\nb,y\n", r"line 4: the split is missing"),
        ("a,x,train\na,x,val\n", r"line 3: a is in two splits, train \(line 2\) and val"),
        ("a,x,val\n./a,x,test\n", r"line 3: a is in two splits, val \(line 2\) and test"),
        ("a,x,train\na,x,train\n", r"line 3: a is listed twice \(line 2"),
        ("a,x,train\na,y,train\n", r"line 3: a has two labels, 'x' \(line 2\) and 'y'"),
        ("a,x,train\n,y,train\n", r"line 3: the path or the label is missing"),
        ("a,x,train\nb,c,y,train\n", r"line 3 has 4 values, but the header has 3"),
        ('a,x,train\n"b,y,train\n', r"line 3 cannot be read as a row"),
    ],
)
def test_a_row_that_cannot_be_used_is_an_error_that_names_it(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_training(written(tmp_path / "set.csv", "path,label,split\n" + rows))


def test_a_box_twice_is_an_error_and_two_boxes_are_not(tmp_path: Path) -> None:
    head = "path,label,split,xmin,ymin,xmax,ymax\n"
    rows = "a,x,train,1,2,3,4\nb,y,train,1,2,3,4\nc,x,val,,,,\n"
    train, _ = load_training(written(tmp_path / "two.csv", head + rows + "a,x,train,1,2,3,5\n"))
    assert train.own_boxes(0) == ((1, 2, 3, 4), (1, 2, 3, 5))
    for row in ("a,x,train,1,2,3,4\n", "a,x,train,,,,\n"):
        with pytest.raises(DataError, match=r"line 5: a is listed twice \(line 2"):
            load_training(written(tmp_path / "set.csv", head + rows + row))


def test_rows_with_boxes_may_be_of_several_classes(tmp_path: Path) -> None:
    head = "path,label,split,xmin,ymin,xmax,ymax\n"
    rows = "a,x,train,1,2,3,4\nb,x,train,1,2,3,4\na,y,train,1,2,9,9\nc,y,val,,,,\n"
    rows += "a,x,train,0,0,5,5\na,z,train,1,2,3,4\n"
    train, val = load_training(written(tmp_path / "set.csv", head + rows))
    assert train.classes == val.classes == ("x", "y")
    assert train.labels == (1, 0)  # the class of the largest box
    assert train.own_boxes(0) == ((1, 2, 9, 9),)
    found = [(one.label, one.box) for one in train.objects[0]]
    assert found == [("x", (1, 2, 3, 4)), ("y", (1, 2, 9, 9)), ("x", (0, 0, 5, 5)), ("z", (1, 2, 3, 4))]
    assert train.has_objects and not val.has_objects
    for row in ("c,x,val,,,,\n", "c,x,val,1,2,3,4\n", "b,y,train,,,,\n"):
        with pytest.raises(DataError, match=r"line 8: \w has two labels"):
            load_training(written(tmp_path / "set.csv", head + rows + row))


def test_an_empty_column_of_splits_is_as_good_as_none(tmp_path: Path) -> None:
    rows = "".join(f"{index}.jpg,{'ab'[index % 2]},\n" for index in range(100))
    train, val = load_training(written(tmp_path / "set.csv", "path,label,split\n" + rows))
    assert len(train) + len(val) == 100
    assert 5 <= len(val) <= 40


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("path,label\na.jpg,béret\n".encode("cp1252"), "line 2 is not in UTF-8; save the file as UTF-8"),
        (b"path,path,label\na,b,c\n", "two columns 'path'"),
        (b"\x00\x01\x02" * 200, "is not a text file"),
        (b"PAR1" + bytes(200), "is not a text file"),
        (b"path,label," + b"x" * 200_000, "its first line cannot be read as a header"),
        (
            b"path,label,xmin,ymin,xmax,ymax\na,b,1,1,inf,2\n",
            r"a of .*csv: the box of its 'b' .* is not finite",
        ),
        (
            b"path,label,xmin,ymin,xmax,ymax\na,b,1,1,1e999,2\n",
            r"a of .*csv: the box of its 'b' .* is not finite",
        ),
    ],
)
def test_what_is_no_csv_is_told_so(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "set.csv").write_bytes(data)
    with pytest.raises(DataError, match=message):
        load_training(tmp_path / "set.csv")


def test_archives_spreadsheets_and_images_are_told_what_to_do(tmp_path: Path) -> None:
    for name in ("set.zip", "set.xlsx"):
        with zipfile.ZipFile(tmp_path / name, "w") as file:
            file.writestr("a", "b")
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a"), io.BytesIO())
    for name, packed in (("set", bytes), ("set.tgz", gzip.compress), ("set.tar.xz", lzma.compress)):
        (tmp_path / name).write_bytes(packed(plain.getvalue()))
    picture(0, 0).save(tmp_path / "one.jpg")
    for name in ("set.zip", "set", "set.tgz", "set.tar.xz"):
        with pytest.raises(DataError, match="is an archive; unpack it"):
            load_training(tmp_path / name)
    with pytest.raises(DataError, match="is a spreadsheet; save it as CSV"):
        load_training(tmp_path / "set.xlsx")
    with pytest.raises(DataError, match="is one image"):
        load_training(tmp_path / "one.jpg")


def test_paths_of_another_unicode_form_or_of_windows_are_found(tmp_path: Path) -> None:
    folder = unicodedata.normalize("NFD", "béret")
    (tmp_path / folder).mkdir()
    for index in range(3):
        picture(0, index).save(tmp_path / folder / f"é{index}.png")
    composed = unicodedata.normalize("NFC", "béret")
    rows = f"{composed}/é0.png,{composed},train\n{composed}\\é1.png,cap,train\n{folder}/é2.png,{folder},val\n"
    train, val = load_training(written(tmp_path / "set.csv", "path,label,split\n" + rows))
    assert train.classes == (composed, "cap")
    assert all((images.root / images.names[index]).is_file() for images in (train, val) for index in range(len(images)))
