"""The layers that learn, as one process or several of them train these.

With several, DistributedDataParallel sums their gradients in the backward pass of a step's last micro-batch, and batch
normalisation on CUDA takes the statistics of all of them (SyncBatchNorm); on a CPU each has those of its own images.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vggcli.ranks import Ranks
from vggcli.training.frozen import Stages


class _Scores(nn.Module):
    """`Stages.scores` as a module, which DistributedDataParallel takes."""

    def __init__(self, stages: Stages) -> None:
        super().__init__()
        self.network = stages.network
        self.stages = stages

    def forward(self, outputs: Tensor, keep: list[Tensor]) -> Tensor:
        return self.stages.scores(outputs, keep)


class Learner:
    """The layers of `stages` that learn, shared among `ranks`, all of which begin with the weights of the first."""

    def __init__(self, stages: Stages, ranks: Ranks) -> None:
        self.stages, self.ranks = stages, ranks
        self._shared: DistributedDataParallel | None = None
        if ranks.link is None:
            return
        if next(stages.network.parameters()).device.type == "cuda":
            nn.SyncBatchNorm.convert_sync_batchnorm(stages.network)
            stages.train()
        with ranks.talking():
            self._shared = DistributedDataParallel(_Scores(stages), gradient_as_bucket_view=True)
        self.share_statistics()

    def scores(self, outputs: Tensor, keep: list[Tensor]) -> Tensor:
        """As `Stages.scores`, in training."""
        if self._shared is None:
            return self.stages.scores(outputs, keep)
        if not len(outputs):  # which has no statistics
            for layer in self.stages.network.children():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eval()
        scores: Tensor = self._shared(outputs, keep)
        return scores

    @contextmanager
    def summing(self, wanted: bool) -> Iterator[None]:
        """Within it, a backward pass adds to the gradients, which if `wanted` are then averaged over all processes. Raises
        RankLost where another process ends."""
        if self._shared is None:
            yield
            return
        with self.ranks.talking(), nullcontext() if wanted else self._shared.no_sync(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Grad strides do not match")  # of weights of 1x1
            yield

    def share_statistics(self) -> None:
        """Give all processes the running statistics of batch normalisation that the first has."""
        self.ranks.copy_first(self.stages.network.buffers())
