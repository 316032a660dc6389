"""Frozen layers: a network is cut before its first layer that learns; this has the outputs of the layers before the cut.

These run without gradients, as at test time. Their outputs may be computed once for every image and kept on disk: an epoch
then costs only the layers that learn. Images are then not augmented: each is its centre crop at Q = S. A file is named by
a hash of everything that decides its content (the frozen weights, the images with their sizes and dates, the view), so it
is never confused with another, and ends in the SHA-256 of its content; it is read as a memory map. Rows are float32, maps
have their channels last.

Shapes: N images, C channels, H and W pixels or map positions, K classes.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vggcli.choices import Decode, Layers, Precision
from vggcli.colour import ColourStatistics, normalise
from vggcli.data.decode import ImageError
from vggcli.data.sources import ImageSet
from vggcli.data.tars import stamp_of
from vggcli.data.test_batches import test_batches
from vggcli.data.test_views import ViewPlan
from vggcli.device import computing
from vggcli.errors import MachineError
from vggcli.files import replacing
from vggcli.npy_header import NpyHeader, read_npy_header
from vggcli.progress import LOG
from vggcli.ranks import ALONE, Ranks
from vggcli.training.memory import rows_at_once
from vggcli.zoo.inductor import compiled
from vggcli.zoo.network import VGG

DIGEST_BYTES = 32  # at the end of a file, after the array
HASH_BYTES = 4 << 20  # bytes that are hashed at once


@dataclass(frozen=True)
class Stages:
    """`network` with the `layers` that learn: all, the fully connected ones, or the last. Dropout acts only before layers
    that learn, and frozen batch normalisation keeps its statistics."""

    network: VGG
    layers: Layers

    def learns(self, name: str) -> bool:
        """Whether the layer or parameter of this name learns."""
        return self.layers == "all" or name.startswith("fc" if self.layers == "fc" else "fc8")

    def parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters that learn, with their names."""
        return ((name, parameter) for name, parameter in self.network.named_parameters() if self.learns(name))

    def train(self) -> None:
        """Switch gradients and training mode on for the layers that learn, and off for the others."""
        self.network.train(self.layers != "last")
        for name, layer in self.network.named_children():
            layer.requires_grad_(self.learns(name))
            if not self.learns(name):
                layer.eval()

    def frozen(self, images_NCHW: Tensor) -> Tensor:
        """Outputs of the layers before the cut for preprocessed images float [N, 3, H, W]: the images themselves (all), the
        pool5 map [N, C, H//32, W//32] (fc), or the descriptor [N, C] (last)."""
        if self.layers == "all":
            return images_NCHW
        with torch.no_grad():
            maps_NCHW = self.network.convolve(images_NCHW)
            return maps_NCHW if self.layers == "fc" else self.network.descriptor(maps_NCHW)

    def scores(self, outputs: Tensor, keep: list[Tensor] | None = None) -> Tensor:
        """Class scores [N, K] from the outputs of `frozen`; `keep` has a dropout mask [N, C] for each hidden FC layer."""
        if self.layers == "all":
            return self.network(outputs, keep)  # type: ignore[no-any-return]
        if self.layers == "fc":
            return self.network.classify(self.network.descriptor(outputs, keep))
        return self.network.classify(outputs * keep[-1] if keep else outputs)


@dataclass(frozen=True)
class CompiledStages(Stages):
    """Stages that run compiled code on `device`."""

    device: torch.device

    @cached_property
    def _plain(self) -> Stages:
        return Stages(self.network, self.layers)

    @cached_property
    def _passes(self) -> list[Callable[..., Tensor]]:
        return [compiled(one, self.device, fixed=True) for one in (Stages.frozen, Stages.scores)]

    def frozen(self, images_NCHW: Tensor) -> Tensor:
        return images_NCHW if self.layers == "all" else self._passes[0](self._plain, images_NCHW)

    def scores(self, outputs: Tensor, keep: list[Tensor] | None = None) -> Tensor:
        return self._passes[1](self._plain, outputs, keep)


@dataclass(frozen=True)
class FrozenOutputs:
    """Rows of the images of both splits: float32 [N, H, W, C] or [N, C]."""

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
    precision: Precision
    decode: Decode = "cpu"

    def key(self, images: ImageSet) -> str:
        """A hash of everything that decides the rows of `images`."""
        config = self.stages.network.config
        view = f"{config.crop} {self.scale} {self.precision} {self.colour}{' gpu' if self.decode == 'gpu' else ''}"
        digest = hashlib.sha256(f"{self.stages.layers} {config.arch} {view}\n".encode())
        for name, tensor in self.stages.network.state_dict().items():
            if not self.stages.learns(name):
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        for index, name in enumerate(images.names):
            size, changed = stamp_of(images.path(index))
            digest.update(f"{name}\0{size} {changed}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


def frozen_outputs(
    folder: Path,
    images: ImageSet,
    view: FrozenView,
    workers: int,
    progress: Callable[[int], None],
    ranks: Ranks = ALONE,
) -> NDArray[np.float32]:
    """The rows of `images`, read from `folder`, or computed by all of `ranks` together and kept there, on every machine,
    where they are missing or damaged on one. `progress` is called with the number of images done.

    Raises ImageError at an image that cannot be used, MachineError where the file cannot be written.
    """
    path = folder / f"{view.key(images)[:32]}.npy"
    if path.is_dir():
        raise MachineError(f"{path} is a folder, where a file of outputs of frozen layers is to be kept; remove it")
    try:
        found = _kept(path, len(images)) if ranks.is_first_here and os.path.lexists(path) else None
    except (OSError, ValueError) as error:
        found = None
        LOG.info(f"{path}, outputs of frozen layers, is damaged or of an older version ({error}): computed again")
    if not all(ranks.gathered(found is not None or not ranks.is_first_here)):
        _compute(path, images, view, workers, progress, ranks)
        found = None
        ranks.gathered(None)  # the files are there
    if found is None:
        with path.open("rb") as file:
            found = _mapped(path, read_npy_header(file, path.stat().st_size - DIGEST_BYTES))
    os.utime(path)  # the time of its last use, for clearing the cache
    return found


def _kept(path: Path, rows: int) -> NDArray[np.float32]:
    """The rows of a file, after its hash was checked. Raises ValueError where it is damaged."""
    if not path.is_file():
        raise ValueError("not a regular file")
    size = path.stat().st_size - DIGEST_BYTES
    with path.open("rb") as file:
        header = read_npy_header(file, size)
        if header.dtype != np.dtype("<f4") or len(header.shape) not in (2, 4) or header.shape[0] != rows:
            raise ValueError(f"{header.dtype} of the shape {header.shape} for {rows} images")
        digest = hashlib.sha256()
        file.seek(0)
        for start in range(0, size, HASH_BYTES):
            digest.update(file.read(min(HASH_BYTES, size - start)))
        if file.read() != digest.digest():
            raise ValueError("its SHA-256 differs")
    return _mapped(path, header)


def _mapped(path: Path, header: NpyHeader) -> NDArray[np.float32]:
    rows: NDArray[np.float32] = np.memmap(path, "<f4", "r", header.start, header.shape)
    return rows


def _compute(
    path: Path, images: ImageSet, view: FrozenView, workers: int, progress: Callable[[int], None], ranks: Ranks
) -> None:
    """Write the file at `path`, on each machine in its first process."""
    results = _computed(images, view, workers, ranks)
    if not ranks.is_first_here:
        for _ in results:
            pass
        return
    digest, begun = hashlib.sha256(), False
    with replacing(path) as temporary, temporary.open("wb") as file:
        for rows in results:
            if not begun:
                head, begun = io.BytesIO(), True
                described = {"descr": "<f4", "fortran_order": False, "shape": (len(images), *rows.shape[1:])}
                np.lib.format.write_array_header_1_0(head, described)
                digest.update(head.getvalue())
                file.write(head.getvalue())
            digest.update(rows.data)
            file.write(rows.data)
            progress(len(rows))
        file.write(digest.digest())


@torch.inference_mode()
def _computed(images: ImageSet, view: FrozenView, workers: int, ranks: Ranks) -> Iterator[NDArray[np.float32]]:
    """The rows of all images in their order, a pass of one process at a time, where they are to be written; all `ranks`
    compute at the same time, each its share of as many images as they have in one pass."""
    view.stages.network.eval()
    rows_of_pass = rows_at_once(view.stages.network.config, view.device)
    together = rows_of_pass * ranks.world
    shares = [
        [first + row for row in ranks.share(min(together, len(images) - first))]
        for first in range(0, len(images), together)
    ]
    plan = ViewPlan((view.scale,), centre_crop=view.stages.network.config.crop)
    order = [index for share in shares for index in share]
    where = (workers, view.device)
    batches = test_batches(images, plan, lambda height, width: rows_of_pass, *where, order, decode=view.decode)
    exchanged = ranks.collected if ranks.local_world == ranks.world else ranks.gathered
    for share in shares:
        rows = None
        if share:
            batch = next(batches)  # views of one shape come in the order of the images
            if isinstance(batch, ImageError):
                raise batch
            with computing(view.device, view.precision):
                outputs = view.stages.frozen(normalise(batch.images_NHWC, view.colour)).float()
            last = outputs.permute(0, 2, 3, 1) if outputs.dim() == 4 else outputs
            rows = last.cpu().contiguous().numpy().astype("<f4", copy=False)
        yield from (one for one in exchanged(rows) if one is not None)


def frozen_batch(
    rows: NDArray[np.float32], labels: Sequence[int], indices: Sequence[int], device: torch.device
) -> FrozenBatch:
    """Some rows with their labels."""
    outputs = torch.from_numpy(rows[list(indices)]).to(device)
    if outputs.dim() == 4:
        outputs = outputs.permute(0, 3, 1, 2)
    return FrozenBatch(outputs, torch.tensor([labels[index] for index in indices], dtype=torch.int64, device=device))
