"""From a recipe to its untrained network."""

import inspect
from dataclasses import fields
from typing import Any

from cifar_helpers import models
from cifar_helpers.backend import keras
from cifar_helpers.errors import UserError
from cifar_helpers.models import backbones
from cifar_helpers.recipes import Phase, Recipe
from cifar_helpers.text import closest, listed

# Arguments of builders that recipes have fields of their own for.
_OF_RECIPES = ("classes", "weights", "image_size", "dropout", "centred")


# Fields that only networks with a backbone use.
_OF_BACKBONES = ("backbone", "pretrained", "explained", "image_size", "unfrozen")


def check(recipe: Recipe) -> None:
    """Refuse a recipe that says what its network has not.

    Raises:
        UserError: for an unknown model, a field that no network without a backbone uses, or what the
            model's builder does not take.
    """
    if recipe.model not in models.MODELS:  # which need not have a recipe in the table
        raise UserError(
            f"model must be one of {listed(models.MODELS)}; received {recipe.model!r}."
            f"{closest(recipe.model, models.MODELS)}"
        )
    given: dict[str, Any] = {}
    if recipe.dropout is not None:
        given["dropout"] = recipe.dropout
    if recipe.centred:
        given["centred"] = True
    taken = inspect.signature(getattr(models, recipe.model)).parameters
    unused = {name: value for name, value in given.items() if name not in taken}
    if not models.MODELS[recipe.model].has_backbone:
        parts: list[Recipe | Phase] = [recipe, *recipe.phases]
        for part in parts:
            for each in fields(part):
                value = getattr(part, each.name)
                if each.name in _OF_BACKBONES and value != each.default:
                    unused[each.name] = value
    if "dropout" in taken and recipe.dropout is None:
        raise UserError(
            f"the network {recipe.model} has dropout layers; give the recipe {recipe.name} a rate for "
            "them, such as dropout=0.2, or 0 for none."
        )
    for name, value in unused.items():
        raise UserError(
            f"the network {recipe.model} has no {name}; received {value!r}. Leave {name} out of the "
            f"recipe {recipe.name}."
        )
    known = [name for name in taken if name not in _OF_RECIPES]
    for name, _ in recipe.network:
        if name not in known:
            raise UserError(
                f"network of a {recipe.model} recipe may hold {listed(known)}; received {name}."
                f"{closest(name, known)}"
            )


def build(
    recipe: Recipe,
    weights: backbones.Weights | str | None = None,
    *,
    classes: int = 10,
    precision: str = "float32",
) -> keras.Model:
    """The recipe's untrained, uncompiled network.

    Args:
        recipe: names the model, its dropout and image size, and what else differs in it.
        weights: the backbone's, for transfer learning.
        classes: how many there are.
        precision: Keras' policy; "mixed_bfloat16" computes in bfloat16 and keeps float32 weights.

    Raises:
        UserError: as of `check`.
    """
    check(recipe)
    entry, builder = models.MODELS[recipe.model], getattr(models, recipe.model)
    options: dict[str, Any] = {"classes": classes, **dict(recipe.network)}
    if recipe.dropout is not None:
        options["dropout"] = recipe.dropout
    if recipe.centred:
        options["centred"] = True
    if entry.has_backbone:
        options |= {"weights": weights, "image_size": recipe.image_size}
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        network = builder(**options)
    finally:
        keras.config.set_dtype_policy(before)
    if not recipe.pretrained:
        models.layers.follow_batches(network)
    return network
