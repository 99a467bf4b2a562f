"""A quick comparison of two recipes on validation images, which a reader may change."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import Markdown

from cifar_helpers import metrics, results
from cifar_helpers.text import count, percent, points_interval


def describe_trials(
    runs: Sequence[Any], probabilities: Sequence[np.ndarray], labels: np.ndarray
) -> Markdown:
    """What short trainings come to on validation images, the first beside each other one.

    Args:
        runs: of `training.train`; the first is the one compared with.
        probabilities: of the validation images by each, float `(n, classes)`.
        labels: of the validation images, int64 `(n,)`.
    """
    accuracies = [metrics.accuracy(labels, each) for each in probabilities]
    rows = [
        {
            "recipe": run.recipe.name,
            "training accuracy": percent(run.history["accuracy"][-1]),
            "validation accuracy": percent(accuracy),
        }
        for run, accuracy in zip(runs, accuracies, strict=True)
    ]
    predicted = [metrics.predictions(each) for each in probabilities]
    lines = [
        _difference(run.recipe.name, metrics.bootstrap_difference(labels, changed, predicted[0]))
        for run, changed in zip(runs[1:], predicted[1:], strict=True)
    ]
    trained = count(len(runs[0].splits.train_indices))
    about = f"{trained} training images, {count(len(labels))} validation images, one seed:"
    return Markdown("\n\n".join([about, results.to_markdown(pd.DataFrame(rows)), *lines]))


def _difference(name: str, found: dict) -> str:
    gain, low, high = (100 * found[key] for key in ("difference", "low", "high"))
    verdict = metrics.verdict((low, high))
    told = (
        "inconclusive, since the interval holds zero"
        if verdict == "undecided"
        else "more than the choice of these images explains; another seed may still say otherwise"
    )
    side = "above" if gain >= 0 else "below"
    return (
        f"**{name}** is {abs(gain):.1f} points {side} the unchanged recipe (95 % interval of the "
        f"difference, over the validation images, {points_interval(low, high)}): {told}."
    )
