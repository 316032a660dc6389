"""The table of what training costs, on one device and on several."""

from collections.abc import Callable, Sequence

from vggcli import paper
from vggcli.errors import counted
from vggcli.report.cells import Titled, right
from vggcli.report.progress import duration
from vggcli.training.cost import Cost, Times, Training

BYTES = ("weights", "gradients", "momentum", "kept", "working", "holes")  # fields of TrainingMemory
NAMES = {
    "kept": "outputs kept for the gradients",
    "working": "in use by the fullest layer",
    "holes": "holes of the heap",
}


def costs_table(training: Training, times: Times, costs: Sequence[Cost], data: str) -> Titled:
    """What a step, an epoch and the whole training cost; `data` names the images of an epoch."""
    config = training.config
    title = (
        f"Training network {config.arch} (crop {config.crop}, width {config.width:g}) on {training.device}, "
        f"{training.precision}, in steps of {counted(training.step_images, 'image')}"
    )
    table = Titled(title, "", *right(*(counted(cost.devices, "device") for cost in costs)))

    def row(name: str, cell: Callable[[Cost], str]) -> None:
        table.add_row(name, *map(cell, costs))

    row("images of a device", lambda cost: f"{cost.images}")
    row("at once", lambda cost: f"{min(training.micro_batch, cost.images)}")
    row("GMACs of a device", lambda cost: f"{training.macs * cost.images / training.step_images / 1e9:,.0f}")
    row("sent and received by a device", lambda cost: _size(cost.exchanged))
    table.add_section()
    for name in BYTES:
        row(NAMES.get(name, name), lambda cost, name=name: _size(getattr(cost.memory, name)))  # type: ignore[misc]
    row("fullest moment of a step", lambda cost: _size(cost.memory.whole))
    if costs[0].validation is not None:
        row("validation, in the holes or beside", lambda cost: _size(cost.validation or 0))
    row("memory of a device", lambda cost: _size(cost.whole_memory))
    table.add_section()
    row("a step", lambda cost: _seconds(cost.step_seconds))
    row("images a second", lambda cost: _digits(training.step_images / cost.step_seconds))
    row("which wait for the", lambda cost: cost.bound)
    row(f"validation, {training.val_images:,} images", lambda cost: _seconds(cost.val_seconds))
    row(f"an epoch, {training.images:,} images", lambda cost: _seconds(cost.epoch_seconds))
    row(counted(training.epochs, "epoch"), lambda cost: _seconds(cost.seconds))
    table.remark = _remark(training, times, data)
    return table


def _remark(training: Training, times: Times, data: str) -> str:
    rest = f"{_seconds(times.update)} an update, {_seconds(times.val_image)} an image of the validation"
    lines = [f"Measured here: {_seconds(times.image)} an image, forward and backward; {rest}."]
    if times.view is None:
        lines.append(f"An epoch of {data}; the decoding of its images is not counted.")
    else:
        shared = f", which share the {counted(times.cores, 'core')}" if times.cores and times.workers else ""
        by = counted(times.workers, "worker") if times.workers else "this process"
        lines.append(f"An epoch of {data}; {_seconds(times.view)} a training view in one worker, by {by}{shared}.")
    if times.program is not None:
        lines.append(f"The program itself takes {_size(times.program)} more in the machine's memory.")
    lines.append(
        f"Several devices are not measured: each keeps {100 * paper.SPEED_UP / paper.DEVICES:.0f} % of its speed, as the "
        f"paper's {paper.DEVICES} were {paper.SPEED_UP} times as fast as one (section 3.3)."
    )
    return "\n".join(lines)


def _size(count: int) -> str:
    """Bytes in MB or GB."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB" if count else "0"


def _seconds(seconds: float) -> str:
    """With three digits below ten seconds, then as people say it."""
    if seconds < 1:
        return f"{_digits(1e3 * seconds)} ms"
    return f"{seconds:.3g} s" if seconds < 10 else duration(seconds)


def _digits(number: float) -> str:
    """Three digits, or all before the point."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"
