"""Tables as heat maps: classes by models, agreement of models, confusion matrix."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn
from matplotlib import colors
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cifar_helpers.plotting import alt_text, style


def heat_map(table: pd.DataFrame) -> Figure:
    """Recall of each class under each model, a row a model.

    Args:
        table: fractions; index the class names, columns the models' labels.
    """
    values = table.to_numpy(float).T
    names = style.wrapped(table.columns, 20)
    figure = style.new_figure(style.WIDTH, 1.5 + (style.row_height(names) + 0.04) * len(values))
    norm = colors.Normalize(values.min(), max(values.max(), values.min() + 1e-9))
    axes = figure.subplots()
    _draw(axes, values, 100 * values, names, list(table.index), norm)
    axes.xaxis.tick_top()
    style.slant(axes.get_xticklabels(), above=True)
    axes.set_title("Recall of each class (%)", pad=10)
    figure.alt_text = alt_text.heat_map(table)
    return figure


def agreement(matrix: npt.ArrayLike, names: Sequence[str]) -> Figure:
    """Share of the test images for which two models predict the same class.

    Args:
        matrix: fractions `(models, models)`, as `metrics.disagreement` gives.
        names: the models' labels.
    """
    values = np.asarray(matrix, float)
    figure = style.new_figure(min(style.WIDTH, 2.8 + 1.1 * len(names)), 1.6 + 0.55 * len(names))
    # Every model agrees with itself: the diagonal would take most of the colours.
    values = np.where(np.eye(len(values), dtype=bool), np.nan, values)
    norm = colors.Normalize(np.nanmin(values) - 0.02, np.nanmax(values) + 0.02)
    axes = figure.subplots()
    _draw(axes, values, 100 * values, style.wrapped(names, 40), style.wrapped(names), norm)
    axes.grid(False)  # which would show on the diagonal
    axes.xaxis.tick_top()
    axes.set_title("Images with the same prediction (%)", pad=10)
    figure.alt_text = alt_text.agreement(matrix, names)
    return figure


def draw_confusion(axes: Axes, matrix: npt.ArrayLike, class_names: Sequence[str]) -> None:
    """Draw a confusion matrix: numbers of images, coloured by their share of the true class.

    Args:
        matrix: integers `(classes, classes)`, rows true, as `metrics.confusion_matrix` gives.
    """
    counts = np.asarray(matrix)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # A square root, so that mistakes of a few per cent can be told from none.
    _draw(axes, share, counts, class_names, class_names, colors.PowerNorm(0.5, 0, 1))
    axes.set(xlabel="predicted class", ylabel="true class", title="Confusion matrix")
    style.slant(axes.get_xticklabels(), above=False)


def _draw(
    axes: Axes,
    shares: np.ndarray,
    shown: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    norm: colors.Normalize,
) -> None:
    """Draw shares as colours, with the numbers `shown` on them."""
    seaborn.heatmap(
        shares,
        ax=axes,
        annot=shown,
        fmt="d" if shown.dtype.kind == "i" else ".1f",
        cmap="Blues",
        norm=norm,
        cbar=False,
        xticklabels=columns,
        yticklabels=rows,
        annot_kws={"size": style.SMALL},
    )
    axes.tick_params(length=0, rotation=0)
