"""Block diagrams of networks."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cifar_helpers.plotting import alt_text, style


def architecture(stages: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """Feature maps from the input to the classes.

    A map's edge grows with the logarithm of its height in pixels, its number of sheets with that of
    its channels; vectors are bars.

    Args:
        stages: dicts `name`, `detail` (what the block consists of), `output_shape`
            `(height, width, channels)` or `(features,)`, `parameters` (weights), from input to
            output. More than seven wrap to a further row.
    """
    rows = math.ceil(len(stages) / 7)
    columns = math.ceil(len(stages) / rows)
    cell = min(style.WIDTH / columns, 2.2)
    captions = [_caption(stage, int(cell / 0.082)) for stage in stages]
    # Inches: 1.35 for name and map, then the caption.
    row_height = 1.45 + 0.19 * max(caption.count("\n") + 1 for caption in captions)
    width, height = cell * columns, row_height * rows + 0.35
    figure = style.new_figure(width, height, layout="none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    figure.suptitle(title, y=1 - 0.1 / height, va="top")
    figure.alt_text = alt_text.architecture(stages, title)
    largest = max(max(stage["output_shape"][:-1], default=1) for stage in stages)
    previous = (0.0, 0.0)
    for position, (stage, caption) in enumerate(zip(stages, captions, strict=True)):
        row, column = divmod(position, columns)
        x, y = cell * (column + 0.5), height - 1.15 - row_height * row
        axes.text(x, y + 0.53, stage["name"], ha="center", va="bottom", weight="bold")
        axes.text(x, y - 0.55, caption, ha="center", va="top", size=style.SMALL, linespacing=1.3)
        half = _draw_feature_map(axes, x, y, stage["output_shape"], largest)
        if position:
            # A further row's first arrow comes from the left margin.
            _draw_arrow(axes, previous if column else (0.02, y), (x - half, y))
        previous = (x + half, y)
    return figure


def _caption(stage: Mapping[str, Any], width: int) -> str:
    lines = [" × ".join(str(size) for size in stage["output_shape"])]
    # Break between the parts of a block only, "9 conv, / 3 depthwise conv".
    parts = stage["detail"].replace(" ", "\N{NO-BREAK SPACE}")
    lines += textwrap.wrap(parts.replace(",\N{NO-BREAK SPACE}", ", "), width)
    if stage["parameters"]:
        lines += textwrap.wrap(f"{stage['parameters']:,} parameters", width)
    return "\n".join(lines)


def _draw_arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    arrow = {"arrowstyle": "-|>", "color": style.NEUTRAL, "shrinkA": 5, "shrinkB": 5}
    axes.annotate("", end, start, arrowprops=arrow)


def _draw_feature_map(axes: Axes, x: float, y: float, shape: Sequence[int], largest: int) -> float:
    """Draw a block's output around (x, y) in inches; returns half its width."""
    face, edge = "#CFE3F1", "#2F6690"
    if len(shape) == 1:
        height = 0.12 * math.log2(shape[0] + 1)
        axes.add_patch(Rectangle((x - 0.07, y - height / 2), 0.14, height, fc=face, ec=edge))
        return 0.07
    side = 0.2 + 0.5 * math.log2(shape[0] + 1) / math.log2(largest + 1)
    sheets = 1 + round(math.log2(shape[2]) / 2)
    spread = 0.04 * (sheets - 1)
    for sheet in range(sheets):
        offset = spread / 2 - 0.04 * sheet
        corner = (x - side / 2 + offset, y - side / 2 + offset)
        axes.add_patch(Rectangle(corner, side, side, fc=face, ec=edge, lw=0.8))
    return (side + spread) / 2
