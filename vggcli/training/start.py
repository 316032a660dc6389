"""The start of every training: of `vgg train` and `vgg finetune`, and of `train` and `finetune` in Python."""

import inspect
from collections.abc import Callable
from typing import Concatenate, ParamSpec

from vggcli.data.decode import saying_skip_bad
from vggcli.data.decode_on_device import need_decoder
from vggcli.device import keep_freed_memory, pick_device
from vggcli.training.finetune import prepare_finetuning
from vggcli.training.options import CARRIED_OUT, FinetuneOptions, TrainOptions
from vggcli.training.plan import Plan
from vggcli.training.resume import resumed
from vggcli.training.scratch import prepare
from vggcli.training.session import Session, TrainingResult, run_to_end, shared
from vggcli.training.surroundings import Surroundings
from vggcli.training.tensorboard import need_tensorboard

RUN = "run"  # what a job remembers of a run: its folder

P = ParamSpec("P")


def start(options: TrainOptions | FinetuneOptions, around: Surroundings) -> TrainingResult:
    """Train as `options` say: a new run, or one that is resumed.

    The run folder is made after all checks, and can be resumed as soon as its first file is there. Of several processes the
    first prepares the run; a job that was restarted goes on with the run that it began. Raises UsageError for options that
    contradict each other, the data, the weights or the run; DataError, WeightsError and MachineError for errors in these;
    Stopped, after saving, once `around.watching` asks for it.
    """
    device, ranks = pick_device(options.device), around.ranks
    need_decoder(options.decode or "cpu", device)
    if device.type == "cpu":
        keep_freed_memory()
    if options.tensorboard:
        need_tensorboard()
    with saying_skip_bad(options.skip_bad):
        session = shared(lambda: _prepared(options, around), device, ranks)
    if isinstance(session, TrainingResult):
        return session
    with saying_skip_bad(session.plan.skip_bad):
        return run_to_end(session, options, around)


def _prepared(options: TrainOptions | FinetuneOptions, around: Surroundings) -> Session | TrainingResult:
    begun = around.ranks.remembered(RUN)
    session = _found(options if begun is None else _going_on(options, begun), around)
    if isinstance(session, Session):
        around.ranks.remember(RUN, str(session.folder.path))
    return session


def _going_on(options: TrainOptions | FinetuneOptions, run: str) -> TrainOptions | FinetuneOptions:
    """The options that go on with a run as these would have gone on."""
    return type(options)(**{**{name: getattr(options, name) for name in CARRIED_OUT}, "resume": run})


def _found(options: TrainOptions | FinetuneOptions, around: Surroundings) -> Session | TrainingResult:
    if options.resume is not None:
        return resumed(options, around)
    if isinstance(options, FinetuneOptions):
        return prepare_finetuning(options, around)
    return prepare(Plan.of(options), options, around)


def _by_keywords(
    name: str, kind: Callable[P, TrainOptions | FinetuneOptions], description: str
) -> Callable[Concatenate[Surroundings, P], TrainingResult]:
    """`start` as a function whose keywords are the fields of `kind`, with their types and defaults."""

    def started(around: Surroundings, /, *given: P.args, **named: P.kwargs) -> TrainingResult:
        signature.bind(*given, **named)  # names a keyword that there is not
        return start(kind(*given, **named), around)

    around = inspect.Parameter("around", inspect.Parameter.POSITIONAL_ONLY, annotation=Surroundings)
    signature = inspect.signature(kind)
    started.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[around, *signature.parameters.values()], return_annotation=TrainingResult
    )
    started.__doc__, started.__name__ = description, name
    started.__qualname__ = name
    return started


train = _by_keywords(
    "train",
    TrainOptions,
    """Train a network from scratch by the paper's recipe (section 3.1), as `vgg train` does. Raises UsageError, DataError,
    WeightsError or MachineError (`vggcli.errors`) for what cannot be used.

    >>> result = vggcli.train("photos/", "A", recipe="tiny", width=0.0625, max_steps=2)
    >>> result.run.name, result.last.step
    ('A-3', 2)
    """,
)

finetune = _by_keywords(
    "finetune",
    FinetuneOptions,
    """Go on from trained weights, as `vgg finetune` does: to new classes, a new scale or a deeper network. Raises
    UsageError, DataError, WeightsError or MachineError for what cannot be used.

    >>> result = vggcli.finetune("runs/A-1", "photos/", layers="last", max_steps=2)
    >>> result.run.name, result.last.step
    ('A-4', 2)
    """,
)
