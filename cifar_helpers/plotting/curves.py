"""Accuracy, loss and learning rate by epoch."""

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
_KEPT_MARK = {"marker": "o", "ms": 6, "mfc": "white", "mec": style.TEXT, "mew": 1.5}
_GAP = {"color": style.TEXT, "lw": 1.5, "zorder": 3}
_ONE_OF_SEVERAL = {"lw": 0.9, "alpha": 0.5}
_TRAINING, _VALIDATION = {"ls": "--", "lw": 1.5, "mfc": "white"}, {"ls": "-", "lw": 2}


def learning_curves(
    histories: Mapping[str, Mapping[str, npt.ArrayLike]],
    *,
    groups: Mapping[str, str] | None = None,
    fine_tuning_starts: Mapping[str, int | None] | None = None,
    kept_epochs: Mapping[str, int] | None = None,
    model: str = "",
) -> Figure:
    """Accuracy, loss and learning rate by epoch, training dashed and validation solid.

    A ring marks the epoch whose weights were kept. A line from it shows that epoch's gap, training
    minus validation accuracy as `fit` logged them (the training figure with dropout and augmentation
    on); the number is in percentage points.

    Args:
        histories: by run, lists of one number an epoch: `accuracy`, `val_accuracy`, `loss`,
            `val_loss`, and `learning_rate`, whose panel is left out where no run has it.
        groups: by run, what it is a repetition of, such as its recipe. Runs of one group share a
            panel, a thin line each, and a bold one shows their mean over the epochs that all of them
            ran; a run left out has a panel of its own.
        fine_tuning_starts: by run, the first epoch of fine-tuning, counted from 1 over all phases;
            None or left out for a run without. A group is marked by its first run's.
        kept_epochs: by run, the epoch whose weights were kept, counted likewise; left out for the
            last one.
        model: whose colour to use, one of `models.MODELS`; grey without.
    """
    runs = {
        name: {key: np.array(values, float) for key, values in history.items()}
        for name, history in histories.items()
    }
    kept = {name: len(run["loss"]) for name, run in runs.items()} | dict(kept_epochs or {})
    starts = fine_tuning_starts or {}
    panels: dict[str, list[str]] = {}
    for name in runs:
        panels.setdefault((groups or {}).get(name, name), []).append(name)
    figure, all_axes = _panels(len(panels), any("learning_rate" in run for run in runs.values()))
    limits, shade = _limits(runs), style.color(model)
    for axes, (title, names) in zip(all_axes, panels.items(), strict=True):
        members = [runs[name] for name in names]
        for panel, key in zip(axes, ("accuracy", "loss"), strict=False):
            _draw_curves(panel, members, key, shade)
            panel.set_ylim(limits[key])
        _mark_kept(axes, members, [kept[name] for name in names])
        _draw_rates(axes[2:], members)
        _settle_epochs(axes, starts.get(names[0]), max(len(run["loss"]) for run in members))
        axes[0].set_title(textwrap.fill(title, 24), pad=20 if any(starts.values()) else None)
    several = max(map(len, panels.values())) > 1
    markers = min(len(run["loss"]) for run in runs.values()) <= _FEW_EPOCHS
    _draw_legend(figure, several=several, markers=markers, fine_tuning=any(starts.values()))
    earlier = {name: epoch for name, epoch in kept.items() if epoch < len(runs[name]["loss"])}
    figure.alt_text = alt_text.learning_curves(runs, earlier)
    return figure


def _panels(count: int, rates: bool) -> tuple[style.DescribedFigure, list[list[Axes]]]:
    """A figure and, by panel, its axes for accuracy, for loss and, if asked for, for the rate."""
    columns = 2 if count in (2, 4) else min(3, count)
    bands = math.ceil(count / columns)
    heights = [2.1, 1.7, 0.6] if rates else [2.1, 1.7]
    figure = style.new_figure(style.WIDTH, (sum(heights) + 1.1) * bands + 0.6)
    rows = len(heights)
    grid = figure.subplots(rows * bands, columns, squeeze=False, height_ratios=heights * bands)
    panels = [
        list(grid[rows * band : rows * (band + 1), column])
        for band in range(bands)
        for column in range(columns)
    ]
    for number, axes in enumerate(panels):
        for panel, name in zip(axes, ("accuracy", "loss", "learning\nrate"), strict=False):
            panel.set_visible(number < count)
            panel.tick_params(labelbottom=False)
            if number % columns == 0:
                panel.set_ylabel(name)
            elif panel not in axes[2:]:  # the rest of a row shares its scale
                panel.tick_params(labelleft=False)
        axes[-1].tick_params(labelbottom=True)
        axes[-1].set_xlabel("epoch")
    return figure, panels[:count]


def _limits(runs: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, tuple[float, float]]:
    """The range of all runs."""
    accuracies, losses = (
        np.concatenate([run[name] for run in runs.values() for name in (key, f"val_{key}")])
        for key in ("accuracy", "loss")
    )
    low, high = accuracies.min(), accuracies.max()
    margin = 0.05 * max(high - low, 0.04)
    largest = losses.max(initial=0, where=np.isfinite(losses))  # a loss that diverged is left out
    return {"accuracy": (low - margin, high + margin), "loss": (0.0, 1.05 * largest or 1.0)}


def _draw_curves(
    axes: Axes, members: Sequence[Mapping[str, np.ndarray]], key: str, shade: str
) -> None:
    shared = min(len(run[key]) for run in members)
    marker = {"marker": "o" if shared <= _FEW_EPOCHS else "", "ms": 4}
    for name, look in ((key, _TRAINING), (f"val_{key}", _VALIDATION)):
        mean = np.mean([run[name][:shared] for run in members], axis=0)
        axes.plot(np.arange(1, shared + 1), mean, color=shade, **look, **marker)
        for run in members if len(members) > 1 else ():
            thin = {**look, **_ONE_OF_SEVERAL}
            axes.plot(np.arange(1, len(run[name]) + 1), run[name], color=shade, **thin)


def _mark_kept(
    axes: Sequence[Axes], members: Sequence[Mapping[str, np.ndarray]], kept: Sequence[int]
) -> None:
    gaps = []
    for run, epoch in zip(members, kept, strict=True):
        training, validation = run["accuracy"][epoch - 1], run["val_accuracy"][epoch - 1]
        axes[0].plot([epoch] * 2, [validation, training], markevery=[0], **_GAP, **_KEPT_MARK)
        axes[1].plot([epoch], [run["val_loss"][epoch - 1]], zorder=3, **_KEPT_MARK)
        gaps.append(100 * (training - validation))
    text = f"{'mean gap' if len(gaps) > 1 else 'gap'} {points(np.mean(gaps))} points"
    beside = {"transform": axes[0].transAxes, "ha": "right", "size": style.SMALL}
    axes[0].text(0.98, 0.04, text, bbox={"fc": "white", "ec": "none", "pad": 1}, **beside)
    style.percent_axis(axes[0].yaxis)


def _draw_rates(axes: Sequence[Axes], members: Sequence[Mapping[str, np.ndarray]]) -> None:
    for panel in axes:
        largest = 0.0
        for run in members:
            rates = run.get("learning_rate", np.array([]))
            look = {"color": style.NEUTRAL, "lw": 1.2, "ms": 3}
            marker = "o" if len(rates) <= _FEW_EPOCHS else ""
            panel.plot(np.arange(1, len(rates) + 1), rates, marker=marker, **look)
            largest = max(largest, rates.max(initial=0))
        panel.set_ylim(0, 1.15 * largest or 1.0)
        panel.set_yticks([0, largest], ["0", f"{largest:.2g}"])


def _settle_epochs(axes: Sequence[Axes], start: int | None, epochs: int) -> None:
    """Axes of whole epochs; from `start` on, where there is one, shaded for fine-tuning."""
    end = 1.02 * epochs + 0.5
    for panel in axes:
        panel.set_xlim(0.5, end)
        whole = ticker.MaxNLocator(5, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
        panel.xaxis.set_major_locator(whole)
        if start:
            panel.axvline(start - 0.5, color=style.NEUTRAL, lw=1, ls=":")
            panel.axvspan(start - 0.5, end, color=style.SHADED, zorder=0)
    if start:
        above = ("axes fraction", "offset points")
        text = f"fine-tuning from epoch {start}"
        axes[0].annotate(text, (0.5, 1), (0, 3), *above, ha="center", size=style.SMALL)


def _draw_legend(figure: Figure, *, several: bool, markers: bool, fine_tuning: bool) -> None:
    line = {"color": style.NEUTRAL, "marker": "o" if markers else "", "ms": 4}
    handles: list = [
        Line2D([], [], label="training", **line, **_TRAINING),
        Line2D([], [], label="validation", **line, **_VALIDATION),
    ]
    if several:
        thin = {"color": style.NEUTRAL, **_ONE_OF_SEVERAL}
        handles.append(Line2D([], [], label="one seed; bold: the mean", **thin))
    handles.append(Line2D([], [], label="epoch kept, and its gap", **_GAP, **_KEPT_MARK))
    if fine_tuning:
        handles.append(Patch(fc=style.SHADED, ec=style.NEUTRAL, ls=":", label="fine-tuning"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)))
