"""Lists of names in every encoding that shells and editors give them."""

import os

import pytest

from vggcli.data.listed_text import decoded_text, listed_names

NAMES = ["photos/a b.jpg", "photos/béret.jpg", "鞋.jpg"]


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", b""),
        ("utf-8-sig", b""),
        ("utf-16", b""),  # with its mark
        ("utf-16-be", b"\xfe\xff"),
        ("utf-16-le", b""),
        ("utf-16-be", b""),
        ("utf-32", b""),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_list_is_read_in_any_encoding(encoding: str, mark: bytes, end: str) -> None:
    assert listed_names(mark + end.join([*NAMES, ""]).encode(encoding)) == NAMES


def test_utf_16_without_a_mark_is_known_by_some_latin_letters() -> None:
    assert listed_names("帽子/帽子01.jpg\n鞋/鞋2.jpg\n".encode("utf-16-le")) == ["帽子/帽子01.jpg", "鞋/鞋2.jpg"]


def test_names_between_nul_bytes_keep_their_line_ends_and_their_bytes() -> None:
    raw = b"new\nline \xff.jpg\0photos/a.jpg\0"
    assert [os.fsencode(name) for name in listed_names(raw)] == [b"new\nline \xff.jpg", b"photos/a.jpg"]


@pytest.mark.parametrize("raw", [b"a\0b\0c\0", b"ab\0cd\0"])
def test_short_names_between_nul_bytes_are_no_utf_16_unless_every_name_has_one_sign(raw: bytes) -> None:
    assert listed_names(raw) == (["abc"] if raw == b"a\0b\0c\0" else ["ab", "cd"])


def test_a_damaged_utf_16_text_is_an_error() -> None:
    with pytest.raises(UnicodeDecodeError):
        decoded_text(b"\xff\xfea\0b")


def test_nothing_is_no_name() -> None:
    assert listed_names(b"") == listed_names(b"\n \n") == listed_names(b"\xef\xbb\xbf") == []
