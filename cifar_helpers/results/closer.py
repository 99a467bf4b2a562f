"""A closer look at records: confidence, doubtful labels, near-duplicates, the mean of all models."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cifar_helpers import metrics
from cifar_helpers.data import Splits
from cifar_helpers.results.effects import beside_their_bases
from cifar_helpers.results.store import Result
from cifar_helpers.results.tables import best_by_validation, by_experiment, row_label

GOOD = 0.85  # validation accuracy above which a row has a say about labels
# Pixel correlation from which two images count as near-duplicates. Of 24 pairs of CIFAR-10 just above
# it, drawn by chance and looked at, 22 were the same photograph, or as good as; below it are many more
# such pairs, shifted by a pixel or two, but among ever more others.
ALIKE = 0.9


# Confidence


def calibration_rows(found: list[Result]) -> pd.DataFrame:
    """Confidence of each experiment on the test images, before and after temperature scaling.

    Returns:
        One row an experiment, means over its seeds: label (`row_label`), smoothing (the recipe's
        share, NaN where the package no longer knows it), seeds, accuracy, confidence (mean) and ece,
        fractions, then temperature (fitted on validation) and scaled_ece.
    """
    rows = []
    for group in by_experiment(found).values():
        each = pd.DataFrame([_calibration(result) for result in group]).mean()
        recipe = group[0].recipe
        told = {"label": row_label(group[0]), "seeds": len(group)}
        told["smoothing"] = recipe.label_smoothing if recipe else np.nan
        rows.append(told | each.to_dict())
    return pd.DataFrame(rows)


def _calibration(result: Result) -> dict[str, float]:
    record = result.record
    scaling = record["temperature_scaling"]
    return {
        "accuracy": record["test"]["accuracy"],
        "confidence": float(result.probabilities.max(axis=1).mean()),
        "ece": record["calibration"]["ece"],
        "temperature": scaling["temperature"],
        "scaled_ece": scaling["calibration"]["ece"],
    }


def smoothing_effects(variants: list[Result]) -> pd.DataFrame:
    """What label smoothing does to confidence, from variants that differ from their base in it.

    Args:
        variants: results of ablations and their bases; others are passed over.

    Returns:
        One row a variant with a smaller share of smoothing than its base, or a larger one: label,
        base, smoothing and base_smoothing, seeds (in common), and of each of temperature, ece and
        scaled_ece the means over these seeds, `temperature` and `base_temperature`, and the limits
        of the 95 % interval of the mean difference, `temperature_low` and `temperature_high`
        (variant minus base, paired by seed; NaN for one seed).
    """
    rows = []
    for pairs in beside_their_bases(variants):
        recipe, base = pairs[0][0].recipe, pairs[0][1].recipe
        if not recipe or not base or recipe.label_smoothing == base.label_smoothing:
            continue
        row = {"label": row_label(pairs[0][0]), "base": row_label(pairs[0][1]), "seeds": len(pairs)}
        row |= {"smoothing": recipe.label_smoothing, "base_smoothing": base.label_smoothing}
        ours, theirs = (
            pd.DataFrame([_calibration(result) for result in each])
            for each in zip(*pairs, strict=True)
        )
        for name in ("temperature", "ece", "scaled_ece"):
            low, high = metrics.seeds_interval(ours[name] - theirs[name]) or (np.nan, np.nan)
            row |= {name: ours[name].mean(), f"base_{name}": theirs[name].mean()}
            row |= {f"{name}_low": low, f"{name}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


# Labels that good models agree to doubt


def good_rows(found: list[Result]) -> list[Result]:
    """The first seed of each experiment whose mean validation accuracy is above `GOOD`."""
    return [
        group[0]
        for group in by_experiment(found).values()
        if np.mean([result.record["validation"]["accuracy"] for result in group]) > GOOD
    ]


def doubtful_labels(chosen: list[Result]) -> np.ndarray:
    """Test images that all results give the same class, which is not the label's.

    Reference: Northcutt, Athalye and Mueller, "Pervasive Label Errors in Test Sets Destabilize
    Machine Learning Benchmarks", arXiv:2103.14749, NeurIPS 2021, which lets one model's confidence
    name candidates and people decide.

    Args:
        chosen: results on the same test images, at least one.

    Returns:
        Positions, int64 `(k,)`, by falling mean probability of that class.
    """
    predicted, labels = np.array([result.predictions for result in chosen]), chosen[0].labels
    agreed = np.flatnonzero((predicted == predicted[0]).all(axis=0) & (predicted[0] != labels))
    certainty = mean_probabilities(chosen)[agreed, predicted[0, agreed]]
    return agreed[np.argsort(-certainty, kind="stable")]


# Near-duplicates


def near_duplicates(found: list[Result], splits: Splits | None) -> pd.DataFrame | None:
    """Test images that are nearly the same as a training image.

    Candidates are the training images nearest to a test image by the features of the transfer
    network, as `training.explained` keeps them; of these counts the one whose pixels correlate most,
    if the correlation (Pearson's, over all pixels and colours) is at least `ALIKE`. The study that
    counted CIFAR-10's near-duplicates had people judge the candidates.

    Reference: Barz and Denzler, "Do We Train on Test Data? Purging CIFAR of Near-Duplicates",
    arXiv:1902.00423, Journal of Imaging 6 (6), 2020.

    Args:
        found: results on the test images of `splits`; the one that is best on validation of those
            that hold neighbours is used.
        splits: the images; None where they are not at hand.

    Returns:
        A row a test image that has one, the most alike first: `test` and `train` (positions in
        `splits.test` and `splits.pool`) and `correlation`, in [-1, 1]. None for drawings,
        without images, and where no result holds neighbours.
    """
    # Of another copy, whose training images may come in another order, positions say nothing.
    holders = [each for each in found if "nearest" in each.arrays and not each.other_copy]
    if splits is None or not splits.source.real or not holders:
        return None
    nearest = best_by_validation(holders).arrays["nearest"]
    test = _standardized(splits.test.images)
    # Neighbour by neighbour: the training images of all at once would take a gigabyte.
    alike = np.stack(
        [
            np.einsum("ij,ij->i", test, _standardized(splits.pool.images[column]))
            for column in nearest.T
        ],
        axis=1,
    )
    places, rows = alike.argmax(axis=1), np.arange(len(test))
    pairs = pd.DataFrame(
        {"test": rows, "train": nearest[rows, places], "correlation": alike[rows, places]}
    )
    pairs = pairs[pairs["correlation"] >= ALIKE]
    return pairs.sort_values("correlation", ascending=False, kind="stable", ignore_index=True)


def _standardized(images: np.ndarray) -> np.ndarray:
    """Images as rows of mean 0 and length 1, float32: products of rows are correlations."""
    pixels = images.reshape(len(images), -1).astype("float32")
    pixels -= pixels.mean(axis=1, keepdims=True)
    return pixels / np.maximum(np.linalg.norm(pixels, axis=1, keepdims=True), 1e-6)


def accuracy_without(found: list[Result], positions: Sequence[int] | np.ndarray) -> pd.DataFrame:
    """Test accuracy of each experiment with and without some of the test images.

    Args:
        found: results on the same test images.
        positions: of those left out; not all of them.

    Returns:
        One row an experiment, means over its seeds, fractions: label, seeds, accuracy, without, and
        left_out (accuracy on the images left out, NaN if there are none).
    """
    rows = []
    for group in by_experiment(found).values():
        right = np.mean([result.predictions == result.labels for result in group], axis=0)
        left_out = np.isin(np.arange(len(right)), positions)
        rows.append(
            {
                "label": row_label(group[0]),
                "seeds": len(group),
                "accuracy": float(right.mean()),
                "without": float(right[~left_out].mean()),
                "left_out": float(right[left_out].mean()) if left_out.any() else np.nan,
            }
        )
    return pd.DataFrame(rows)


# All models together


def mean_probabilities(chosen: list[Result]) -> np.ndarray:
    """The mean of several results' probabilities of the test images, float64 `(n, classes)`."""
    return np.mean([result.probabilities for result in chosen], axis=0, dtype=np.float64)


def calibrated(result: Result) -> np.ndarray:
    """Test probabilities `(n, classes)` at the temperature that was fitted on validation images."""
    temperature = result.record["temperature_scaling"]["temperature"]
    return metrics.temperature_scale(result.probabilities, temperature)


def ensemble(chosen: list[Result]) -> np.ndarray:
    """All models' probabilities averaged, each with the same weight: nothing is chosen on any images.

    The probabilities are calibrated first, by temperatures fitted on validation, so that a model does
    not count for less because its recipe made it less confident.

    Reference: Lakshminarayanan, Pritzel and Blundell, "Simple and Scalable Predictive Uncertainty
    Estimation using Deep Ensembles", arXiv:1612.01474, NeurIPS 2017.

    Args:
        chosen: results on the same test images, one a model.

    Returns:
        Probabilities of the test images, float64 `(n, classes)`.
    """
    return np.mean([calibrated(result) for result in chosen], axis=0)
