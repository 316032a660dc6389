"""`vgg ensemble`: the error of several networks, or of saved scores, with their posteriors averaged (section 4.4)."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from vggcli.cli import options
from vggcli.cli.devices import joined, on_devices
from vggcli.defaults import user_places

_VIEWS, _BOXES, _PASSES = (tuple(vars(one())) for one in (options.ViewFlags, options.BoxFlags, options.PassFlags))
MEASURING = ("data", "split", "skip_bad", *_VIEWS, *_BOXES, *_PASSES)  # only for networks


@on_devices
@options.with_groups
def ensemble(
    context: typer.Context,
    members: Annotated[list[Path], Argument(metavar="MEMBER", help="Run folders, checkpoints, saved scores.")],
    data: options.DataOfWeights = None,
    split: Annotated[str | None, Option(metavar="NAME", help="Which split of the data to use. (default: val)")] = None,
    *,
    views: options.ViewFlags,
    boxes: options.BoxFlags,
    passes: options.PassFlags,
    skip_bad: options.SkipBad = False,
    save_scores: options.SaveScores = None,
    table: Annotated[
        bool,
        Option(
            "--table",
            help="As in the paper's Table 6 (with ImageNet also Table 7); with --dense --multi-crop by each and by both "
            "averaged; of boxes as in Table 9.",
        ),
    ] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure the error of several networks averaged. Posteriors of any mix of run folders, checkpoints and saved
    scores are averaged, for every member, every pair and the whole. Networks are evaluated by the flags below, each
    image decoded once for all of them; saved scores are taken as they are. Boxes of networks that give them (Appendix A)
    are united, with --dense --classifier, before they are merged."""
    from json import dumps

    from vggcli.evaluation.ensemble import Fusion
    from vggcli.localisation.evaluate import fuse_networks, member_files
    from vggcli.report.localisation import fusion_members_table
    from vggcli.report.outcomes import fusion_rows_tables

    asked = options.measure_options(views, passes, skip_bad=skip_bad, apart=table)
    options.check_table(table, json)
    if save_scores is not None:
        options.check_output(save_scores, "save_scores", ".safetensors")
    sources = {name: context.get_parameter_source(name) for name in MEASURING}
    given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    outputs = [("save_scores", save_scores)] if save_scores is not None else []
    places, progress = user_places(), options.progress(quiet)
    how, where = options.box_options(boxes), split or "val"
    if how.check(member_files(members), asked):
        options.check_reports(True, save_scores=save_scores)
    ranks = joined()
    fusion = fuse_networks(
        members, data, where, asked, how, given, places=places, progress=progress, outputs=outputs, ranks=ranks
    )
    if not ranks.is_first:
        return

    def show() -> None:
        if json:
            print(dumps(fusion.to_json()))
            return
        for one in fusion_rows_tables(fusion) if table else [fusion_members_table(fusion)]:
            options.stdout_console().print(one)

    with options.after_the_figures(show):
        if save_scores is not None and isinstance(fusion, Fusion):
            fusion.save(save_scores)
