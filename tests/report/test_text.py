"""Names are shown on one line, whatever they hold."""

import pytest

from vggcli.report.text import printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("hat", "hat"),
        ("béret 帽 👒 שלום", "béret 帽 👒 שלום"),
        ("red\x1b[31m", "red\\x1b[31m"),
        ("two\nlines\r\t", "two\\nlines\\r\\t"),
        ("odd \udcff.jpg", "odd \\udcff.jpg"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("a\u2028b\x00\x9b", "a\\u2028b\\x00\\x9b"),
    ],
)
def test_what_a_terminal_would_obey_becomes_an_escape(name: str, shown: str) -> None:
    assert printable(name) == shown
    assert shown.isprintable() or " " in shown
    assert len(shown.splitlines()) == 1
