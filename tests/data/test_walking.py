"""Image files among what else lies in folders."""

import io
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import MakeFolder, picture
from vggcli.data.sources import load_split, load_training
from vggcli.data.walking import begins_like_image, images_below
from vggcli.errors import DataError


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM"])
def test_every_format_is_told_by_its_first_bytes(form: str) -> None:
    file = io.BytesIO()
    picture(0, 0).save(file, format=form)
    assert begins_like_image(file.getvalue()[:256])
    if form in ("PPM", "BMP"):
        file = io.BytesIO()
        Image.new("1", (9, 9)).save(file, format=form)
        assert begins_like_image(file.getvalue()[:256])


@pytest.mark.parametrize(
    "head",
    [
        *(
            b"BMW is not a hat\n",
            b"BM",
            b"P5 is the fifth batch\n",
            b"P6\n",
            b"P4 5 o'clock",
            b"GIF8 of the year",
            b"\x89PNG",
        ),
        *(b"RIFF\x24\0\0\0AVI LIST" + bytes(99), b"RIFF\x24\0\0\0WAVEfmt ", b"II*", b"", b"\x89PNG", b"%PDF-1.4"),
    ],
)
def test_texts_films_and_sounds_do_not_begin_like_images(head: bytes) -> None:
    assert not begins_like_image(head)


def test_what_servers_and_systems_leave_is_no_class_and_no_image(make_folder: MakeFolder) -> None:
    root = make_folder()
    before = load_training(root)
    for parent in (root, root / "train", root / "train" / "class0"):
        for junk in (
            *(
                "@eaDir",
                "#recycle",
                "$RECYCLE.BIN",
                "lost+found",
                "System Volume Information",
                ".Trash-1000",
                "@Recycle",
            ),
            *(".ipynb_checkpoints", "__MACOSX", ".AppleDouble", ".thumbnails", "@tmp", "#snapshot", "__pycache__"),
        ):
            (parent / junk / "IMG.jpg").mkdir(parents=True)
            picture(0, 0).save(parent / junk / "IMG.jpg" / "SYNOPHOTO_THUMB_M.jpg")
    for junk in (".DS_Store", "._0.jpg", "Thumbs.db", "0.jpg~", "0.jpg@SynoEAStream", "Icon\r"):
        picture(0, 0).save(root / "train" / "class0" / junk, format="JPEG")
    assert load_training(root) == before


def test_a_link_that_leads_nowhere_is_an_error(make_folder: MakeFolder) -> None:
    root = make_folder()
    for link in (root / "train" / "class1" / "gone.jpg", root / "train" / "gone"):
        link.symlink_to("/nowhere/at/all")
        with pytest.raises(DataError, match="gone.* is a broken link .to /nowhere"):
            load_training(root)
        link.unlink()
    (root / "train" / "up").symlink_to(root)  # would make a class of all images
    assert load_training(root)[0].classes == ("class0", "class1", "class2")


def test_images_beside_class_folders_are_counted(make_folder: MakeFolder) -> None:
    root = make_folder()
    assert load_split(root, "train").remarks == ()
    for index in range(5):
        picture(0, index).save(root / "train" / f"{index}.png")
    (root / "train" / "notes.txt").write_text("not an image")
    train, val = load_training(root)
    assert len(train) == 24
    assert [remark.split(" ")[:3] for remark in train.remarks] == [["5", "images", "in"]]
    assert val.remarks == ()


def test_an_empty_class_folder_is_accepted_in_val_alone(make_folder: MakeFolder) -> None:
    root = make_folder()
    for path in (root / "val" / "class1").iterdir():
        path.unlink()
    train, val = load_training(root)
    assert val.classes == train.classes
    assert load_split(root, "val").classes == ("class0", "class2") == tuple(val.classes_used())
    for path in (root / "train" / "class1").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="class1 holds no image"):
        load_training(root)


def test_class_names_of_two_unicode_forms_are_one(make_folder: MakeFolder) -> None:
    root = make_folder()
    for split, form in (("train", "NFC"), ("val", "NFD")):
        (root / split / "class0").rename(root / split / unicodedata.normalize(form, "béret"))  # type: ignore[arg-type]
    train, val = load_training(root)
    assert train.classes[0] == unicodedata.normalize("NFC", "béret")
    assert val.classes_used() == list(train.classes)
    assert all((val.root / val.names[index]).is_file() for index in range(len(val)))


def test_images_below_finds_what_a_plain_walk_finds(make_folder: MakeFolder) -> None:
    root = make_folder()
    assert sorted(images_below(root)) == sorted(Path(root).rglob("*.jpg"))
