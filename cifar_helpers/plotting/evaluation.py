"""One model on the test set: classes, confused pairs, confusion matrix, calibration."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cifar_helpers import models
from cifar_helpers.plotting import alt_text, style
from cifar_helpers.plotting.heat_maps import draw_confusion
from cifar_helpers.text import percent


def dashboard(record: Mapping[str, Any]) -> Figure:
    """One model's test results on a page, from the record of its training."""
    figure = style.new_figure(style.WIDTH + 1.5, 10)
    accuracy, (low, high) = record["test"]["accuracy"], record["test_accuracy_interval"]
    figure.suptitle(
        f"{models.model_label(record['model'])}, {record['recipe']}, seed {record['seed']}: "
        f"{percent(accuracy)} test accuracy "
        f"(95 % interval over test images {100 * low:.1f} to {100 * high:.1f})"
    )
    (upper_left, upper_right), (lower_left, lower_right) = figure.subplots(2, 2)
    shade = style.color(record["model"])
    _draw_per_class(upper_left, record["per_class"], accuracy, shade)
    _draw_pairs(upper_right, record["confused_pairs"])
    draw_confusion(
        lower_left, record["confusion_matrix"], [row["class"] for row in record["per_class"]]
    )
    _draw_calibration(lower_right, record["calibration"], shade)
    figure.alt_text = alt_text.dashboard(figure.get_suptitle(), record)
    return figure


def _draw_per_class(
    axes: Axes, per_class: Sequence[Mapping[str, Any]], overall: float, shade: str
) -> None:
    """Accuracy of each class as bars, best first, with the overall accuracy as a line."""
    rows = sorted(per_class, key=lambda row: row["accuracy"], reverse=True)
    values = [row["accuracy"] for row in rows]
    axes.barh([row["class"] for row in rows], values, color=shade, height=0.7)
    axes.axvline(overall, color=style.TEXT, ls="--", lw=1.2, label=f"overall {percent(overall)}")
    beside = {"transform": axes.get_yaxis_transform(), "va": "center", "size": style.SMALL}
    for place, value in enumerate(values):
        axes.text(1.01, place, percent(value), **beside)
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6), title="Accuracy of each class")
    style.percent_axis(axes.xaxis)
    axes.grid(False, axis="y")
    axes.legend(loc="upper right", bbox_to_anchor=(1, -0.07), borderaxespad=0)


def _draw_pairs(axes: Axes, pairs: Sequence[Mapping[str, Any]]) -> None:
    """The most frequent mistakes as bars."""
    names = [f"{pair['true']} → {pair['predicted']}" for pair in pairs]
    bars = axes.barh(names, [pair["count"] for pair in pairs], color=style.MISTAKE, height=0.7)
    axes.bar_label(bars, padding=3, size=style.SMALL)
    axes.set(title="Most confused pairs: true → predicted", xlabel="test images")
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))
    axes.grid(False, axis="y")


def _draw_calibration(axes: Axes, calibration: Mapping[str, Any], shade: str) -> None:
    """Reliability diagram: accuracy against confidence, a dot a bin."""
    bins = pd.DataFrame(calibration["bins"])
    confidence, accuracy = bins["confidence"], bins["accuracy"]
    area = 400 * bins["count"] / bins["count"].max() + 20
    axes.plot([0, 1], [0, 1], "--", color=style.NEUTRAL, lw=1.2, label="perfect calibration")
    axes.vlines(confidence, accuracy, confidence, color="#BBBBBB", lw=1)
    axes.scatter(confidence, accuracy, s=area, color=shade, ec="white", zorder=3)
    axes.plot([], [], "o", color=shade, ms=7, label="bin; area grows with its images")
    axes.set(xlim=(0, 1.04), ylim=(0, 1.04), xlabel="confidence", ylabel="accuracy")
    axes.set_title(f"Calibration: expected error (ECE) {percent(calibration['ece'])}")
    style.percent_axis(axes.xaxis)
    style.percent_axis(axes.yaxis)
    axes.legend(loc="lower right")
