"""From a recipe to its untrained network."""

import inspect
from typing import Any

from cifar_helpers import models
from cifar_helpers.backend import keras
from cifar_helpers.errors import UserError
from cifar_helpers.models import backbones
from cifar_helpers.recipes import Recipe
from cifar_helpers.text import closest, listed

# Arguments of builders that recipes have fields of their own for.
_OF_RECIPES = ("classes", "weights", "image_size", "dropout", "centred")


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
        UserError: if the model's builder does not take what the recipe or its `network` holds.
    """
    entry, builder = models.MODELS[recipe.model], getattr(models, recipe.model)
    options: dict[str, Any] = {"classes": classes}
    if recipe.dropout is not None:
        options["dropout"] = recipe.dropout
    if recipe.centred:
        options["centred"] = True
    if entry.has_backbone:
        options |= {"weights": weights, "image_size": recipe.image_size}
    taken = inspect.signature(builder).parameters
    for name in options:
        if name not in taken:
            raise UserError(
                f"the network {recipe.model} has no {name}; received {options[name]!r}. Leave "
                f"{name} out of the recipe {recipe.name}."
            )
    known = [name for name in taken if name not in _OF_RECIPES]
    for name, value in recipe.network:
        if name not in known:
            raise UserError(
                f"network of a {recipe.model} recipe may hold {listed(known)}; received {name}."
                f"{closest(name, known)}"
            )
        options[name] = value
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        network = builder(**options)
    finally:
        keras.config.set_dtype_policy(before)
    if not recipe.pretrained:
        models.layers.follow_batches(network)
    return network
