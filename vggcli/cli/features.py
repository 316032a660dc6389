"""`vgg features`: descriptors of images (Appendix B), and the nearest of those that are stored."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from vggcli import choices
from vggcli.cli import options
from vggcli.cli.devices import is_shared, joined, on_devices
from vggcli.cli.signals import Terminated
from vggcli.defaults import user_places, worker_count
from vggcli.errors import ExitCode, Interrupted, UsageError

NOT_WITH_SEARCH = (  # the query is described as the store says
    *("data", "split", "arch", "gap", "gmp", "multi_scale", "flip", "aggregate", "norm", "dtype", "shard_size", "maps"),
    *("batch_size", "preprocessing", "layer", "scales", "workers", "decode", "compile"),
)
_Paths = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH", help="Images, folders, globs, .csv lists, .tar shards, - for a list on stdin."),
]
_Data = Annotated[str | None, typer.Option(metavar="SRC", help="Instead of PATH...: the images of a data set.")]
_Split = Annotated[str | None, typer.Option(metavar="NAME", help="Which split of --data. (default: train, then val)")]
_Layer = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME...", help="Layers, as `vgg models D` names them; NAME:pre is before its ReLU. (default: fc7)"
    ),
]
_Gap = Annotated[bool, typer.Option("--gap", help="Global average pooling: the paper's descriptor.")]
_Gmp = Annotated[bool, typer.Option("--gmp", help="Global max pooling. (default, without --gap too: the unpooled map)")]
_Scales = Annotated[
    list[int] | None,
    typer.Option(
        min=1,
        max=options.LARGEST_SCALE,
        metavar="Q...",
        help="Shorter sides Q in pixels. (default: S, or the middle of its range)",
    ),
]
_Aggregate = Annotated[choices.Aggregate | None, typer.Option(help="How several scales make one row. (default: mean)")]
_Norm = Annotated[
    choices.Norm | None, typer.Option(help="Divide the finished descriptor by this norm. (default: l2; none for maps)")
]
_Flip = Annotated[
    bool | None, typer.Option("--flip/--no-flip", help="Average with the mirror image. (default: with --gap and --gmp)")
]
_Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="A .safetensors (also where there is no suffix), .npy, .npz, .parquet or .csv; a folder with --shard-size; a "
        ".png with --search.",
    ),
]
_RowType = Annotated[
    choices.RowType | None, typer.Option(help="Number type of the descriptors in --out. (default: float32)")
]
_ShardSize = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Write shards of N images and an index; a killed run can be continued."),
]
_Maps = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Draw a layer's strongest channels over an image, to this .png.")
]
_Search = Annotated[
    Path | None, typer.Option(metavar="QUERY", help="Find the images of the store PATH that are nearest to this one.")
]
_Top = Annotated[int | None, typer.Option(min=1, metavar="N", help="How many images --search shows. (default: 12)")]


@on_devices
@options.with_groups
def features(
    paths: _Paths = None,
    data: _Data = None,
    split: _Split = None,
    arch: options.Arch = None,
    weights: options.Weights = None,
    preprocessing: options.Preprocessing = None,
    layer: _Layer = None,
    gap: _Gap = False,
    gmp: _Gmp = False,
    multi_scale: options.MultiScale = False,
    scales: _Scales = None,
    aggregate: _Aggregate = None,
    norm: _Norm = None,
    flip: _Flip = None,
    out: _Out = None,
    dtype: _RowType = None,
    shard_size: _ShardSize = None,
    maps: _Maps = None,
    search: _Search = None,
    top: _Top = None,
    device: options.Device = "auto",
    precision: options.DevicePrecision = "auto",
    compile: options.Compile = False,
    batch_size: options.PassSize = None,
    workers: options.Workers = None,
    decode: options.DecodeIfGiven = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Describe images by a layer's output, or find alike ones. Descriptors are pooled over space, averaged with the
    mirror image and over scales, and normalised (Appendix B). One image is summed up on the terminal; many go to --out,
    with their names. A file that cannot be used does not stop the others: it is listed at the end, and the exit code is
    3."""
    given = dict(locals())
    if search is not None:
        if is_shared():
            raise UsageError("--devices has no effect with --search, which describes one image; leave it out")
        _search(given)
        return
    if top is not None:
        raise UsageError("--top has no effect without --search")
    if gap and gmp:
        raise UsageError("--gap and --gmp contradict each other; give one")
    pool = "gap" if gap else "gmp" if gmp else "none"
    _describe({**given, "pool": pool, "workers": worker_count(workers, joined().local_world)})


def _describe(given: dict[str, Any]) -> None:
    """Describe the images that the flags `given` name, and show the result."""
    from vggcli.data.decode import read_image
    from vggcli.features.bulk import describe_images
    from vggcli.features.bulk_options import BulkOptions
    from vggcli.report.maps import save_maps
    from vggcli.report.tables import features_table

    ranks = joined()
    asked = BulkOptions.of(given)
    with stoppable(asked.shard_size is not None):
        progress = options.progress(given["quiet"])
        outcome = describe_images(asked, user_places(), progress, ranks, sys.stdin.buffer)
        if outcome is not None and asked.maps is not None:
            assert outcome.single is not None and outcome.single.maps_CHW is not None
            image = read_image(outcome.single.place)
            save_maps(image, outcome.single.maps_CHW, outcome.how.options.layers[0], asked.maps, outcome.single.name)
            options.written(asked.maps)
    if outcome is not None:
        if given["json"]:
            print(dumps(outcome.to_json()))
        else:
            options.stdout_console().print(features_table(outcome))
        outcome.check()


@contextmanager
def stoppable(resumable: bool) -> Iterator[None]:
    """SIGINT and SIGTERM end in an error that says what is kept: whole files stay, half-written ones are removed."""
    try:
        yield
    except (KeyboardInterrupt, Terminated) as error:
        code = ExitCode.TERMINATED if isinstance(error, Terminated) else ExitCode.INTERRUPTED
        left = "finished shards stay, and the same command continues" if resumable else "nothing was written"
        raise Interrupted(f"stopped; {left}", code) from None


def _search(given: dict[str, Any]) -> None:
    """Show the stored images nearest to the query; with --out, as a sheet of images too. Raises UsageError for flags that
    say how to describe images, which here the store says."""
    from vggcli.data.outputs import check_outside
    from vggcli.features.search import OpenStore
    from vggcli.files import writable_output
    from vggcli.report.maps import save_neighbours
    from vggcli.report.tables import neighbours_table

    for name in NOT_WITH_SEARCH:
        value = given[name]
        if value is not None and (value is not False or name == "flip"):
            flag = "--no-flip" if value is False else f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} has no effect with --search: the query is described as the store was")
    query, stores, out = given["search"], given["paths"] or [], given["out"]
    if len(stores) != 1:
        raise UsageError("--search looks through one store: `vgg features --search QUERY.jpg STORE.safetensors`")
    if out is not None:
        if out.suffix.lower() != ".png":
            raise UsageError(f"--out {out}: with --search this is a sheet of images; give a name that ends in .png")
        writable_output(out, "out")
    store = OpenStore.at(stores[0])
    if out is not None:
        check_outside([("out", out)], Path(store.settings.root), store.rows.names, whole=False)
    result = store.nearest_to(query, given["top"] or 12, given["weights"], given["device"], given["precision"])
    if out is not None:
        save_neighbours(result, out)
        options.written(out)
    if given["json"]:
        print(dumps(result.to_json()))
        return
    options.stdout_console().print(neighbours_table(result))
