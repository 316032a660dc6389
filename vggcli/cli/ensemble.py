"""`vgg ensemble`: the error of several networks, or of saved scores, with their posteriors averaged (section 4.4)."""

from pathlib import Path
from typing import Annotated

import typer

from vggcli.cli import options
from vggcli.defaults import worker_count
from vggcli.files import writable_output


def ensemble(
    members: Annotated[list[Path], typer.Argument(metavar="MEMBER...", help="Run folders, checkpoints, saved scores.")],
    data: options.Data = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="Which part of the data. (default: val)")
    ] = None,
    preprocessing: options.Preprocessing = None,
    dense: options.Dense = False,
    multi_crop: options.MultiCrop = False,
    grid: options.Grid = None,
    multi_scale: options.MultiScale = False,
    scales: options.Scales = None,
    flip: options.Flip = None,
    skip_bad: options.SkipBad = False,
    save_scores: options.SaveScores = None,
    table: Annotated[
        bool,
        typer.Option(
            "--table",
            help="The whole as in the paper's Table 6 (ImageNet: and 7); with --dense --multi-crop by each and by both "
            "averaged, from the same passes.",
        ),
    ] = False,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    batch_size: options.ViewBatch = None,
    workers: options.Workers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Average the posteriors of any mix of run folders, checkpoints and saved scores, and measure the error of every
    member, every pair and the whole. Networks are evaluated by the flags below, each image decoded once for all of them;
    saved scores are taken as they are."""
    from json import dumps

    from vggcli.cli.fusing import fuse, show_fusion
    from vggcli.cli.measuring import evaluate_options
    from vggcli.cli.tabulating import check_table, show_combined
    from vggcli.errors import UsageError

    if len(members) < 2:
        raise UsageError("an ensemble needs two members or more; `vgg eval` measures one network")
    check_table(table, json)
    if save_scores is not None:
        if save_scores.suffix != ".safetensors":
            raise UsageError(f"--save-scores {save_scores}: give a name that ends in .safetensors")
        writable_output(save_scores, "save_scores")
    given = {
        "--data": data,
        "--split": split,
        "--preprocessing": preprocessing,
        "--dense": dense,
        "--multi-crop": multi_crop,
        "--multi-scale": multi_scale,
        "--scales": scales,
        "--flip": flip is not None,
        "--skip-bad": skip_bad,
        "--device": device != "auto",
        "--precision": precision != "auto",
        "--batch-size": batch_size is not None,
        "--workers": workers is not None,
    }
    opts = evaluate_options(
        dense=dense,
        multi_crop=multi_crop,
        grid=grid,
        scales=scales,
        multi_scale=multi_scale,
        flip=flip,
        skip_bad=skip_bad,
        device=device,
        precision=precision,
        batch_size=batch_size,
        workers=worker_count(workers),
        preprocessing=preprocessing,
        table=table,
    )
    flags = [flag for flag, value in given.items() if value]
    outputs = [("save_scores", save_scores)] if save_scores is not None else []
    fusion = fuse(members, data, split or "val", opts, multi_scale, flags, quiet, outputs)

    def show() -> None:
        if json:
            print(dumps(fusion.to_json()))
        elif table:
            show_combined(fusion)
        else:
            show_fusion(fusion)

    with options.after_the_figures(show):
        if save_scores is not None:
            fusion.save(save_scores)
