"""The validation error after an epoch: the centre crop of every image of the validation split."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F

from vggcli.colour import normalise
from vggcli.data.decode import ImageError
from vggcli.data.test_batches import test_batches
from vggcli.data.test_views import ViewPlan
from vggcli.device import autocast
from vggcli.metrics import count_correct, error_rate
from vggcli.training.frozen import ROWS, FrozenBatch, Stages, frozen_batch
from vggcli.training.options import LoopOptions, Stopped, TrainingData


@torch.inference_mode()
def validate(
    stages: Stages, data: TrainingData, options: LoopOptions, stop: Callable[[], bool]
) -> tuple[float, float, float]:
    """Top-1 error, top-5 error (per cent) and mean loss on the validation split, by centre crop at Q = S or the middle
    of its range. Raises ImageError at an image that cannot be used."""
    stages.network.eval()
    correct1 = correct5 = 0
    loss_sum = 0.0
    for batch in _batches(stages, data, options):
        if stop():
            raise Stopped
        with autocast(options.device, options.dtype):
            scores = stages.scores(batch.outputs).float()
        loss_sum += float(F.cross_entropy(scores, batch.labels_N, reduction="sum"))
        correct1 += count_correct(scores, batch.labels_N, 1)
        correct5 += count_correct(scores, batch.labels_N, 5)
    images = len(data.val)
    return error_rate(correct1, images), error_rate(correct5, images), loss_sum / images


def _batches(stages: Stages, data: TrainingData, options: LoopOptions) -> Iterator[FrozenBatch]:
    images = data.val
    if data.frozen is not None:
        for first in range(0, len(images), ROWS):
            some = range(first, min(first + ROWS, len(images)))
            yield frozen_batch(data.frozen.val, images.labels, some, options.device)
        return
    plan = ViewPlan((options.recipe.test_scale,), centre_crop=options.recipe.crop)
    for batch in test_batches(images, plan, lambda height, width: ROWS, options.workers, options.device):
        if isinstance(batch, ImageError):
            raise batch
        labels_N = torch.tensor([images.labels[index] for index in batch.indices], device=options.device)
        with autocast(options.device, options.dtype):
            outputs = stages.frozen(normalise(batch.images_NHWC, data.colour))
        yield FrozenBatch(outputs, labels_N)
