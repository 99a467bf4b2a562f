"""Pictures in rows, each with its title: examples, heat maps over images, pairs of images.

A picture is uint8 `(height, width, 3)`.
"""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from cifar_helpers.plotting import alt_text, style

_GAP = 2  # pixels between two pictures of a pair
_TITLE = 0.17  # inches, a line of a title


def gallery(
    rows: Mapping[str, Sequence[tuple[np.ndarray, str]]], *, title: str = "", columns: int = 6
) -> Figure:
    """Pictures with what is said of each above it.

    Args:
        rows: at least one: by its name, which stands at its left, what a row shows: pictures with their titles.
            Those that do not fit are on further lines; a row without any says so.
        title: of the figure.
        columns: pictures in a line; empty where there are fewer.
    """
    told = {
        name: [(picture, _narrow(text, columns)) for picture, text in pictures]
        for name, pictures in rows.items()
    }
    lines = [
        (name if start == 0 else "", pictures[start : start + columns])
        for name, pictures in told.items()
        for start in range(0, max(len(pictures), 1), columns)
    ]
    every = [picture for _, pictures in lines for picture in pictures]
    wide = max((picture.shape[1] / picture.shape[0] for picture, _ in every), default=1)
    titles = max((text.count("\n") + 1 for _, text in every), default=1)
    height = (style.WIDTH - 0.6) / columns / wide + _TITLE * titles + 0.1
    figure = style.new_figure(style.WIDTH, height * len(lines) + (0.35 if title else 0))
    figure.suptitle(title)
    panels = figure.subplots(len(lines), columns, squeeze=False)
    for axes in panels.ravel():
        _strip(axes)
    for (name, pictures), line in zip(lines, panels, strict=True):
        line[0].set_ylabel("\n".join(style.wrapped([name])), weight="bold")
        for axes, (picture, text) in zip(line, pictures, strict=False):
            axes.imshow(picture, interpolation="nearest")
            axes.set_title(text, size=style.SMALL, weight="normal")
        if not pictures:
            line[0].text(0.5, 0.5, "none", ha="center", va="center", transform=line[0].transAxes)
    figure.alt_text = alt_text.gallery(rows, title)
    return figure


def _narrow(text: str, columns: int) -> str:
    """Text in lines that fit above one of so many pictures."""
    return "\n".join(textwrap.fill(line, 90 // columns) for line in text.split("\n"))


def beside(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two pictures of one height as one, with a white gap between them."""
    gap = np.full((len(left), _GAP, 3), 255, np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def overlay(image: np.ndarray, heat_map: np.ndarray) -> np.ndarray:
    """A heat map over the image in grey, as a picture of the image's size: from dark to bright.

    Args:
        image: a picture.
        heat_map: float `(height, width)` in [0, 1], of any size; it is enlarged bilinearly.
    """
    side = image.shape[1::-1]
    heat = Image.fromarray(np.asarray(heat_map, np.float32)).resize(side, Image.Resampling.BILINEAR)
    grey = image.mean(axis=2, keepdims=True)
    colour = 255 * colormaps["inferno"](np.clip(np.asarray(heat), 0, 1))[..., :3]
    return np.uint8(np.round(0.45 * grey + 0.55 * colour))


def _strip(axes: Axes) -> None:
    """Leave nothing of the axes but what is put into them."""
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.grid(False)
