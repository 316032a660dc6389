"""VGG: every network of Simonyan and Zisserman (ICLR 2015), trained, measured and used, from the command line or Python.

    import vggcli

    result = vggcli.train("photos/", "A", recipe="tiny")
    vggcli.evaluate(result.run, "photos/", dense=True).evaluation.top1_error
    vggcli.load(result.run)(PIL.Image.open("photo.jpg"))

`train`, `finetune`, `evaluate`, `ensemble`, `predict`, `features`, `search`, `probe` and `convert` do what the commands of
these names do and return what they show: a result with `to_json()`, `to_frame()` and a table in notebooks. `load` gives a
network to call on Pillow images, `Features` one that describes image files. What the work notes on its way goes to
`logging.getLogger("vggcli")`. Nothing is imported before its first use.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vggcli.face import (
        Features,
        convert,
        ensemble,
        evaluate,
        features,
        finetune,
        load,
        predict,
        probe,
        search,
        train,
    )

__version__ = "0.1.0"
__all__ = ["Features", "convert", "ensemble", "evaluate", "features", "finetune", "load", "predict", "probe", "search"]
__all__ += ["__version__", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("vggcli.face"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _function_of_room(name: str) -> Any:
    """The function, with the files of the room that is called so as its attributes."""
    function, room = __getattr__(name), sys.modules[f"{__name__}.{name}"]
    vars(function).update({file: value for file, value in vars(room).items() if isinstance(value, ModuleType)})
    return function


class _Package(ModuleType):
    """The rooms `features` and `probe` are called as two of the functions: here, these names mean the functions."""

    features = property(lambda self: _function_of_room("features"), lambda self, room: None)
    probe = property(lambda self: _function_of_room("probe"), lambda self, room: None)


sys.modules[__name__].__class__ = _Package
