"""Block diagrams of networks."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Arc, Patch, Rectangle

from cifar_helpers.plotting import alt_text, style

_SCALE = (
    "A square's edge grows with the logarithm of the feature map's height and width; one more sheet "
    "stands for about four times the channels. A bar is a vector."
)
_ARCS = " Arcs over the arrow to a block are the skip connections inside it."
_SKIPS = {
    "identity": {"color": style.TEXT, "ls": "-"},
    "projection": {"color": style.MISTAKE, "ls": "--"},
    "padded": {"color": "#0072B2", "ls": ":"},
}
_TRAINED = {"fc": "#CFE3F1", "ec": "#2F6690"}
_FROZEN = {"fc": "#E6E6E6", "ec": "#777777", "hatch": "////"}
_WITHOUT_WEIGHTS = {"fc": "white", "ec": "#2F6690"}
_COLUMNS = 4


def architecture(stages: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """Feature maps from the input to the classes, and the skip connections on the way.

    A map's edge grows with the logarithm of its height in pixels, its number of sheets with that of
    its channels; vectors are bars. A block's skip connections are arcs over the arrow that leads to
    its output. The figure says so itself.

    Args:
        stages: dicts `name`, `detail` (what the block consists of), `output_shape`
            `(height, width, channels)` or `(features,)`, `parameters` (weights) and, as of
            `models.stages`, `skips` (kinds of its skip connections) and `frozen`, which may be left
            out; from input to output. More than four wrap to a further row.
    """
    rows = math.ceil(len(stages) / _COLUMNS)
    columns = math.ceil(len(stages) / rows)
    margin = 0.5 if rows > 1 else 0.0  # where a further row's first arrow comes from
    cell = (style.WIDTH - margin) / max(columns, 3)
    captions = [_caption(stage, int(cell / 0.085)) for stage in stages]
    # Inches: 1.45 for name and map, then the caption.
    row_height = 1.55 + 0.19 * max(caption.count("\n") + 1 for caption in captions)
    width = margin + cell * columns
    arcs = _ARCS if any(stage.get("skips") for stage in stages) else ""
    scale = textwrap.fill(_SCALE + arcs, int(width / 0.09))
    below = 0.6 + 0.19 * scale.count("\n")  # for the scale and the legend
    height = row_height * rows + 0.3 + below
    figure = style.new_figure(width, height, layout="none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    figure.suptitle(title, y=1 - 0.1 / height, va="top")
    figure.alt_text = alt_text.architecture(stages, title)
    largest = max(max(stage["output_shape"][:-1], default=1) for stage in stages)
    previous = (0.0, 0.0)
    for position, (stage, caption) in enumerate(zip(stages, captions, strict=True)):
        row, column = divmod(position, columns)
        x, y = margin + cell * (column + 0.5), height - 1.2 - row_height * row
        axes.text(x, y + 0.55, stage["name"], ha="center", va="bottom", weight="bold")
        axes.text(x, y - 0.55, caption, ha="center", va="top", size=style.SMALL, linespacing=1.3)
        half = _draw_feature_map(axes, x, y, stage, largest)
        if position:
            start = previous if column else (0.02, y)
            _draw_arrow(axes, start, (x - half, y), stage.get("skips", ()))
        previous = (x + half, y)
    axes.text(width / 2, below, scale, ha="center", va="top", size=style.SMALL)
    _draw_legend(figure, stages)
    return figure


def _caption(stage: Mapping[str, Any], width: int) -> str:
    lines = [" × ".join(str(size) for size in stage["output_shape"])]
    # Break between the parts of a block only, "9 conv, / 3 depthwise conv".
    parts = stage["detail"].replace(" ", "\N{NO-BREAK SPACE}")
    lines += textwrap.wrap(parts.replace(",\N{NO-BREAK SPACE}", ", "), width)
    if stage["parameters"]:
        lines += textwrap.wrap(f"{stage['parameters']:,} parameters", width)
    return "\n".join(lines)


def _draw_arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], skips: Sequence[str]
) -> None:
    arrow = {"arrowstyle": "-|>", "color": style.NEUTRAL, "shrinkA": 5, "shrinkB": 5}
    axes.annotate("", end, start, arrowprops=arrow)
    left, right = start[0] + 0.1, end[0] - 0.16
    step = (right - left) / max(len(skips), 1)
    for number, kind in enumerate(skips):
        centre = (left + step * (number + 0.5), end[1])
        axes.add_patch(Arc(centre, 0.85 * step, 0.45, theta2=180, lw=1.6, **_SKIPS[kind]))


def _draw_feature_map(
    axes: Axes, x: float, y: float, stage: Mapping[str, Any], largest: int
) -> float:
    """Draw a block's output around (x, y) in inches; returns half its width."""
    shape, look = stage["output_shape"], _look(stage)
    if len(shape) == 1:
        height = 0.12 * math.log2(shape[0] + 1)
        axes.add_patch(Rectangle((x - 0.07, y - height / 2), 0.14, height, **look))
        return 0.07
    side = 0.2 + 0.5 * math.log2(shape[0] + 1) / math.log2(largest + 1)
    sheets = 1 + int(math.log2(shape[2]) / 2)
    spread = 0.04 * (sheets - 1)
    for sheet in range(sheets):
        offset = spread / 2 - 0.04 * sheet
        corner = (x - side / 2 + offset, y - side / 2 + offset)
        axes.add_patch(Rectangle(corner, side, side, lw=0.8, **look))
    return (side + spread) / 2


def _look(stage: Mapping[str, Any]) -> dict[str, str]:
    if not stage["parameters"]:
        return _WITHOUT_WEIGHTS
    return _FROZEN if stage.get("frozen") else _TRAINED


def _draw_legend(figure: Figure, stages: Sequence[Mapping[str, Any]]) -> None:
    """What colours and arcs mean, those that are there."""
    handles: list = []
    looks = [_look(stage) for stage in stages]
    names = (("trained", _TRAINED), ("frozen", _FROZEN), ("without weights", _WITHOUT_WEIGHTS))
    handles += [Patch(label=name, **look) for name, look in names if look in looks]
    found = {kind for stage in stages for kind in stage.get("skips", ())}
    handles += [
        Line2D([], [], label=f"skip connection: {kind}", lw=1.6, **look)
        for kind, look in _SKIPS.items()
        if kind in found
    ]
    spaces = {"columnspacing": 1.0, "handlelength": 1.6, "handletextpad": 0.5}
    figure.legend(handles=handles, loc="lower center", ncols=len(handles), **spaces)
