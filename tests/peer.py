"""Other frameworks, as networks, files and pipelines are compared with them."""

import os
import tempfile
import warnings
from types import ModuleType
from typing import Any

import torch


def import_torchvision() -> ModuleType:
    """torchvision, also where its compiled operators cannot be loaded (beside a torch built without CUDA): they are not
    needed for its models and transforms, and only their shape functions' registration fails."""
    register_fake = torch.library.register_fake
    torch.library.register_fake = lambda *args, **kwargs: lambda function: function
    try:
        import torchvision

        return torchvision
    finally:
        torch.library.register_fake = register_fake


def import_keras() -> Any:
    """Keras on torch, with its settings in a folder of its own."""
    import_torchvision()
    os.environ.setdefault("KERAS_BACKEND", "torch")
    os.environ.setdefault("KERAS_HOME", tempfile.gettempdir())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras
    return keras


def import_timm() -> Any:
    """timm, which needs torchvision first."""
    import_torchvision()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import timm
    return timm
