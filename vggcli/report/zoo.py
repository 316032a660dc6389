"""Tables of the networks and the published weights. They need no torch, so that `vgg models` answers at once."""

from collections.abc import Iterable, Sequence

from rich.table import Column, Table

from vggcli import paper
from vggcli.report.cells import Titled, right
from vggcli.weights.published import BASE, Published
from vggcli.zoo.layers import LayerCost, Stack


def zoo_table(rows: Iterable[tuple[paper.Row, int, float]]) -> Table:
    """The zoo: (row of Table 1, parameters, GMACs) each."""
    title = "Networks of Table 1, the shallow net of section 4.1, and with batch norm; errors in %"
    numbers = right("layers", "parameters", "GMACs", "top-1", "top-5", "from")
    table = Titled(title, "network", "also", *numbers)
    sources: dict[str, str] = {}
    for row, parameters, gmacs in rows:
        errors = ["-" if error is None else _percent(error) for error in (row.top1_error, row.top5_error)]
        size = (str(row.weight_layers), f"{parameters:,}", f"{gmacs:.3f}")
        source = sources.setdefault(row.error_source, str(len(sources) + 1)) if row.error_source else ""
        table.add_row(row.arch, row.alias or "", *size, *errors, source)
    table.remark = "\n".join(f"Errors from ({number}) {source}." for source, number in sources.items())
    return table


def _percent(error: float) -> str:
    """With one decimal, or two where it has them."""
    return f"{error:.2f}".removesuffix("0")


def published_table(weights: Iterable[Published]) -> Table:
    """Weights that can be fetched by name."""
    names = [Column(name, no_wrap=True) for name in ("name", "arch", "file")]
    table = Titled(
        "Published weights, by name and network; errors in %", *names[:2], *right("MiB", "top-1", "top-5"), names[2]
    )
    licences: dict[str, str] = {}
    for one in weights:
        errors = ["-", "-"] if one.top1_error is None else [f"{one.top1_error:.2f}", f"{one.top5_error:.2f}"]
        table.add_row(one.name, one.arch, f"{one.mebibytes:.0f}", *errors, one.file)
        licences[one.name] = one.licence
    table.remark = (
        f"Files from {BASE}; errors are the publisher's (centre crop at 256), none where there is no classifier.\n"
        f"Licences: {'; '.join(f'{name}: {licence}' for name, licence in licences.items())}."
    )
    return table


def layers_table(title: str, costs: Sequence[LayerCost]) -> Table:
    """Every layer of a network and what it costs for one image."""
    table = Titled(title, "layer", *right("output", "receptive field", "parameters", "MACs (M)", "output (MB)"))
    for cost in costs:
        output, field = "x".join(map(str, cost.output)), f"{cost.receptive_field}x{cost.receptive_field}"
        macs = f"{cost.macs / 1e6:,.1f}" if cost.macs else ""
        parameters = f"{cost.parameters:,}" if cost.parameters else ""
        table.add_row(cost.name, output, field, parameters, macs, f"{cost.memory / 1e6:.2f}")
    total = [f"{sum(cost.parameters for cost in costs):,}", f"{sum(cost.macs for cost in costs) / 1e6:,.1f}"]
    table.add_section()
    table.add_row("whole", "", "", *total, f"{sum(cost.memory for cost in costs) / 1e6:.2f}")
    return table


def stacks_table(stacks: Sequence[Stack]) -> Table:
    """The argument of section 2.3 in numbers: stacks of 3x3 layers against one filter of their receptive field."""
    title = "Stacks of 3x3 layers against one filter of equal receptive field (section 2.3)"
    table = Titled(title, "stack", *right("sees", "weights of the stack", "as one filter", "more"))
    for stack in stacks:
        side = stack.receptive_field
        more = f"{100 * (stack.single_weights / stack.stack_weights - 1):.0f} %"
        own = f"{9 * len(stack.layers)}C² = {stack.stack_weights:,}"
        single = f"{side**2}C² = {stack.single_weights:,}"
        table.add_row(f"{stack.layers[0]} … {stack.layers[-1]}", f"{side}x{side}", own, single, more)
    return table
