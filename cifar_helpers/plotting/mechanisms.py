"""How networks work: filters, receptive fields, gradients, features in two dimensions."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps, patches, ticker
from matplotlib.figure import Figure

from cifar_helpers.plotting import alt_text, style

_SHADES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito
_MARKERS = "os^DvP"


def filters(
    image: np.ndarray, kernels: np.ndarray, responses: np.ndarray, *, count: int = 7
) -> Figure:
    """Filters of a first layer as small pictures, and below each what it makes of an image.

    Those are shown whose responses vary most over the image.

    Args:
        image: uint8 `(height, width, 3)`.
        kernels: float `(k, k, 3, filters)`; each is stretched to the whole range of colours.
        responses: float `(h, w, filters)`, of that image.
        count: how many to show.
    """
    chosen = np.argsort(-responses.std(axis=(0, 1)), kind="stable")[:count]
    figure = style.new_figure(style.WIDTH, 3.0)
    panels = figure.subplots(2, len(chosen) + 1)
    for axes in panels.ravel():
        axes.axis("off")
    panels[1, 0].imshow(image, interpolation="nearest")
    panels[1, 0].set_title("image", size=style.SMALL, weight="normal")
    for place, number in enumerate(chosen, start=1):
        kernel = kernels[..., number]
        low, high = kernel.min(), kernel.max()
        panels[0, place].imshow((kernel - low) / max(high - low, 1e-9), interpolation="nearest")
        panels[0, place].set_title(f"filter {number + 1}", size=style.SMALL, weight="normal")
        panels[1, place].imshow(responses[..., number], cmap="gray", interpolation="nearest")
        panels[1, place].set_title("response", size=style.SMALL, weight="normal")
    figure.alt_text = alt_text.filters([int(number) + 1 for number in chosen])
    return figure


def receptive_fields(image: np.ndarray, fields: Sequence[tuple[str, int]]) -> Figure:
    """How much of an image one position of each layer sees, as squares around its centre.

    Args:
        image: uint8 `(height, width, 3)`.
        fields: layers with the side of their square in pixels, the smallest first.
    """
    figure = style.new_figure(style.WIDTH, 4.2)
    axes = figure.subplots()
    axes.imshow(image, interpolation="nearest", alpha=0.75)
    centre = (image.shape[0] - 1) / 2
    for place, (name, side) in enumerate(fields):
        corner = (centre - side / 2, centre - side / 2)
        shade = colormaps["plasma"](0.85 * place / max(1, len(fields) - 1))
        look = {"ec": shade, "lw": 2.5, "fill": False}
        axes.add_patch(patches.Rectangle(corner, side, side, label=f"{name}: {side} px", **look))
    axes.axis("off")
    axes.legend(loc="center left", bbox_to_anchor=(1.03, 0.5), title="one position sees")
    figure.alt_text = alt_text.receptive_fields(fields)
    return figure


def gradient_norms(norms: Mapping[str, Mapping[str, float]]) -> Figure:
    """The norms of gradients from the first layer to the last, a line for each network.

    Args:
        norms: by network and by layer, as of `models.gradient_norms`.
    """
    figure = style.new_figure(style.WIDTH, 4.2)
    axes = figure.subplots()
    for place, (name, values) in enumerate(norms.items()):
        numbers = np.arange(1, len(values) + 1)
        look = {"color": _SHADES[place % len(_SHADES)], "marker": _MARKERS[place % len(_MARKERS)]}
        axes.semilogy(numbers, list(values.values()), label=name, ms=4, **look)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes.set_xlabel("3 × 3 convolution, counted from the image")
    axes.set_ylabel("gradient / weights (norms)")
    figure.legend(loc="outside lower center", ncols=2)
    figure.alt_text = alt_text.gradient_norms(norms)
    return figure


def embeddings(
    points: Mapping[str, np.ndarray], labels: npt.ArrayLike, class_names: Sequence[str]
) -> Figure:
    """Images as points in two dimensions, coloured by class, a panel for each representation.

    Args:
        points: by the panel's title, float `(n, 2)`.
        labels: integers `(n,)`.
        class_names: their names.
    """
    figure = style.new_figure(style.WIDTH, 4.9)
    panels = figure.subplots(1, len(points), squeeze=False)[0]
    labels = np.asarray(labels)
    for axes, (title, places) in zip(panels, points.items(), strict=True):
        for number, name in enumerate(class_names):
            here = places[labels == number]
            look = {"color": f"C{number % 10}", "marker": _MARKERS[number % len(_MARKERS)]}
            axes.scatter(here[:, 0], here[:, 1], s=14, label=name, alpha=0.85, lw=0, **look)
        axes.set_title(title)
        axes.set_xticks([])
        axes.set_yticks([])
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=5, markerscale=1.6)
    figure.alt_text = alt_text.embeddings(list(points), class_names)
    return figure
