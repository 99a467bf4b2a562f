"""Images: of each class, augmented, with an answer to it.

Images are uint8 `(n, height, width, 3)`, labels integers `(n,)`: positions in `class_names`.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cifar_helpers.plotting import alt_text, style
from cifar_helpers.text import percent

_GAP = 2  # pixels between the images of a grid


def sample_grid(
    images: np.ndarray, labels: npt.ArrayLike, class_names: Sequence[str], *, per_class: int = 6
) -> Figure:
    """The first `per_class` images of each class, a column a class; empty where there are fewer."""
    tiles = np.full((per_class, len(class_names), *images.shape[1:]), 255, np.uint8)
    for number in range(len(class_names)):
        found = images[np.asarray(labels) == number][:per_class]
        tiles[: len(found), number] = found
    figure = style.new_figure(style.WIDTH, style.WIDTH / len(class_names) * per_class + 0.9)
    axes = figure.subplots()
    _draw_picture(axes, _picture(tiles))
    size = tiles.shape[3]
    centres = np.arange(len(class_names)) * (size + _GAP) + (size - 1) / 2
    axes.set_xticks(centres, list(class_names))
    style.slant(axes.get_xticklabels(), above=True)
    figure.alt_text = alt_text.sample_grid(class_names, per_class)
    return figure


def augmentation_grid(images: np.ndarray, augmented: np.ndarray) -> Figure:
    """Images and what augmentation makes of them, an image a row.

    Args:
        images: as they are stored.
        augmented: uint8 `(n, m, height, width, 3)`, m variants of each.
    """
    columns = augmented.shape[1] + 1.3
    figure = style.new_figure(style.WIDTH, style.WIDTH / columns * len(images) + 0.4)
    axes = figure.subplots()
    left, right = _picture(images[:, None]), _picture(augmented)
    between = np.full((len(left), 6, 3), 255, np.uint8)
    _draw_picture(axes, np.concatenate([left, between, right], axis=1))
    start = left.shape[1]
    centres = [start / 2, start + between.shape[1] + right.shape[1] / 2]
    axes.set_xticks(centres, ["original", "augmented"])
    figure.alt_text = alt_text.augmentation_grid(len(images), augmented.shape[1])
    return figure


def answer(seen: np.ndarray, classes: Sequence[str], confidences: Sequence[float]) -> Figure:
    """A picture as a network sees it, beside the classes that it finds most probable.

    Args:
        seen: uint8 `(height, width, 3)`.
        classes: names, the most probable first.
        confidences: of these, in [0, 1].
    """
    figure = style.new_figure(0.65 * style.WIDTH, 2.4)
    picture, bars = figure.subplots(1, 2, width_ratios=[1, 1.6])
    picture.imshow(seen, interpolation="nearest")
    picture.axis("off")
    picture.set_title("as the network sees it", size=style.SMALL, weight="normal")
    places = np.arange(len(classes))[::-1]
    bars.barh(places, confidences, color=style.NEUTRAL, height=0.6)
    bars.set_yticks(places, classes)
    bars.set_xlim(0, 1.18)
    for place, confidence in zip(places, confidences, strict=True):
        bars.text(confidence + 0.02, place, percent(confidence), va="center", size=style.SMALL)
    bars.grid(False)
    bars.spines["bottom"].set_visible(False)
    bars.set_xticks([])
    bars.set_title("confidence, calibrated", size=style.SMALL, weight="normal")
    figure.alt_text = alt_text.answer(classes, confidences)
    return figure


def _picture(tiles: np.ndarray) -> np.ndarray:
    """Images `(rows, columns, height, width, 3)` as one: far quicker to draw than axes for each."""
    rows, _, height, _, _ = tiles.shape
    margins = ((0, 0), (0, 0), (0, _GAP), (0, _GAP), (0, 0))
    padded = np.pad(tiles, margins, constant_values=255)
    picture = padded.transpose(0, 2, 1, 3, 4).reshape(rows * (height + _GAP), -1, 3)
    return picture[:-_GAP, :-_GAP]


def _draw_picture(axes: Axes, picture: np.ndarray) -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.spines[:].set_visible(False)
    axes.grid(False)
    axes.set_yticks([])
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
