"""`vgg features`: descriptors of images (Appendix B), and the nearest of those that are stored."""

from pathlib import Path
from typing import Annotated

import typer

from vggcli import choices
from vggcli.cli import options
from vggcli.defaults import worker_count

Paths = Annotated[
    list[str] | None,
    typer.Argument(metavar="PATH...", help="Images, folders, globs, .csv lists, .tar shards, - for a list on stdin."),
]
Data = Annotated[
    str | None, typer.Option("--data", metavar="SRC", help="In place of PATH...: the images of a data set.")
]
Split = Annotated[
    str | None, typer.Option("--split", metavar="NAME", help="Which part of --data. (default: train, then val)")
]
LayerNames = Annotated[
    list[str] | None,
    typer.Option(
        "--layer", metavar="NAME...", help="As `vgg models` lists them; NAME:pre is before its ReLU. (default: fc7)"
    ),
]
Gap = Annotated[bool, typer.Option("--gap", help="Global average pooling: the paper's descriptor.")]
Gmp = Annotated[bool, typer.Option("--gmp", help="Global max pooling. (with neither, the map as it is)")]
Scales = Annotated[
    list[int] | None,
    typer.Option(
        "--scales",
        min=1,
        max=options.LARGEST_SCALE,
        metavar="Q...",
        help="Shorter sides in pixels. (default: the training S, or its middle)",
    ),
]
Aggregate = Annotated[
    choices.Aggregate | None, typer.Option("--aggregate", help="What becomes of several scales. (default: mean)")
]
Norm = Annotated[
    choices.Norm | None, typer.Option("--norm", help="Of the whole row, last. (default: l2; none for maps)")
]
Flip = Annotated[
    bool | None,
    typer.Option("--flip/--no-flip", help="Average with the mirror image. (default: with --gap and --gmp)"),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="FILE",
        help="A .safetensors (also where there is no suffix), .npy, .npz, .parquet or .csv; a folder with "
        "--shard-size; a .png with --search.",
    ),
]
Dtype = Annotated[choices.RowType | None, typer.Option("--dtype", help="Of the numbers in --out. (default: float32)")]
ShardSize = Annotated[
    int | None,
    typer.Option(
        "--shard-size", min=1, metavar="N", help="Write shards of N images and an index; goes on after a kill."
    ),
]
Maps = Annotated[
    Path | None, typer.Option("--maps", metavar="FILE.png", help="Draw a layer's strongest channels over an image.")
]
Search = Annotated[
    Path | None, typer.Option("--search", metavar="QUERY", help="Find the images of the store PATH nearest to this.")
]
Top = Annotated[int | None, typer.Option("--top", min=1, metavar="N", help="How many --search finds. (default: 12)")]


def features(
    paths: Paths = None,
    data: Data = None,
    split: Split = None,
    arch: options.Arch = None,
    weights: options.Weights = None,
    preprocessing: options.Preprocessing = None,
    layer: LayerNames = None,
    gap: Gap = False,
    gmp: Gmp = False,
    multi_scale: options.MultiScale = False,
    scales: Scales = None,
    aggregate: Aggregate = None,
    norm: Norm = None,
    flip: Flip = None,
    out: Out = None,
    dtype: Dtype = None,
    shard_size: ShardSize = None,
    maps: Maps = None,
    search: Search = None,
    top: Top = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    batch_size: options.ViewBatch = None,
    workers: options.Workers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Describe images by a layer's output: pooled over space, averaged with the mirror image and over scales, normalised
    (Appendix B). One image is summed up on the terminal; many go to --out, with their names. A file that cannot be used
    does not stop the others: it is listed at the end, and the exit code is 3."""
    from vggcli.errors import UsageError

    flags = {
        "data": data, "split": split, "arch": arch, "gap": gap, "gmp": gmp, "multi_scale": multi_scale, "flip": flip,
        "aggregate": aggregate, "norm": norm, "dtype": dtype,
        "shard_size": shard_size, "maps": maps, "batch_size": batch_size,
        "preprocessing": preprocessing,
    }  # fmt: skip
    if search is not None:
        given = {**flags, "layer": layer, "scales": scales, "workers": workers}
        for name, value in given.items():
            if value is not None and (value is not False or name == "flip"):
                flag = "--no-flip" if value is False else f"--{name.replace('_', '-')}"
                raise UsageError(f"{flag} has no effect with --search: the query is described as the store was")
        from vggcli.cli.searching import search_store

        search_store(search, paths or [], top or 12, out, weights, device, precision, json)
        return
    if top is not None:
        raise UsageError("--top has no effect without --search")
    from vggcli.cli.describing import Asked, describe

    asked = Asked(
        paths=tuple(paths or ()),
        weights=weights,
        layers=tuple(layer or ["fc7"]),
        scales=tuple(scales or ()),
        out=out,
        device=device,
        precision=precision,
        workers=worker_count(workers),
        json=json,
        quiet=quiet,
        **flags,  # type: ignore[arg-type]
    )
    describe(asked)
