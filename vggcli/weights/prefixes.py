"""Names of weights without what training has put around them: data parallel, compiled and Lightning's modules, in any order
and depth."""

from collections.abc import Mapping
from typing import TypeVar

from vggcli.errors import WeightsError

Value = TypeVar("Value")
_MODULES = frozenset(
    ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
)  # anywhere in a name
FIRST = "features.0.weight"  # of every VGG network in torchvision's or timm's names
BESIDE = ("criterion", "loss", "n_averaged")  # what losses and averaged models keep beside the network


def without_prefixes(tensors: Mapping[str, Value], where: str) -> dict[str, Value]:
    """`tensors` under the names that the network itself gives them; losses beside it are left out.

    Raises WeightsError where several networks are in `where` (a file, for errors), or other weights beside the network.
    """
    bare: dict[str, Value] = {}
    for name, value in tensors.items():
        kept = ".".join(part for part in name.split(".") if part not in _MODULES)
        if kept in bare:
            raise WeightsError(f"{where} holds {kept} twice, once as {name}; save one network's state dict")
        bare[kept] = value
    prefixes = sorted(name.removesuffix(FIRST) for name in bare if name == FIRST or name.endswith(f".{FIRST}"))
    if len(prefixes) > 1:
        shown = ", ".join(f"{prefix}{FIRST}" for prefix in prefixes[:3])
        raise WeightsError(f"{where} holds {len(prefixes)} networks ({shown}); save the state dict of one")
    prefix = prefixes[0] if prefixes else ""
    outside = [name for name in bare if not name.startswith(prefix)]
    other = [name for name in outside if not _beside(name)]
    if other:
        raise WeightsError(
            f"{where} holds {other[0]} beside the network {prefix.rstrip('.')}; save the network's state dict alone"
        )
    return {
        name.removeprefix(prefix): value
        for name, value in bare.items()
        if name.startswith(prefix) and not _beside(name.removeprefix(prefix))
    }


def _beside(name: str) -> bool:
    return any(word in name.partition(".")[0] for word in BESIDE)
