"""What `--weights` and `--arch` mean: a file, a run folder, the newest run, or published weights, fetched when used."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vggcli.cli import options
from vggcli.errors import DataError, UsageError, WeightsError

if TYPE_CHECKING:
    from vggcli.data.sources import ImageSet


def find_weights(weights: Path | None, arch: str | None) -> Path:
    """The file that `--weights` names, else that of the newest run of `arch`, else the published ImageNet weights of
    `arch`; says which where it was not named. Published weights need not be there yet: `fetched` brings them.

    Raises WeightsError where a file is not of network `arch`, or, with the ways to get weights, where there are none.
    """
    from vggcli.weights.checkpoint import newest_run, weights_file
    from vggcli.weights.published import IMAGENET, find_published
    from vggcli.zoo.layers import arch_of

    if weights is not None and not is_published_name(weights):
        path = weights_file(weights.expanduser())
        if arch is not None:
            _check_network(path, arch_of(arch))
        return path
    picked = arch_of(arch or "D")
    if weights is not None:
        return _published_path(str(weights), picked)
    run = newest_run(options.RUNS, picked)
    if run is not None:
        path = weights_file(run)
        options.note(f"weights: {path} (the newest run of {picked}; --weights for others)")
        return path
    one = find_published(IMAGENET, picked)
    if one is None:
        raise WeightsError(
            f"there is no run of network {picked} under {options.RUNS.resolve()}, and none of it are published; train "
            f"one with `vgg train --arch {picked}`, name a run folder with --weights RUN, or a checkpoint with --weights "
            f"FILE.safetensors"
        )
    options.note(f"weights: no run of {picked} under {options.RUNS.resolve()}; ImageNet's as published, {one.said()}")
    return _published_path(IMAGENET, picked)


def _check_network(path: Path, arch: str) -> None:
    """Raises WeightsError where the file holds another network than `arch`."""
    from vggcli.weights.checkpoint import read_checkpoint

    found = read_checkpoint(path).config.arch
    if found != arch:
        raise WeightsError(
            f"{path} holds network {found}, and --arch says {arch}; leave --arch out, or name other weights"
        )


def is_published_name(weights: Path) -> bool:
    """Whether `--weights` is the name of published weights rather than of a file or folder here."""
    from vggcli.weights.published import NAMES

    return str(weights) in NAMES and not weights.exists()


def _published_path(name: str, arch: str) -> Path:
    from vggcli.weights.published import NAMES, PUBLISHED, find_published

    one = find_published(name, arch)
    if one is None:
        archs = ", ".join(each.arch for each in PUBLISHED if each.name == name)
        raise WeightsError(
            f"no weights of network {arch} are published as {name!r}; there are {archs} (see `vgg models`)"
        )
    assert name in NAMES
    return weights_cache() / one.file


def weights_cache() -> Path:
    """Where published weights are kept."""
    return options.cache_folder() / "weights"


def check_published(path: Path, images: "ImageSet") -> None:
    """For published weights, fetched or not: whether they know the classes of `images`. Raises WeightsError where not."""
    from vggcli.evaluation.protocol import match_classes
    from vggcli.imagenet import imagenet_names
    from vggcli.weights.published import published_file

    check_published_classifier(path)
    one = published_file(path, weights_cache())
    if one is None:
        return
    try:
        match_classes(images, imagenet_names())
    except WeightsError:
        shown = ", ".join(repr(name) for name in images.classes_used()[:3])
        raise WeightsError(
            f"the published weights know ImageNet's 1000 classes, not the data's ({shown}, …); train on these data with "
            f"`vgg train --arch {one.arch}`, start from those weights with `vgg finetune --weights imagenet --arch "
            f"{one.arch}`, or name a run or checkpoint with --weights"
        ) from None


def check_published_classifier(path: Path) -> None:
    """Raises WeightsError for published convolutions without a classifier, before they are fetched for nothing."""
    from vggcli.weights.published import FEATURES, published_file

    one = published_file(path, weights_cache())
    if one is not None and one.name == FEATURES:
        raise WeightsError(
            "the weights published as 'features' are convolutions without a classifier, so they give no posteriors; use "
            "`vgg features --layer pool5`, or train a classifier on them with `vgg finetune`"
        )


def fetched(path: Path, quiet: bool, images: Sequence[str] = ()) -> Path:
    """`path`, once the published weights that it stands for have come and are what their publisher gave; any other file
    as it is. Raises MachineError where they cannot be had; DataError, before anything is fetched, where one of `images`
    is not there."""
    from vggcli.report.progress import Bar
    from vggcli.weights.published import download, published_file, verify

    one = published_file(path, weights_cache())
    if one is None:
        return path
    if path.is_file():
        verify(one, path)
        return path
    missing = next((name for name in images if not os.path.lexists(name)), None)
    if missing is not None:
        raise DataError(
            f"there is no image {missing}, so nothing was fetched; give images, folders or globs that are there"
        )
    options.note(f"fetching {one.said()}; licence: {one.licence}")
    options.made_folder(path.parent)
    with Bar(options.stderr_console(), f"fetching {one.file}", int(one.mebibytes * 2**20), "bytes", quiet) as bar:
        return download(one, path.parent, bar)


def evaluated_files(several: Sequence[Path], weights: Path | None, arch: str | None) -> list[Path]:
    """The checkpoints that RUN..., --weights or --arch mean. Raises UsageError where more than one of them is given, or
    one twice."""
    if several and weights is not None:
        raise UsageError(f"--weights has no effect beside the weights named first ({several[0]}); leave one out")
    if not several:
        return [find_weights(weights, arch)]
    files = [find_weights(path, arch) for path in several]
    for path, file in zip(several, files, strict=True):
        if files.count(file) > 1:
            raise UsageError(f"{path} is named twice; once is enough")
    return files
