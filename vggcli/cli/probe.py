"""`vgg probe`: linear SVMs on stored descriptors, by the protocols of Appendix B."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from vggcli import choices
from vggcli.cli import options
from vggcli.defaults import user_places, worker_count

_Stores = Annotated[
    list[Path],
    typer.Argument(metavar="STORE", help="Files of `vgg features`: parts of one are joined, others stacked."),
]
_Protocol = Annotated[
    choices.ProbeProtocol, typer.Option(help="accuracy; caltech: mean class recall over random splits; voc: mean AP.")
]
_Split = Annotated[
    str | None, typer.Option(metavar="NAME", help="Split to measure on. (default: val; voc on voc2007: test)")
]
_TrainSplit = Annotated[
    str | None, typer.Option(metavar="NAME", help="Split to train on. (default: train; voc on voc2007: trainval)")
]
_TrainPerClass = Annotated[
    int | None, typer.Option(min=1, help="Training images per class with caltech. (default: 30; caltech256: 60)")
]
_TestPerClass = Annotated[
    int | None,
    typer.Option(min=1, help="Test images per class with caltech, at most. (default: 50; caltech256: the rest)"),
]
_Splits = Annotated[int | None, typer.Option(min=1, max=1000, help="Random splits, with caltech. (default: 3)")]
_Points = Annotated[
    Literal["11", "all"] | None,
    typer.Option(help="Recall levels of average precision, with voc. (default: all; voc2007: 11)"),
]
_Costs = Annotated[
    list[float] | None, typer.Option(metavar="C...", help="Values to choose C from. (default: 0.01 0.1 1 10 100)")
]
_Norm = Annotated[
    Literal["l2", "none"],
    typer.Option(rich_help_panel="Recipe", help="Divide each descriptor by this norm, before stores are stacked."),
]
_SkipMissing = Annotated[
    bool, typer.Option("--skip-missing", help="Leave images without a descriptor out, and say how many.")
]
_PerClass = Annotated[bool, typer.Option("--per-class", help="Show the figure of every class too.")]
_Seed = Annotated[
    int | None, typer.Option(min=0, max=2**63 - 1, help="Seed of random splits and held-out images. (default: 0)")
]
_Parallel = Annotated[
    int | None,
    typer.Option(
        "--workers", "-j", min=1, max=options.MOST_WORKERS, help="SVMs trained in parallel. (default: one per core)"
    ),
]


@options.with_groups
def probe(
    stores: _Stores,
    data: options.Data = None,
    protocol: _Protocol = "accuracy",
    split: _Split = None,
    train_split: _TrainSplit = None,
    train_per_class: _TrainPerClass = None,
    test_per_class: _TestPerClass = None,
    splits: _Splits = None,
    ap: _Points = None,
    costs: _Costs = None,
    norm: _Norm = "l2",
    skip_missing: _SkipMissing = False,
    per_class: _PerClass = False,
    seed: _Seed = None,
    workers: _Parallel = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a linear SVM on stored descriptors, and measure it. It tells one class from the rest, by what `vgg
    features` stored; labels come from --data, matched by the names of the images; C is chosen on a fifth of the
    training images, held out."""
    given = dict(locals())
    from json import dumps

    from vggcli.probe import measure
    from vggcli.probe.plan import COSTS
    from vggcli.report.probes import probe_tables

    for name in ("stores", "data", "json", "quiet", "per_class"):
        del given[name]
    given |= {"workers": worker_count(workers), "costs": costs or COSTS}
    found = measure.probe(user_places(), stores, data, **given, progress=options.progress(quiet))
    if json:
        print(dumps(found.to_json(per_class)))
    else:
        for table in probe_tables(found, per_class):
            options.stdout_console().print(table)
