"""VGG: train, evaluate and use every network of Simonyan and Zisserman (ICLR 2015), from the command line or Python.

    import vggcli

    result = vggcli.train("photos/", "A", recipe="tiny")
    vggcli.evaluate(result.run, "photos/", dense=True).evaluation.top1_error
    vggcli.load(result.run)(PIL.Image.open("photo.jpg"))

`train`, `finetune`, `evaluate`, `ensemble`, `predict`, `features`, `probe` and `convert` do what the commands of these
names do, and `search` what `vgg features --search` does. They return what these show: a result with `to_json()`,
`to_frame()` and a table in notebooks. `load` gives a network to call on Pillow images, `Features` one that computes
descriptors of image files. Notes about the work go to `logging.getLogger("vggcli")`. Nothing is imported before its first
use.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vggcli.api import (
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
        return getattr(import_module("vggcli.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _function_of_room(name: str) -> Any:
    """The function `name`, with the modules of the subpackage `name` as its attributes."""
    function, room = __getattr__(name), sys.modules[f"{__name__}.{name}"]
    vars(function).update({file: value for file, value in vars(room).items() if isinstance(value, ModuleType)})
    return function


class _Package(ModuleType):
    """`features` and `probe` are both functions and subpackages; as attributes of the package they are the functions."""

    features = property(lambda self: _function_of_room("features"), lambda self, room: None)
    probe = property(lambda self: _function_of_room("probe"), lambda self, room: None)


sys.modules[__name__].__class__ = _Package
