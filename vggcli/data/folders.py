"""Folders that appear whole or not at all: a temporary folder beside the wanted one, renamed when it is complete."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def appearing(folder: Path, marker: str) -> Iterator[Path]:
    """A temporary folder beside `folder`; when the block ends well it is renamed to `folder`, else removed. Where another
    process was first, and `folder` holds `marker` already, that one stays. Raises OSError where the disk refuses."""
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        temporary.chmod(0o755)
        yield temporary
        try:
            temporary.rename(folder)
        except OSError:
            if not (folder / marker).exists():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
