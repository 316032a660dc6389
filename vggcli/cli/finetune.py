"""`vgg finetune`: from weights that someone has trained to new classes, a new scale, or both."""

from typing import Annotated

from typer import Option

from vggcli import choices
from vggcli.cli import options
from vggcli.cli.devices import on_devices
from vggcli.cli.train import LearningFlags, RunFlags, ScaleJitter, train_and_show


@on_devices
@options.with_groups
def finetune(
    data: options.DataOfWeights = None,
    arch: Annotated[
        str | None,
        Option(metavar="NAME", help="The network; a deeper one starts from net A's layers. (default: that of W)"),
    ] = None,
    weights: options.Weights = None,
    preprocessing: options.Preprocessing = None,
    boxes: Annotated[
        choices.Boxes | None,
        Option(help="Learn the box of each image's object: one for all classes, or one per class (Appendix A)."),
    ] = None,
    layers: Annotated[
        choices.Layers | None,
        Option(help="Which layers are trained: all, the FC layers, or the last one. (default: all)"),
    ] = None,
    cache_features: Annotated[
        bool | None,
        Option(
            "--cache-features/--no-cache-features",
            help="Run each image through the frozen layers once, without augmentation, and store the result.",
        ),
    ] = None,
    recipe: Annotated[
        choices.RecipeName | None,
        Option(
            help="Defaults of the flags below, with a tenth of its learning rate. (default: the recipe of W, else paper)"
        ),
    ] = None,
    scale: Annotated[
        int | None,
        Option(
            metavar="S",
            help="Shorter side that images are rescaled to, in pixels. (default: that of W; same classes: 384 after 256)",
        ),
    ] = None,
    scale_jitter: ScaleJitter = None,
    *,
    learning: LearningFlags,
    run: RunFlags,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Continue from trained weights: new classes, a new scale. The weights are a run, a checkpoint, another
    framework's file, or published ones; new classes get a new last layer, a new scale is the paper's curriculum (section
    3.1: S=384 from 256, scale jitter from 384), and net A begins a deeper network."""
    flags = dict(locals())
    from vggcli.training.options import FinetuneOptions

    train_and_show(FinetuneOptions, flags)
