"""The validation split after an epoch: the centre crop of every image, each by one of the processes."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from vggcli.colour import normalise
from vggcli.data.decode import ImageError
from vggcli.data.test_batches import test_batches
from vggcli.data.test_views import ViewPlan
from vggcli.device import computing
from vggcli.training.frozen import Stages, frozen_batch
from vggcli.training.memory import rows_at_once
from vggcli.training.objective import Objective, Validation
from vggcli.training.options import LoopOptions, Stopped, TrainingData


@torch.inference_mode()
def validate(
    stages: Stages, data: TrainingData, options: LoopOptions, objective: Objective, stop: Callable[[], bool]
) -> Validation:
    """What `objective` measures on the validation split, by centre crop at Q = S or the middle of its range. Raises
    ImageError at an image that cannot be used, Stopped once `stop()` is true in any process, RankLost where one is lost."""
    stages.network.eval()
    tally, stopping = objective.validation(data.val), False
    for outputs, rows in _batches(stages, data, options):
        stopping = stopping or stop()
        if stopping:
            break
        with computing(options.device, options.precision):
            scores = stages.scores(outputs).float()
        tally.add(scores, rows)
    counted = options.ranks.gathered((tally.found(), stopping))
    if any(stopped for _, stopped in counted):
        raise Stopped
    tally.take([found for found, _ in counted])
    return tally.result()


def _batches(stages: Stages, data: TrainingData, options: LoopOptions) -> Iterator[tuple[Tensor, Sequence[int]]]:
    """The outputs of the frozen layers for this process's share of the images, and their rows."""
    images, mine = data.val, options.ranks.share(len(data.val))
    together = rows_at_once(stages.network.config, options.device)
    if data.frozen is not None:
        for first in range(mine.start, mine.stop, together):
            some = range(first, min(first + together, mine.stop))
            yield frozen_batch(data.frozen.val, images.labels, some, options.device).outputs, some
        return
    plan = ViewPlan((options.recipe.test_scale,), centre_crop=options.recipe.crop)
    where = (options.workers, options.device)
    for batch in test_batches(images, plan, lambda height, width: together, *where, mine, decode=options.decode):
        if isinstance(batch, ImageError):
            raise batch
        with computing(options.device, options.precision):
            outputs = stages.frozen(normalise(batch.images_NHWC, data.colour))
        yield outputs, batch.indices
