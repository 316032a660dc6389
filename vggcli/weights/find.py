"""Which weights are meant: a file, a run folder, the newest run of a network, or published weights, fetched when used."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from vggcli import paper
from vggcli.data.image_set import ImageSet, match_classes
from vggcli.errors import DataError, UsageError, WeightsError, command_or_python, did_you_mean
from vggcli.imagenet import imagenet_names
from vggcli.metrics import is_chance
from vggcli.places import Places, made_folder
from vggcli.progress import LOG, Progress, silent
from vggcli.regular_files import irregular, need_local
from vggcli.weights.checkpoint import BEST, LAST, WITHOUT_CLASSIFIER, glanced_at, read_checkpoint
from vggcli.weights.published import CONVOLUTIONS, IMAGENET, PUBLISHED, download, find_published, published_file, verify
from vggcli.zoo.layers import arch_of


def find_weights(weights: Path | None, arch: str | None, places: Places) -> Path:
    """The file that `weights` names (a file, a run folder or a published name), else that of the newest run of `arch`,
    else the published ImageNet weights of `arch`; the choice is logged where it was not named. Published weights
    need not be there yet: `fetched` downloads them.

    Raises WeightsError where a file is not of network `arch`, or, with the ways to get weights, where there are none.
    """
    if weights is not None and not is_published_name(weights):
        path = weights_file(weights.expanduser())
        found = None if arch is None else read_checkpoint(path).config.arch
        if arch is not None and found != arch_of(arch):
            reason = f"{path} holds network {found}, not {arch_of(arch)}"
            raise WeightsError(f"{reason}; do not name a network, or name other weights", "arch", "weights")
        return path
    picked = arch_of(arch or "D")
    if weights is not None:
        return _published_path(str(weights), picked, places)
    newest = _newest_trained(places.runs, picked)
    if newest is not None:
        return newest
    one = find_published(IMAGENET, picked)
    if one is None:
        train = command_or_python(f"vgg train --arch {picked}", f"vggcli.train(arch='{picked}')")
        raise WeightsError(
            f"there is no run of network {picked} under {places.runs.resolve()}, and no published weights of it; train "
            f"one with {train}, or name a run folder or a checkpoint",
            "weights",
        )
    LOG.info(f"weights: published ImageNet weights, {one.said()} (no run of {picked} under {places.runs.resolve()})")
    return _published_path(IMAGENET, picked, places)


def is_published_name(weights: Path) -> bool:
    """Whether `weights` is the name of published weights rather than of a file or folder here."""
    return str(weights) in (IMAGENET, CONVOLUTIONS) and not weights.exists()


def _published_path(name: str, arch: str, places: Places) -> Path:
    one = find_published(name, arch)
    if one is None:
        archs = ", ".join(each.arch for each in PUBLISHED if each.name == name)
        raise WeightsError(f"{name!r} has no published weights of network {arch}, only of {archs}; see `vgg models`")
    return places.weights / one.file


def check_published(path: Path, images: ImageSet, places: Places) -> None:
    """Raises WeightsError for published weights, fetched or not, whose classes are not those of `images`."""
    check_published_classifier(path, places)
    one = published_file(path, places.weights)
    if one is None:
        return
    try:
        match_classes(images, imagenet_names())
    except WeightsError:
        shown = ", ".join(repr(name) for name in images.classes_used()[:3])
        train = command_or_python(f"vgg train --arch {one.arch}", f"vggcli.train(arch='{one.arch}')")
        finetune = command_or_python(
            f"vgg finetune --weights imagenet --arch {one.arch}", f"vggcli.finetune('imagenet', arch='{one.arch}')"
        )
        raise WeightsError(
            f"the published weights are for ImageNet's 1000 classes, not the data's ({shown}, …); train on these data with "
            f"{train}, start from those weights with {finetune}, or name a run or checkpoint",
            "weights",
        ) from None


def check_published_classifier(path: Path, places: Places) -> None:
    """Raises WeightsError for published convolutions without a classifier, before they are fetched in vain."""
    one = published_file(path, places.weights)
    if one is not None and one.name == CONVOLUTIONS:
        raise WeightsError(
            f"the published weights 'features' have no classifier, so they give no posteriors; {WITHOUT_CLASSIFIER}"
        )


def fetched(path: Path, places: Places, progress: Progress = silent, images: Sequence[str] = ()) -> Path:
    """`path`; where it is a file of published weights, they are downloaded if need be and checked against their SHA-256.

    Raises MachineError where they cannot be fetched; DataError, before anything is fetched, where one of `images` does not
    exist.
    """
    one = published_file(path, places.weights)
    if one is None:
        return path
    if path.is_file():
        verify(one, path)
        return path
    missing = next((name for name in images if not os.path.lexists(name)), None)
    if missing is not None:
        raise DataError(
            f"there is no image {missing}, so nothing was fetched; give images, folders or globs that exist"
        )
    LOG.info(f"fetching {one.said()}; licence: {one.licence}")
    made_folder(path.parent)
    with progress(f"fetching {one.file}", int(one.mebibytes * 2**20), "bytes") as bar:
        return download(one, path.parent, bar)


def weights_file(path: Path) -> Path:
    """The weights that `path` names: itself, or a run folder's best (else last) checkpoint.

    Raises WeightsError where there is no such file, UsageError for a URL.
    """
    if path.is_dir():
        for name in (BEST, LAST):
            if (path / name).is_file():
                return path / name
        raise WeightsError(f"{path} has no {BEST} or {LAST}: it is not a run folder, or its training never saved")
    if not path.is_file():
        need_local(path)
        kind = irregular(path)
        what = f"is {kind}, not a regular file" if kind else "is not there"
        near = did_you_mean(str(path), (IMAGENET, CONVOLUTIONS))
        advice = near or "; give a run folder, a checkpoint, or another framework's weights file"
        raise WeightsError(f"{path} {what}{advice}")
    return path


def run_of(weights: Path) -> Path | None:
    """The run folder that a checkpoint lies in, if it lies in one."""
    return weights.parent if (weights.parent / "config.json").is_file() else None


def numbered_runs(runs: Path, arch: str) -> list[Path]:
    """The folders ARCH-N below `runs`, oldest first."""
    names = re.compile(rf"{re.escape(arch)}-(\d+)")
    found = [(names.fullmatch(run.name), run) for run in (runs.iterdir() if runs.is_dir() else ()) if run.is_dir()]
    return [run for _, run in sorted((int(match[1]), run) for match, run in found if match)]


def newest_run(runs: Path, arch: str | None = None, begun: str = LAST) -> Path | None:
    """The run folder below `runs` (of any network where `arch` is None) whose weights were saved last, or None; one that
    has not saved yet counts where it holds the file `begun`. A folder ARCH-N is of that network; of any other
    folder, the weights say it."""
    return next(_by_date(runs, arch, begun), None)


def _by_date(runs: Path, arch: str | None, begun: str = LAST) -> Iterator[Path]:
    """The run folders that `newest_run` looks at, the newest first."""
    named = {run: name for name in paper.NETWORKS for run in numbered_runs(runs, name)}
    folders = runs.iterdir() if runs.is_dir() else ()
    marks = [run / name for run in folders for name in dict.fromkeys((begun, LAST)) if (run / name).is_file()]
    times = {mark.parent: mark.stat().st_mtime_ns for mark in marks}  # of the last save, where there is one
    for run in sorted(times, key=lambda run: (times[run], run.name), reverse=True):
        if arch is None or (named.get(run) or _network_of(run / LAST)) == arch:
            yield run


def _network_of(path: Path) -> str | None:
    checkpoint = glanced_at(path)
    return None if checkpoint is None else checkpoint.config.arch


def _newest_trained(runs: Path, arch: str) -> Path | None:
    """The best weights of the newest run of `arch` that has finished an epoch and is better than chance, else of the newest
    one, of those that tell classes; logs which, how good it is, and what was passed over. None where there is no run."""
    passed: dict[Path, str] = {}
    for run in _by_date(runs, arch):
        path = weights_file(run)
        checkpoint = glanced_at(path)
        error = None if checkpoint is None else checkpoint.training.get("top1_error")
        if checkpoint is None:
            passed[path] = f"{path} cannot be read"
        elif checkpoint.config.boxes is not None:
            LOG.info(f"passed over: {run} gives boxes, not classes")
        elif error is None:
            passed[path] = f"{run} has finished no epoch"
        elif is_chance(error, checkpoint.config.classes):
            passed[path] = f"{run} is no better than chance (validation error {error:.2f} %)"
        else:
            epoch = checkpoint.training.get("epoch")
            LOG.info(f"weights: {path} (the newest run of {arch}: validation error {error:.2f} %, epoch {epoch})")
            for reason in passed.values():
                LOG.info(f"passed over: {reason}")
            return path
    newest = next(iter(passed), None)
    if newest is not None:
        LOG.info(f"weights: {newest} (the newest run of {arch}; {passed[newest]})")
    return newest


def data_of(weights: Sequence[Path], places: Places) -> str | None:
    """The data that weights were trained on, for when none are named: a path or the name of a set, which is logged. None
    where the weights do not say, or the user has chosen a default.

    Raises UsageError where they were trained on different data.
    """
    if places.data:
        return None
    notes = [checkpoint.training.get("data") for path in weights if (checkpoint := glanced_at(path)) is not None]
    names = list(dict.fromkeys(name for name in notes if name))
    if len(names) > 1:
        raise UsageError(f"the networks were trained on different data, {names[0]} and {names[1]}; name one", "data")
    if not names:
        return None
    LOG.info(f"data: {names[0]} (what the {'network was' if len(weights) == 1 else 'networks were'} trained on)")
    return str(names[0])
