"""One model on the test set: classes, confused pairs, confusion matrix, calibration."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cifar_helpers import models
from cifar_helpers.plotting import alt_text, style
from cifar_helpers.plotting.heat_maps import draw_confusion
from cifar_helpers.results import backbone_of
from cifar_helpers.text import percent

# A bin's accuracy is then uncertain by up to 14 percentage points (95 %) and more.
_FEW_IMAGES = 50


def dashboard(record: Mapping[str, Any]) -> Figure:
    """One model's test results on a page, from the record of its training."""
    figure = style.new_figure(style.WIDTH + 1, 8.4)
    accuracy, (low, high) = record["test"]["accuracy"], record["test_accuracy_interval"]
    network = models.network_label(record["model"], backbone_of(record))
    figure.suptitle(
        f"{network} ({record['recipe']}), seed {record['seed']}: "
        f"{percent(accuracy)} test accuracy\n"
        f"(95 % interval over test images {100 * low:.1f} to {100 * high:.1f})"
    )
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    # The confusion matrix takes the most room.
    panels = figure.subplot_mosaic([["classes"] * 5 + ["pairs"] * 4, ["matrix"] * 5 + ["bins"] * 4])
    shade = style.color(record["model"])
    _draw_per_class(panels["classes"], record["per_class"], accuracy, shade)
    _draw_pairs(panels["pairs"], record["confused_pairs"])
    draw_confusion(
        panels["matrix"], record["confusion_matrix"], [row["class"] for row in record["per_class"]]
    )
    _draw_calibration(panels["bins"], record["calibration"], shade)
    title = figure.get_suptitle().replace("\n", " ")
    figure.alt_text = alt_text.dashboard(title, record)
    return figure


def _draw_per_class(
    axes: Axes, per_class: Sequence[Mapping[str, Any]], overall: float, shade: str
) -> None:
    """Recall of each class as dots, best first, with the overall accuracy as a line."""
    rows = sorted(per_class, key=lambda row: row["accuracy"], reverse=True)
    values = [row["accuracy"] for row in rows]
    axes.axvline(overall, color=style.TEXT, ls="--", lw=1.2, label=f"accuracy {percent(overall)}")
    axes.plot(values, range(len(rows)), "o", color=shade, ms=8)
    beside = {"textcoords": "offset points", "va": "center", "size": style.SMALL}
    beside["bbox"] = {"fc": "white", "ec": "none", "pad": 1}  # over the line
    for place, value in enumerate(values):
        axes.annotate(percent(value), (value, place), (9, 0), **beside)
    axes.set_yticks(range(len(rows)), [row["class"] for row in rows])
    axes.set(ylim=(len(rows) - 0.4, -0.6), title="Recall of each class")
    style.accuracy_axis(axes, [*values, overall], "recall")
    axes.legend(loc="lower right", frameon=True, framealpha=1, edgecolor="none")


def _draw_pairs(axes: Axes, pairs: Sequence[Mapping[str, Any]]) -> None:
    """The most frequent mistakes as bars."""
    names = [f"{pair['true']} → {pair['predicted']}" for pair in pairs]
    bars = axes.barh(names, [pair["count"] for pair in pairs], color=style.MISTAKE, height=0.7)
    axes.bar_label(bars, padding=3, size=style.SMALL)
    axes.set(title="Most confused: true → predicted", xlabel="test images")
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))
    axes.grid(False, axis="y")


def _draw_calibration(axes: Axes, calibration: Mapping[str, Any], shade: str) -> None:
    """Reliability diagram: accuracy against confidence, a dot a bin."""
    bins = pd.DataFrame(calibration["bins"])
    confidence, accuracy = bins["confidence"], bins["accuracy"]
    area = 250 * bins["count"] / bins["count"].max() + 25
    few = bins["count"] < _FEW_IMAGES
    faces = np.where(few, "white", shade)
    axes.plot([0, 1], [0, 1], "--", color=style.NEUTRAL, lw=1.2, label="perfect calibration")
    axes.vlines(confidence, accuracy, confidence, color="#999999", lw=1)
    axes.scatter(confidence, accuracy, s=area, c=faces, edgecolors=shade, alpha=0.75, zorder=3)
    axes.plot([], [], "o", color=shade, ms=7, label="bin; area grows with images")
    if few.any():
        label = f"hollow: fewer than {_FEW_IMAGES} images"
        axes.plot([], [], "o", color=shade, mfc="white", ms=7, label=label)
    axes.set(xlim=(0, 1.04), ylim=(-0.04, 1.04), xlabel="confidence", ylabel="accuracy")
    axes.set_title(f"Calibration: error (ECE) {percent(calibration['ece'])}")
    style.percent_axis(axes.xaxis)
    style.percent_axis(axes.yaxis)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17))
