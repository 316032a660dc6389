"""What a pickle names, checked before torch opens it: only what a state dict needs, and inert data that scripts add.

What training scripts save with the weights (arguments, NumPy numbers, paths, dates) is never created: stand-ins that do
nothing replace it, so it can be neither run nor read.
"""

import pickletools
import re
from collections.abc import Callable
from typing import Any, BinaryIO

NEEDED = re.compile(  # what a state dict names: ordered dictionaries, tensors, their storages, types and sizes
    r"collections (OrderedDict|Counter)|torch\._utils _rebuild_(tensor|tensor_v2|parameter)|torch(\.storage)? \w*Storage"
    r"|torch (Float|Double|Half|BFloat16|Char|Byte|Short|Int|Long|Bool)Tensor"  # with a state, before torch 0.2
    r"|torch (Size|device|float\d+|bfloat16|int\d+|uint8|bool)|torch\.nn\.parameter Parameter"
)
INERT = re.compile(
    r"argparse Namespace|types SimpleNamespace|numpy(\.core|\._core)?\.multiarray (scalar|_reconstruct)"
    r"|numpy (dtype|ndarray)|numpy\.dtypes \w+DType|_codecs encode|pathlib(\._local)? \w*Path|datetime \w+"
    r"|collections defaultdict"
    r"|(__builtin__|builtins) (set|list|dict|int|float|str)|(omegaconf|yacs|easydict)(\.\w+)* \w+"
)
MOST_STEPS = 1_000_000  # of a pickle; a state dict of a hundred tensors takes ten thousand
HOW_TO_SAVE = "save the weights alone where it was made: torch.save(model.state_dict(), 'weights.pth')"


class Inert:
    """Replaces an object that was saved with the weights; accepts any arguments and keeps nothing."""

    def __new__(cls, *parts: object) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *parts: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def check_steps(file: BinaryIO) -> set[str]:
    """The names (`module.name`) in the pickle that begins here that need stand-ins.

    Raises ValueError where it names something that a state dict does not need, or does not end.
    """
    inert = set()
    for count, (step, argument, _) in enumerate(pickletools.genops(file)):
        if step.name == "GLOBAL" and not NEEDED.fullmatch(str(argument)):
            if not INERT.fullmatch(str(argument)):
                raise ValueError(f"it names {argument}, which no state dict needs; {HOW_TO_SAVE}")
            module, _, name = str(argument).partition(" ")
            inert.add(f"{'builtins' if module == '__builtin__' else module}.{name}")  # Python 2's name for it
        if step.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
            raise ValueError(
                f"it names {argument or 'objects as pickle protocols after 2 do'}, which torch's own state dicts do not; "
                f"without pickle_protocol, {HOW_TO_SAVE}"
            )
        if count > MOST_STEPS:
            raise ValueError("its pickle does not end")
    return inert


def stand_ins(names: set[str]) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What torch's weights-only loader uses for each of `names`."""
    return [((lambda *parts: {}) if name == "collections.defaultdict" else Inert, name) for name in sorted(names)]
