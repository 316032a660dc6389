"""A run's log for TensorBoard: the numbers of log.jsonl by epoch, in the folder tensorboard/ of the run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from vggcli.errors import MachineError
from vggcli.metrics import shows_top5
from vggcli.progress import LOG
from vggcli.training.state import EpochRecord

FOLDER = "tensorboard"
TITLES = {  # of the keys of log.jsonl; what is before the slash is drawn together
    "loss": "loss/training",
    "val_loss": "loss/validation",
    "training_error": "error (%)/training",
    "top1_error": "error (%)/validation top-1",
    "top5_error": "error (%)/validation top-5",
    "localisation_error": "error (%)/validation localisation",
    "mean_iou": "mean IoU/validation",
    "learning_rate": "run/learning rate",
    "images_per_second": "run/images per second",
    "seconds": "run/seconds",
    "step": "run/step",
}


def need_tensorboard() -> None:
    """Raises MachineError where the package is not installed."""
    if find_spec("tensorboard") is None:
        raise MachineError(
            "TensorBoard's files need the package tensorboard: pip install 'vggcli[tensorboard]'", "tensorboard"
        )


@contextmanager
def event_file(
    run: Path, history: Sequence[EpochRecord], classes: int, asked: bool
) -> Iterator[Callable[[EpochRecord], None]]:
    """A function that adds an epoch to the events of a run, if that is `asked` or the run has events already; else one that
    does nothing. The events begin anew with the `history` of a resumed run, so that it always agrees with log.jsonl.
    Of few `classes` there is no top-5 error."""
    folder = run / FOLDER
    if not asked and folder.is_dir() and find_spec("tensorboard") is None:
        LOG.info(f"{folder} is not continued, because the package tensorboard is not installed")
    elif asked or folder.is_dir():
        from torch.utils.tensorboard import SummaryWriter

        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        titles = {name for name in TITLES if name != "top5_error" or shows_top5(classes)}
        with SummaryWriter(str(folder)) as writer:

            def add(record: EpochRecord) -> None:
                for name, value in record.to_json().items():
                    if name in titles:
                        writer.add_scalar(TITLES[name], value, record.epoch)
                writer.flush()

            for record in history:
                add(record)
            yield add
        return
    yield lambda record: None
