"""What belongs to the user rather than to a call: where runs are looked for, what may be fetched again, and which data are
meant where none are named."""

from dataclasses import dataclass
from pathlib import Path

from vggcli.errors import MachineError
from vggcli.files import sweep


@dataclass(frozen=True)
class Places:
    """`runs` holds run folders; `cache` what was fetched, rendered or computed and may be removed; `data` names the data
    that are taken where none are named, None for the embedded set."""

    runs: Path
    cache: Path
    data: str | None = None

    @property
    def weights(self) -> Path:
        """Where published weights are kept."""
        return self.cache / "weights"


def made_folder(folder: Path) -> Path:
    """`folder` of the cache, made where it is not there, without what killed programs left in it. Raises MachineError
    where it cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
    except OSError as error:
        raise MachineError(f"cannot make the cache {folder}: {error.strerror}; set XDG_CACHE_HOME") from error
    return folder
