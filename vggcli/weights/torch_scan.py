"""What a pickle names, looked over before torch opens it: what a state dict needs, what stands beside it as inert data, and
nothing else.

What training scripts keep beside the weights (their arguments, numpy's numbers, paths, dates) is never made: stand-ins that
do nothing take its place, so it can be neither run nor read.
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
    """Stands for an object beside the weights; takes whatever would have made it, and keeps nothing."""

    def __new__(cls, *parts: object) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *parts: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def check_steps(file: BinaryIO) -> set[str]:
    """The names in the pickle that begins here whose objects are only to be stood in for, as `module.name`.

    Raises ValueError where it names what a state dict does not need, or does not end.
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
                f"it names {argument or 'things as pickles after protocol 2 do'}, which no state dict needs as torch saves "
                f"it; without pickle_protocol, {HOW_TO_SAVE}"
            )
        if count > MOST_STEPS:
            raise ValueError("its pickle does not end")
    return inert


def stand_ins(names: set[str]) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What torch's weights-only loader is to take for each of `names`."""
    return [((lambda *parts: {}) if name == "collections.defaultdict" else Inert, name) for name in sorted(names)]
