"""torchvision, as the networks and pipelines are compared with it."""

from types import ModuleType

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
