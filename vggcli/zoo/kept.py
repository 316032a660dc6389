"""What layers make of their weights once, for many passes: transformed filters, weights of a lower precision. Not in the
paper."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class _Made(NamedTuple):
    key: tuple[int, int, str]
    tensor: Tensor


class Kept:
    """A tensor made of a layer's weights, until they change or `forget` is called."""

    def __init__(self) -> None:
        self._made: _Made | None = None

    def get(self, weight: Tensor, way: str, make: Callable[[], Tensor]) -> Tensor:
        """What `make` gives for this `weight`, now or before; `way` names what it makes."""
        if weight.is_inference():  # a change of such weights cannot be noticed
            return make()
        key = (weight.data_ptr(), weight._version, way)
        if self._made is None or self._made.key != key:
            self._made = _Made(key, make())
        return self._made.tensor

    def forget(self) -> None:
        self._made = None
