"""`vgg models`: the zoo as a table, or one network layer by layer."""

from json import dumps
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

from vggcli import paper
from vggcli.cli import options
from vggcli.errors import counted

if TYPE_CHECKING:
    from vggcli.zoo.layers import NetworkConfig


@options.with_groups
def models(
    name: Annotated[str | None, Argument(metavar="NETWORK", help="Show this network layer by layer.")] = None,
    crop: Annotated[
        int | None, Option(min=32, rich_help_panel="Network", help="Side of the input in pixels. (default: 224)")
    ] = None,
    width: Annotated[float | None, Option(help="Factor on all channel counts. (default: 1)")] = None,
    classes: Annotated[int | None, Option(min=1, help="Number of classes. (default: 1000)")] = None,
    head: Annotated[
        Literal["fc", "gap"] | None, Option(help="fc: three FC layers; gap: one linear layer. (default: fc)")
    ] = None,
    json: options.Json = False,
) -> None:
    """Show all networks and published weights, or one by layers. The zoo has layers, parameters, GMACs and published
    errors; NETWORK has the size of every output, its receptive field, parameters, MACs and memory, and what its stacks
    of 3x3 layers save (section 2.3)."""
    from vggcli.zoo.layers import NetworkConfig, arch_of

    chosen: dict[str, Any] = {"crop": crop, "width": width, "classes": classes, "head": head}
    given = {key: value for key, value in chosen.items() if value is not None}
    if name is None:
        configs = [NetworkConfig(arch, **given) for arch in paper.NETWORKS]
        _show_zoo(configs, json)
    else:
        _show_network(NetworkConfig(arch_of(name), **given), json)


def _show_zoo(configs: "list[NetworkConfig]", json: bool) -> None:
    from vggcli.weights.published import PUBLISHED
    from vggcli.zoo.layers import layer_costs

    rows: list[tuple[paper.Row, int, float]] = []
    for config in configs:
        costs = layer_costs(config)
        parameters, macs = sum(cost.parameters for cost in costs), sum(cost.macs for cost in costs)
        rows.append((paper.NETWORKS[config.arch], parameters, macs / 1e9))
    if json:
        entries: list[dict[str, Any]] = [
            {
                "arch": row.arch,
                "weight_layers": row.weight_layers,
                "parameters": parameters,
                "gmacs": round(gmacs, 3),
                "top1_error": row.top1_error,
                "top5_error": row.top5_error,
                "error_source": row.error_source or None,
                "published": [one.name for one in PUBLISHED if one.arch == row.arch],
            }
            for row, parameters, gmacs in rows
        ]
        print(dumps({"models": entries, "published": [{**vars(one), "url": one.url} for one in PUBLISHED]}))
        return
    from vggcli.report.zoo import published_table, zoo_table

    console = options.stdout_console()
    console.print(zoo_table(rows))
    console.print(published_table(PUBLISHED))


def _show_network(config: "NetworkConfig", json: bool) -> None:
    from vggcli.zoo.layers import layer_costs, stacks_of_3x3

    costs = layer_costs(config)
    stacks = stacks_of_3x3(config)
    if json:
        layers = [{**vars(cost), "output": list(cost.output)} for cost in costs]
        print(dumps({"arch": config.arch, "layers": layers, "stacks": [vars(stack) for stack in stacks]}))
        return
    from vggcli.report.zoo import layers_table, stacks_table

    classes = counted(config.classes, "class", "classes")
    title = f"Network {config.arch}, {classes}, one image of {config.crop}x{config.crop}"
    console = options.stdout_console()
    console.print(layers_table(title, costs))
    if stacks:
        console.print(stacks_table(stacks))
