"""How all figures look: sizes, fonts, the colours of models and recipes, percentages."""

import textwrap
from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib import colors, ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

from cifar_helpers import models, recipes

NEUTRAL, MISTAKE, TEXT, SHADED = "#56646F", "#D55E00", "#333333", "#F0F0F0"
# Inches. At 100 dots an inch it fits a notebook page, and a telephone's 390 pixels shrink it by half
# only, so that the text stays legible.
WIDTH = 7.5
SMALL = 9.5  # points
ROW = 0.36  # inches, the height of a horizontal bar and the space around it
_STYLE = {
    "figure.dpi": 100,
    "savefig.dpi": 100,
    "font.size": 10.5,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.labelsize": 10.5,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
}


def use_style() -> None:
    """Set matplotlib's defaults for figures of `WIDTH` inches: no text is smaller than `SMALL`."""
    plt.rcParams.update(_STYLE)


def color(model: str, recipe: str = "") -> str:
    """The colour of a model in every figure, hexadecimal RGB; grey if it is not in `models.MODELS`.

    The model's reference recipes are lighter shades of it, the later in the table the darker; its best
    recipe is darker still than the improved one, which has the full colour.
    """
    known = models.MODELS.get(model)
    full = np.array(colors.to_rgb(known.color if known else NEUTRAL))
    groups = {row.name: row.group for row in recipes.of_model(model)}
    if groups.get(recipe) == "best":
        return colors.to_hex(0.6 * full).upper()
    rows = [name for name, group in groups.items() if group == "reference"]
    # Equal steps from nearly white to the full colour, both of them left out.
    white = 0.9 * (len(rows) - rows.index(recipe)) / (len(rows) + 1) if recipe in rows else 0.0
    return colors.to_hex((1 - white) * full + white).upper()


class DescribedFigure(Figure):
    """A figure with a text for readers who cannot see it.

    Attributes:
        alt_text: what the figure shows, in words.
    """

    alt_text = ""

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict, dict]:
        # IPython draws the picture itself and keeps this beside it; nbconvert and JupyterLab read it.
        return {}, {"image/png": {"alt": self.alt_text}} if self.alt_text else {}


def new_figure(width: float, height: float, layout: str = "constrained") -> DescribedFigure:
    """An empty figure, which wants an `alt_text`; sizes in inches."""
    # Made by pyplot so that notebooks know how to show it, closed so that they show it once.
    size = (width, height)
    figure = plt.figure(figsize=size, layout=layout, FigureClass=DescribedFigure)
    plt.close(figure)
    return figure


def percent_axis(axis: Axis) -> None:
    """Label an axis of fractions in per cent, with as many decimals as its ticks need."""
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{round(100 * value, 2):g} %"))


def accuracy_axis(axes: Axes, values: npt.ArrayLike, name: str) -> None:
    """A horizontal axis for dots: it starts just below the smallest accuracy, and says where.

    Near 100 % bars from zero would all look alike. Right of the largest there is room for a number.

    Args:
        values: all that is to be seen, fractions; NaN counts for nothing.
        name: of the axis.
    """
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = max(0.06 * (high - low), 0.005)
    ticks = ticker.MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(max(low - margin, 0), high)
    ticks = ticks[(ticks >= 0) & (ticks <= 1)]
    start = ticks[0]
    axes.set_xlim(start, high + 0.18 * (high - start) + margin)
    axes.set_xticks(ticks)
    percent_axis(axes.xaxis)
    axes.set_xlabel(f"{name} (the axis starts at {100 * start:g} %)" if start else name)


def slant(labels: Iterable[Text], *, above: bool) -> None:
    """Slant the labels of narrow columns, above or below them, so that long words do not touch."""
    plt.setp(list(labels), rotation=45, ha="left" if above else "right", rotation_mode="anchor")


def wrapped(names: Iterable, width: int = 12) -> list[str]:
    """Names broken into lines of at most `width` characters; longer words stay whole."""
    # Hyphens are kept together where there is room: "efficientnet-lite0".
    wrapper = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=width < 20)
    return [wrapper.fill(str(name)) for name in names]


def row_height(labels: list[str]) -> float:
    """Inches from one row to the next, so that labels of several lines do not touch."""
    return ROW + 0.16 * max((label.count("\n") for label in labels), default=0)
