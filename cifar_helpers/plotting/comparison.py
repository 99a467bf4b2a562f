"""The rows of the study side by side: accuracy, and accuracy against cost."""

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from cifar_helpers.plotting import alt_text, style
from cifar_helpers.text import percent

# Where a dot's label may stand, in points right of and above it; the near ones first.
_LABEL_PLACES = [(9, 0), (-9, 0), (0, 11), (0, -11), (9, 11), (9, -11), (-9, 11), (-9, -11)]
_LABEL_PLACES += [(side * 16, up) for up in (22, -22, 36, -36, 50, -50) for side in (1, -1)]
_DOTS = {"s": 75, "edgecolors": style.TEXT, "linewidths": 0.7, "zorder": 3}
# Intervals of two kinds, which are not comparable.
_OVER_SEEDS = {
    "label": "over seeds, of their mean",
    "ecolor": style.TEXT,
    "elinewidth": 1.2,
    "capsize": 4,
}
_OVER_IMAGES = {"label": "one seed: over test images", "ecolor": style.NEUTRAL, "elinewidth": 5}
# A stroke behind the dot, and higher than it, hides neither it nor its interval.
_ORIGINAL = {"marker": "|", "ls": "", "ms": 17, "mew": 2.5, "color": style.MISTAKE, "zorder": 2.5}
_ANOTHER_BACKBONE = _ORIGINAL | {"marker": "d", "ms": 9, "mew": 1.5, "mfc": "none"}


def model_comparison(rows: pd.DataFrame) -> Figure:
    """Test accuracy of each row of the study, with its interval and the figure of the original study.

    Args:
        rows: columns `model`, `recipe`, `label` (what readers see), `accuracy`, `low`, `high`,
            `seeds` (how many the interval is over; with 1 it is over test images), `reference` and
            `reference_backbone` ("" where that figure is of the row's own network); one dot a row,
            from the top. NaN leaves out the interval or the mark.
    """
    labels = style.wrapped(rows["label"], 40)
    figure = style.new_figure(style.WIDTH, 1.2 + style.row_height(labels) * len(rows))
    axes = figure.subplots()
    places = np.arange(len(rows))
    accuracy, low, high, reference = (
        rows[column].to_numpy(float) for column in ("accuracy", "low", "high", "reference")
    )
    dots = _DOTS | {"s": 16}  # smaller, so that the intervals show
    axes.scatter(accuracy, places, c=_shades(rows), label="here, with 95 % interval", **dots)
    sides = np.array([accuracy - low, high - accuracy])
    several = rows["seeds"].to_numpy() > 1
    for of_kind, bars in ((several, _OVER_SEEDS), (~several, _OVER_IMAGES)):
        if (of_kind & np.isfinite(low)).any():
            middle, beside = accuracy[of_kind], sides[:, of_kind]
            axes.errorbar(middle, places[of_kind], xerr=beside, fmt="none", zorder=2, **bars)
    known, own = np.isfinite(reference), rows["reference_backbone"].to_numpy(str) == ""
    for shown, label, mark in (
        (known & own, "original study", _ORIGINAL),
        (known & ~own, "original study, another backbone", _ANOTHER_BACKBONE),
    ):
        if shown.any():
            axes.plot(reference[shown], places[shown], label=label, **mark)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    ends = np.nanmax([accuracy, high, reference], axis=0)
    beside = {"textcoords": "offset points", "va": "center", "size": style.SMALL}
    for place, end, value in zip(places, ends, accuracy, strict=True):
        axes.annotate(percent(value), (end, place), (8, 0), **beside)
    axes.set_yticks(places, labels)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    style.accuracy_axis(axes, [accuracy, low, high, reference], "test accuracy")
    figure.alt_text = alt_text.model_comparison(rows)
    return figure


def cost_accuracy(rows: pd.DataFrame, *, x_label: str) -> Figure:
    """Test accuracy against a cost on a logarithmic axis, a labelled dot a row.

    Args:
        rows: columns `model`, `recipe`, `label` (what readers see), `accuracy` and `x`, the cost,
            above 0.
        x_label: what the cost is, with its unit.
    """
    figure = style.new_figure(style.WIDTH, 4.8)
    axes = figure.subplots()
    axes.scatter(rows["x"], rows["accuracy"], c=_shades(rows), **_DOTS)
    axes.set(xscale="log", xlabel=x_label, ylabel="test accuracy")
    axes.margins(x=0.2, y=0.15)
    wide = rows["x"].max() > 4 * rows["x"].min()
    axes.xaxis.set_major_locator(
        ticker.LogLocator(subs=(1, 2, 5), numticks=12) if wide else ticker.MaxNLocator(6)
    )
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    style.percent_axis(axes.yaxis)
    _place_labels(axes, rows[["x", "accuracy"]].to_numpy(float), style.wrapped(rows["label"], 40))
    figure.alt_text = alt_text.cost_accuracy(rows, x_label)
    return figure


def _shades(rows: pd.DataFrame) -> list[str]:
    return [style.color(*pair) for pair in zip(rows["model"], rows["recipe"], strict=True)]


def _place_labels(axes: Axes, dots: np.ndarray, labels: list[str]) -> None:
    """Write each label beside its dot, at the first of some fixed places that is still free."""
    axes.figure.draw_without_rendering()  # settles the layout that the extents depend on
    inside = axes.get_window_extent()
    centres = axes.transData.transform(dots)
    taken = [Bbox.from_bounds(x - 7, y - 7, 14, 14) for x, y in centres]
    for number in np.argsort(dots[:, 0], kind="stable"):
        for place in (*_LABEL_PLACES, None):
            text = _write_label(axes, labels[number], dots[number], place or _LABEL_PLACES[0])
            box = Text.get_window_extent(text)  # of the text alone, without its line
            free = inside.count_contains(box.get_points()) == 2 and not box.count_overlaps(taken)
            if free or place is None:
                break
            text.remove()
        taken.append(box.padded(4))  # labels at one height would read as one


def _write_label(axes: Axes, label: str, dot: np.ndarray, place: tuple[int, int]) -> Annotation:
    side = np.sign(place[0])
    # A label further off needs a line to its dot.
    line = {"arrowstyle": "-", "color": style.NEUTRAL, "lw": 0.7, "relpos": (side < 0, 0.5)}
    text = axes.annotate(
        label,
        dot,
        place,
        textcoords="offset points",
        ha={1: "left", 0: "center", -1: "right"}[side],
        va="center",
        size=style.SMALL,
        arrowprops=line if abs(place[1]) > 15 else None,
    )
    text.set_in_layout(False)
    text.get_window_extent()  # moves it to its place
    return text
