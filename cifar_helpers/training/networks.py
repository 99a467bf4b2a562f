"""From a recipe to its untrained network."""

from typing import Any

from cifar_helpers import models
from cifar_helpers.backend import keras
from cifar_helpers.models import backbones
from cifar_helpers.recipes import Recipe


def build(
    recipe: Recipe,
    weights: backbones.Weights | str | None = None,
    *,
    classes: int = 10,
    precision: str = "float32",
) -> keras.Model:
    """The recipe's untrained, uncompiled network.

    Args:
        recipe: names the model, its dropout and image size.
        weights: the backbone's, for transfer learning.
        classes: how many there are.
        precision: Keras' policy; "mixed_bfloat16" computes in bfloat16 and keeps float32 weights.
    """
    entry = models.MODELS[recipe.model]
    options: dict[str, Any] = {"classes": classes}
    if recipe.dropout is not None:
        options["dropout"] = recipe.dropout
    if recipe.centred:
        options["centred"] = True
    if entry.has_backbone:
        options |= {"weights": weights, "image_size": recipe.image_size}
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        return getattr(models, recipe.model)(**options)
    finally:
        keras.config.set_dtype_policy(before)
