"""The validation split after an epoch: the centre crop of every image."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from vggcli.colour import normalise
from vggcli.data.decode import ImageError
from vggcli.data.test_batches import test_batches
from vggcli.data.test_views import ViewPlan
from vggcli.device import computing
from vggcli.training.frozen import ROWS, Stages, frozen_batch
from vggcli.training.objective import Objective, Validation
from vggcli.training.options import LoopOptions, Stopped, TrainingData


@torch.inference_mode()
def validate(
    stages: Stages, data: TrainingData, options: LoopOptions, objective: Objective, stop: Callable[[], bool]
) -> Validation:
    """What `objective` measures on the validation split, by centre crop at Q = S or the middle of its range. Raises
    ImageError at an image that cannot be used."""
    stages.network.eval()
    tally = objective.validation(data.val)
    for outputs, rows in _batches(stages, data, options):
        if stop():
            raise Stopped
        with computing(options.device, options.precision):
            scores = stages.scores(outputs).float()
        tally.add(scores, rows)
    return tally.result()


def _batches(stages: Stages, data: TrainingData, options: LoopOptions) -> Iterator[tuple[Tensor, Sequence[int]]]:
    """The outputs of the frozen layers, and the rows of their images."""
    images = data.val
    if data.frozen is not None:
        for first in range(0, len(images), ROWS):
            some = range(first, min(first + ROWS, len(images)))
            yield frozen_batch(data.frozen.val, images.labels, some, options.device).outputs, some
        return
    plan = ViewPlan((options.recipe.test_scale,), centre_crop=options.recipe.crop)
    where = (options.workers, options.device)
    for batch in test_batches(images, plan, lambda height, width: ROWS, *where, decode=options.decode):
        if isinstance(batch, ImageError):
            raise batch
        with computing(options.device, options.precision):
            outputs = stages.frozen(normalise(batch.images_NHWC, data.colour))
        yield outputs, batch.indices
