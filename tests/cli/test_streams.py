"""Output on terminals that lack signs, and on streams that are closed."""

import os
import subprocess
import sys

import pytest

ENCODINGS = ["ascii", "cp1252", "cp932", "utf-8"]


def shown(encoding: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "100"}
    return subprocess.run([sys.executable, "-m", "vggcli", *words], capture_output=True, env=environment, check=False)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_tables_and_help_are_shown_in_any_encoding(encoding: str) -> None:
    for words in (("models", "D"), ("train", "--help")):
        found = shown(encoding, *words)
        assert (found.returncode, found.stderr) == (0, b"")
        text = found.stdout.decode(encoding)
        assert ("conv5_3" if words[0] == "models" else "--scale-jitter") in text


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_sign_that_an_encoding_lacks_becomes_a_plain_one(encoding: str) -> None:
    code = "from vggcli.cli.streams import prepare_streams; prepare_streams(); print('█ 帽 \\udcff')"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=True).stdout
    wanted = {"utf-8": "█ 帽 ?", "cp932": "# 帽 ?"}.get(encoding, "# ? ?")
    assert out.decode(encoding).split() == wanted.split()


@pytest.mark.parametrize(("closed", "code"), [(">&-", 0), ("2>&-", 0), (">&- 2>&-", 0)])
def test_a_closed_stream_is_silence(closed: str, code: int) -> None:
    for words, left in (("models D", code), ("models nothing", 2)):
        command = f"exec {sys.executable} -m vggcli {words} {closed}"
        found = subprocess.run(["sh", "-c", command], capture_output=True, check=False)
        assert found.returncode == left
        assert b"Traceback" not in found.stderr
        assert not (found.stdout and ">&-" in closed.split())
