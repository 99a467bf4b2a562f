"""Accuracy and loss by epoch."""

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cifar_helpers.plotting import alt_text, style
from cifar_helpers.text import points

_FEW_EPOCHS = 15  # up to here each epoch has a marker
_KEPT_MARK = {"marker": "o", "ls": "", "ms": 6, "mfc": "white", "mec": style.TEXT, "mew": 1.5}


def learning_curves(
    histories: Mapping[str, Mapping[str, npt.ArrayLike]],
    *,
    fine_tuning_starts: Mapping[str, int | None] | None = None,
    kept_epochs: Mapping[str, int] | None = None,
    model: str = "",
) -> Figure:
    """Accuracy and loss by epoch, training dashed and validation solid.

    The gap is the study's: training minus validation accuracy, in percentage points, as `fit`
    logged them (the training figure with dropout and augmentation on); of the last epoch, or of the
    one whose weights were kept, which is marked where training went on after it.

    Args:
        histories: by run, lists of one number an epoch: `accuracy`, `val_accuracy`, `loss`,
            `val_loss`. One run fills the figure's width; of several each is a column, with the same
            axes.
        fine_tuning_starts: by run, the first epoch of fine-tuning, counted from 1 over all phases;
            None or left out for a run without.
        kept_epochs: by run, the epoch whose weights were kept, counted likewise; left out for the
            last one.
        model: whose colour to use, one of `models.MODELS`; grey without.
    """
    runs = {
        name: {key: np.array(values, float) for key, values in history.items()}
        for name, history in histories.items()
    }
    starts = {name: start for name, start in (fine_tuning_starts or {}).items() if start}
    earlier = {
        name: epoch
        for name, epoch in (kept_epochs or {}).items()
        if epoch < len(runs[name]["loss"])
    }
    shade = style.color(model)
    figure, panels = _panels(len(runs))
    limits = _limits(runs)
    for axes, (name, history) in zip(panels, runs.items(), strict=False):
        for panel, key in zip(axes, ("accuracy", "loss"), strict=True):
            _draw_curves(panel, history[key], history[f"val_{key}"], shade, earlier.get(name))
            panel.set_ylim(limits[key])
        _draw_gap(axes[0], history, earlier.get(name))
        if name in starts:
            _mark_fine_tuning(axes, starts[name], len(history["loss"]))
        if len(runs) > 1:
            axes[0].set_title(textwrap.fill(name, 24), pad=20 if starts else None)
        else:
            figure.suptitle(name)
    markers = min(len(history["loss"]) for history in runs.values()) <= _FEW_EPOCHS
    _draw_legend(figure, markers=markers, fine_tuning=bool(starts), earlier=bool(earlier))
    figure.alt_text = alt_text.learning_curves(runs, earlier)
    return figure


def _panels(runs: int) -> tuple[style.DescribedFigure, list]:
    """A figure and, by run, its axes for accuracy and for loss."""
    if runs == 1:
        figure = style.new_figure(style.WIDTH, 3.8)
        panels = [figure.subplots(1, 2)]
    else:
        columns = min(4, runs)
        bands = math.ceil(runs / columns)
        figure = style.new_figure(style.WIDTH, 5.2 * bands + 0.4)
        grid = figure.subplots(2 * bands, columns, squeeze=False, sharey="row")
        panels = [grid[2 * band : 2 * band + 2, i] for band in range(bands) for i in range(columns)]
    for number, (accuracy, loss) in enumerate(panels[:runs]):
        loss.set_xlabel("epoch")
        if runs == 1:
            accuracy.set_xlabel("epoch")
        if number % 4 == 0:  # the rest of a row shares its scale
            accuracy.set_ylabel("accuracy")
            loss.set_ylabel("loss")
    for axes in itertools.chain(*panels[runs:]):
        axes.axis("off")
    return figure, panels


def _limits(runs: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, tuple[float, float]]:
    """The range of all runs; below the accuracies there is room for a line of text."""
    accuracies, losses = (
        np.concatenate([run[name] for run in runs.values() for name in (key, f"val_{key}")])
        for key in ("accuracy", "loss")
    )
    low, high = accuracies.min(), accuracies.max()
    span = max(high - low, 0.04)
    largest = losses.max(initial=0, where=np.isfinite(losses))  # a loss that diverged is left out
    return {
        "accuracy": (low - 0.2 * span, high + 0.06 * span),
        "loss": (0.0, 1.05 * largest or 1.0),
    }


def _draw_curves(
    axes: Axes, training: np.ndarray, validation: np.ndarray, shade: str, kept: int | None
) -> None:
    count = len(training)
    epochs = np.arange(1, count + 1)
    marker = "o" if count <= _FEW_EPOCHS else ""
    axes.plot(epochs, training, "--", color=shade, lw=1.5, marker=marker, ms=4, mfc="white")
    axes.plot(epochs, validation, "-", color=shade, lw=2, marker=marker, ms=4)
    if kept:
        axes.plot([kept], [validation[kept - 1]], **_KEPT_MARK)
    axes.set_xlim(0.5, 1.03 * count + 0.5)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True, min_n_ticks=1))


def _draw_gap(axes: Axes, history: Mapping[str, np.ndarray], kept: int | None) -> None:
    """Show the gap: at the kept epoch, or right of the last one."""
    last = len(history["accuracy"])
    ends = [history[key][(kept or last) - 1] for key in ("accuracy", "val_accuracy")]
    place = kept or 1.02 * last + 0.02
    axes.plot([place] * 2, ends, color=style.TEXT, lw=2.5, solid_capstyle="butt")
    text = f"gap {points(100 * (ends[0] - ends[1]))} points" + (f" at epoch {kept}" if kept else "")
    axes.text(0.98, 0.03, text, transform=axes.transAxes, ha="right", size=style.SMALL)
    # The room below the curves is for text: no accuracy is negative.
    low, high = np.clip(axes.get_ylim(), 0, 1)
    axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= high])
    style.percent_axis(axes.yaxis)


def _mark_fine_tuning(panels: Sequence[Axes], start: int, epochs: int) -> None:
    for axes in panels:
        axes.axvline(start - 0.5, color=style.NEUTRAL, lw=1, ls=":")
        axes.axvspan(start - 0.5, 1.03 * epochs + 0.5, color=style.SHADED, zorder=0)
    panels[0].annotate(
        f"fine-tuning from epoch {start}",
        (0.5, 1),
        (0, 3),
        "axes fraction",
        "offset points",
        ha="center",
        size=style.SMALL,
    )


def _draw_legend(figure: Figure, *, markers: bool, fine_tuning: bool, earlier: bool) -> None:
    line = {"color": style.NEUTRAL, "marker": "o" if markers else "", "ms": 4}
    handles: list = [
        Line2D([], [], ls="--", lw=1.5, mfc="white", label="training", **line),
        Line2D([], [], lw=2, label="validation", **line),
    ]
    if earlier:
        handles.append(Line2D([], [], label="epoch whose weights were kept", **_KEPT_MARK))
    gap = f"gap at the {'kept' if earlier else 'last'} epoch"
    handles.append(Line2D([], [], color=style.TEXT, lw=2.5, label=gap))
    if fine_tuning:
        handles.append(Patch(fc=style.SHADED, ec=style.NEUTRAL, ls=":", label="fine-tuning"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
