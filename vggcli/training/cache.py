"""The outputs of frozen layers, computed once for every image and kept on disk: an epoch then costs the other layers only.

Images are not augmented: each is its centre crop at Q = S. A file is named by a hash of all that decides its content (the
frozen weights, the images with their sizes and dates, the view), so it is never taken for another; it is read back as a
memory map. Rows are float32, maps with their channels last.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vggcli.data.augment import ColourStatistics, normalise
from vggcli.data.decode import ImageError
from vggcli.data.loader import Schedule, tasks
from vggcli.data.sources import ImageSet
from vggcli.data.view_batches import test_batches
from vggcli.data.views import ViewPlan
from vggcli.files import replacing
from vggcli.training.stages import Stages
from vggcli.zoo.device import autocast

ROWS = 64  # centre crops a forward pass


@dataclass(frozen=True)
class FrozenOutputs:
    """Of the images of both splits: float32 [N, H, W, C] or [N, C]."""

    train: NDArray[np.float32]
    val: NDArray[np.float32]


@dataclass(frozen=True)
class FrozenBatch:
    """Rows of `FrozenOutputs` on the device, as `Stages.scores` takes them, and labels int64 [N]."""

    outputs: Tensor
    labels_N: Tensor


@dataclass(frozen=True)
class FrozenView:
    """How images become rows: by `stages` from their centre crop at `scale`."""

    stages: Stages
    colour: ColourStatistics
    scale: int
    device: torch.device
    dtype: torch.dtype

    def key(self, images: ImageSet) -> str:
        """A hash of all that decides the rows of `images`."""
        config = self.stages.network.config
        digest = hashlib.sha256(
            f"{self.stages.layers} {config.arch} {config.crop} {self.scale} {self.dtype} {self.colour}\n".encode()
        )
        for name, tensor in self.stages.network.state_dict().items():
            if not self.stages.learns(name):
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        for index, name in enumerate(images.names):
            status = images.path(index).stat()
            digest.update(f"{name}\0{status.st_size} {status.st_mtime_ns}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


@torch.inference_mode()
def frozen_outputs(
    folder: Path, images: ImageSet, view: FrozenView, workers: int, progress: Callable[[int], None]
) -> NDArray[np.float32]:
    """The rows of `images`, from `folder` where they are there, else computed and kept there, whole or not at all.
    `progress` is told the images done.

    Raises ImageError at an image that cannot be used, MachineError where the disk refuses.
    """
    path = folder / f"{view.key(images)[:32]}.npy"
    if not path.exists():
        crop = view.stages.network.config.crop
        view.stages.network.eval()
        plan = ViewPlan((view.scale,), centre_crop=crop)
        batches = test_batches(images, plan, lambda height, width: ROWS, workers, view.device)
        with replacing(path) as temporary, temporary.open("wb") as file:
            for batch in batches:
                if isinstance(batch, ImageError):
                    raise batch
                with autocast(view.device, view.dtype):
                    outputs = view.stages.frozen(normalise(batch.images_NHWC, view.colour)).float()
                rows = (outputs.permute(0, 2, 3, 1) if outputs.dim() == 4 else outputs).cpu().contiguous().numpy()
                if batch.indices[0] == 0:
                    header = {"descr": "<f4", "fortran_order": False, "shape": (len(images), *rows.shape[1:])}
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(rows.astype("<f4", copy=False).data)  # views of one shape come in the order of the images
                progress(len(batch.indices))
    found: NDArray[np.float32] = np.load(path, mmap_mode="r")
    os.utime(path)  # when it was used last, for whoever tidies the cache
    return found


def frozen_batches(
    rows: NDArray[np.float32], labels: Sequence[int], schedule: Schedule, seed: int, device: torch.device
) -> Iterator[FrozenBatch]:
    """The micro-batches of `schedule`, in order, of rows in place of training views."""
    for task in tasks(schedule, seed):
        yield frozen_batch(rows, labels, [index for _, index in task], device)


def frozen_batch(
    rows: NDArray[np.float32], labels: Sequence[int], indices: Sequence[int], device: torch.device
) -> FrozenBatch:
    """Some rows with their labels."""
    outputs = torch.from_numpy(rows[list(indices)]).to(device)
    if outputs.dim() == 4:
        outputs = outputs.permute(0, 3, 1, 2)
    return FrozenBatch(outputs, torch.tensor([labels[index] for index in indices], device=device))
