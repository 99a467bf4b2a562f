"""Trains recipes for a step or two: `python variant_trainer.py FOLDER`.

They are `TRAINED`: the rows of the study, and of each network and its initial weights one ablation.
Rows, and of each model one ablation, are interrupted and resumed.

In a process of its own, since nothing is traced here: tracing takes far longer than the few steps.
"""

import sys
import warnings
from dataclasses import replace
from pathlib import Path

import tensorflow as tf
from tiny_training import DEEP_BACKBONE, find_backbone

from cifar_helpers import data, models, recipes, training
from cifar_helpers.recipes import Recipe
from cifar_helpers.training import epochs

ROWS = [recipe for recipe in recipes.RECIPES if not recipe.variant_of]
OF_EACH = {(each.model, each.network, each.pretrained): each for each in recipes.ABLATIONS}
TRAINED = [*ROWS, *OF_EACH.values()]


class Interrupted(Exception):
    pass


def train(recipe: Recipe, splits: data.Splits, out: Path, *, interrupted: bool) -> None:
    """Train two epochs, or one a phase, perhaps interrupted after the first one."""
    finish = epochs.EpochLog.on_epoch_end

    def interrupt(self, *arguments, **more):
        finish(self, *arguments, **more)
        raise Interrupted

    options = {"out": str(out), "precision": "float32", "verbose": False, "seed": 0}
    options["weights"] = find_backbone("") if len(recipe.phases) > 1 else None
    if interrupted:
        epochs.EpochLog.on_epoch_end = interrupt
    try:
        training.train(recipe, splits, **options)
        assert not interrupted
    except Interrupted:
        epochs.EpochLog.on_epoch_end = finish
        training.train(recipe, splits, **options)


def main(out: Path) -> None:
    """Train them all."""
    warnings.filterwarnings("ignore", message="Even though the `tf.config.experimental_run")
    models.BACKBONES["tiny"] = DEEP_BACKBONE
    tf.config.run_functions_eagerly(True)
    splits = data.load("toy", train_size=64)
    test = data.Split(splits.test.images[:20], splits.test.labels[:20])
    one_of_each = {recipe.model: recipe for recipe in OF_EACH.values()}.values()
    # Transfer learning comes first: it teaches others.
    for recipe in sorted(TRAINED, key=lambda recipe: recipe.model != "transfer"):
        short = recipe.capped(max(1, 2 // len(recipe.phases)))
        phases = tuple(replace(phase, image_size=0) for phase in short.phases)
        tiny = replace(short, phases=phases, image_size=32, train_images=30, backbone="")
        interrupted = not recipe.variant_of or recipe in one_of_each
        train(tiny, replace(splits, test=test), out, interrupted=interrupted)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
