"""`vgg data`: what a source holds, as training would take it."""

from typing import Annotated

import typer

from vggcli.cli import options


def data(
    source: Annotated[str | None, typer.Argument(metavar="[SRC]", help="As --data of the other commands.")] = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show what a source holds: images by class in the training and the validation split, how uneven the classes are, how
    many images cannot be read, and how many are in both splits."""
    from vggcli.cli.surveying import show_data

    show_data(source, json, quiet)
