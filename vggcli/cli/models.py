"""`vgg models`: the zoo as a table, or one network layer by layer, and what training it costs."""

from dataclasses import dataclass
from json import dumps
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

from vggcli import paper
from vggcli.cli import options
from vggcli.defaults import user_places, worker_count
from vggcli.errors import UsageError, counted

if TYPE_CHECKING:
    from vggcli.training.cost import Times, Training
    from vggcli.training.data import TrainingSets
    from vggcli.zoo.layers import NetworkConfig

PANEL = "Training"
MOST_DEVICES = 1 << 16


@dataclass(frozen=True)
class TrainingFlags:
    """What is trained, and on what, where `training` asks for its cost."""

    training: Annotated[
        bool,
        Option(
            "--training",
            rich_help_panel=PANEL,
            help="Time a few passes here, and show what a step, an epoch and the paper's 74 epochs cost.",
        ),
    ] = False
    batch_size: Annotated[
        int | None, Option("--batch-size", "-b", min=1, rich_help_panel=PANEL, help="Images per step. (default: 256)")
    ] = None
    micro_batch: Annotated[
        int | None,
        Option(min=1, rich_help_panel=PANEL, help="Images in one pass. (default: as many as fit in memory)"),
    ] = None
    devices: Annotated[
        int | None,
        Option(
            min=1,
            max=MOST_DEVICES,
            rich_help_panel=PANEL,
            help="Divide each step among N devices, on paper. (default: 1)",
        ),
    ] = None
    data: Annotated[
        str | None,
        Option(
            metavar="SRC",
            rich_help_panel=PANEL,
            help="An epoch of these images, as --data of `vgg train`; their decoding is timed too. (default: the 1,281,167 "
            "of ILSVRC-2012, and no decoding)",
        ),
    ] = None
    device: Annotated[
        str | None,
        Option(metavar="NAME", rich_help_panel=PANEL, help="auto, cpu, cuda, cuda:1 or mps. (default: auto)"),
    ] = None
    workers: Annotated[
        int | None,
        Option(
            "--workers",
            "-j",
            min=0,
            max=options.MOST_WORKERS,
            rich_help_panel=PANEL,
            help="Processes that decode images. (default: one per core)",
        ),
    ] = None

    def check(self) -> None:
        """Raises UsageError for a flag that has no effect."""
        for name, value in vars(self).items():
            if value is not None and name != "training" and not self.training:
                raise UsageError(f"--{name.replace('_', '-')} has no effect without --training", name, "training")
        if self.workers is not None and self.data is None:
            raise UsageError("--workers has no effect without --data, whose images they decode", "workers", "data")


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
    *,
    cost: TrainingFlags,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Show all networks and published weights, or one by layers. The zoo has layers, parameters, GMACs and published
    errors; NETWORK has the size of every output, its receptive field, parameters, MACs and memory, and what its stacks
    of 3x3 layers save (section 2.3). With --training it has what training costs: arithmetic, memory, what devices
    exchange, and time."""
    from vggcli.zoo.layers import NetworkConfig, arch_of

    cost.check()

    chosen: dict[str, Any] = {"crop": crop, "width": width, "classes": classes, "head": head}
    given = {key: value for key, value in chosen.items() if value is not None}
    if name is None:
        if cost.training:
            raise UsageError("--training is about one network; name it, as in `vgg models D --training`")
        configs = [NetworkConfig(arch, **given) for arch in paper.NETWORKS]
        _show_zoo(configs, json)
    elif cost.training:
        _show_training(arch_of(name), given, cost, json, quiet)
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


def _show_network(config: "NetworkConfig", json: bool, **more: Any) -> None:
    from vggcli.zoo.layers import layer_costs, stacks_of_3x3

    costs = layer_costs(config)
    stacks = stacks_of_3x3(config)
    if json:
        layers = [{**vars(cost), "output": list(cost.output)} for cost in costs]
        print(dumps({"arch": config.arch, "layers": layers, "stacks": [vars(stack) for stack in stacks], **more}))
        return
    from vggcli.report.zoo import layers_table, stacks_table

    classes = counted(config.classes, "class", "classes")
    title = f"Network {config.arch}, {classes}, one image of {config.crop}x{config.crop}"
    console = options.stdout_console()
    console.print(layers_table(title, costs))
    if stacks:
        console.print(stacks_table(stacks))


def _show_training(arch: str, given: dict[str, Any], flags: TrainingFlags, json: bool, quiet: bool) -> None:
    from vggcli.training.cost import costs

    sets = _sets(flags, quiet) if flags.data is not None else None
    training, times = _timed(arch, given, flags, sets, quiet)
    found = list(costs(training, times, flags.devices or 1))
    about = {"training": {**training.to_json(), "measured": vars(times), "devices": [one.to_json() for one in found]}}
    _show_network(training.config, json, **about)
    if not json:
        from vggcli.report.costs import costs_table

        options.stdout_console().print(costs_table(training, times, found, sets.name if sets else "ILSVRC-2012"))


def _sets(flags: TrainingFlags, quiet: bool) -> "TrainingSets":
    """The data that an epoch is of."""
    from vggcli.data.find import find_source
    from vggcli.data.sources import load_training
    from vggcli.training.data import TrainingSets

    source = find_source(flags.data, user_places(), worker_count(flags.workers), options.progress(quiet))
    return TrainingSets(source.name, *load_training(source.path))


def _timed(
    arch: str, given: dict[str, Any], flags: TrainingFlags, sets: "TrainingSets | None", quiet: bool
) -> "tuple[Training, Times]":
    """What is trained, and the times that were measured for it here."""
    from vggcli.device import pick_precision, ready_device
    from vggcli.training.cost import Training
    from vggcli.training.timing import measured
    from vggcli.zoo.layers import NetworkConfig

    if sets is not None:
        given = {"classes": len(sets.train.classes), **given}
    device = ready_device(flags.device or "auto")
    images = {} if sets is None else {"images": len(sets.train), "val_images": len(sets.val)}
    batch = {} if flags.batch_size is None else {"batch_size": flags.batch_size}
    training = Training.of(
        NetworkConfig(arch, **given),
        device,
        pick_precision("auto", device),
        flags.micro_batch,
        flags.devices or 1,
        **images,
        **batch,
    )
    workers = worker_count(flags.workers)
    return training, measured(training, sets.train if sets else None, workers, options.progress(quiet))
