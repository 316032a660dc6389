"""What --data means, and every way to hold it wrong."""

from pathlib import Path

import pytest

from tests.conftest import MakeFolder, picture
from vggcli.data.sources import load_split, load_training
from vggcli.errors import DataError


def flat_folder(root: Path, classes: int = 2, images: int = 60) -> Path:
    for label in range(classes):
        (root / f"c{label}").mkdir(parents=True)
        for index in range(images):
            picture(label, index).save(root / f"c{label}" / f"{index}.png")
    return root


def test_a_folder_with_splits(make_folder: MakeFolder) -> None:
    train, val = load_training(make_folder())
    assert train.classes == val.classes == ("class0", "class1", "class2")
    assert len(train) == 24
    assert len(val) == 12
    assert train.names[0] == "train/class0/0.jpg"
    assert [val.classes[label] for label in val.labels[::4]] == ["class0", "class1", "class2"]


@pytest.mark.parametrize("name", ["validation", "valid", "test"])
def test_the_validation_folder_goes_by_four_names(make_folder: MakeFolder, name: str) -> None:
    root = make_folder()
    (root / "val").rename(root / name)
    assert len(load_training(root)[1]) == 12
    assert len(load_split(root, name)) == 12


def test_a_folder_without_splits_is_split_the_same_anywhere(tmp_path: Path) -> None:
    first, second = flat_folder(tmp_path / "here"), flat_folder(tmp_path / "there")
    train, val = load_training(first)
    assert set(train.names) | set(val.names) == {f"c{c}/{i}.png" for c in range(2) for i in range(60)}
    assert not set(train.names) & set(val.names)
    assert 10 <= len(val) <= 38  # 20 % of 120
    assert load_training(second)[1].names == val.names
    assert "c0/0.png" in train.names  # pinned: the hash is part of the interface
    assert val.names[:3] == ("c0/12.png", "c0/15.png", "c0/21.png")


def test_junk_is_ignored_and_images_are_told_by_content(make_folder: MakeFolder) -> None:
    root = make_folder()
    folder = root / "train" / "class0"
    for junk in (".hidden.jpg", "Thumbs.db", "notes.txt", "desktop.ini"):
        (folder / junk).write_text("junk")
    for parent in (root / "train", folder):
        for junk in (".ipynb_checkpoints", "__MACOSX", "@__thumb", "_gsdata_", "CVS", "~$lock", "Thumbs"):
            (parent / junk).mkdir()
            picture(0, 0).save(parent / junk / "x.jpg")
    (folder / "deeper").mkdir()
    picture(0, 1).save(folder / "deeper" / "without_suffix", format="PNG")
    train, _ = load_training(root)
    assert train.classes == ("class0", "class1", "class2")
    assert sorted(set(train.names) - set(load_training(make_folder("clean"))[0].names)) == [
        "train/class0/deeper/without_suffix"
    ]


def test_a_link_that_leads_back_up_ends(make_folder: MakeFolder) -> None:
    root = make_folder()
    (root / "train" / "class0" / "loop").symlink_to(root / "train" / "class0")
    assert len(load_training(root)[0]) == 24


def test_a_class_that_only_val_has_is_an_error_and_one_it_lacks_is_not(make_folder: MakeFolder) -> None:
    root = make_folder()
    (root / "val" / "class1").rename(root / "val" / "stranger")
    with pytest.raises(DataError, match="'stranger'"):
        load_training(root)
    (root / "val" / "stranger").rename(root / "val" / "klass1")
    with pytest.raises(DataError, match=r"no training image, did you mean class1\?"):
        load_training(root)
    (root / "val" / "klass1").rename(root / "val" / "stranger")
    for path in (root / "val" / "stranger").iterdir():
        path.unlink()
    (root / "val" / "stranger").rmdir()
    train, val = load_training(root)
    assert val.classes_used() == ["class0", "class2"]
    assert val.classes == train.classes


def csv_file(root: Path, text: str) -> Path:
    path = root / "set.csv"
    path.write_text(text, encoding="utf-8-sig")
    return path


def test_a_csv_with_splits_and_boxes(tmp_path: Path) -> None:
    source = csv_file(
        tmp_path,
        "path,label,split,xmin,ymin,xmax,ymax\n"
        "b.jpg,cat,train,1,2,3,4\na.jpg,dog,train,,,,\nb.jpg,cat,train,5,6,7.5,8\nc.jpg,dog,validation,,,,\n",
    )
    train, val = load_training(source)
    assert train.names == ("a.jpg", "b.jpg")
    assert train.classes == ("cat", "dog")
    assert train.labels == (1, 0)
    assert [train.own_boxes(row) for row in range(2)] == [(), ((1, 2, 3, 4), (5, 6, 7.5, 8))]
    assert train.path(0) == tmp_path / "a.jpg"
    assert val.names == ("c.jpg",)


def test_a_csv_without_splits_is_split_by_the_hash(tmp_path: Path) -> None:
    source = csv_file(tmp_path, "path,label\n" + "".join(f"{i}.jpg,{'ab'[i % 2]}\n" for i in range(200)))
    train, val = load_training(source)
    assert len(train) + len(val) == 200
    assert 20 <= len(val) <= 60


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na,b\n", "'path'"),
        ("path,class\na,b\n", "'label'"),
        ("path,label\na,\n", "line 2"),
        ("path,label\na,x\na,y\n", "two labels"),
        ("path,label,xmin,ymin,xmax,ymax\na,x,1,2,3,\n", "four numbers"),
        ("path,label,xmin,ymin,xmax,ymax\na,x,5,2,3,4\n", "no area"),
        ("path,label,split\na,x,train\n", "val split .* is empty"),
        ("", "'path'"),
    ],
)
def test_what_is_wrong_with_a_csv_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_training(csv_file(tmp_path, text))


def test_what_is_wrong_with_a_folder_is_said(make_folder: MakeFolder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder or CSV file"):
        load_training(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no class folders"):
        load_training(tmp_path / "empty")
    (tmp_path / "hollow" / "a").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no image"):
        load_training(tmp_path / "hollow")
    root = make_folder()
    (root / "val").rename(root / "holdout")
    with pytest.raises(DataError, match="no val/ folder"):
        load_training(root)
    with pytest.raises(DataError, match="one class only"):
        load_training(make_folder("single", classes=1))


def test_the_fingerprint_tells_sets_apart(make_folder: MakeFolder) -> None:
    train, _ = load_training(make_folder())
    again, _ = load_training(make_folder("again"))
    more, _ = load_training(make_folder("more", train=9))
    assert train.fingerprint() == again.fingerprint() != more.fingerprint()


def test_an_empty_csv_is_named_itself(tmp_path: Path) -> None:
    (tmp_path / "none.csv").write_text("path,label\n")
    with pytest.raises(DataError, match=r"none\.csv is empty"):
        load_split(tmp_path / "none.csv", "train")
