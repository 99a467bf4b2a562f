"""Notebook 5: the models side by side, image by image, and what they cost.

`chosen` holds one result a model, in the study's order, all on the same test images.
"""

import itertools

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown
from matplotlib.figure import Figure

from cifar_helpers import metrics, models, plotting, recipes, results
from cifar_helpers.narrative.answers import difference
from cifar_helpers.narrative.html import to_html
from cifar_helpers.results import Result
from cifar_helpers.text import DASH, count, duration, multiply_adds, p_value, percent

_TOO_FEW = Markdown("*It takes records of two models to compare them.*")


def describe_missing(found: list[Result]) -> Markdown:
    """Names the rows of a plain run that have no record, and how to get them and others."""
    rows = results.missing_rows(found)
    listed = ", ".join(f"{models.model_label(model)} {recipe}" for model, recipe in rows)
    default = set(recipes.default_rows())
    plain = [each for each in found if each.row in default]
    text = (
        f"**Missing:** {listed}. Everything below is about the rows that are there; run the "
        "notebooks of the others to complete it."
        if rows
        else f"Every row that `run_all.py` trains without options is here, {len(plain)} training runs in all."
    )
    have = {result.row for result in found}
    untrained = {row.group for row in recipes.RECIPES if (row.model, row.name) not in have}
    # Ablations are no rows of the study: `found` holds none.
    asked = [word for word in recipes.GROUPS if word in untrained - {*recipes.DEFAULT, "ablations"}]
    if asked:
        text += f" More rows are trained when asked for: `--recipes {' '.join(asked)}`."
    return Markdown(text)


def comparison_table(chosen: list[Result]) -> HTML | Markdown:
    """Each model against the one before: the difference and whether it is more than chance."""
    if len(chosen) < 2:
        return _TOO_FEW
    rows = []
    for before, after in itertools.pairwise(chosen):
        found = difference(after, before)
        rows.append(
            {
                "from": results.row_label(before),
                "to": results.row_label(after),
                "points gained": found["gain"],
                "95 % interval": found["interval"],
                "only the new one right": found["only_a"],
                "only the old one right": found["only_b"],
                "McNemar": p_value(found["p_value"]),
            }
        )
    return to_html(pd.DataFrame(rows), "neighbours")


# Where the models disagree


def _disagreement(chosen: list[Result]) -> dict:
    predictions = {results.row_label(result): result.predictions for result in chosen}
    return metrics.disagreement(predictions, chosen[0].labels)


def plot_agreement(chosen: list[Result]) -> Figure | Markdown:
    """How often two models predict the same class; a sentence where there are not two models."""
    if len(chosen) < 2:
        return _TOO_FEW
    shares = _disagreement(chosen)
    return plotting.agreement(shares["agreement"], shares["names"])


def agreement_table(chosen: list[Result]) -> HTML | Markdown:
    """Whether models share mistakes: each two, beside what independent mistakes would give."""
    rows = []
    for first, second in itertools.combinations(chosen, 2):
        wrong, other_wrong = (each.predictions != each.labels for each in (first, second))
        same, both = first.predictions == second.predictions, wrong & other_wrong
        by_chance = wrong.mean() * other_wrong.mean()
        # Both right, or, where mistakes fall evenly, the same one of the wrong classes.
        alike = (1 - wrong.mean()) * (1 - other_wrong.mean())
        alike += by_chance / (len(first.record["per_class"]) - 1)
        rows.append(
            {
                "models": f"{results.row_label(first)}, {results.row_label(second)}",
                "same answer": percent(same.mean()),
                "by chance": percent(alike),
                "both wrong": percent(both.mean()),
                "both by chance": percent(by_chance),
                "then alike": percent(same[both].mean()) if both.any() else DASH,
            }
        )
    return to_html(pd.DataFrame(rows), "agreement") if rows else Markdown("")


def disagreement_table(chosen: list[Result]) -> pd.DataFrame | Markdown:
    """Shares of the test images that all, some, one or none of the models get right."""
    if len(chosen) < 2:
        return _TOO_FEW
    shares = _disagreement(chosen)
    rows = {
        "every model right": shares["all_right"],
        "some right, some wrong": shares["mixed"],
        "every model wrong": shares["all_wrong"],
        **{f"only right: {name}": share for name, share in shares["only_right"].items()},
        **{f"only wrong: {name}": share for name, share in shares["only_wrong"].items()},
    }
    return pd.Series(rows).map(percent).to_frame("share of the test images")


def class_table(chosen: list[Result]) -> pd.DataFrame:
    """Recall of each class by each model, fractions: classes by rows, models by columns."""
    return pd.DataFrame(
        {
            results.row_label(result): {
                row["class"]: row["recall"] for row in result.record["per_class"]
            }
            for result in chosen
        }
    )


# Cost


def cost_rows(found: list[Result], cost: str) -> pd.DataFrame:
    """The numbers of the results table and `x`, the cost, for `plotting.cost_accuracy`.

    The cost is "multiply_adds", in millions per image, or "seconds" of training, in minutes, where
    labels mark estimates.
    """
    table = results.results_table(found)
    estimated = (cost == "seconds") & table["time"].str.startswith("≈")
    return table.assign(
        x=table[cost] / {"multiply_adds": 1e6, "seconds": 60}[cost],
        label=table["label"].where(~estimated, "≈ " + table["label"]),
    )


def cost_table(chosen: list[Result]) -> HTML:
    """What each model takes: weights, work per image, training time, hardware."""
    rows = []
    for result in chosen:
        record = result.record
        rows.append(
            {
                "model": results.row_label(result),
                "test accuracy": percent(record["test"]["accuracy"]),
                "weights": count(record["parameters"]["total"]),
                "multiply-adds per image": multiply_adds(record["multiply_adds"]),
                "training": results.time_in_words([record]),
                "per epoch": duration(_seconds_per_epoch(record)),
                "on": ", ".join(results.machines([result])),
            }
        )
    return to_html(pd.DataFrame(rows), "costs")


def _seconds_per_epoch(record: dict) -> float:
    """The median of the last phase's epochs: earlier phases may run on cached features."""
    last = record["epochs"]["phases"][-1]["run"]
    return float(np.median(results.epoch_seconds(record)[-last:]))
