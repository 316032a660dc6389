"""Options that take several values separated by spaces, and options whose value may be left out.

Typer parses `--scales 256 --scales 384`; this command class rewrites `--scales 256 384` to that before parsing. Such a
greedy option takes only what looks like one of its values, so `--scales 256 384 img.jpg` does not take the image.
"""

import re
from itertools import pairwise
from typing import Any

from typer.core import TyperCommand

from vggcli.cli.help import tidied
from vggcli.errors import UsageError

GREEDY = {  # what a value looks like
    "--scales": re.compile(r"\d+"),
    "--costs": re.compile(r"\d*\.?\d+(e[+-]?\d+)?"),
    "--classifier": re.compile(r"[^-].*", re.DOTALL),
    "--layer": re.compile(r"(?:(?:conv|bn)\d_\d|(?:pool|lrn|fc)\d)(?::pre)?"),
}
OPTIONAL_VALUE = ("--resume",)  # without a value: an empty one


class GreedyCommand(TyperCommand):
    """A typer command with the two rules above."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        mine = {name for parameter in self.params for name in (*parameter.opts, *parameter.secondary_opts)}
        if any(parameter.name == "paths" for parameter in self.params):  # which a classifier's name looks like
            mine.discard("--classifier")
        valued = {name for one in self.params if not getattr(one, "is_flag", True) for name in one.opts}
        for word, following in pairwise(args[: args.index("--")] if "--" in args else args):
            if word in valued and word not in OPTIONAL_VALUE and following in mine:
                advice = f"{following} is another flag; see `{ctx.command_path} --help`"
                raise UsageError(f"{word} is given without its value: {advice}")
        return super().parse_args(ctx, expanded(args, mine))

    def format_help(self, ctx: Any, formatter: Any) -> None:
        for parameter in self.get_params(ctx):
            tidied(parameter)
        super().format_help(ctx, formatter)

    def get_help_option(self, ctx: Any) -> Any:
        option: Any = super().get_help_option(ctx)
        option.rich_help_panel, option.metavar, option.help = "Output", "", "Show this and exit."
        return option


def expanded(args: list[str], options: set[str]) -> list[str]:
    """`args` as the parser wants them, for a command that has `options`; nothing after `--` is touched."""
    result: list[str] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        result.append(word)
        if word == "--":
            return result + rest
        if word in options and word in GREEDY and rest:
            result.append(rest.pop(0))
            while rest and GREEDY[word].fullmatch(rest[0]):
                result += [word, rest.pop(0)]
        elif word in options and word in OPTIONAL_VALUE and (not rest or rest[0].startswith("-")):
            result[-1] = f"{word}="
    return result
