"""The paper's test scales, and how many views make a forward pass."""

import pytest
import torch

from vggcli.errors import UsageError
from vggcli.zoo.layers import NetworkConfig
from vggcli.zoo.scales import check_scales, paper_scales, views_together


def test_scales_by_the_papers_rules() -> None:
    assert paper_scales((256, 256), several=False) == (256,)
    assert paper_scales((256, 512), several=False) == (384,)
    assert paper_scales((256, 256), several=True) == (224, 256, 288)
    assert paper_scales((384, 384), several=True) == (352, 384, 416)
    assert paper_scales((256, 512), several=True) == (256, 384, 512)


def test_scales_are_checked() -> None:
    with pytest.raises(UsageError, match="smallest usable Q is 32"):
        check_scales((40, 31), 32)
    with pytest.raises(UsageError, match="twice"):
        check_scales((40, 40), 32)


def test_a_pass_holds_so_many_pixels_and_at_least_one_view() -> None:
    cpu = torch.device("cpu")
    rows = views_together(NetworkConfig(), cpu, flip=False, batch_size=None)
    assert (rows(224, 224), rows(224, 448), rows(2000, 2000)) == (8, 4, 1)
    assert views_together(NetworkConfig(), cpu, flip=True, batch_size=None)(224, 224) == 4  # and as many mirrors
    assert views_together(NetworkConfig(width=0.25), cpu, flip=False, batch_size=None)(224, 224) == 32
    assert views_together(NetworkConfig(), cpu, flip=True, batch_size=7)(9, 9) == 7
