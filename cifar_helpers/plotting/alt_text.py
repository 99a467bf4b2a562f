"""What the figures show, in words: each sentence is computed from what its figure is drawn from."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from cifar_helpers.text import count, interval, listed, percent, points, points_interval


def sample_grid(class_names: Sequence[str], per_class: int) -> str:
    """Of a grid of images, a column a class."""
    return f"Up to {per_class} images of each class: {listed(class_names)}."


def augmentation_grid(images: int, variants: int) -> str:
    """Of a grid of images beside their augmented variants."""
    return f"{images} images, each in a row with {variants} augmented variants of it."


def architecture(stages: Sequence[Mapping[str, Any]], title: str) -> str:
    """Of a network's block diagram; the stages as `plotting.architecture` takes them."""
    shapes = (
        f"{stage['name']} {' × '.join(str(size) for size in stage['output_shape'])}"
        for stage in stages
    )
    return f"Block diagram{f' of {title}' if title else ''}, with output shapes: {listed(shapes)}."


def learning_curves(runs: Mapping[str, Mapping[str, np.ndarray]], kept: Mapping[str, int]) -> str:
    """Of accuracy and loss by epoch: where each run's curves end, or the epoch that was kept."""
    sentences = ["Training and validation accuracy and loss by epoch."]
    for name, history in runs.items():
        epochs = len(history["accuracy"])
        at = kept.get(name, epochs)
        chosen = f"epoch {at} of {epochs}, which was kept" if name in kept else f"epoch {epochs}"
        training, validation = (history[key][at - 1] for key in ("accuracy", "val_accuracy"))
        sentences.append(
            f"{name}: {percent(training)} training and {percent(validation)} validation accuracy "
            f"at {chosen}."
        )
    return " ".join(sentences)


def dashboard(title: str, record: Mapping[str, Any]) -> str:
    """Of one model's test results."""
    classes = sorted(record["per_class"], key=lambda row: row["accuracy"])
    sentences = [
        f"{title}.",
        f"The recall of a class lies between {percent(classes[0]['accuracy'])} "
        f"({classes[0]['class']}) and {percent(classes[-1]['accuracy'])} ({classes[-1]['class']}).",
    ]
    for pair in record["confused_pairs"][:1]:
        sentences.append(
            f"The most frequent mistake: {pair['true']} → {pair['predicted']}, "
            f"{count(pair['count'])} images."
        )
    error = percent(record["calibration"]["ece"])
    return " ".join([*sentences, f"The expected calibration error is {error}."])


def model_comparison(rows: pd.DataFrame) -> str:
    """Of the rows' test accuracies; `rows` as `plotting.model_comparison` takes them."""
    bars = []
    for row in rows.to_dict("records"):
        over = f"over {row['seeds']} seeds" if row["seeds"] > 1 else "over test images"
        known = "" if pd.isna(row["low"]) else f" ({interval(row['low'], row['high'])} {over})"
        original = row["reference"]
        beside = "" if pd.isna(original) else f", original study {percent(original)}"
        beside += " with another backbone" if row["reference_backbone"] else ""
        bars.append(f"{row['label']}: {percent(row['accuracy'])}{known}{beside}")
    return f"Test accuracy of each row, with its 95 % interval. {'; '.join(bars)}."


def cost_accuracy(rows: pd.DataFrame, x_label: str) -> str:
    """Of accuracies against costs; arguments as of `plotting.cost_accuracy`."""
    dots = (
        f"{row['label']}: {percent(row['accuracy'])} at {row['x']:,.3g}"
        for row in rows.sort_values("x").to_dict("records")
    )
    return f"Test accuracy against {x_label}, in order of cost. {'; '.join(dots)}."


def effects(rows: pd.DataFrame) -> str:
    """Of what changes of recipes are worth; `rows` as `plotting.effects` takes them."""
    sentences = ["Difference of test accuracy that each change makes, in percentage points."]
    for _, group in rows.groupby("base_experiment", sort=False):
        base, changes = group["base"].iloc[0], []
        for row in group.sort_values("test", ascending=False).to_dict("records"):
            known = "" if pd.isna(row["low"]) else f" ({points_interval(row['low'], row['high'])})"
            changes.append(f"{row['changes']}: {points(row['test'])}{known}")
        sentences.append(f"Against {base}: {'; '.join(changes)}.")
    return " ".join(sentences)


def heat_map(table: pd.DataFrame) -> str:
    """Of the recall of each class under each model, with each model's extremes."""
    models = (
        f"{name}: from {percent(column.min())} ({column.idxmin()}) to {percent(column.max())} "
        f"({column.idxmax()})"
        for name, column in table.items()
    )
    return f"Recall of each class under each model. {'; '.join(models)}."


def agreement(matrix: npt.ArrayLike, names: Sequence[str]) -> str:
    """Of how often two models predict the same class."""
    shares = np.asarray(matrix, float)
    pairs = (
        f"{names[first]} and {names[second]}: {percent(shares[first, second])}"
        for first, second in itertools.combinations(range(len(names)), 2)
    )
    return f"Share of images with the same prediction. {'; '.join(pairs)}."


def filters(numbers: Sequence[int]) -> str:
    """Of filters and their responses; numbers counted from 1."""
    return f"An image, filters {listed(numbers)} of a first layer, and the image as each responds."


def receptive_fields(fields: Sequence[tuple[str, int]]) -> str:
    """Of receptive fields; arguments as of `plotting.receptive_fields`."""
    sides = listed(f"{name} {side} pixels" for name, side in fields)
    return f"Squares on an image, the side that one position of each layer sees: {sides}."


def gradient_norms(norms: Mapping[str, Mapping[str, float]]) -> str:
    """Of gradients by layer; arguments as of `plotting.gradient_norms`."""
    ends = (
        f"{name}: {list(values.values())[0]:.1e} at the first layer, {list(values.values())[-1]:.1e} "
        "at the last"
        for name, values in norms.items()
    )
    return f"Norms of gradients as shares of those of the weights. {'; '.join(ends)}."


def embeddings(titles: Sequence[str], class_names: Sequence[str]) -> str:
    """Of images as points in the plane, a panel for each title."""
    return (
        f"Images as points, coloured by class ({listed(class_names)}). Panels: {'; '.join(titles)}."
    )


def answer(classes: Sequence[str], confidences: Sequence[float]) -> str:
    """Of a picture with the classes that a network names."""
    named = (f"{name} {percent(share)}" for name, share in zip(classes, confidences, strict=True))
    return f"A picture of 32 pixels a side, and what a network takes it for: {listed(named)}."


def gallery(rows: Mapping[str, Sequence[tuple[np.ndarray, str]]], title: str) -> str:
    """Of pictures in rows with what is said of each; arguments as of `plotting.gallery`."""
    lines = (
        f"{f'{name}: ' if name else ''}{listed(' '.join(text.split()) for _, text in pictures)}"
        for name, pictures in rows.items()
    )
    return f"{title or 'Pictures in rows'}. {'; '.join(lines)}."
