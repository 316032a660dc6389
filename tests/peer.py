"""Other frameworks, as networks, files and pipelines are compared with them."""

import os
import tempfile
import warnings
from typing import Any


def import_keras() -> Any:
    """Keras on torch, with its settings in a folder of its own."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    os.environ.setdefault("KERAS_HOME", tempfile.gettempdir())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras
    return keras


def import_timm() -> Any:
    """timm, without the warnings of its imports."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import timm
    return timm
