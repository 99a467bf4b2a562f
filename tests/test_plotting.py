import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.pylabtools import select_figure_formats
from matplotlib import colors
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.patches import Arc
from matplotlib.text import Text

from cifar_helpers import metrics, models, plotting, recipes

NAMES = (
    "airplane automobile bird cat deer dog frog horse ship truck".split()  # lengths vary
)


@pytest.fixture(autouse=True)
def _own_defaults():
    with matplotlib.rc_context():
        plotting.use_style()
        yield
    assert plt.get_fignums() == [], "a figure was left open in pyplot"


@pytest.fixture(scope="module")
def predicted():
    """Images, labels and probabilities of a model that is right about two times in three."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 20)
    logits = rng.normal(size=(200, 10)) * 1.5
    logits[np.arange(200), labels] += 3
    odds = np.exp(logits)
    images = rng.integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
    return images, labels, odds / odds.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def record(predicted):
    _, labels, probabilities = predicted
    classes = metrics.predictions(probabilities)
    matrix = metrics.confusion_matrix(labels, classes, 10)
    return {
        "model": "resnet20",
        "recipe": "improved",
        "seed": 2,
        "test": {"accuracy": metrics.accuracy(labels, probabilities), "loss": 1.0},
        "test_accuracy_interval": list(metrics.accuracy_interval(labels, probabilities)),
        "per_class": metrics.per_class(labels, classes, NAMES),
        "confusion_matrix": matrix.tolist(),
        "confused_pairs": metrics.confused_pairs(matrix, NAMES),
        "calibration": metrics.calibration(labels, probabilities),
    }


def history(epochs, gap=0.05, last=0.8):
    validation = np.linspace(0.4, last, epochs) if epochs > 1 else np.array([last])
    return {
        "accuracy": (validation + gap).tolist(),
        "val_accuracy": validation.tolist(),
        "loss": (1.5 - validation - gap).tolist(),
        "val_loss": (1.5 - validation).tolist(),
        "learning_rate": [1e-3] * epochs,
        "seconds": [1.0] * epochs,
    }


def comparison_rows():
    pairs = [("baseline_cnn", "reference"), ("vgg10", "improved"), ("transfer", "96px")]
    return pd.DataFrame(
        {
            "model": [model for model, _ in pairs],
            "recipe": [recipe for _, recipe in pairs],
            "label": ["Baseline CNN", "VGG-10 (improved)", "EfficientNet, 96 px"],
            "accuracy": [0.675, 0.861, 0.904],
            "low": [0.665, 0.854, 0.898],
            "high": [0.684, 0.868, 0.910],
            "seeds": [3, 1, 1],
            "reference": [0.6747, np.nan, 0.9042],
            "reference_backbone": ["", "", "efficientnetv2b0"],
            "x": [90.0, 700.0, 2400.0],
        }
    )


def texts(drawn):
    """Every text of a figure, or of some axes, that a reader sees; line breaks as spaces."""
    (drawn if isinstance(drawn, Figure) else drawn.figure).draw_without_rendering()  # tick labels
    return [
        text.get_text().replace("\n", " ")
        for text in drawn.findobj(Text)
        if text.get_visible() and text.get_text()
    ]


def bars(axes):
    return [patch for patch in axes.patches if hasattr(patch, "get_width")]


def dots(axes):
    return next(found for found in axes.collections if isinstance(found, PathCollection))


def rings(axes):
    """The marks of kept epochs."""
    return [line for line in axes.lines if line.get_markeredgecolor() == plotting.style.TEXT]


def overlapping(items, figure):
    """Pairs of texts whose extents overlap once the figure is drawn."""
    figure.draw_without_rendering()
    items = [item for item in items if item.get_text()]
    for item in items:
        item.get_window_extent()  # moves an annotation to its place
    # Of the text alone: an annotation's own extent takes in its leader line.
    boxes = [(item.get_text(), Text.get_window_extent(item)) for item in items]
    return [
        (one, other)
        for (one, box), (other, other_box) in itertools.combinations(boxes, 2)
        if box.overlaps(other_box)
    ]


# Style and colours


def test_style_has_no_text_below_nine_points():
    sizes = [plt.rcParams[key] for key in ("font.size", "xtick.labelsize", "legend.fontsize")]
    assert min(sizes) >= 9


def test_models_have_different_colours_and_labels():
    entries = models.MODELS.values()
    assert len({plotting.color(entry.name) for entry in entries}) == len(entries)
    assert len({entry.label for entry in entries}) == len(entries)


def test_improved_and_unknown_recipes_have_the_models_full_colour():
    full = models.MODELS["vgg10"].color
    assert plotting.color("vgg10") == plotting.color("vgg10", "improved") == full
    assert plotting.color("vgg10", "one of my own") == full


@pytest.mark.parametrize("model", models.MODELS)
def test_reference_recipes_are_lighter_shades_the_later_the_darker(model):
    def hue(shade):
        return colors.rgb_to_hsv(colors.to_rgb(shade))[0]

    names = [recipe.name for recipe in recipes.of_model(model) if recipe.group == "reference"]
    shades = [plotting.color(model, name) for name in (*names, "improved")]
    assert [hue(shade) for shade in shades] == pytest.approx(
        [hue(shades[-1])] * len(shades), abs=0.01
    )
    light = [sum(colors.to_rgb(shade)) for shade in shades]
    assert light == sorted(light, reverse=True)
    assert min(np.diff(light[::-1])) > 0.15, "shades that readers cannot tell apart"
    assert light[0] < 2.9, "a shade that does not stand out from the page"


def test_shades_do_not_hang_on_what_recipes_are_called(monkeypatch):
    renamed = [replace(recipe, name=f"row {n}") for n, recipe in enumerate(recipes.RECIPES)]
    before = [plotting.color(recipe.model, recipe.name) for recipe in recipes.RECIPES]
    monkeypatch.setattr(recipes, "RECIPES", tuple(renamed))
    assert [plotting.color(recipe.model, recipe.name) for recipe in renamed] == before


def test_unknown_models_are_grey():
    red, green, blue = colors.to_rgb(plotting.color("another"))
    assert max(red, green, blue) - min(red, green, blue) < 0.1


def test_a_model_has_the_same_colour_in_every_figure(record):
    full = colors.to_rgb(models.MODELS["resnet20"].color)
    curves = plotting.learning_curves({"improved": history(3)}, model="resnet20")
    classes, _, _, reliability = plotting.dashboard(record).axes
    rows = comparison_rows().assign(model="resnet20", recipe="improved")
    used = [
        curves.axes[0].lines[1].get_color(),  # validation
        classes.lines[1].get_color(),
        reliability.collections[-1].get_edgecolor()[0],
        dots(plotting.model_comparison(rows).axes[0]).get_facecolor()[0],
        plotting.cost_accuracy(rows, x_label="cost").axes[0].collections[0].get_facecolor()[0],
    ]
    assert [colors.to_rgb(shade) for shade in used] == [full] * len(used)


# Images


def test_sample_grid_shows_the_first_images_of_each_class_in_its_column(predicted):
    images, labels, _ = predicted
    figure = plotting.sample_grid(images, labels, NAMES, per_class=2)
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == list(NAMES)
    picture = axes.images[0].get_array()
    np.testing.assert_array_equal(picture[:32, 3 * 34 : 3 * 34 + 32], images[labels == 3][0])
    np.testing.assert_array_equal(picture[34:, 3 * 34 : 3 * 34 + 32], images[labels == 3][1])


def test_sample_grid_leaves_places_empty_where_images_are_missing(predicted):
    images, _, _ = predicted
    figure = plotting.sample_grid(images[:1], np.array([1]), NAMES, per_class=1)
    picture = np.asarray(figure.axes[0].images[0].get_array())
    assert (picture[:, :32] == 255).all()
    np.testing.assert_array_equal(picture[:, 34:66], images[0])


def test_augmentation_grid_puts_originals_left_of_their_variants(predicted):
    images, _, _ = predicted
    augmented = np.stack([255 - images[:2]] * 3, axis=1)
    figure = plotting.augmentation_grid(images[:2], augmented)
    picture = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_array_equal(picture[:32, :32], images[0])
    np.testing.assert_array_equal(picture[34:, -32:], 255 - images[1])
    assert {"original", "augmented"} <= set(texts(figure))


# Models and training


def stage(number, shape=(16, 16, 32), detail="2 conv, max pool"):
    return {"name": f"block{number}", "detail": detail, "output_shape": shape, "parameters": 9248}


def test_architecture_names_every_block_with_shape_and_parameters():
    stages = [stage(1), stage(2, (10,), "dense")]
    shown = texts(plotting.architecture(stages, "A small CNN"))
    assert {"A small CNN", "block1", "block2"} <= set(shown)
    captions = " ".join(shown).replace("\N{NO-BREAK SPACE}", " ")
    assert "16 × 16 × 32 2 conv, max pool 9,248 parameters" in captions
    assert "10 dense 9,248 parameters" in captions


def test_architecture_draws_larger_maps_larger_and_deeper_ones_deeper():
    figure = plotting.architecture([stage(1, (32, 32, 4)), stage(2, (8, 8, 256))])
    widths = [round(patch.get_width(), 3) for patch in bars(figure.axes[0])]
    large, small = sorted(set(widths), reverse=True)
    assert widths == [large] * 2 + [small] * 5
    assert any("logarithm of the feature map's height" in text for text in texts(figure))


def arcs(figure):
    return [patch for patch in figure.axes[0].patches if isinstance(patch, Arc)]


def test_architecture_draws_an_arc_a_skip_connection_each_kind_in_its_own_look():
    kinds = ("projection", "identity", "padded", "identity")
    figure = plotting.architecture([stage(1), {**stage(2), "skips": kinds}])
    looks = [(arc.get_linestyle(), arc.get_edgecolor()) for arc in arcs(figure)]
    assert len(looks) == 4 and len(set(looks)) == 3
    assert looks[1] == looks[3]
    centres = [arc.center[0] for arc in arcs(figure)]
    assert centres == sorted(centres)
    assert {f"skip connection: {kind}" for kind in kinds} <= set(texts(figure))


def test_architecture_of_a_plain_network_speaks_of_no_skip_connection():
    figure = plotting.architecture([stage(1), stage(2)])
    assert arcs(figure) == []
    assert not any("skip" in text for text in texts(figure))


def test_architecture_marks_frozen_blocks():
    figure = plotting.architecture([{**stage(1), "frozen": True}, {**stage(2), "frozen": False}])
    frozen = [patch.get_hatch() is not None for patch in bars(figure.axes[0])]
    half = len(frozen) // 2
    assert frozen == [True] * half + [False] * half
    assert {"frozen", "trained"} <= set(texts(figure))


@pytest.mark.parametrize(("blocks", "rows"), [(1, 1), (4, 1), (6, 2), (14, 4)])
def test_architecture_wraps_to_rows_without_overlap(blocks, rows):
    detail = "15 conv, 5 depthwise conv"
    figure = plotting.architecture([stage(i, detail=detail) for i in range(blocks)], "Title")
    names = [text for text in figure.axes[0].texts if text.get_text().startswith("block")]
    assert len({round(text.get_position()[1], 3) for text in names}) == rows
    assert overlapping(figure.axes[0].texts, figure) == []


@pytest.mark.parametrize("runs", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("epochs", [1, 200])
def test_learning_curves_have_accuracy_loss_and_rate_of_every_run(runs, epochs):
    histories = {f"run {number}": history(epochs) for number in range(runs)}
    figure = plotting.learning_curves(histories)
    labels = " ".join(texts(figure))
    assert all(name in labels for name in histories)
    drawn = [axes for axes in figure.axes if axes.lines]
    assert len(drawn) == 3 * runs
    assert all(len(axes.lines[0].get_ydata()) == epochs for axes in drawn)


def test_the_rates_panel_shows_the_learning_rate_of_each_epoch():
    run = {**history(3), "learning_rate": [0.1, 0.05, 0.0]}
    rates = plotting.learning_curves({"a": run}).axes[2]
    assert rates.lines[0].get_ydata().tolist() == [0.1, 0.05, 0.0]
    assert [tick.get_text() for tick in rates.get_yticklabels()] == ["0", "0.1"]


def test_runs_without_learning_rates_have_no_panel_for_them():
    run = history(3)
    del run["learning_rate"]
    assert len(plotting.learning_curves({"a": run}).axes) == 2


def test_runs_of_a_group_share_a_panel_with_their_mean():
    runs = {"a": history(20, last=0.6), "b": history(30, last=0.8), "c": history(9)}
    figure = plotting.learning_curves(runs, groups={"a": "reference", "b": "reference"})
    left, right = figure.axes[:2]
    assert (left.get_title(), right.get_title()) == ("reference", "c")
    lines = {len(line.get_ydata()): line for line in left.lines if line.get_linestyle() == "-"}
    assert len(lines[30].get_ydata()) == 30 > len(lines[20].get_ydata())
    mean = left.lines[3].get_ydata()  # validation's, after training's and its two runs
    expected = (np.array(runs["a"]["val_accuracy"]) + runs["b"]["val_accuracy"][:20]) / 2
    np.testing.assert_allclose(mean, expected)


def test_the_gap_of_a_group_is_the_mean_over_its_runs():
    runs = {"a": history(5, gap=0.1), "b": history(5, gap=0.3)}
    groups = dict.fromkeys(runs, "reference")
    assert "mean gap +20.0 points" in texts(plotting.learning_curves(runs, groups=groups))
    shown = texts(plotting.learning_curves(runs))
    assert {"gap +10.0 points", "gap +30.0 points"} <= set(shown)


def test_thin_lines_are_in_the_legend_where_there_are_any():
    runs = {"a": history(5), "b": history(5)}
    name = "one seed; bold: the mean"
    assert name in texts(plotting.learning_curves(runs, groups=dict.fromkeys(runs, "r")))
    assert name not in texts(plotting.learning_curves(runs))


def test_the_accuracy_axis_ends_near_the_curves():
    run = history(20, gap=0.0, last=0.9)  # from 40 to 90 %
    low, high = plotting.learning_curves({"a": run}).axes[0].get_ylim()
    assert 0.36 < low < 0.4 and 0.9 < high < 0.94


def test_training_is_dashed_and_validation_solid():
    run = history(20)
    accuracy, loss, _ = plotting.learning_curves({"a": run}).axes
    for axes, key in ((accuracy, "accuracy"), (loss, "loss")):
        training, validation = axes.lines[:2]
        assert (training.get_linestyle(), validation.get_linestyle()) == ("--", "-")
        np.testing.assert_allclose(training.get_ydata(), run[key])
        np.testing.assert_allclose(validation.get_ydata(), run[f"val_{key}"])


@pytest.mark.parametrize(
    ("gap", "shown"), [(0.178, "gap +17.8 points"), (-0.045, "gap −4.5 points")]
)
def test_gap_is_training_minus_validation_accuracy_in_points(gap, shown):
    assert shown in texts(plotting.learning_curves({"a": history(10, gap)}))


def test_the_last_epoch_counts_as_kept_where_none_is_named():
    run = history(3, gap=0.01)
    run["accuracy"][-1] = run["val_accuracy"][-1] + 0.2
    for kept in (None, {}, {"a": 3}):
        figure = plotting.learning_curves({"a": run}, kept_epochs=kept)
        assert "gap +20.0 points" in texts(figure)
        assert rings(figure.axes[0])[0].get_xdata()[0] == 3


def test_the_kept_epoch_is_marked_with_its_gap():
    run, other = history(30), history(30)
    run["accuracy"][24] = run["val_accuracy"][24] + 0.123
    figure = plotting.learning_curves({"a": run, "b": other}, kept_epochs={"a": 25, "b": 30})
    assert {"gap +12.3 points", "gap +5.0 points", "epoch kept, and its gap"} <= set(texts(figure))
    accuracy, other_accuracy, loss = figure.axes[:3]
    (gap,), (mark,) = rings(accuracy), rings(loss)
    validation, training = run["val_accuracy"][24], run["accuracy"][24]
    assert gap.get_xydata().tolist() == [[25, validation], [25, training]]
    assert mark.get_xydata().tolist() == [[25, run["val_loss"][24]]]
    assert rings(other_accuracy)[0].get_xdata()[0] == 30


def test_a_published_run_shows_the_kept_epochs_gap():
    path = Path(__file__).parents[1] / "results" / "vgg10" / "callbacks" / "seed0.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    kept, accuracies = record["epochs"]["best"], record["history"]
    assert kept < record["epochs"]["run"]
    gap = 100 * (accuracies["accuracy"][kept - 1] - accuracies["val_accuracy"][kept - 1])
    figure = plotting.learning_curves({"callbacks": accuracies}, kept_epochs={"callbacks": kept})
    assert f"gap {gap:+.1f} points" in texts(figure)
    assert rings(figure.axes[0])[0].get_xdata()[0] == kept


def test_start_of_fine_tuning_is_marked_where_there_is_one():
    figure = plotting.learning_curves(
        {"96px": history(60), "head only": history(30)},
        fine_tuning_starts={"96px": 31, "head only": None},
    )
    shown = texts(figure)
    assert "fine-tuning from epoch 31" in shown
    assert "fine-tuning" in shown  # the legend
    marked = [any(line.get_linestyle() == ":" for line in axes.lines) for axes in figure.axes]
    assert marked == [True, False] * 3
    (line,) = (line for line in figure.axes[0].lines if line.get_linestyle() == ":")
    assert line.get_xdata()[0] == 30.5


def test_runs_of_one_phase_have_no_fine_tuning_in_the_legend():
    assert not any(
        "fine-tuning" in text for text in texts(plotting.learning_curves({"a": history(9)}))
    )


def test_short_runs_have_a_marker_an_epoch_and_long_ones_none():
    short, long = (plotting.learning_curves({"a": history(n)}).axes[0].lines[1] for n in (5, 60))
    assert short.get_marker() == "o"
    assert long.get_marker() == ""


def test_epochs_are_whole_numbers_and_accuracies_within_zero_and_one():
    figure = plotting.learning_curves({"a": history(3, last=0.41)})
    figure.draw_without_rendering()
    accuracy = figure.axes[0]
    inside = [t for t in accuracy.get_xticks() if 0.5 <= t <= 3.5]
    assert inside == [1, 2, 3]
    assert all(0 <= tick <= 1 for tick in accuracy.get_yticks())


def test_a_run_whose_loss_diverged_is_drawn():
    diverged = {**history(3), "loss": [np.nan] * 3, "val_loss": [2.0, np.inf, np.nan]}
    for runs, top in (({"a": diverged}, 2.1), ({"a": {**diverged, "val_loss": [np.nan] * 3}}, 1.0)):
        figure = plotting.learning_curves(runs)
        figure.draw_without_rendering()
        assert figure.axes[1].get_ylim() == (0, pytest.approx(top))


def test_several_runs_share_their_scales():
    figure = plotting.learning_curves({"a": history(5, last=0.5), "b": history(9, last=0.9)})
    left, right = figure.axes[:2]
    assert left.get_ylim() == right.get_ylim()


# One model on the test set


def test_classes_go_from_best_to_worst_beside_the_overall_accuracy(record):
    axes = plotting.dashboard({**record, "test": {"accuracy": 0.7012}}).axes[0]
    rows = sorted(record["per_class"], key=lambda row: -row["accuracy"])
    values = [row["accuracy"] for row in rows]
    overall, classes = axes.lines[:2]
    assert classes.get_xdata() == pytest.approx(values)
    assert axes.yaxis_inverted()
    assert overall.get_xdata()[0] == 0.7012
    assert {f"{100 * value:.1f} %" for value in values} | {"accuracy 70.1 %"} <= set(texts(axes))
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [row["class"] for row in rows]


def test_no_text_of_the_dashboard_touches_another_panel(record):
    pairs = [{"true": "truck", "predicted": "automobile", "count": 21}]
    per_class = [{"class": name, "accuracy": 0.99} for name in NAMES]
    figure = plotting.dashboard({**record, "confused_pairs": pairs, "per_class": per_class})
    left, right = figure.axes[:2]
    figure.draw_without_rendering()
    pair = right.get_yticklabels()[0].get_window_extent()
    ends = [Text.get_window_extent(text).x1 for text in left.texts]
    assert max(ends) < pair.x0


@pytest.mark.parametrize(
    ("values", "start"),
    [([0.91, 0.988], 0.9), ([0.3, 0.9], 0.2), ([0.0, 0.5], 0.0), ([0.96], 0.955)],
)
def test_an_axis_of_dots_says_where_it_starts_and_has_no_tick_above_one(values, start):
    axes = plotting.style.new_figure(4, 2).subplots()
    plotting.style.accuracy_axis(axes, [*values, np.nan], "accuracy")
    low, high = axes.get_xlim()
    assert low == pytest.approx(start) and high > max(values)
    assert axes.get_xticks().max() <= 1
    notice = f"accuracy (the axis starts at {100 * start:g} %)" if start else "accuracy"
    assert axes.get_xlabel() == notice


def test_confused_pairs_show_both_classes_and_the_count(record):
    pairs = [
        {"true": "dog", "predicted": "cat", "count": 73},
        {"true": "cat", "predicted": "dog", "count": 70},
    ]
    axes = plotting.dashboard({**record, "confused_pairs": pairs}).axes[1]
    assert [bar.get_width() for bar in bars(axes)] == [73, 70]
    assert {"dog → cat", "cat → dog", "73", "70"} <= set(texts(axes))


def test_confused_pairs_of_a_model_without_mistakes_are_drawn_empty(record):
    figure = plotting.dashboard({**record, "confused_pairs": []})
    figure.draw_without_rendering()
    assert bars(figure.axes[1]) == []


def two_classes(matrix):
    per_class = [{"class": name, "accuracy": 0.5} for name in ("cat", "dog")]
    return {"confusion_matrix": matrix, "per_class": per_class}


def test_confusion_matrix_shows_counts_coloured_by_their_share_of_the_true_class(record):
    axes = plotting.dashboard({**record, **two_classes([[3, 1], [0, 6]])}).axes[2]
    assert [text.get_text() for text in axes.texts] == ["3", "1", "0", "6"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    np.testing.assert_allclose(
        axes.collections[0].get_array().reshape(2, 2), [[0.75, 0.25], [0, 1]]
    )


def test_confusion_matrix_takes_a_class_without_images(record):
    axes = plotting.dashboard({**record, **two_classes([[0, 0], [0, 6]])}).axes[2]
    np.testing.assert_array_equal(axes.collections[0].get_array().reshape(2, 2), [[0, 0], [0, 1]])


def test_calibration_draws_a_dot_a_bin_growing_with_its_count(record):
    diagram = {
        "ece": 0.032,
        "bins": [
            {"low": 0.4, "high": 0.5, "confidence": 0.45, "accuracy": 0.5, "count": 10},
            {"low": 0.9, "high": 1.0, "confidence": 0.97, "accuracy": 0.93, "count": 90},
        ],
    }
    axes = plotting.dashboard({**record, "calibration": diagram}).axes[3]
    dots = axes.collections[-1]
    np.testing.assert_allclose(dots.get_offsets(), [[0.45, 0.5], [0.97, 0.93]])
    small, large = dots.get_sizes()
    assert small < large
    assert "3.2 %" in axes.get_title()
    assert axes.lines[0].get_xydata().tolist() == [[0, 0], [1, 1]]


def test_bins_of_few_images_are_hollow_and_the_rule_is_stated(record):
    bins = [
        {"low": 0.4, "high": 0.5, "confidence": 0.45, "accuracy": 0.5, "count": 49},
        {"low": 0.9, "high": 1.0, "confidence": 0.97, "accuracy": 0.93, "count": 50},
    ]
    axes = plotting.dashboard({**record, "calibration": {"ece": 0.0, "bins": bins}}).axes[3]
    few, enough = axes.collections[-1].get_facecolor()[:, :3].tolist()
    assert few == [1, 1, 1] != enough
    assert "hollow: fewer than 50 images" in texts(axes)
    full = plotting.dashboard({**record, "calibration": {"ece": 0.0, "bins": bins[1:]}})
    assert not any("hollow" in text for text in texts(full.axes[3]))


def test_dashboard_has_four_panels_and_says_which_model_it_is(record):
    figure = plotting.dashboard(record)
    titles = [axes.get_title() for axes in figure.axes]
    for title, start in zip(
        titles, ("Recall of each", "Most confused", "Confusion", "Calibration"), strict=True
    ):
        assert title.startswith(start)
    accuracy = record["test"]["accuracy"]
    name = "ResNet-20 (improved), seed 2"
    assert f"{name}: {100 * accuracy:.1f} % test accuracy" in figure.get_suptitle()
    assert "95 % interval over test images" in figure.get_suptitle()


# Models side by side


def test_model_comparison_has_a_dot_a_row_with_its_value_and_interval():
    rows = comparison_rows()
    figure = plotting.model_comparison(rows)
    (axes,) = figure.axes
    np.testing.assert_allclose(dots(axes).get_offsets()[:, 0], rows["accuracy"])
    assert {"67.5 %", "86.1 %", "90.4 %", *rows["label"]} <= set(texts(figure))
    over_seeds, over_images = (bars.lines[2][0].get_segments() for bars in axes.containers)
    ends = [segment[:, 0] for segment in (*over_seeds, *over_images)]
    np.testing.assert_allclose(ends, rows[["low", "high"]])
    assert len(over_seeds) == 1  # the first row's
    assert "starts at 65 %" in axes.get_xlabel()
    assert axes.yaxis_inverted()


def test_model_comparison_marks_published_figures_where_there_are_any():
    axes = plotting.model_comparison(comparison_rows()).axes[0]
    own, other = "original study", "original study, another backbone"
    marks = {line.get_label(): list(line.get_xdata()) for line in axes.lines}
    assert (marks[own], marks[other]) == ([0.6747], [0.9042])
    shown = [text.get_text() for text in axes.get_legend().get_texts()]
    kinds = ["over seeds, of their mean", "one seed: over test images"]
    assert sorted(shown) == sorted(["here, with 95 % interval", *kinds, own, other])


def test_model_comparison_without_published_figures_has_no_mark_for_them():
    figure = plotting.model_comparison(comparison_rows().assign(reference=np.nan))
    assert "original study" not in texts(figure)
    assert "original study" not in [line.get_label() for line in figure.axes[0].lines]


def test_long_row_labels_do_not_overlap():
    label = "EfficientNet transfer (efficientnet-lite0, 224 px), improved with a longer name"
    figure = plotting.model_comparison(comparison_rows().assign(label=label))
    assert overlapping(figure.axes[0].get_yticklabels(), figure) == []


@pytest.mark.parametrize(
    "x",
    [[100.0] * 8, np.geomspace(10, 1e6, 8), np.linspace(100, 130, 8)],
    ids=["same", "wide", "near"],
)
def test_labels_of_cost_and_accuracy_do_not_overlap(x):
    rows = pd.DataFrame(
        {
            "model": list(models.MODELS) * 2,
            "recipe": ["reference"] * 4 + ["improved"] * 4,
            "label": [f"{entry.label}, {n}" for n in (1, 2) for entry in models.MODELS.values()],
            "accuracy": [0.68, 0.82, 0.88, 0.90, 0.79, 0.86, 0.91, 0.96],
            "x": x,
        }
    )
    figure = plotting.cost_accuracy(rows, x_label="training time (seconds)")
    (axes,) = figure.axes
    assert len(axes.texts) == 8
    assert overlapping(axes.texts, figure) == []
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "training time (seconds)"


def test_cost_and_accuracy_are_where_the_rows_say():
    rows = comparison_rows()
    dots = plotting.cost_accuracy(rows, x_label="cost").axes[0].collections[0]
    np.testing.assert_allclose(dots.get_offsets(), rows[["x", "accuracy"]])


def test_cost_axis_is_labelled_in_plain_numbers():
    figure = plotting.cost_accuracy(
        comparison_rows().assign(x=[274_826, 402_986, 6_255_962]), x_label="cost"
    )
    figure.draw_without_rendering()
    axes = figure.axes[0]
    low, high = axes.get_xlim()
    ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    shown = [tick.get_text() for place, tick in ticks if low <= place <= high]
    assert "1,000,000" in shown
    assert all(re.fullmatch(r"[\d,]+", text) for text in shown)


def test_heat_map_shows_every_class_under_every_model():
    table = pd.DataFrame({"VGG-10": [0.5, 0.75], "ResNet-20": [0.6, 0.912]}, index=["cat", "dog"])
    figure = plotting.heat_map(table)
    assert {"50.0", "75.0", "60.0", "91.2", "cat", "dog", "VGG-10", "ResNet-20"} <= set(
        texts(figure)
    )
    np.testing.assert_allclose(
        figure.axes[0].collections[0].get_array().reshape(table.T.shape), table.to_numpy().T
    )


def test_agreement_shows_the_shares_and_both_names():
    figure = plotting.agreement(np.array([[1.0, 0.823], [0.823, 1.0]]), ["VGG-10", "ResNet-20"])
    shown = texts(figure)
    assert shown.count("82.3") == 2
    assert shown.count("VGG-10") == 2


def test_every_figure_draws_at_a_notebook_pages_width(record, predicted):
    images, labels, probabilities = predicted
    figures = [
        plotting.sample_grid(images, labels, NAMES),
        plotting.augmentation_grid(images[:3], np.stack([images[:3]] * 6, axis=1)),
        plotting.architecture([stage(number) for number in range(12)], "Title"),
        plotting.learning_curves({"a": history(20), "b": history(30)}),
        plotting.dashboard(record),
        plotting.model_comparison(comparison_rows()),
        plotting.cost_accuracy(comparison_rows(), x_label="cost"),
        plotting.heat_map(pd.DataFrame(np.eye(10), index=NAMES)),
        plotting.agreement(np.eye(4), [entry.label for entry in models.MODELS.values()]),
    ]
    for figure in figures:
        assert isinstance(figure, Figure)
        assert figure.get_figwidth() <= 8.5
        assert figure.alt_text.endswith(".")
        figure.draw_without_rendering()
        sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text()]
        assert min(sizes) >= 9


# What figures say to readers who cannot see them


def test_a_notebook_keeps_a_figures_alt_text_beside_its_picture():
    figure = plotting.agreement(np.array([[1.0, 0.823], [0.823, 1.0]]), ["VGG-10", "ResNet-20"])
    shell = InteractiveShell()
    select_figure_formats(shell, {"png"})
    content, metadata = shell.display_formatter.format(figure)
    assert content["image/png"]
    assert metadata["image/png"]["alt"] == (
        "Share of images with the same prediction. VGG-10 and ResNet-20: 82.3 %."
    )


def test_the_alt_text_of_a_comparison_holds_its_numbers():
    rows = (
        comparison_rows()
        .iloc[:1]
        .assign(label="A", accuracy=0.781, low=0.77, high=0.79, reference=0.8)
    )
    assert plotting.model_comparison(rows).alt_text == (
        "Test accuracy of each row, with its 95 % interval. A: 78.1 % (77.0 – 79.0 over 3 seeds), original study 80.0 %."
    )
    assert (
        "(77.0 – 79.0 over test images)" in plotting.model_comparison(rows.assign(seeds=1)).alt_text
    )
    bare = rows.assign(low=np.nan, high=np.nan, reference=np.nan)
    assert plotting.model_comparison(bare).alt_text.endswith(" A: 78.1 %.")


def test_the_alt_text_of_learning_curves_is_of_the_epoch_that_was_kept():
    run = {"accuracy": [0.2, 0.5, 0.9], "val_accuracy": [0.25, 0.6, 0.55]}
    run |= {"loss": [3, 2, 1], "val_loss": [3, 2, 2]}
    figure = plotting.learning_curves({"a": run, "b": run}, kept_epochs={"a": 2})
    assert "a: 50.0 % training and 60.0 % validation accuracy at epoch 2 of 3," in figure.alt_text
    assert "b: 90.0 % training and 55.0 % validation accuracy at epoch 3." in figure.alt_text


def test_the_alt_text_of_a_dashboard_names_the_best_and_the_worst_class(record):
    rows = [dict(row, accuracy=0.5) for row in record["per_class"]]
    rows[3]["accuracy"], rows[8]["accuracy"] = 0.4, 0.9
    words = plotting.dashboard({**record, "per_class": rows}).alt_text
    assert "between 40.0 % (cat) and 90.0 % (ship)" in words


def test_the_alt_text_of_a_class_table_holds_each_models_extremes():
    table = pd.DataFrame({"VGG-10": [0.5, 0.75]}, index=["cat", "dog"])
    words = plotting.heat_map(table).alt_text
    assert words.endswith("VGG-10: from 50.0 % (cat) to 75.0 % (dog).")
