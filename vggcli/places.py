"""The user's own settings: where runs are searched for, where the cache is, and which data are the default."""

from dataclasses import dataclass
from pathlib import Path

from vggcli.errors import MachineError
from vggcli.files import sweep


@dataclass(frozen=True)
class Places:
    """The folder of runs; the `cache`, which may be removed; and the name of the default `data`, None for `shapes`."""

    runs: Path
    cache: Path
    data: str | None = None

    @property
    def weights(self) -> Path:
        """The folder of the published weights."""
        return self.cache / "weights"


def made_folder(folder: Path) -> Path:
    """`folder` of the cache, created if missing, without what killed programs left. Raises MachineError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
    except OSError as error:
        reason = f"cannot create the cache {folder}: {error.strerror}"
        raise MachineError(f"{reason}; set XDG_CACHE_HOME to another folder") from error
    return folder
