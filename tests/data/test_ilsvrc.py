"""ILSVRC's own folders as Kaggle ships them, written here with a handful of images."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import picture
from tests.data.voc_sets import Marked, annotation
from vggcli.data.image_set import ImageSet, match_classes
from vggcli.data.sources import load_split, load_training
from vggcli.errors import DataError
from vggcli.imagenet import imagenet_ids, imagenet_names

TENCH, GOLDFISH, SHARK = imagenet_ids()[:3]
BOX, OTHER = (3, 4, 40, 50), (0, 0, 9, 9)
HEADER = "ImageId,PredictionString\n"


def image(root: Path, place: str, objects: list[Marked] | None) -> None:
    """An image below Data/CLS-LOC and, unless `objects` is None, its annotation."""
    path = root / "ILSVRC" / "Data" / "CLS-LOC" / f"{place}.JPEG"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(0, 0).save(path)
    marks = root / "ILSVRC" / "Annotations" / "CLS-LOC" / f"{place}.xml"
    marks.parent.mkdir(parents=True, exist_ok=True)
    if objects is not None:
        marks.write_text(annotation(path.stem, objects))


def val_name(number: int) -> str:
    return f"ILSVRC2012_val_{number:08d}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    image(tmp_path, f"train/{TENCH}/{TENCH}_1", [(TENCH, BOX, 0), (TENCH, OTHER, 0)])
    image(tmp_path, f"train/{TENCH}/{TENCH}_2", None)
    image(tmp_path, f"train/{GOLDFISH}/{GOLDFISH}_1", [(GOLDFISH, OTHER, 0)])
    image(tmp_path, f"val/{val_name(1)}", [(GOLDFISH, BOX, 0), (GOLDFISH, OTHER, 0)])
    image(tmp_path, f"val/{val_name(2)}", [(TENCH, BOX, 0)])
    image(tmp_path, "test/ILSVRC2012_test_00000001", None)
    return tmp_path


def labels(images: ImageSet) -> list[str]:
    return [images.classes[label] for label in images.labels]


def boxes(images: ImageSet) -> list[list[tuple[float, ...]]]:
    return [[one.box for one in marked] for marked in images.objects]


@pytest.mark.parametrize("below", [".", "ILSVRC", "ILSVRC/Data", "ILSVRC/Data/CLS-LOC"])
def test_every_folder_that_means_it_gives_the_same_images(root: Path, below: str) -> None:
    train, val = load_training(root / below)
    assert labels(train) == [TENCH, TENCH, GOLDFISH]
    assert [Path(name).name for name in val.names] == [f"{val_name(1)}.JPEG", f"{val_name(2)}.JPEG"]
    assert labels(val) == [GOLDFISH, TENCH]
    assert all((images.root / images.names[row]).is_file() for images in (train, val) for row in range(len(images)))
    assert not train.remarks + val.remarks


def test_the_annotations_of_training_images_are_read_where_boxes_are_wanted(root: Path) -> None:
    broken = root / "ILSVRC" / "Annotations" / "CLS-LOC" / "train" / TENCH / f"{TENCH}_2.xml"
    broken.write_text("no XML")
    assert boxes(load_split(root, "train")) == [[], [], []]  # it is not read
    with pytest.raises(DataError, match="cannot be read as an annotation"):
        load_split(root, "train", boxes=True)
    broken.unlink()
    train, val = load_training(root, boxes=True)
    assert boxes(train) == [[BOX, OTHER], [], [OTHER]]
    assert boxes(val) == boxes(load_split(root, "val")) == [[BOX, OTHER], [BOX]]


def test_the_solution_labels_what_has_no_xml_or_several_classes_in_it(root: Path) -> None:
    image(root, f"val/{val_name(3)}", None)
    image(root, f"val/{val_name(4)}", [(TENCH, BOX, 0), (GOLDFISH, OTHER, 0)])
    rows = f"{val_name(1)},{TENCH} 1 2 3 4\n{val_name(3)},{TENCH} 3 4 40 50 {TENCH} 0 0 9 9 \n"
    (root / "LOC_val_solution.csv").write_text(f"{HEADER}{rows}{val_name(4)},{GOLDFISH} 5 5 6 6 \n")
    val = load_split(root, "val")
    assert labels(val) == [GOLDFISH, TENCH, TENCH, GOLDFISH]  # where the XML has one class, it decides
    assert boxes(val) == [[BOX, OTHER], [BOX], [BOX, OTHER], [BOX, OTHER]]
    assert val.own_boxes(3) == (OTHER,)


def test_val_in_class_folders_as_scripts_sort_it(root: Path) -> None:
    flat = root / "ILSVRC" / "Data" / "CLS-LOC" / "val"
    for number, wordnet_id in ((1, GOLDFISH), (2, TENCH)):
        (flat / wordnet_id).mkdir()
        (flat / f"{val_name(number)}.JPEG").rename(flat / wordnet_id / f"{val_name(number)}.JPEG")
    val = load_split(root, "val", boxes=True)
    assert sorted(labels(val)) == [TENCH, GOLDFISH]
    assert all(val.own_boxes(row) for row in range(2))


def test_names_of_published_classes_are_those_of_the_objects_too(root: Path) -> None:
    images = match_classes(load_split(root, "val"), imagenet_names())
    assert labels(images) == ["goldfish", "tench"]
    assert images.own_boxes(0) == (BOX, OTHER)


def no_label(root: Path) -> None:
    image(root, f"val/{val_name(3)}", None)


def two_classes(root: Path) -> None:
    image(root, f"val/{val_name(3)}", [(TENCH, BOX, 0), (SHARK, OTHER, 0)])
    (root / "LOC_val_solution.csv").write_text(f"{HEADER}{val_name(3)},{TENCH} 1 2 3 4 {SHARK} 1 2 3 4\n")


def other_header(root: Path) -> None:
    (root / "LOC_val_solution.csv").write_text("path,label\na,b\n")


def odd_row(root: Path) -> None:
    (root / "LOC_val_solution.csv").write_text(f"{HEADER}a,{TENCH} 1 2 3 4\nb,{TENCH} 1 2 3\n")


def odd_number(root: Path) -> None:
    (root / "LOC_val_solution.csv").write_text(f"{HEADER}a,{TENCH} 1 2 3 x\n")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (no_label, r"03\.JPEG has no label: neither .*03\.xml nor LOC_val_solution\.csv beside .* gives it one class"),
        (two_classes, r"03\.JPEG has no label: neither .*03\.xml nor LOC_val_solution\.csv beside .* gives it one"),
        (other_header, r"LOC_val_solution\.csv begins with 'path,label', not with ImageId,PredictionString"),
        (odd_row, r"LOC_val_solution\.csv, line 3 is not an image and, for each object, its class and four numbers"),
        (odd_number, r"LOC_val_solution\.csv, line 2: the box is not four numbers"),
    ],
)
def test_what_is_wrong_is_said_with_the_file(root: Path, make: Callable[[Path], None], message: str) -> None:
    make(root)
    with pytest.raises(DataError, match=message):
        load_split(root, "val")


def test_the_test_images_have_no_labels(root: Path) -> None:
    with pytest.raises(DataError, match="the test images of ILSVRC have no labels; use its train or its val images"):
        load_split(root, "test")
    with pytest.raises(DataError, match="has no nowhere/ folder"):
        load_split(root, "nowhere")
