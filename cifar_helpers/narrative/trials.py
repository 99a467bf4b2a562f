"""A quick comparison of two recipes on validation images, which a reader may change."""

import math
from typing import Any

import pandas as pd
from IPython.display import Markdown

from cifar_helpers import results
from cifar_helpers.text import count, percent, points


def describe_trials(runs: list[Any]) -> Markdown:
    """What short trainings came to on their validation images, the first beside each other one.

    Args:
        runs: of `training.train`, on the same images; the first is the one compared with.
    """
    images = len(runs[0].splits.validation)
    ends = [run.history["val_accuracy"][-1] for run in runs]
    rows = [
        {
            "recipe": run.recipe.name,
            "training accuracy": percent(run.history["accuracy"][-1]),
            "validation accuracy": percent(end),
        }
        for run, end in zip(runs, ends, strict=True)
    ]
    lines = [
        f"- {_verdict(run.recipe.name, end - ends[0], _error(end, ends[0], images))}"
        for run, end in zip(runs[1:], ends[1:], strict=True)
    ]
    trained = count(len(runs[0].splits.train))
    about = f"{trained} training images, {count(images)} validation images, one seed:"
    return Markdown("\n\n".join([about, results.to_markdown(pd.DataFrame(rows)), "\n".join(lines)]))


def _error(first: float, second: float, images: int) -> float:
    """The standard error of a difference of two accuracies over so many images each."""
    return math.sqrt(sum(share * (1 - share) for share in (first, second)) / images)


def _verdict(name: str, gain: float, error: float) -> str:
    told = (
        f"**{name}** is {points(100 * gain)} points from the unchanged recipe, and the validation "
        f"images alone give such a difference a standard error of {100 * error:.1f} points: "
    )
    if abs(gain) < 2 * error:
        return told + "less than two of these decides nothing."
    return told + "more than they would explain. Another seed may still say otherwise."
