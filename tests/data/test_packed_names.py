"""Packed names are the tuple of names that they were made from."""

import os
import pickle

import numpy as np
import pytest

from vggcli.data.packed_names import PackedNames, chosen_names, names_after

NAMES = ("a.tar/x.jpg", "", "é/ü", os.fsdecode(b"\xff.png"), "a.tar/x.jpg", "long " * 50)


def test_packed_names_are_a_sequence_of_text() -> None:
    packed = PackedNames.of(NAMES)
    assert tuple(packed) == NAMES and len(packed) == 6 and packed[-1] == NAMES[-1] and packed[1:5:2] == NAMES[1:5:2]
    assert packed.index("é/ü") == 2 and "x" not in packed
    with pytest.raises(IndexError):
        packed[6]
    assert packed == pickle.loads(pickle.dumps(packed)) != PackedNames.of(NAMES[1:])
    assert hash(packed) == hash(PackedNames.of(NAMES)) and packed != NAMES
    for rows in (slice(1, 4), slice(0, 0), slice(5, 2), slice(0, 6, 2), np.array([5, 0, 3])):
        chosen = packed.chosen(rows)
        expected = NAMES[rows] if isinstance(rows, slice) else tuple(NAMES[row] for row in rows)
        assert tuple(chosen) == expected and len(chosen.text) == len("".join(expected).encode(errors="surrogateescape"))
    assert tuple(chosen_names(packed, [3, 1])) == chosen_names(NAMES, [3, 1]) == (NAMES[3], "")
    assert tuple(names_after(packed, packed)) == names_after(NAMES, NAMES) == NAMES + NAMES
    assert tuple(PackedNames.of(())) == ()
