"""`vgg probe`: linear SVMs on stored descriptors, by the protocols of Appendix B."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from vggcli import choices
from vggcli.cli import options
from vggcli.defaults import worker_count


def probe(
    stores: Annotated[
        list[Path], typer.Argument(metavar="STORE...", help="Files of `vgg features`: parts of one, or stacked.")
    ],
    data: options.Data = None,
    protocol: Annotated[
        choices.ProbeProtocol,
        typer.Option("--protocol", help="accuracy; caltech: mean class recall over random splits; voc: mean AP."),
    ] = "accuracy",
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="NAME", help="Measured on. (default: val; voc on voc2007: test)"),
    ] = None,
    train_split: Annotated[
        str | None,
        typer.Option("--train-split", metavar="NAME", help="Trained on. (default: train; voc on voc2007: trainval)"),
    ] = None,
    train_per_class: Annotated[
        int | None, typer.Option(min=1, help="With caltech. (default: 30; caltech256: 60)")
    ] = None,
    test_per_class: Annotated[
        int | None, typer.Option(min=1, help="With caltech, at most. (default: 50; caltech256: the rest)")
    ] = None,
    splits: Annotated[
        int | None, typer.Option(min=1, max=1000, help="Random splits, with caltech. (default: 3)")
    ] = None,
    ap: Annotated[
        Literal["11", "all"] | None, typer.Option("--ap", help="Points of AP, with voc. (default: all; voc2007: 11)")
    ] = None,
    costs: Annotated[
        list[float] | None,
        typer.Option("--costs", metavar="C...", help="To choose C from. (default: 0.01 0.1 1 10 100)"),
    ] = None,
    norm: Annotated[
        Literal["l2", "none"], typer.Option("--norm", help="Of each store's rows, before stacking.")
    ] = "l2",
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave images without a descriptor out, and say how many.")
    ] = False,
    per_class: Annotated[bool, typer.Option("--per-class", help="The figure of every class.")] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**63 - 1, help="Of random splits and held-out images. (default: 0)")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers", "-j", min=1, max=options.MOST_WORKERS, help="Machines fitted at a time. (default: cores)"
        ),
    ] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a linear SVM, one class against the rest, on descriptors that `vgg features` has stored, and measure it. Labels
    come from --data, matched by the names of the images; C is chosen on a fifth of the training images, held out."""
    from vggcli.cli.probing import Plan, probe_and_report

    plan = Plan.of(
        protocol=protocol,
        split=split,
        train_split=train_split,
        train_per_class=train_per_class,
        test_per_class=test_per_class,
        splits=splits,
        ap=ap,
        costs=costs,
        normalise=norm == "l2",
        skip_missing=skip_missing,
        seed=seed,
    )
    probe_and_report(stores, data, plan, worker_count(workers), per_class, json, quiet)
