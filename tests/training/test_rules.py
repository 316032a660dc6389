"""The paper's recipe, the plateau rule and the automatic micro-batch."""

from dataclasses import replace

import pytest
import torch

from vggcli.errors import UsageError
from vggcli.training.memory import automatic_micro_batch
from vggcli.training.plateau import Plateau
from vggcli.training.recipe import RECIPES, Recipe
from vggcli.training.state import RunState
from vggcli.zoo.layers import NetworkConfig, layer_costs


def test_the_default_recipe_is_the_papers() -> None:
    recipe = RECIPES["paper"]
    assert (recipe.batch_size, recipe.momentum, recipe.weight_decay, recipe.dropout) == (256, 0.9, 5e-4, 0.5)
    assert (recipe.learning_rate, recipe.epochs, recipe.scale, recipe.crop) == (1e-2, 74, (256, 256), 224)
    assert recipe.test_scale == 256
    assert replace(recipe, scale=(256, 512)).test_scale == 384  # section 4.1


def test_a_recipe_survives_json() -> None:
    for recipe in RECIPES.values():
        assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    "fields",
    [
        {"scale": (200, 200)},
        {"scale": (512, 256)},
        {"batch_size": 0},
        {"epochs": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"dropout": 1.0},
        {"momentum": -0.1},
        {"weight_decay": -1.0},
        {"init": "xavier"},
        {"init_std": 0.1},
        {"init": "gaussian", "init_std": 0.0},
    ],
)
def test_impossible_recipes_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        replace(Recipe(), **fields)  # type: ignore[arg-type]


def test_the_rate_is_divided_by_ten_at_each_stall() -> None:
    plateau, rates = Plateau(), []
    for error in (50, 40, 40, 41, 30, 31, 32, 33, 34, 35, 36):
        plateau = plateau.after(error, patience=2)
        rates.append(plateau.learning_rate(0.01))
    assert rates == pytest.approx([1e-2, 1e-2, 1e-2, 1e-3, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5, 1e-6])
    assert plateau.finished
    assert plateau.best_error == 30


def test_an_improvement_starts_the_count_anew() -> None:
    plateau = Plateau().after(50, 3).after(51, 3).after(52, 3).after(49, 3).after(50, 3).after(50, 3)
    assert (plateau.drops, plateau.stalled) == (0, 2)


def test_the_micro_batch_fits_memory_and_is_at_most_the_batch() -> None:
    cpu = torch.device("cpu")
    full = automatic_micro_batch(NetworkConfig("D"), 256, cpu)
    assert 4 <= full <= 32
    assert automatic_micro_batch(NetworkConfig("D", crop=32, width=0.0625), 256, cpu) == 256
    outputs = sum(cost.memory for cost in layer_costs(NetworkConfig("D")))
    assert full * outputs < 2 << 30


def test_a_state_adds_up_the_steps_of_an_epoch() -> None:
    state = RunState().after_step(2.5, 3, 8, 1.0).after_step(1.5, 2, 8, 0.5).after_step(1.0, 1, 4, 0.25)
    assert (state.step, state.loss_sum, state.correct, state.seen, state.seconds) == (3, 5.0, 6, 20, 1.75)
