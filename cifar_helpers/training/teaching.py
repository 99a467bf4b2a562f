"""Knowledge distillation: a student learns from a teacher's answers to the very pictures it sees.

A trained teacher's answers never change. So they are computed once, for every view of a training
image that `grid_crop_flip` shows, and kept on disk like features; a student's step then costs what
an untaught one's does.

References: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network",
arXiv:1503.02531; Beyer et al., "Knowledge Distillation: A Good Teacher Is Patient and Consistent",
arXiv:2106.05237, CVPR 2022.
"""

import contextlib
import os
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from cifar_helpers import cache, data, metrics, results
from cifar_helpers.backend import keras
from cifar_helpers.data import augmentation
from cifar_helpers.errors import UserError
from cifar_helpers.recipes import Recipe
from cifar_helpers.training import feeding
from cifar_helpers.training.records import network_of

MODEL, SEED = "transfer", 0  # whose networks teach
POLICY = "grid_crop_flip"


class _MissingAnswersError(Exception):
    """Answers are not on disk, and there is no network to ask."""


@dataclass(frozen=True)
class Teacher:
    """A trained network, and what it answers.

    Attributes:
        recipe: of `MODEL`.
        weights_sha256: of the network, as its record says.
        table: logits up to a constant for each image, float16 `(views, n, classes)`.
        seconds: that it took to compute the table, once.
    """

    recipe: str
    weights_sha256: str
    table: np.ndarray
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """What a student's record keeps."""
        return {
            "recipe": self.recipe,
            "weights_sha256": self.weights_sha256,
            "seconds": self.seconds,
        }


def make_teacher(
    recipe: str, weights_sha256: str, images: np.ndarray, network: keras.Model | None
) -> Teacher | None:
    """A teacher's answers to all views of training images, from disk where they are there.

    Args:
        recipe: that it was trained by.
        weights_sha256: of its network.
        images: the training images, uint8 `(n, 32, 32, 3)`.
        network: the teacher, images in [0, 255] to probabilities; None to look on disk alone.

    Returns:
        None if something is missing and there is no network to compute it.
    """
    key = {"teacher": weights_sha256, "images": cache.digest(images)}

    def compute(number: int) -> np.ndarray:
        if network is None:
            raise _MissingAnswersError
        started = time.perf_counter()
        answers = logits(feeding.predict(network, augmentation.grid_view(images, number)))
        took = np.array(time.perf_counter() - started)
        cache.cached(key | {"seconds": [POLICY, number]}, lambda: took)
        return answers

    wanted = [
        (key | {"view": [POLICY, number]}, partial(compute, number))
        for number in range(augmentation.GRID_VIEWS)
    ]
    try:
        views = cache.cached_all(wanted)
    except _MissingAnswersError:
        return None
    # Of all views, also where some were on disk: the price of the table, not of this call.
    known = []
    for number in range(len(views)):
        with contextlib.suppress(_MissingAnswersError):
            known.append(cache.cached(key | {"seconds": [POLICY, number]}, _not_measured))
    seconds = len(views) * float(np.mean(known)) if known else 0.0
    return Teacher(recipe, weights_sha256, np.stack(views), seconds)


def _not_measured() -> np.ndarray:
    raise _MissingAnswersError


def logits(probabilities: np.ndarray) -> np.ndarray:
    """The logarithms of probabilities `(n, classes)` as a table keeps them, float16.

    They are the logits up to a constant for each image, which no softmax sees.
    """
    return metrics.log_probabilities(probabilities).astype("float16")


def find_teacher(recipe: Recipe, splits: data.Splits, out: str) -> Teacher | None:
    """The teacher of a student's recipe, trained in the same folder or published.

    Args:
        recipe: the student's.
        splits: its images; the teacher must have been trained on the same, and not on its
            validation images.
        out: the run's folder.

    Returns:
        None if it has no record, or neither its answers nor the network are there.

    Raises:
        UserError: if the recipe shows other views.
    """
    if recipe.augmentation != POLICY:
        raise UserError(
            f"a taught recipe must show the views of {POLICY}; received {recipe.augmentation}."
        )
    wanted = ((MODEL, recipe.teacher, SEED), splits.source.sha256, len(splits.train))
    for folder in dict.fromkeys((teachers_folder(splits, out), out)):
        for result in results.known(folder):
            if _trained_on(result) != wanted:
                continue
            make = partial(
                make_teacher, recipe.teacher, result.record["weights_sha256"], splits.train.images
            )
            if found := make(None) or make(network_of(result, folder)):
                return found
    return None


def teachers_folder(splits: data.Splits, out: str) -> str:
    """Where a teacher is trained for these images: on a part of them it is no row of the run.

    In a quick pass each model has another number of images, and so has its teacher.
    """
    if not out or splits.is_whole:
        return out
    return os.path.join(out, "teachers", str(len(splits.train_indices)))


def recorded_teacher(record: dict) -> Teacher | None:
    """Who taught a training, as its record says; None where nobody did. The table is empty."""
    about = record.get("teacher")
    return Teacher(**about, table=np.empty((0, 0, 0), "float16")) if about else None


def _trained_on(result: results.Result) -> tuple:
    about = result.record["dataset"]
    return result.place, about["sha256"], about["train_images"]


class TaughtBatches(data.Batches):
    """Batches whose targets also hold the teacher's answers to the views that are shown.

    Targets are float32 `(b, 1 + classes)`: the label, then the teacher's logits.

    Args:
        teacher: of the training images.
        images: uint8 `(n, 32, 32, 3)`, those of the table.
        labels: int64 `(n,)`.
        options: as of `data.Batches`, but for the policy, which is `POLICY`.
    """

    def __init__(self, teacher: Teacher, images: np.ndarray, labels: np.ndarray, **options: Any):
        self.teacher = teacher
        self._answered = -1  # the epoch that the targets are of
        super().__init__(images, labels, policy=POLICY, **options)

    def _target(self, chosen: np.ndarray) -> np.ndarray:
        if self._answered != self.epoch:
            images = np.arange(len(self.labels))
            views = augmentation.grid_view_numbers(len(images), self.seed, self.epoch)
            answers = self.teacher.table[views, images].astype("float32")
            self._targets = np.column_stack([self.labels.astype("float32"), answers])
            self._answered = self.epoch
        return self._targets[chosen]
