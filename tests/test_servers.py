"""A server that never answers is given up on in time; what it says, or how it fails, comes through."""

import time

import pytest

from vggcli.servers import within


def test_an_answer_comes_through() -> None:
    assert within(5, lambda: "here") == "here"
    assert within(5, lambda: None) is None


def test_a_failure_comes_through() -> None:
    def refuse() -> None:
        raise ConnectionRefusedError("refused")

    with pytest.raises(ConnectionRefusedError, match="refused"):
        within(5, refuse)


def test_silence_ends_in_time() -> None:
    started = time.monotonic()
    with pytest.raises(TimeoutError, match="no answer"):
        within(0.05, lambda: time.sleep(2))
    assert time.monotonic() - started < 1
