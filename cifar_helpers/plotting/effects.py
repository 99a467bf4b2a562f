"""What single changes of a recipe are worth."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from cifar_helpers.plotting import alt_text, style
from cifar_helpers.text import points

_FAR = 4


def effects(rows: pd.DataFrame) -> Figure:
    """The effect of each change on test accuracy with its interval, a panel for each base.

    Args:
        rows: of one model, as of `results.effects`: `model`, `base`, `base_experiment`, `backbone`, `changes`, `seeds`,
            `epochs`, `train_images`, `base_image_size`, and `test`, `low`, `high` in percentage points; NaN leaves out the
            interval. Within a panel the smallest effect is at the bottom. One that is several
            times as large as any other has a panel and an axis of its own.
    """
    far = _far_off(rows["test"])
    groups = [
        group.sort_values("test") for _, group in rows.groupby(["base_experiment", far], sort=False)
    ]
    labels = [style.wrapped(group["changes"], 34) for group in groups]
    heights = [0.7 + style.row_height(names) * len(names) for names in labels]
    figure = style.new_figure(style.WIDTH, 0.6 + sum(heights))
    panels = figure.subplots(len(groups), squeeze=False, gridspec_kw={"height_ratios": heights})
    near = [
        axes for axes, group in zip(panels[:, 0], groups, strict=True) if not far[group.index[0]]
    ]
    for axes in near[1:]:
        axes.sharex(near[0])
    for axes, group, names in zip(panels[:, 0], groups, labels, strict=True):
        places, effect = np.arange(len(group)), group["test"].to_numpy(float)
        sides = np.abs(group[["low", "high"]].to_numpy(float).T - effect)
        color = style.color(group["model"].iloc[0])
        axes.axvline(0, color=style.NEUTRAL, linewidth=1)
        axes.errorbar(effect, places, xerr=sides, fmt="o", ms=6, color=color, capsize=3)
        right = np.nanmax([effect, group["high"].to_numpy(float)], axis=0)
        beside = {"textcoords": "offset points", "va": "center", "size": style.SMALL}
        beside["bbox"] = {"fc": "white", "ec": "none", "pad": 1}  # over the line at zero
        for place, end, value in zip(places, right, effect, strict=True):
            axes.annotate(points(value), (end, place), (8, 0), **beside)
        axes.set_yticks(places, names)
        axes.set_ylim(-0.6, len(group) - 0.4)
        axes.grid(False, axis="y")
        axes.margins(x=0.12)
        scale = ", on a wider axis" if far[group.index[0]] else ""
        axes.set_title(_title(group, scale), loc="left")
    panels[-1, 0].set_xlabel("difference of test accuracy, percentage points")
    figure.alt_text = alt_text.effects(rows)
    return figure


def _far_off(effects: pd.Series) -> pd.Series:
    """Whether an effect is so much larger than the next that the others would be dots beside it."""
    sizes = effects.abs()
    largest = sizes.nlargest(2).tolist()
    return sizes > _FAR * largest[1] if len(sizes) > 2 else sizes < 0


def _title(group: pd.DataFrame, scale: str) -> str:
    first = group.iloc[0]
    seeds = sorted(set(group["seeds"]))
    over = f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else f"{seeds[0]} seeds"
    over = "1 seed" if seeds == [1] else over
    budget = f"{first['epochs']} epochs, {first['train_images']:,} training images"
    if first["backbone"]:
        budget += f" at {first['base_image_size']} px"
    return f"against {first['base']}{scale}\n({budget}; {over})"
