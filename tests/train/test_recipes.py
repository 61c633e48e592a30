"""Recipes: every value is one that the command or the method takes, and the command takes it."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from tests.commands import failure
from train import __main__ as command
from train import methods, models
from train.config import Config, learning_rate
from train.exceptions import TrainingError
from train.recipes import RECIPES, SOURCES

GIVEN = ["--data=data", "--val=val", "--out=run"]
MISSING = {"arch": "resnet20", "epochs": "7"}  # what a recipe may leave to the user


def given(recipe: str, *more: str) -> list[str]:
    """A command line that the recipe completes."""
    return [
        f"--recipe={recipe}",
        *(f"--{k}={v}" for k, v in MISSING.items() if k not in RECIPES[recipe]),
        *GIVEN,
        *more,
    ]


def parsed(*argv: str) -> tuple[dict[str, Any], dict[str, float | str]]:
    args, hyperparameters = command._parse(argv)
    return vars(args), hyperparameters


@pytest.mark.parametrize("name", RECIPES)
def test_every_value_is_taken(name: str) -> None:
    recipe = dict(RECIPES[name])
    args, hyperparameters = command._parse(given(name))
    assert hyperparameters == recipe.pop("set", {})
    assert {option: getattr(args, option) for option in recipe} == recipe
    assert methods.make(recipe["method"], hyperparameters)
    arch = recipe.get("arch", "resnet20")
    assert models.is_foreign(arch) or models.split(arch)[0] in models.ARCHITECTURES
    assert set(recipe) - set(Config.__dataclass_fields__) <= {"size", "init"}
    assert math.isfinite(learning_rate(0.5, command._config(args, hyperparameters)))


@pytest.mark.parametrize("epochs", [3, 8, 16])
def test_a_warmup_that_is_a_share_follows_the_epochs(epochs: int) -> None:
    """Up to the whole rate at 23 % of the run, and down to half of it half-way from there to the end."""
    config = command._config(*command._parse(given("cifar-fast", f"--epochs={epochs}")))
    assert config.warmup == pytest.approx(0.23 * epochs)
    rates = [learning_rate(share * epochs, config) for share in (0.115, 0.23, 0.615, 1)]
    assert rates == pytest.approx([0.6, 1.2, 0.6, 0])


@pytest.mark.parametrize(("warmup", "expected"), [("2", 2), ("0", 0), ("50%", 3.5)])
def test_a_warmup_in_epochs_or_as_a_share(warmup: str, expected: float) -> None:
    assert command._config(*command._parse(given("greg-cifar", "--epochs=7", f"--warmup={warmup}"))).warmup == expected


@pytest.mark.parametrize("warmup", ["long", "%", "1 epoch"])
def test_a_warmup_that_is_neither(warmup: str) -> None:
    with pytest.raises(TrainingError, match=f"--warmup {warmup}: expected epochs, or a share of the run such as 23%"):
        command._config(*command._parse(given("greg-cifar", f"--warmup={warmup}")))


@pytest.mark.parametrize("name", RECIPES)
def test_every_value_says_whose_it_is(name: str) -> None:
    recipe = dict(RECIPES[name])
    hyperparameters = recipe.pop("set", {})
    assert set(SOURCES[name]) == {*recipe, *(f"set.{option}" for option in hyperparameters)}
    for source in SOURCES[name].values():
        assert re.match(r"(section \d|appendix [A-Z]|supplement \d|code\b|ours: )", source)


def test_what_the_authors_code_has_and_ours_had_not() -> None:
    assert (RECIPES["logitnorm-cifar"]["nesterov"], RECIPES["energy-cifar"]["nesterov"]) == (False, True)
    for name in ("energy-cifar", "oe-cifar"):
        method = methods.make(RECIPES[name]["method"], RECIPES[name]["set"])
        assert method.outliers(RECIPES[name]["batch_size"], share=1) == 256
    assert methods.make("greg", RECIPES["greg-cifar"]["set"]).outliers(64, share=1) == 64


@pytest.mark.parametrize("name", RECIPES)
def test_choices_of_the_parser_have_its_words(name: str) -> None:
    """A default is not checked by argparse; the same value given is."""
    words = [f"--{option}={RECIPES[name][option]}" for option in ("optimizer", "schedule") if option in RECIPES[name]]
    assert parsed(*given(name, *words)) == parsed(*given(name))


def test_an_option_given_goes_before_the_recipe() -> None:
    args, hyperparameters = parsed(*given("greg-cifar", "--epochs=3", "--learning-rate=0.5", "--set=weight=0.2"))
    assert (args["epochs"], args["learning_rate"], args["batch_size"]) == (3, 0.5, 64)
    assert hyperparameters == {**RECIPES["greg-cifar"]["set"], "weight": 0.2}


def test_another_method_takes_the_options_only() -> None:
    args, hyperparameters = parsed(*given("greg-cifar", "--method=energy", "--set=m_in=-20"))
    assert (args["method"], args["batch_size"]) == ("energy", 64)
    assert hyperparameters == {"m_in": -20.0}


def test_the_options_of_one_command_are_not_those_of_the_next() -> None:
    parsed(*given("greg-cifar", "--set=weight=0.2"))
    assert parsed(*given("greg-cifar"))[1]["weight"] == 0.1


def test_recipes_can_not_be_changed() -> None:
    with pytest.raises(TypeError):
        RECIPES["other"] = {}  # type: ignore[index]


@pytest.mark.parametrize(("recipe", "option"), [("greg-cifar", "arch"), ("snojoe-voc", "epochs")])
def test_what_the_recipe_leaves_open_must_be_given(recipe: str, option: str) -> None:
    argv = [item for item in given(recipe) if not item.startswith(f"--{option}")]
    with pytest.raises(TrainingError, match=f"--{option} is missing"):
        parsed(*argv)


def test_a_recipes_weights_are_those_of_its_own_network() -> None:
    args, _ = parsed(*given("greg-imagenet"))
    assert (args["arch"], args["init"]) == ("torchvision:densenet121", "pretrained")
    args, _ = parsed(*given("greg-imagenet", "--arch=file.py:make"))
    assert args["init"] is None
    for init in ("w.pth", "pretrained"):
        args, _ = parsed(*given("greg-imagenet", "--arch=timm:resnet18", f"--init={init}"))
        assert args["init"] == init


@pytest.mark.parametrize("option", ["method", "arch", "epochs"])
def test_without_a_recipe_nothing_may_be_missing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str
) -> None:
    options = {"method": "logitnorm", "arch": "resnet20", "epochs": "1"}
    argv = [f"--{name}={value}" for name, value in options.items() if name != option]
    message = failure(capsys, command.main, *argv, "--data=data", "--val=val", f"--out={tmp_path / 'run'}")
    assert message == f"--{option} is missing; see python -m train --help"
    assert not (tmp_path / "run").exists()
