"""Trained networks of a run, for pictures of one's own."""

import os
from zipfile import BadZipFile

from cifar_helpers import results
from cifar_helpers.backend import keras
from cifar_helpers.errors import UserError, user_path
from cifar_helpers.models import layers  # noqa: F401  (registers what the files name)


def load_model(out: str | os.PathLike, model: str, recipe: str, seed: int = 0) -> keras.Model:
    """A trained network of a run.

    Args:
        out: the run's folder, as `runs/full`.
        model: one of `models.MODELS`.
        recipe: its name.
        seed: of the training.

    Returns:
        An uncompiled model: images `(batch, 32, 32, 3)` in [0, 255] -> probabilities
        `(batch, classes)`, float32.

    Raises:
        UserError: if the run holds no such network, or its file cannot be read.
    """
    path = results.model_path(user_path(out), model, recipe, seed)
    if not path.exists():
        raise UserError(
            f"the network of {model}, recipe {recipe}, seed {seed} must be in {path.parent}; it has "
            f"no {path.name}. Train it: python run_all.py --recipes {recipe} --seeds {seed}."
        )
    try:
        return keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise UserError(
            f"the network {path.name} could not be read: {error}. Remove it and train it anew."
        ) from error
