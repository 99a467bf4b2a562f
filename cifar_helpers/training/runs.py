"""A training run: what was asked for, how far it is, and what came of it."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from cifar_helpers import data, recipes, results
from cifar_helpers.models import backbones
from cifar_helpers.recipes import Recipe


@dataclass
class Run:
    """A trained model and how it came about.

    Attributes:
        recipe: what was asked for, as capped and resized.
        seed: seed of the initial weights, the order of the images, augmentation and dropout.
        splits: the images, with the recipe's validation share.
        parameters_hash: names all that decides the run's outcome.
        experiment_hash: the same without the seed.
        precision: Keras' policy that the network computes by.
        deterministic: whether TensorFlow was told to use deterministic kernels only.
        history: one value an epoch, over all phases: accuracy, val_accuracy (fractions), loss,
            val_loss (cross-entropy), learning_rate, seconds.
        phase_epochs: epochs run in each phase.
        best_epoch: the epoch, from 1, whose weights were kept.
        seconds: wall time of the training, over all sessions.
        images_per_second: training images a second inside epochs, validation left out.
        model: the trained `keras.Model`; None where a finished record was found.
        result: the record and test predictions, once `evaluate` has run or where it was found.
        teacher: the `teaching.Teacher` whose answers it learns from, where there is one.
        backbone: the backbone's weights, or its name for random ones; None where there is none.
    """

    recipe: Recipe
    seed: int
    splits: data.Splits
    parameters_hash: str
    experiment_hash: str = ""
    precision: str = "float32"
    deterministic: bool = False
    history: dict[str, list[float]] = field(default_factory=dict)
    phase_epochs: list[int] = field(default_factory=list)
    best_epoch: int = 0
    seconds: float = 0.0
    images_per_second: float = 0.0
    model: Any = None
    result: results.Result | None = None
    teacher: Any = None
    backbone: backbones.Weights | str | None = None

    @property
    def title(self) -> str:
        """Recipe and seed, for logs and legends."""
        return f"{self.recipe.name}, seed {self.seed}"

    @property
    def fine_tuning_start(self) -> int | None:
        """The epoch, from 1, at which the second phase starts; None where there is one phase."""
        return self.phase_epochs[0] + 1 if len(self.phase_epochs) > 1 else None

    def checkpoint(self, out: str) -> Path:
        """Where the run keeps its checkpoint in the folder `out`."""
        return results.checkpoint_path(out, self.recipe, self.seed, self.parameters_hash)

    def take_record(self, result: results.Result) -> None:
        """Fill the run from its finished record."""
        record = result.record
        self.result = result
        self.history = record["history"]
        self.phase_epochs = [phase["run"] for phase in record["epochs"]["phases"]]
        self.best_epoch = record["epochs"]["best"]
        self.seconds = record["seconds"]["train"]
        self.images_per_second = record["images_per_second"]


def make_run(
    recipe: Recipe,
    splits: data.Splits,
    *,
    seed: int,
    weights: backbones.Weights | str | None,
    precision: str,
    deterministic: bool = False,
    teacher: Any = None,
) -> Run:
    """A run that has not begun, with its hashes; arguments as the attributes of `Run`.

    Args:
        weights: the backbone's, or its name for random ones; None where there is no backbone.
        teacher: a `teaching.Teacher`, where the recipe has one.
    """
    name = partial(
        recipes.parameters_hash,
        recipe,
        data_sha256=splits.source.sha256,
        split_seed=splits.seed,
        train_images=len(splits.train_indices),
        validation_images=len(splits.validation_indices),
        weights=weights.sha256 if isinstance(weights, backbones.Weights) else weights,
        precision=precision,
        deterministic=deterministic,
        teacher=teacher.weights_sha256 if teacher else None,
    )
    return Run(
        recipe,
        seed,
        splits,
        parameters_hash=name(seed=seed),
        experiment_hash=name(seed=None),
        precision=precision,
        deterministic=deterministic,
        teacher=teacher,
        backbone=weights,
    )
