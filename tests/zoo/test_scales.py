"""The paper's test scales, and how many views make a forward pass."""

import pytest
import torch

from vggcli.data.decode import MAX_PIXELS
from vggcli.errors import UsageError
from vggcli.zoo import compiled
from vggcli.zoo.compiled import kernel_sets
from vggcli.zoo.layers import VIEW_BYTES, NetworkConfig, bytes_a_pixel, most_pixels
from vggcli.zoo.scales import LARGEST, check_scales, largest_scale, paper_scales, passes_of, views_together


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


def test_a_pass_holds_so_many_pixels_and_at_least_one_view(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    if kernel_sets():
        monkeypatch.setattr(compiled, "_in_use", [kernel_sets()[0]])
        assert views_together(NetworkConfig(), cpu, flip=True, batch_size=None)(224, 224) == 16
    monkeypatch.setattr(compiled, "_in_use", [None])
    rows = views_together(NetworkConfig(), cpu, flip=False, batch_size=None)
    assert (rows(224, 224), rows(224, 448), rows(2000, 2000)) == (8, 4, 1)
    assert views_together(NetworkConfig(), cpu, flip=True, batch_size=None)(224, 224) == 4  # and as many mirrors
    assert views_together(NetworkConfig(width=0.25), cpu, flip=False, batch_size=None)(224, 224) == 32
    assert views_together(NetworkConfig(), cpu, flip=True, batch_size=7)(9, 9) == 7


def test_no_pass_takes_more_than_one_view_may_whatever_is_asked_for() -> None:
    config = NetworkConfig(width=0.25)
    rows = views_together(config, torch.device("cpu"), flip=True, batch_size=10**12)
    assert 0.99 * VIEW_BYTES < 2 * rows(100, 100) * 100 * 100 * bytes_a_pixel(config) <= VIEW_BYTES
    assert rows(10_000, 10_000) == 1


def test_a_pixel_costs_at_least_its_image_and_the_maps_that_lie_in_memory_with_it() -> None:
    for arch, width, measured in (
        ("D", 1, 1084),
        ("A-LRN", 1, 1420),
        ("A", 1, 807),
        ("D", 0.25, 144),
        ("D", 0.125, 79),
    ):
        assert (
            measured * 0.95 < bytes_a_pixel(NetworkConfig(arch, width=width)) < measured * 2.1
        )  # on a CPU, in float32


def test_scales_that_no_image_fits_at_are_refused() -> None:
    assert LARGEST**2 == MAX_PIXELS
    largest = largest_scale(NetworkConfig(), whole=True)
    assert largest**2 <= most_pixels(NetworkConfig()) < (largest + 1) ** 2
    assert largest_scale(NetworkConfig(), whole=False) == LARGEST
    check_scales((largest,), 224, largest=largest)
    with pytest.raises(UsageError, match=f"largest usable Q is {largest}"):
        check_scales((largest + 1,), 224, largest=largest)


def test_mirrors_go_apart_where_both_are_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    views_NCHW, config = torch.rand(2, 3, 8, 9), NetworkConfig(width=0.0625)
    together, apart = passes_of(config, views_NCHW, flip=True), None
    monkeypatch.setattr("vggcli.zoo.scales.VIEW_BYTES", 3 * 8 * 9 * bytes_a_pixel(config))
    apart = passes_of(config, views_NCHW, flip=True)
    assert (len(together), len(apart)) == (1, 2)
    assert torch.equal(torch.cat(together), torch.cat(apart))
    assert torch.equal(apart[1], views_NCHW.flip(3))
    assert len(passes_of(config, views_NCHW, flip=False)) == 1
