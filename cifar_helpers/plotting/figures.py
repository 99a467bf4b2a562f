"""The study's figures: arrays and records in, a matplotlib Figure out.

A figure is closed in pyplot as soon as it is made: as the last line of a notebook cell it is shown
once, and none stays in memory. Accuracies, probabilities and shares are fractions in [0, 1].
"""

import math
import textwrap

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib import colors, ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.transforms import Bbox

# From the palette of Okabe and Ito, "Color Universal Design", 2008: told apart by colour-blind
# readers too.
MODEL_COLORS = {
    "baseline_cnn": "#E69F00",
    "vgg10": "#CC79A7",
    "resnet20": "#009E73",
    "transfer": "#0072B2",
}
MODEL_LABELS = {
    "baseline_cnn": "Baseline CNN",
    "vgg10": "VGG-10",
    "resnet20": "ResNet-20",
    "transfer": "EfficientNet transfer",
}
_NEUTRAL, _MISTAKE, _TEXT, _SHADED = "#56646F", "#D55E00", "#333333", "#F0F0F0"
# Share of white mixed into a model's colour; recipes that are not named here have none.
_LIGHTER = {
    "base": 0.65,
    "callbacks": 0.5,
    "optimized": 0.35,
    "reference": 0.45,
    "96px": 0.6,
    "224px": 0.35,
}
_WIDTH = 9.5  # inches: a notebook page at 100 dots an inch
_SMALL = 9  # points
_FEW_EPOCHS = 15  # up to here each epoch has a marker
_ROW = 0.36  # inches, the height of a horizontal bar and the space around it
# Where a dot's label may stand, in points right of and above it; the near ones first.
_LABEL_PLACES = [(9, 0), (-9, 0), (0, 11), (0, -11), (9, 11), (9, -11), (-9, 11), (-9, -11)]
_LABEL_PLACES += [(side * 16, up) for up in (22, -22, 36, -36, 50, -50) for side in (1, -1)]
_STYLE = {
    "figure.dpi": 100,
    "savefig.dpi": 100,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.labelsize": 10,
    "xtick.labelsize": _SMALL,
    "ytick.labelsize": _SMALL,
    "legend.fontsize": _SMALL,
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
    "text.color": _TEXT,
    "axes.labelcolor": _TEXT,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
}


def use_style() -> None:
    """Set matplotlib's defaults for pages about 9.5 inches wide: text of 9 points and up."""
    plt.rcParams.update(_STYLE)


def color(model: str, recipe: str = "") -> str:
    """The colour of a model in every figure; its recipes are lighter shades of it.

    Args:
        model: a key of `MODEL_COLORS`; grey for any other.
        recipe: a recipe of the model; "improved" and unknown ones have the full colour.

    Returns:
        A hexadecimal RGB colour.
    """
    full = np.array(colors.to_rgb(MODEL_COLORS.get(model, _NEUTRAL)))
    white = _LIGHTER.get(recipe, 0.0)
    return colors.to_hex((1 - white) * full + white).upper()


# Images


def sample_grid(images, labels, class_names, *, per_class: int = 6) -> Figure:
    """The first images of each class, a column a class.

    Args:
        images: uint8 `(n, height, width, 3)`.
        labels: integers `(n,)`.
        class_names: one name a class.
        per_class: images of a class; places stay empty where there are fewer.
    """
    images, labels = _same_length(images=images, labels=labels)
    tiles = np.full((per_class, len(class_names), *images.shape[1:]), 255, np.uint8)
    for number in range(len(class_names)):
        found = images[labels == number][:per_class]
        tiles[: len(found), number] = found
    scale = _WIDTH / len(class_names)
    figure = _figure(_WIDTH, scale * per_class + 0.4)
    axes = figure.subplots()
    _draw_picture(axes, _picture(tiles))
    axes.set_xticks(_centres(len(class_names), tiles.shape[3]), _wrapped(class_names))
    return figure


def augmentation_grid(images, augmented) -> Figure:
    """Images and what augmentation makes of them, an image a row.

    Args:
        images: uint8 `(k, height, width, 3)`, as they are stored.
        augmented: uint8 `(k, m, height, width, 3)`, m variants of each.
    """
    images, augmented = _same_length(images=images, augmented=augmented)
    variants = augmented.shape[1]
    figure = _figure(_WIDTH, _WIDTH / (variants + 1.3) * len(images) + 0.4)
    axes = figure.subplots()
    left, right = _picture(images[:, None]), _picture(augmented)
    between = np.full((len(left), 6, 3), 255, np.uint8)
    _draw_picture(axes, np.concatenate([left, between, right], axis=1))
    start = left.shape[1]
    centres = [start / 2, start + between.shape[1] + right.shape[1] / 2]
    axes.set_xticks(centres, ["original", "augmented"])
    return figure


def mistakes(
    images, labels, probabilities, class_names, *, count: int = 12, indices=None
) -> Figure:
    """Wrongly classified images with their true class, the predicted one and its probability.

    Args:
        images: uint8 `(n, height, width, 3)`.
        labels: integers `(n,)`.
        probabilities: float `(n, classes)`.
        class_names: one name a class.
        count: how many to show at the most.
        indices: the images to show; None for the most confident mistakes.
    """
    images, labels, probabilities = _same_length(
        images=images, labels=labels, probabilities=probabilities
    )
    if indices is None:
        indices = _confident_mistakes(labels, probabilities)
    indices = np.asarray(indices, dtype=int)[:count]
    columns = 6
    rows = max(1, math.ceil(len(indices) / columns))
    figure = _figure(_WIDTH, 0.3 + 2.0 * rows)
    figure.suptitle("Wrong predictions: true → predicted class, with the model's confidence")
    _draw_mistakes(figure, rows, columns, images, labels, probabilities, class_names, indices)
    return figure


# Models and training


def architecture(stages, title: str = "") -> Figure:
    """Block diagram of a network: feature maps from the input to the classes.

    A map's edge grows with the logarithm of its height in pixels, its number of sheets with that of
    its channels; vectors are bars.

    Args:
        stages: dicts `name`, `detail` (what the block consists of), `output_shape`
            `(height, width, channels)` or `(features,)`, `parameters` (weights), from input to
            output. More than seven wrap to a further row.
        title: of the figure.
    """
    if not stages:
        raise ValueError("stages must hold one block at least; received none.")
    rows = math.ceil(len(stages) / 7)
    columns = math.ceil(len(stages) / rows)
    cell = min(_WIDTH / columns, 2.2)
    captions = [_stage_caption(stage, int(cell / 0.082)) for stage in stages]
    # Inches: 1.35 for name and map, then the caption.
    pitch = 1.45 + 0.19 * max(caption.count("\n") + 1 for caption in captions)
    width, height = cell * columns, pitch * rows + 0.35
    figure = _figure(width, height, layout="none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    figure.suptitle(title, y=1 - 0.1 / height, va="top")
    largest = max(max(stage["output_shape"][:-1], default=1) for stage in stages)
    previous = None
    for position, (stage, caption) in enumerate(zip(stages, captions, strict=True)):
        row, column = divmod(position, columns)
        x, y = cell * (column + 0.5), height - 1.15 - pitch * row
        axes.text(x, y + 0.53, stage["name"], ha="center", va="bottom", weight="bold")
        axes.text(x, y - 0.55, caption, ha="center", va="top", size=_SMALL, linespacing=1.3)
        half = _draw_feature_map(axes, x, y, stage["output_shape"], largest)
        _draw_arrow(axes, previous if column else None, (x - half, y), first=position == 0)
        previous = (x + half, y)
    return figure


def learning_curves(
    histories: dict[str, dict],
    *,
    fine_tuning_starts: dict[str, int | None] | None = None,
    title: str = "",
    model: str = "",
) -> Figure:
    """Accuracy and loss by epoch, training dashed and validation solid.

    The gap is the study's: training minus validation accuracy of the last epoch, in percentage
    points, as `fit` logged them (the training figure with dropout and augmentation on).

    Args:
        histories: by run, lists of one number an epoch: `accuracy`, `val_accuracy`, `loss`,
            `val_loss`. One run fills the figure's width; of several each is a column, with the same
            axes.
        fine_tuning_starts: by run, the first epoch of fine-tuning, counted from 1 over all phases;
            None or left out for a run without.
        title: of the figure.
        model: whose colour to use; without it a run's name decides, where it is a model's.
    """
    if not histories:
        raise ValueError("histories must hold one run at least; received none.")
    starts = {name: start for name, start in (fine_tuning_starts or {}).items() if start}
    histories = {
        name: {key: np.array(values, float) for key, values in history.items()}
        for name, history in histories.items()
    }
    figure, panels = _curve_panels(len(histories))
    limits = _curve_limits(histories)
    for axes, (name, history) in zip(panels, histories.items(), strict=False):
        shade = color(model or _model_of(name))
        _draw_accuracy(axes[0], history, shade, limits["accuracy"])
        _draw_curves(axes[1], history["loss"], history["val_loss"], shade)
        axes[1].set_ylim(limits["loss"])
        _mark_fine_tuning(axes, starts.get(name), len(history["loss"]))
        if len(histories) > 1:
            axes[0].set_title(textwrap.fill(name, 24), pad=20 if starts else None)
    if len(histories) == 1:
        name = "".join(histories)
        title = f"{title}: {name}" if title and name else title or name
    figure.suptitle(title)
    shortest = min(len(history["loss"]) for history in histories.values())
    _curves_legend(figure, bool(starts), "o" if shortest <= _FEW_EPOCHS else "")
    return figure


# One model on the test set


def per_class_bars(per_class, overall: float, class_names=None, *, model: str = "") -> Figure:
    """Accuracy of each class as bars, with the overall accuracy as a line.

    Args:
        per_class: dicts `class` and `accuracy`, as `metrics.per_class` gives.
        overall: accuracy over all images.
        class_names: the order, from the top; None for best to worst.
        model: whose colour to use.
    """
    figure = _figure(_WIDTH * 0.8, 1.1 + _ROW * 0.9 * len(per_class))
    _draw_per_class(figure.subplots(), per_class, overall, class_names, model)
    return figure


def confused_pairs(pairs) -> Figure:
    """The most frequent mistakes as bars.

    Args:
        pairs: dicts `true`, `predicted`, `count`, most frequent first, as `metrics.confused_pairs`
            gives.
    """
    figure = _figure(_WIDTH * 0.8, 1.1 + _ROW * 0.9 * max(2, len(pairs)))
    _draw_pairs(figure.subplots(), pairs)
    return figure


def confusion_matrix(matrix, class_names) -> Figure:
    """Confusion matrix: number of images, and their share of the true class as text and colour.

    Args:
        matrix: integers `(classes, classes)`, rows true, as `metrics.confusion_matrix` gives.
        class_names: one name a class.
    """
    figure = _figure(_WIDTH * 0.95, _WIDTH * 0.8)
    _draw_confusion(figure.subplots(), matrix, class_names, shares=True)
    return figure


def calibration(calibration: dict, *, model: str = "") -> Figure:
    """Reliability diagram: accuracy against confidence, a dot a bin.

    Args:
        calibration: `ece` and `bins`, as `metrics.calibration` gives.
        model: whose colour to use.
    """
    figure = _figure(_WIDTH * 0.65, _WIDTH * 0.6)
    _draw_calibration(figure.subplots(), calibration, model)
    return figure


def dashboard(
    record: dict, images=None, labels=None, probabilities=None, class_names=None
) -> Figure:
    """One model's test results on a page: classes, confused pairs, confusion matrix, calibration.

    With the test images and what belongs to them, a row of the most confident mistakes follows.

    Args:
        record: of a training run: `model`, `recipe`, `seed`, `test`, `per_class`,
            `confused_pairs`, `confusion_matrix`, `calibration` and, where there is one,
            `test_accuracy_interval`.
        images: uint8 `(n, height, width, 3)`, optional.
        labels: integers `(n,)`, with `images`.
        probabilities: float `(n, classes)`, with `images`.
        class_names: one name a class; None for those in the record.
    """
    names = class_names or [row["class"] for row in record["per_class"]]
    figure = _figure(_WIDTH + 1.5, 10.0 if images is None else 12.0)
    figure.suptitle(_dashboard_title(record))
    top = figure
    if images is not None:
        top, bottom = figure.subfigures(2, 1, height_ratios=(9.6, 2.4))
        images, labels, probabilities = _same_length(
            images=images, labels=labels, probabilities=probabilities
        )
        chosen = _confident_mistakes(labels, probabilities)[:7]
        bottom.suptitle("Most confident mistakes", size=11)
        _draw_mistakes(bottom, 1, 7, images, labels, probabilities, names, chosen)
    (upper_left, upper_right), (lower_left, lower_right) = top.subplots(2, 2)
    overall = record["test"]["accuracy"]
    _draw_per_class(upper_left, record["per_class"], overall, None, record["model"])
    _draw_pairs(upper_right, record["confused_pairs"][:10])
    _draw_confusion(lower_left, record["confusion_matrix"], names, shares=False)
    _draw_calibration(lower_right, record["calibration"], record["model"])
    return figure


# Models side by side


def model_comparison(rows: pd.DataFrame) -> Figure:
    """Test accuracy of each row of the study, with its interval and the published figure.

    Args:
        rows: columns `model`, `recipe`, `accuracy`, `low`, `high` and, optionally, `label` and
            `reference`; one bar a row, from the top. Missing values leave out the interval or the
            mark.
    """
    _require(rows, "model", "recipe", "accuracy", "low", "high")
    labels = _row_labels(rows)
    figure = _figure(_WIDTH, 1.1 + _pitch(labels) * len(rows))
    axes = figure.subplots()
    places = np.arange(len(rows))
    accuracy, low, high, reference = (
        pd.to_numeric(rows.get(column, pd.Series(np.nan, rows.index))).to_numpy(float)
        for column in ("accuracy", "low", "high", "reference")
    )
    shades = [color(*pair) for pair in zip(rows["model"], rows["recipe"], strict=True)]
    axes.barh(places, accuracy, color=shades, height=0.7)
    axes.errorbar(
        accuracy,
        places,
        xerr=[accuracy - low, high - accuracy],
        fmt="none",
        ecolor=_TEXT,
        elinewidth=1.2,
        capsize=3,
        zorder=4,
    )
    if np.isfinite(reference).any():
        axes.plot(reference, places, "D", ms=6, mfc="white", mec="black", label="published figure")
        figure.legend(loc="outside lower right")
    ends = np.nanmax([accuracy, high, reference], axis=0)
    for place, end, value in zip(places, ends, accuracy, strict=True):
        axes.annotate(
            _percent(value),
            (end, place),
            (8, 0),
            textcoords="offset points",
            va="center",
            size=_SMALL,
        )
    axes.set_yticks(places, labels)
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlim=(0, 1.1), xlabel="test accuracy")
    _percent_axis(axes.xaxis)
    axes.set_xticks(np.arange(0, 1.01, 0.1))
    axes.grid(False, axis="y")
    return figure


def cost_accuracy(rows: pd.DataFrame, *, x_label: str = "cost") -> Figure:
    """Test accuracy against a cost on a logarithmic axis, a labelled dot a row.

    Args:
        rows: columns `model`, `recipe`, `accuracy`, `x` (the cost, above 0) and, optionally,
            `label`.
        x_label: what the cost is, with its unit.
    """
    _require(rows, "model", "recipe", "accuracy", "x")
    if not (rows["x"] > 0).all():
        raise ValueError(f"x must be above 0 on a logarithmic axis; received {rows['x'].tolist()}.")
    figure = _figure(_WIDTH, 4.8)
    axes = figure.subplots()
    shades = [color(*pair) for pair in zip(rows["model"], rows["recipe"], strict=True)]
    axes.scatter(rows["x"], rows["accuracy"], s=90, c=shades, edgecolors="white", zorder=3)
    axes.set(xscale="log", xlabel=x_label, ylabel="test accuracy")
    axes.margins(x=0.2, y=0.15)
    wide = rows["x"].max() > 4 * rows["x"].min()
    axes.xaxis.set_major_locator(
        ticker.LogLocator(subs=(1, 2, 5), numticks=12) if wide else ticker.MaxNLocator(6)
    )
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
    _percent_axis(axes.yaxis)
    _place_labels(axes, rows["x"], rows["accuracy"], _row_labels(rows))
    return figure


def heat_map(table: pd.DataFrame) -> Figure:
    """Accuracy of each class under each model, a row a model.

    Args:
        table: fractions; index the class names, columns the models' labels.
    """
    values = table.to_numpy(float).T
    models = _wrapped(table.columns, 40)
    figure = _figure(_WIDTH, 1.1 + (_pitch(models) + 0.04) * len(values))
    axes = figure.subplots()
    norm = colors.Normalize(values.min(), max(values.max(), values.min() + 1e-9))
    _draw_heat_map(
        axes,
        values,
        _percent_texts(values),
        models,
        _wrapped(table.index),
        norm,
    )
    axes.xaxis.tick_top()
    axes.set_title("Accuracy of each class (%)", pad=10)
    return figure


def agreement(matrix, names) -> Figure:
    """Share of the test images for which two models predict the same class.

    Args:
        matrix: fractions `(models, models)`, as `metrics.disagreement` gives.
        names: the models' labels.
    """
    matrix = np.asarray(matrix, float)
    figure = _figure(min(_WIDTH, 2.8 + 1.1 * len(names)), 1.6 + 0.55 * len(names))
    axes = figure.subplots()
    norm = colors.Normalize(matrix.min() - 1e-9, 1)
    _draw_heat_map(axes, matrix, _percent_texts(matrix), _wrapped(names, 40), _wrapped(names), norm)
    axes.xaxis.tick_top()
    axes.set_title("Images with the same prediction (%)", pad=10)
    return figure


# Shared by several figures


def _figure(width: float, height: float, layout: str = "constrained") -> Figure:
    # Made by pyplot so that notebooks know how to show it, closed so that they show it once.
    figure = plt.figure(figsize=(width, height), layout=layout)
    plt.close(figure)
    return figure


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _percent_texts(values: np.ndarray) -> np.ndarray:
    return np.vectorize(lambda value: f"{100 * value:.1f}", otypes=[object])(values)


def _wrapped(names, width: int = 12) -> list[str]:
    # Hyphens are kept together where there is room: "efficientnet-lite0".
    wrapper = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=width < 20)
    return [wrapper.fill(str(name)) for name in names]


def _percent_axis(axis) -> None:
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{round(100 * value, 2):g} %"))


def _same_length(**arrays) -> list[np.ndarray]:
    arrays = {name: np.asarray(values) for name, values in arrays.items()}
    if len({len(values) for values in arrays.values()}) > 1:
        received = ", ".join(f"{name} of length {len(values)}" for name, values in arrays.items())
        raise ValueError(f"all arrays must be of the same images; received {received}.")
    return list(arrays.values())


def _require(rows: pd.DataFrame, *columns: str) -> None:
    missing = [column for column in columns if column not in rows]
    if missing:
        raise ValueError(
            f"rows must have the columns {', '.join(columns)}; received "
            f"{', '.join(map(str, rows.columns))}, without {', '.join(missing)}."
        )


def _row_labels(rows: pd.DataFrame) -> list[str]:
    """What a row is called: its label where it has one, else its model and recipe."""
    labels = rows.get("label")
    if labels is None:
        names = [MODEL_LABELS.get(model, model) for model in rows["model"]]
        labels = [f"{name}, {recipe}" for name, recipe in zip(names, rows["recipe"], strict=True)]
    return _wrapped(labels, 40)


def _pitch(labels: list[str]) -> float:
    """Inches from one row to the next, so that labels of several lines do not touch."""
    return _ROW + 0.16 * max((label.count("\n") for label in labels), default=0)


def _picture(tiles: np.ndarray, gap: int = 2) -> np.ndarray:
    """Images `(rows, columns, height, width, 3)` as one: far quicker to draw than axes for each."""
    rows, _, height, _, _ = tiles.shape
    margins = ((0, 0), (0, 0), (0, gap), (0, gap), (0, 0))
    padded = np.pad(tiles, margins, constant_values=255)
    return padded.transpose(0, 2, 1, 3, 4).reshape(rows * (height + gap), -1, 3)[:-gap, :-gap]


def _draw_picture(axes: Axes, picture: np.ndarray) -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.spines[:].set_visible(False)
    axes.grid(False)
    axes.set_yticks([])
    axes.tick_params(length=0, labeltop=True, labelbottom=False)


def _centres(tiles: int, size: int, gap: int = 2) -> np.ndarray:
    return np.arange(tiles) * (size + gap) + (size - 1) / 2


def _confident_mistakes(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]


def _draw_mistakes(
    figure, rows: int, columns: int, images, labels, probabilities, class_names, indices
) -> None:
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.axis("off")
    for axes, index in zip(panels, indices, strict=False):
        predicted = int(probabilities[index].argmax())
        axes.imshow(images[index], interpolation="nearest")
        pair = f"{class_names[labels[index]]} → {class_names[predicted]}"
        confidence = _percent(float(probabilities[index, predicted]))
        axes.set_title(f"{textwrap.fill(pair, 20)}\n{confidence}", size=_SMALL, weight="normal")
    if not len(indices):
        figure.text(0.5, 0.5, "No wrong predictions", ha="center", va="center")


def _stage_caption(stage: dict, width: int) -> str:
    lines = [" × ".join(str(size) for size in stage["output_shape"])]
    # Break between the parts of a block only, "9 conv, / 3 depthwise conv".
    parts = stage["detail"].replace(" ", "\N{NO-BREAK SPACE}")
    lines += textwrap.wrap(parts.replace(",\N{NO-BREAK SPACE}", ", "), width)
    if stage["parameters"]:
        lines += textwrap.wrap(f"{stage['parameters']:,} parameters", width)
    return "\n".join(lines)


def _draw_arrow(axes: Axes, start, end, *, first: bool) -> None:
    """From the map before to this one; at the start of a further row from the left margin."""
    if first:
        return
    start = start or (0.02, end[1])
    style = {"arrowstyle": "-|>", "color": _NEUTRAL, "shrinkA": 5, "shrinkB": 5}
    axes.annotate("", end, start, arrowprops=style)


def _draw_feature_map(axes: Axes, x: float, y: float, shape: tuple, largest: int) -> float:
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


def _model_of(name: str) -> str:
    """The model that a run's name begins with, "" if none."""
    for model, label in MODEL_LABELS.items():
        if name.startswith((model, label)):
            return model
    return ""


def _curve_panels(runs: int) -> tuple[Figure, list]:
    """A figure and, by run, its axes for accuracy and for loss."""
    if runs == 1:
        figure = _figure(_WIDTH, 3.8)
        panels = [figure.subplots(1, 2)]
    else:
        columns = min(4, runs)
        bands = math.ceil(runs / columns)
        figure = _figure(_WIDTH, 5.2 * bands + 0.4)
        grid = figure.subplots(2 * bands, columns, squeeze=False, sharey="row")
        panels = [grid[2 * band : 2 * band + 2, i] for band in range(bands) for i in range(columns)]
    for accuracy, loss in panels[:runs]:
        loss.set_xlabel("epoch")
        # Left-most panels only: the rest of a row shares their scale.
        if accuracy.get_subplotspec().is_first_col():
            accuracy.set_ylabel("accuracy")
        if runs == 1 or loss.get_subplotspec().is_first_col():
            loss.set_ylabel("loss")
    if runs == 1:
        panels[0][0].set_xlabel("epoch")
    for unused in panels[runs:]:
        for axes in unused:
            axes.axis("off")
    return figure, panels


def _curve_limits(histories: dict) -> dict[str, tuple[float, float]]:
    """The range of all runs; below the accuracies there is room for a line of text."""
    limits = {}
    for key in ("accuracy", "loss"):
        values = [history[name] for history in histories.values() for name in (key, f"val_{key}")]
        values = np.concatenate(values)
        limits[key] = float(np.nanmin(values)), float(np.nanmax(values))
    low, high = limits["accuracy"]
    span = max(high - low, 0.04)
    return {
        "accuracy": (low - 0.2 * span, high + 0.06 * span),
        "loss": (0.0, 1.05 * limits["loss"][1] or 1.0),
    }


def _draw_curves(axes: Axes, training, validation, shade: str) -> None:
    count = len(training)
    epochs = np.arange(1, count + 1)
    marker = "o" if count <= _FEW_EPOCHS else ""
    axes.plot(epochs, training, "--", color=shade, lw=1.5, marker=marker, ms=4, mfc="white")
    axes.plot(epochs, validation, "-", color=shade, lw=2, marker=marker, ms=4)
    axes.set_xlim(0.5, 1.03 * count + 0.5)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True, min_n_ticks=1))


def _draw_accuracy(axes: Axes, history: dict, shade: str, limits: tuple[float, float]) -> None:
    training, validation = history["accuracy"], history["val_accuracy"]
    _draw_curves(axes, training, validation, shade)
    axes.set_ylim(limits)
    # The room below the curves is for text: no accuracy is negative.
    low, high = max(0, limits[0]), min(1, limits[1])
    axes.set_yticks([tick for tick in axes.get_yticks() if low <= tick <= high])
    _percent_axis(axes.yaxis)
    ends = [training[-1], validation[-1]]
    axes.plot([1.02 * len(training) + 0.02] * 2, ends, color=_TEXT, lw=2.5, solid_capstyle="butt")
    gap = f"{100 * (ends[0] - ends[1]):+.1f}".replace("-", "−")
    axes.text(0.98, 0.03, f"gap {gap} points", transform=axes.transAxes, ha="right", size=_SMALL)


def _mark_fine_tuning(panels, start: int | None, epochs: int) -> None:
    if start is None or start > epochs:
        return
    for axes in panels:
        axes.axvline(start - 0.5, color=_NEUTRAL, lw=1, ls=":")
        axes.axvspan(start - 0.5, 1.03 * epochs + 0.5, color=_SHADED, zorder=0)
    text = f"fine-tuning from epoch {start}"
    panels[0].annotate(
        text, (0.5, 1), (0, 3), "axes fraction", "offset points", ha="center", size=_SMALL
    )


def _curves_legend(figure: Figure, fine_tuning: bool, marker: str) -> None:
    line = {"color": _NEUTRAL, "marker": marker, "ms": 4}
    handles = [
        Line2D([], [], ls="--", lw=1.5, mfc="white", label="training", **line),
        Line2D([], [], lw=2, label="validation", **line),
        Line2D([], [], color=_TEXT, lw=2.5, label="gap at the last epoch"),
    ]
    if fine_tuning:
        handles.append(Patch(fc=_SHADED, ec=_NEUTRAL, ls=":", label="fine-tuning"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def _draw_per_class(axes: Axes, per_class, overall: float, class_names, model: str) -> None:
    by_name = {row["class"]: row["accuracy"] for row in per_class}
    names = class_names or sorted(by_name, key=by_name.get, reverse=True)
    values = [by_name[name] for name in names]
    axes.barh(names, values, color=color(model), height=0.7)
    axes.axvline(overall, color=_TEXT, ls="--", lw=1.2, label=f"overall {_percent(overall)}")
    for place, value in enumerate(values):
        axes.text(
            1.01,
            place,
            _percent(value),
            va="center",
            size=_SMALL,
            transform=axes.get_yaxis_transform(),
        )
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6), title="Accuracy of each class")
    _percent_axis(axes.xaxis)
    axes.grid(False, axis="y")
    axes.legend(loc="upper right", bbox_to_anchor=(1, -0.07), borderaxespad=0)


def _draw_pairs(axes: Axes, pairs) -> None:
    names = [f"{pair['true']} → {pair['predicted']}" for pair in pairs]
    counts = [pair["count"] for pair in pairs]
    bars = axes.barh(names, counts, color=_MISTAKE, height=0.7)
    axes.bar_label(bars, padding=3, size=_SMALL)
    axes.set(title="Most confused pairs: true → predicted", xlabel="test images")
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6, integer=True))
    axes.grid(False, axis="y")


def _draw_confusion(axes: Axes, matrix, class_names, *, shares: bool) -> None:
    matrix = np.asarray(matrix)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    texts = matrix.astype(str).astype(object)
    if shares:
        texts = texts + "\n" + _percent_texts(share) + " %"
    # A square root, so that mistakes of a few per cent can be told from none.
    norm = colors.PowerNorm(0.5, 0, 1)
    _draw_heat_map(axes, share, texts, class_names, class_names, norm)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title("Confusion matrix" + (": images and share of the true class" if shares else ""))
    plt.setp(axes.get_xticklabels(), rotation=45, ha="right", rotation_mode="anchor")


def _draw_heat_map(axes: Axes, values, texts, rows, columns, norm) -> None:
    seaborn.heatmap(
        values,
        ax=axes,
        annot=texts,
        fmt="",
        cmap="Blues",
        norm=norm,
        cbar=False,
        xticklabels=list(columns),
        yticklabels=list(rows),
        annot_kws={"size": _SMALL},
    )
    axes.tick_params(length=0, rotation=0)


def _draw_calibration(axes: Axes, calibration: dict, model: str) -> None:
    bins = pd.DataFrame(calibration["bins"])
    area = 400 * bins["count"] / bins["count"].max() + 20
    axes.plot([0, 1], [0, 1], "--", color=_NEUTRAL, lw=1.2, label="perfect calibration")
    axes.vlines(bins["confidence"], bins["accuracy"], bins["confidence"], color="#BBBBBB", lw=1)
    axes.scatter(
        bins["confidence"], bins["accuracy"], s=area, color=color(model), ec="white", zorder=3
    )
    axes.plot([], [], "o", color=color(model), ms=7, label="bin; area grows with its images")
    axes.set(xlim=(0, 1.04), ylim=(0, 1.04), xlabel="confidence", ylabel="accuracy")
    axes.set_title(f"Calibration: expected error (ECE) {100 * calibration['ece']:.1f} points")
    _percent_axis(axes.xaxis)
    _percent_axis(axes.yaxis)
    axes.legend(loc="lower right")


def _dashboard_title(record: dict) -> str:
    name = MODEL_LABELS.get(record["model"], record["model"])
    accuracy = _percent(record["test"]["accuracy"])
    title = f"{name}, {record['recipe']}, seed {record['seed']}: {accuracy} test accuracy"
    interval = record.get("test_accuracy_interval")
    if interval:
        title += (
            f" (95 % interval over test images {100 * interval[0]:.1f} to {100 * interval[1]:.1f})"
        )
    return title


def _place_labels(axes: Axes, x, y, labels) -> None:
    """Write each label beside its dot, at the first of some fixed places that is still free."""
    axes.figure.draw_without_rendering()  # settles the layout that the extents depend on
    inside = axes.get_window_extent()
    points = np.column_stack([x, y]).astype(float)
    centres = axes.transData.transform(points)
    dots = [Bbox.from_bounds(left - 7, bottom - 7, 14, 14) for left, bottom in centres]
    written = []
    for number in np.argsort(points[:, 0], kind="stable"):
        probe = axes.text(*points[number], labels[number], size=_SMALL)
        extent = probe.get_window_extent()
        probe.remove()
        taken = dots + written
        boxes = [_label_box(axes, extent, centres[number], place) for place in _LABEL_PLACES]
        free = [
            inside.containsx(box.x0)
            and inside.containsx(box.x1)
            and inside.containsy(box.y0)
            and inside.containsy(box.y1)
            and not box.count_overlaps(taken)
            for box in boxes
        ]
        chosen = free.index(True) if any(free) else 0
        written.append(boxes[chosen])
        _write_label(axes, labels[number], points[number], _LABEL_PLACES[chosen])


def _label_box(axes: Axes, extent: Bbox, centre: np.ndarray, place: tuple[int, int]) -> Bbox:
    """Where a text of this extent lies, in pixels, beside a dot."""
    x, y = centre + np.array(place) * axes.figure.dpi / 72
    left = x - extent.width * {1: 0, 0: 0.5, -1: 1}[np.sign(place[0])]
    return Bbox.from_bounds(left, y - extent.height / 2, extent.width, extent.height)


def _write_label(axes: Axes, label: str, point: np.ndarray, place: tuple[int, int]) -> None:
    side = np.sign(place[0])
    # A label further off needs a line to its dot.
    end = (0 if side > 0 else 1, 0.5)
    leader = {"arrowstyle": "-", "color": _NEUTRAL, "lw": 0.7, "relpos": end}
    text = axes.annotate(
        label,
        point,
        place,
        textcoords="offset points",
        ha={1: "left", 0: "center", -1: "right"}[side],
        va="center",
        size=_SMALL,
        arrowprops=leader if abs(place[1]) > 15 else None,
    )
    text.set_in_layout(False)
