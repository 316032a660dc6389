"""How help looks: the panel that each flag stands in, the same in all commands, and what stands for its value."""

import inspect
from copy import copy
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from typer.core import TyperGroup
from typer.models import OptionInfo

PANELS = {  # parameters, in the order of the help; a flag that is elsewhere in one command says so in its Option
    "Data": "data split train_split skip_bad skip_missing",
    "Network": "arch weights preprocessing init_from width head classes",
    "Recipe": "boxes recipe layers scale scale_jitter crop epochs max_steps batch_size learning_rate momentum "
    "weight_decay dropout init init_std protocol splits train_per_class test_per_class ap costs seed",
    "Descriptor": "layer gap gmp aggregate norm",
    "Views": "dense multi_crop grid multi_scale scales flip",
    "Boxes": "classifier merging tune_merging draw candidates",
    "Training": "training",
    "Run": "config resume cache_features tensorboard",
    "Output": "to search top out save_scores per_class confusion histogram worst maps dtype shard_size "
    "table csv json quiet",
    "Machine": "devices device precision compile micro_batch workers decode",
}
PANEL_OF = {name: panel for panel, names in PANELS.items() for name in names.split()}
VALUES: dict[Any, str] = {bool: "", int: "N", float: "X"}  # of flags that name no other


class Front(TyperGroup):
    """`vgg` itself. Its help has one line a command and fits 24 lines, so that it leaves its rarer flags out."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        parameters: list[Any] = [*self.get_params(ctx)]
        for parameter in parameters:
            parameter.metavar, parameter.hidden = "", parameter.name in ("show_completion", "help")
        super().format_help(ctx, formatter)


def paneled(parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    """The parameters of a command with panels and names of values, those of one panel together."""
    done = [_described(one) if get_origin(one.annotation) is Annotated else one for one in parameters]
    order = ["", *PANELS]
    return sorted(done, key=lambda one: order.index(_panel(one)))


def tidied(parameter: Any) -> None:
    """Leave the types and ranges of a parameter out of the help, which is about to be printed."""
    parameter.min = parameter.max = None
    if parameter.param_type_name == "argument":
        parameter.display_type_rich = lambda ctx: None


def _described(one: inspect.Parameter) -> inspect.Parameter:
    kind, given = get_args(one.annotation)
    if not isinstance(given, OptionInfo):
        return one
    info = copy(given)
    info.rich_help_panel = info.rich_help_panel or PANEL_OF[one.name]
    info.metavar = _value(kind) if info.metavar is None else info.metavar
    return one.replace(annotation=Annotated[kind, info])


def _panel(one: inspect.Parameter) -> str:
    return next((info.rich_help_panel or "" for info in getattr(one.annotation, "__metadata__", ())), "")


def _value(kind: Any) -> str | None:
    if get_origin(kind) in (Union, UnionType):
        kind = next(one for one in get_args(kind) if one is not NoneType)
    return "|".join(get_args(kind)) if get_origin(kind) is Literal else VALUES.get(kind)
