"""How long trainings take, from the published records and from how fast they are here."""

import heapq
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np

from cifar_helpers.recipes import Recipe
from cifar_helpers.runner.trainings import Training

_UNKNOWN = 1e-3  # seconds an image and epoch, of networks that no record is of


def expected_seconds(training: Training) -> float:
    """Seconds that a training takes where the published ones ran, at the most."""
    return sum(
        phase.epochs * seconds
        for phase, seconds in zip(training.recipe.phases, _epoch_seconds(training), strict=True)
    )


def seconds_left(
    trainings: Sequence[Training], states: dict[Training, dict[str, Any]], workers: int
) -> float | None:
    """Seconds until all trainings are done, at the most.

    Args:
        trainings: all of them.
        states: entries of the progress files; none of a training of which nothing is known yet.
        workers: how many train at the same time.

    Returns:
        None until an epoch is done, from which the speed here is known.
    """
    ratios, left = [], []
    for training in trainings:
        state, seconds = states.get(training, {}), _epoch_seconds(training)
        if state.get("seconds_per_epoch"):
            ratios.append(state["seconds_per_epoch"] / seconds[state["phase"] - 1])
        if state.get("status") == "finished":
            continue
        epochs, rest = state.get("epochs", training.recipe.epochs) - state.get("epoch", 0), 0.0
        for phase, each in zip(training.recipe.phases[::-1], seconds[::-1], strict=True):
            to_come = min(epochs, phase.epochs)
            epochs -= to_come
            rest += to_come * each
        left.append(rest)
    if not ratios:
        return None
    return float(np.median(ratios)) * makespan(left, workers)


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Seconds until all is done where each worker takes the longest that is left.

    Args:
        seconds: of each piece of work.
        workers: how many do it, at least 1.
    """
    ends = [0.0] * workers
    for each in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + each)
    return max(ends)


def _epoch_seconds(training: Training) -> tuple[float, ...]:
    """Seconds an epoch of each phase, where the published trainings ran."""
    images = training.train_size or training.images
    if training.recipe.train_images:
        images = min(images, training.recipe.train_images)
    return tuple(images * each for each in _image_seconds(training.recipe))


@cache
def _image_seconds(recipe: Recipe) -> tuple[float, ...]:
    """Seconds an image and epoch of each phase, by the published record that is most like it."""
    from cifar_helpers import results

    records = [each.record for each in results.published() if each.record["model"] == recipe.model]
    wanted = [recipe.name, recipe.variant_of]
    records.sort(key=lambda record: [record["recipe"] != name for name in wanted])
    phases = len(recipe.phases)
    record = next((each for each in records if len(each["epochs"]["phases"]) == phases), None)
    if record is None:
        return (_UNKNOWN,) * phases
    ends = np.cumsum([phase["run"] for phase in record["epochs"]["phases"]])
    seconds = np.split(results.epoch_seconds(record), ends[:-1])
    larger = (recipe.image_size / record["image_size"]) ** 2
    images = record["dataset"]["train_images"]
    return tuple(float(np.mean(each)) * larger / images for each in seconds)
