"""`vgg features`: descriptors of images (Appendix B), and the nearest of those that are stored."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vggcli import choices
from vggcli.cli import options
from vggcli.cli.signals import Terminated
from vggcli.defaults import user_places, worker_count
from vggcli.errors import ExitCode, Interrupted, UsageError, counted

if TYPE_CHECKING:
    from vggcli.features.manifest import Part
    from vggcli.features.outcome import Outcome

NOT_WITH_SEARCH = (  # what the store says
    *("data", "split", "arch", "gap", "gmp", "multi_scale", "flip", "aggregate", "norm", "dtype", "shard_size", "maps"),
    *("batch_size", "preprocessing", "layer", "scales", "workers"),
)


def features(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH...", help="Images, folders, globs, .csv lists, .tar shards, - for a list on stdin."
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="SRC", help="In place of PATH...: the images of a data set.")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="Which part of --data. (default: train, then val)")
    ] = None,
    arch: options.Arch = None,
    weights: options.Weights = None,
    preprocessing: options.Preprocessing = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            "--layer", metavar="NAME...", help="As `vgg models` lists them; NAME:pre is before its ReLU. (default: fc7)"
        ),
    ] = None,
    gap: Annotated[bool, typer.Option("--gap", help="Global average pooling: the paper's descriptor.")] = False,
    gmp: Annotated[bool, typer.Option("--gmp", help="Global max pooling. (with neither, the map as it is)")] = False,
    multi_scale: options.MultiScale = False,
    scales: Annotated[
        list[int] | None,
        typer.Option(
            "--scales",
            min=1,
            max=options.LARGEST_SCALE,
            metavar="Q...",
            help="Shorter sides in pixels. (default: the training S, or its middle)",
        ),
    ] = None,
    aggregate: Annotated[
        choices.Aggregate | None, typer.Option("--aggregate", help="How several scales make one row. (default: mean)")
    ] = None,
    norm: Annotated[
        choices.Norm | None,
        typer.Option("--norm", help="Divide the descriptor by its norm, last of all. (default: l2; none for maps)"),
    ] = None,
    flip: Annotated[
        bool | None,
        typer.Option("--flip/--no-flip", help="Average with the mirror image. (default: with --gap and --gmp)"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="A .safetensors (also where there is no suffix), .npy, .npz, .parquet or .csv; a folder with "
            "--shard-size; a .png with --search.",
        ),
    ] = None,
    dtype: Annotated[
        choices.RowType | None, typer.Option("--dtype", help="Of the numbers in --out. (default: float32)")
    ] = None,
    shard_size: Annotated[
        int | None,
        typer.Option(
            "--shard-size", min=1, metavar="N", help="Write shards of N images and an index; goes on after a kill."
        ),
    ] = None,
    maps: Annotated[
        Path | None, typer.Option("--maps", metavar="FILE.png", help="Draw a layer's strongest channels over an image.")
    ] = None,
    search: Annotated[
        Path | None,
        typer.Option("--search", metavar="QUERY", help="Find the images of the store PATH nearest to this."),
    ] = None,
    top: Annotated[
        int | None, typer.Option("--top", min=1, metavar="N", help="How many --search finds. (default: 12)")
    ] = None,
    device: options.Device = "auto",
    precision: options.DevicePrecision = "auto",
    batch_size: options.PassSize = None,
    workers: options.Workers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Describe images by a layer's output: pooled over space, averaged with the mirror image and over scales, normalised
    (Appendix B). One image is summed up on the terminal; many go to --out, with their names. A file that cannot be used
    does not stop the others: it is listed at the end, and the exit code is 3."""
    given = dict(locals())
    from vggcli.features.bulk import describe_images
    from vggcli.features.bulk_options import BulkOptions
    from vggcli.report.tables import features_table

    if search is not None:
        _check_search_flags(given)
        _search(search, paths or [], top or 12, out, weights, device, precision, json)
        return
    if top is not None:
        raise UsageError("--top has no effect without --search")
    if gap and gmp:
        raise UsageError("--gap and --gmp contradict each other; give one")
    part = this_part()
    asked = BulkOptions(
        paths=tuple(paths or ()),
        weights=weights,
        arch=arch,
        data=data,
        split=split,
        preprocessing=preprocessing,
        layers=tuple(layer or ["fc7"]),
        pool="gap" if gap else "gmp" if gmp else "none",
        scales=tuple(scales or ()),
        multi_scale=multi_scale,
        aggregate=aggregate,
        norm=norm,
        flip=flip,
        out=out,
        dtype=dtype,
        shard_size=shard_size,
        maps=maps,
        device=device,
        precision=precision,
        batch_size=batch_size,
        workers=worker_count(workers),
    )
    with stoppable(shard_size is not None):
        progress = options.progress(quiet or part.rank > 0)
        outcome = describe_images(asked, user_places(), progress, part, sys.stdin.buffer)
        if outcome is not None and maps is not None:
            _draw_maps(outcome, maps)
    if outcome is not None:
        if json:
            print(dumps(outcome.to_json()))
        else:
            options.stdout_console().print(features_table(outcome))
        outcome.check()


def this_part() -> "Part":
    """Which process this is of those that torchrun has started, by its RANK and WORLD_SIZE."""
    from vggcli.features.manifest import Part

    rank, world, local = (os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if rank is None or world is None:
        return Part()
    if not (rank.isdecimal() and world.isdecimal() and int(rank) < int(world)):
        raise UsageError(
            f"RANK={rank} and WORLD_SIZE={world} say no process of several (0 of 2, say); unset them, or use torchrun"
        )
    return Part(int(rank), int(world), int(local) if local and local.isdecimal() else None)


@contextmanager
def stoppable(resumable: bool) -> Iterator[None]:
    """SIGINT and SIGTERM leave with a sentence that says what is there. Whole files stay; half-written ones are removed."""
    try:
        yield
    except (KeyboardInterrupt, Terminated) as error:
        code = ExitCode.TERMINATED if isinstance(error, Terminated) else ExitCode.INTERRUPTED
        left = "finished shards stay, and the same command goes on" if resumable else "nothing was written"
        raise Interrupted(f"stopped; {left}", code) from None


def _draw_maps(outcome: "Outcome", path: Path) -> None:
    """The strongest channels of the layer over the image, as a picture."""
    from vggcli.data.decode import read_image
    from vggcli.report.maps import save_maps

    assert outcome.single is not None and outcome.single.maps_CHW is not None
    save_maps(read_image(outcome.single.place), outcome.single.maps_CHW, outcome.how.options.layers[0], path)
    options.note(f"written: {path}")


def _check_search_flags(given: dict[str, object]) -> None:
    """Raises UsageError for a flag that says how to describe, where the store says it."""
    for name in NOT_WITH_SEARCH:
        value = given[name]
        if value is not None and (value is not False or name == "flip"):
            flag = "--no-flip" if value is False else f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} has no effect with --search: the query is described as the store was")


def _search(
    query: Path,
    stores: list[str],
    top: int,
    out: Path | None,
    weights: Path | None,
    device: str,
    precision: choices.Precision,
    as_json: bool,
) -> None:
    """Show the `top` stored images nearest to `query`; with `out`, as a contact sheet too."""
    from vggcli.data.outputs import check_outside
    from vggcli.features.search import OpenStore
    from vggcli.files import writable_output
    from vggcli.report.maps import save_neighbours
    from vggcli.report.tables import neighbours_table

    if len(stores) != 1:
        raise UsageError("--search looks through one store: `vgg features --search QUERY.jpg STORE.safetensors`")
    if out is not None:
        if out.suffix.lower() != ".png":
            raise UsageError(f"--out {out}: with --search it is a contact sheet; give a name that ends in .png")
        writable_output(out, "out")
    store = OpenStore.at(stores[0])
    if out is not None:
        check_outside([("out", out)], Path(store.settings.root), store.rows.names, whole=False)
    result = store.nearest_to(query, top, weights, device, precision)
    if out is not None:
        save_neighbours(result, out)
        options.note(f"written: {out}")
    if as_json:
        print(dumps(result.to_json()))
        return
    title = f"Nearest to {query} of {counted(result.images, 'image')}, {result.layer} of {result.store}"
    options.stdout_console().print(neighbours_table(title, [(one.name, one.cosine) for one in result.found]))
