"""VGG on the command line: every network of Simonyan and Zisserman (ICLR 2015), trained, measured and used.

`from vggcli import Features` gives descriptors in Python; it is imported on first use, so that `import vggcli` stays light.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vggcli.features.describe import Features

__version__ = "0.1.0"
__all__ = ["Features", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Features":
        from vggcli.features.describe import Features

        return Features
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
