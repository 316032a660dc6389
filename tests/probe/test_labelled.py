"""The images and targets of a probe: objects are its targets where every image has some."""

from pathlib import Path

import numpy as np
import pytest

from vggcli.probe.descriptors import Descriptors
from vggcli.probe.labelled import split_images

HEAD = "path,label,split,xmin,ymin,xmax,ymax\n"
ROWS = "a,cat,train,1,2,9,9\na,dog,train,1,2,3,4\nb,dog,train,1,2,9,9\nc,cat,val,1,2,9,9\n"
STORE = Descriptors("d", np.zeros((4, 2), np.float32), ("a", "b", "c", "d"))


@pytest.mark.parametrize(
    ("by_objects", "more", "targets"),
    [
        (True, "d,dog,val,1,2,9,9\n", [[1, 1], [-1, 1], [1, -1], [-1, 1]]),
        (True, "d,dog,val,,,,\n", [[1, -1], [-1, 1], [1, -1], [-1, 1]]),
        (False, "d,dog,val,1,2,9,9\n", [[1, -1], [-1, 1], [1, -1], [-1, 1]]),
    ],
)
def test_objects_are_targets_where_every_image_has_some(
    tmp_path: Path, by_objects: bool, more: str, targets: list[list[int]]
) -> None:
    (tmp_path / "set.csv").write_text(HEAD + ROWS + more)
    data = split_images(tmp_path / "set.csv", "train", "val", [STORE], by_objects, skip_missing=False)
    assert data.images.names == ("a", "b", "c", "d")
    assert data.targets_NK.tolist() == targets
