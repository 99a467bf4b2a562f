"""The trainings of a run as units of work: planned by the runner, done in any process."""

import contextlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from cifar_helpers import data, models, recipes
from cifar_helpers.models import backbones
from cifar_helpers.recipes import Recipe
from cifar_helpers.runner.inputs import Inputs, absolute_path
from cifar_helpers.runner.notebooks import Notebook
from cifar_helpers.runner.options import Options


@dataclass(frozen=True)
class Training:
    """A recipe with a seed, and all that is needed to train it.

    Attributes:
        recipe: as capped and resized.
        seed: of the training.
        dataset: as of `data.load`.
        data_dir: as of `data.load`.
        train_size: as of `data.load`.
        images: how many images the data set has for training and validation.
        precision: as of `training.train`.
        deterministic: as of `training.train`.
        backbone: name of the backbone; "" where there is none.
        weights_file: its weights, as of `backbones.resolve`.
    """

    recipe: Recipe
    seed: int
    dataset: str
    data_dir: str = ""
    train_size: int = 0
    images: int = 0
    precision: str = "auto"
    deterministic: bool = False
    backbone: str = ""
    weights_file: str = ""

    @property
    def name(self) -> str:
        """What tells it from the other trainings of a run."""
        return f"{self.recipe.model} {self.recipe.name}, seed {self.seed}"


def plan_trainings(
    notebooks: Sequence[Notebook], options: Options, inputs: Inputs
) -> list[Training]:
    """The trainings that the notebooks will do, or find done, in their order.

    A notebook that was edited to train something else does that itself, in its turn.

    Args:
        notebooks: those that are to run.
        options: what was asked for.
        inputs: data, weights and precisions; with data alone the trainings can be counted.
    """
    from cifar_helpers import training

    found = []
    epochs, asked = options.epochs or 0, options.for_notebooks()
    for notebook in notebooks:
        if notebook.model is None or not notebook.trains_a_plan:
            continue
        entry, set_read = models.MODELS[notebook.model], data.DATASETS[inputs.data["dataset"]]
        quick = entry.quick_images(set_read.quick_train_size) if options.is_quick else 0
        settings: dict[str, Any] = {
            "dataset": set_read.name,
            "data_dir": absolute_path(options.data_dir) if set_read.takes_copy else "",
            "train_size": options.train_size or quick,
            "images": inputs.data.get("images", 0),
            "precision": inputs.precisions.get(entry.name, options.precision or "auto"),
            "deterministic": bool(asked.get("deterministic", False)),
        }
        plan: dict[str, Any] = {
            "seeds": options.seeds or (),
            "epochs": epochs,
            "train_size": options.train_size or 0,
        }
        if entry.has_backbone:
            weights_file = absolute_path(options.weights_file)
            settings |= {"backbone": inputs.backbone, "weights_file": weights_file}
            plan |= {"image_size": options.image_size or (), "backbone": inputs.backbone}
        wanted = list(options.recipes or recipes.DEFAULT)
        pairs = training.plan(entry.name, wanted, **plan)
        for recipe, seed in pairs:
            own = {"backbone": recipe.backbone, "weights_file": ""} if recipe.backbone else {}
            found.append(Training(recipe, seed, **settings | own))
    return found


# In the process that trains


def train_here(training: Training, out: str, environment: dict[str, str]) -> None:
    """Train, or resume, and record in the run's folder: for a process of this machine.

    Args:
        training: what to train.
        out: the run's folder.
        environment: variables, which TensorFlow reads when it is imported.
    """
    os.environ.update(environment)
    splits = load_images(training.dataset, training.data_dir)
    train(training, out, splits, find_weights(training))


def train(
    training: Training, out: str, splits: data.Splits, weights: backbones.Weights | None
) -> None:
    """Train, or resume, and record.

    Args:
        training: what to train.
        out: the folder of the record.
        splits: all images.
        weights: the backbone's, if there is one.
    """
    from cifar_helpers import training as trainings

    with contextlib.redirect_stdout(io.StringIO()):  # what it says would cut through the display
        trainings.train(**_arguments(training, out, splits, weights), verbose=False)


def is_done(training: Training, out: str) -> bool:
    """Whether the run's folder, on this machine, has its record."""
    from cifar_helpers import training as trainings

    splits = load_images(training.dataset, training.data_dir)
    return trainings.is_recorded(**_arguments(training, out, splits, find_weights(training)))


def _arguments(
    training: Training, out: str, splits: data.Splits, weights: backbones.Weights | None
) -> dict[str, Any]:
    """What `train` and `is_recorded` of `cifar_helpers.training` take."""
    if training.train_size:
        splits = splits.resplit(training.recipe.validation_fraction, train_size=training.train_size)
    return {
        "recipe": training.recipe,
        "splits": splits,
        "seed": training.seed,
        "out": out,
        "weights": weights,
        "precision": training.precision,
        "deterministic": training.deterministic,
    }


@cache
def load_images(dataset: str, data_dir: str) -> data.Splits:
    """The images, read once a process."""
    return data.load(dataset, data_dir=data_dir)


def find_weights(training: Training) -> backbones.Weights | None:
    """The weights of its backbone, if it has one, looked for once a process."""
    return _find(training.backbone, training.weights_file) if training.backbone else None


@cache
def _find(backbone: str, weights_file: str) -> backbones.Weights:
    return backbones.resolve(backbone, weights_file)
