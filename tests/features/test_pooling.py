"""From maps to rows by plain NumPy, with numbers of both signs."""

import numpy as np
import pytest
import torch

from vggcli.features.pooling import aggregated, normalised, pooled

ROWS = np.random.default_rng(3).normal(-0.5, 1, (5, 7)).astype(np.float32)
MAPS = np.random.default_rng(4).normal(-2, 1, (2, 3, 4, 5)).astype(np.float32)


@pytest.mark.parametrize(("norm", "order"), [("l1", 1), ("l2", 2)])
def test_the_norm_of_rows_of_both_signs_is_numpys(norm: str, order: int) -> None:
    found = normalised(torch.from_numpy(ROWS), norm).numpy()  # type: ignore[arg-type]
    np.testing.assert_allclose(found, ROWS / np.linalg.norm(ROWS, order, axis=1, keepdims=True), rtol=1e-5)
    assert (np.sign(found) == np.sign(ROWS)).all()


@pytest.mark.parametrize("norm", ["l1", "l2", "none"])
def test_a_row_of_zeros_stays_and_a_short_one_grows(norm: str) -> None:
    rows = np.zeros((2, 4), np.float32)
    rows[1, 2] = -1e-6
    found = normalised(torch.from_numpy(rows), norm).numpy()  # type: ignore[arg-type]
    assert not found[0].any()
    assert found[1].tolist() == ([0, 0, -1, 0] if norm != "none" else rows[1].tolist())


@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_a_map_is_normalised_as_a_whole(norm: str) -> None:
    found = normalised(torch.from_numpy(MAPS), norm).numpy()  # type: ignore[arg-type]
    assert found.shape == MAPS.shape
    lengths = np.linalg.norm(found.reshape(2, -1), 1 if norm == "l1" else 2, axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def test_pooling_over_space_is_numpys() -> None:
    maps = torch.from_numpy(MAPS)
    np.testing.assert_allclose(pooled(maps, "gap").numpy(), MAPS.mean((2, 3)), rtol=1e-5)
    np.testing.assert_array_equal(pooled(maps, "gmp").numpy(), MAPS.max((2, 3)))  # below zero too
    whole = pooled(maps, "none")
    np.testing.assert_array_equal(whole.numpy(), MAPS)
    assert whole.data_ptr() != maps.data_ptr()


def test_scales_are_aggregated_as_numpy_does_the_first_scale_first() -> None:
    rows = torch.from_numpy(MAPS[0])  # 3 scales of 4 images with 5 entries
    np.testing.assert_allclose(aggregated(rows, "mean").numpy(), MAPS[0].mean(0), rtol=1e-5)
    np.testing.assert_array_equal(aggregated(rows, "max").numpy(), MAPS[0].max(0))
    np.testing.assert_array_equal(aggregated(rows, "stack").numpy(), np.concatenate(list(MAPS[0]), axis=1))
