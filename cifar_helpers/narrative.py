"""Tables and sentences of the notebooks, computed from records, so that they stay true when rerun.

Every function returns something that a notebook displays as the last value of a cell.
"""

import ast
import inspect
import itertools

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown

from cifar_helpers import metrics, models, plotting, recipes, results, training
from cifar_helpers.hardware import hardware_label
from cifar_helpers.models import backbones
from cifar_helpers.recipes import Recipe
from cifar_helpers.results import Result
from cifar_helpers.text import duration, p_value, percent, points


def notice(*sources) -> Markdown:
    """A box that says which images, and which backbone, a page is about.

    Args:
        sources: whatever has a `notice()`: the splits' source, the backbone's weights.
    """
    return Markdown("\n".join(f"> {source.notice()}\n>" for source in sources))


def _html(styled, name: str) -> HTML:
    """A styled table as HTML that is the same each time: pandas would draw a random name.

    The name is the page's only one: the style of one table would show in its namesakes.
    """
    return HTML(styled.set_uuid(name).to_html())


def source(function) -> Markdown:
    """A function's source, as it stands in the package, without its docstring."""
    lines = inspect.getsource(function).splitlines()
    first, *_ = ast.parse("\n".join(lines)).body[0].body
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        del lines[first.lineno - 1 : first.end_lineno]
    return Markdown("\n".join(["```python", *lines, "```"]))


def split_table(splits) -> pd.DataFrame:
    """How many images there are for what, in all and of each class."""
    rows = {}
    for name in ("train", "validation", "test"):
        labels = pd.Series(getattr(splits, name).labels)
        counts = labels.value_counts()
        each = f"{counts.min():,}" if counts.min() == counts.max() else "varies"
        rows[name] = {"images": f"{len(labels):,}", "of each class": each}
    return pd.DataFrame(rows).T


def stage_table(stages: list[dict]) -> HTML:
    """The blocks of a network: shape, parameters and multiply-adds."""
    table = pd.DataFrame(stages)
    table["output_shape"] = [" × ".join(map(str, shape)) for shape in table["output_shape"]]
    table.columns = ["block", "layers", "output", "parameters", "multiply-adds"]
    table.loc[len(table)] = [
        "in all",
        "",
        "",
        table["parameters"].sum(),
        table["multiply-adds"].sum(),
    ]
    return _html(table.style.hide(axis="index").format(thousands=","), "stages")


_AUGMENTATIONS = {
    "none": "none",
    "flip": "flip",
    "crop_flip": "4-pixel crop, flip",
    "crop2_flip": "2-pixel crop, flip",
    "reference": "rotation, shift, zoom, flip",
}


def recipe_table(plan: list[tuple[Recipe, int]]) -> HTML:
    """What is about to be trained, one column a recipe."""
    columns = {}
    for recipe, _ in plan:
        columns[recipe.name] = {
            "what changes": recipe.changes,
            **_input_rows(recipe),
            "augmentation": _augmentation(recipe),
            "dropout": "–" if recipe.dropout is None else f"{recipe.dropout:g}",
            "label smoothing": f"{recipe.label_smoothing:g}",
            "validation share": f"{100 * recipe.validation_fraction:.0f} %",
            **_phase_rows(recipe),
            "computed in": training.fastest_precision(recipe.model).removeprefix("mixed_"),
            "seeds": ", ".join(str(seed) for other, seed in plan if other == recipe),
        }
    left = {"text-align": "left", "vertical-align": "top", "max-width": "17em"}
    return _html(pd.DataFrame(columns).style.set_properties(**left), "recipes")


def _augmentation(recipe: Recipe) -> str:
    words = _AUGMENTATIONS[recipe.augmentation]
    # While the whole backbone is frozen, the head sees each image and its mirror image.
    shifts = recipe.augmentation not in ("none", "flip")
    return f"flip \N{RIGHTWARDS ARROW} {words}" if recipe.model == "transfer" and shifts else words


def _input_rows(recipe: Recipe) -> dict[str, str]:
    if recipe.model == "transfer":
        return {"image size": f"{recipe.image_size} px"}
    return {"pixels": "zero mean, unit variance" if recipe.centred else "in [0, 1]"}


def _phase_rows(recipe: Recipe) -> dict[str, str]:
    def joined(describe) -> str:
        return " → ".join(dict.fromkeys(describe(phase) for phase in recipe.phases))

    return {
        "epochs": " + ".join(str(phase.epochs) for phase in recipe.phases),
        "batch size": joined(lambda phase: str(phase.batch_size)),
        "optimizer": joined(lambda phase: phase.optimizer),
        "learning rate": joined(lambda phase: f"{phase.learning_rate:g}, {phase.schedule}"),
        "weight decay": joined(lambda phase: f"{phase.weight_decay:g}"),
        "early stopping": joined(lambda phase: _stopping(phase.early_stopping)),
        "learning rate halved": joined(lambda phase: _patience(phase.reduce_on_plateau)),
        "weight averaging": joined(lambda phase: f"{phase.ema:g}" if phase.ema else "–"),
    }


def _patience(epochs: int) -> str:
    return f"after {epochs} epochs without progress" if epochs else "–"


def _stopping(epochs: int) -> str:
    return f"{_patience(epochs)}, back to the best epoch" if epochs else "–"


def label(result: Result) -> str:
    """Model and recipe; the image size is said where the recipe's name does not already."""
    record = result.record
    if not record["backbone"]:
        return f"{plotting.MODEL_LABELS[record['model']]}, {record['recipe']}"
    backbone = record["backbone"]["backbone"]
    name = f"{recipes.BACKBONE_LABELS.get(backbone, backbone)}, {record['recipe']}"
    size = record["image_size"]
    return name if record["recipe"] == f"{size}px" else f"{name} at {size} px"


def results_table(found: list[Result]) -> HTML:
    """The results beside the published figures, which stand only beside real CIFAR-10."""
    table = results.results_table(found)
    shown = pd.DataFrame(
        {
            "model": [plotting.MODEL_LABELS[model] for model in table["model"]],
            "recipe": table["recipe"],
            "what changes": table["changes"],
            "parameters": [f"{count:,}" for count in table["parameters"]],
            "epochs": table["epochs"],
            "test accuracy": [percent(value) for value in table["accuracy"]],
            "95 % interval": _intervals(table),
            "over": table["interval"],
            "test loss": [f"{value:.3f}" for value in table["loss"]],
            "gap": [points(value) for value in table["gap"]],
            "training": [duration(value) for value in table["seconds"]],
        }
    )
    if "reference" in table:
        shown["published accuracy"] = _published(table)
        shown["published gap"] = _or_dash(table["reference_gap"], points)
    left = {"text-align": "left", "min-width": "9em", "max-width": "18em"}
    styled = shown.style.hide(axis="index")
    return _html(styled.set_properties(subset=["what changes"], **left), "results")


def _intervals(table: pd.DataFrame, unit: str = "") -> list[str]:
    rows = zip(table["low"], table["high"], strict=True)
    return [f"{100 * low:.1f} – {100 * high:.1f}{unit}" for low, high in rows]


def _covering(intervals: list[str], table: pd.DataFrame) -> list[str]:
    """The intervals, each with what it covers."""
    rows = zip(intervals, table["interval"], strict=True)
    return [f"{interval} ({covers})" for interval, covers in rows]


def _published(table: pd.DataFrame) -> list[str]:
    """The published accuracies with their epochs, and the backbone where it was another one."""
    cells = []
    for _, row in table.iterrows():
        about = f" ({results.about_reference(row)})"
        cells.append("–" if pd.isna(row["reference"]) else percent(row["reference"]) + about)
    return cells


def _or_dash(values: pd.Series, format_value) -> list[str]:
    return ["–" if pd.isna(value) else format_value(value) for value in values]


def classification_report(result: Result) -> HTML:
    """Precision, recall and F1 of each class, in percent of the test images."""
    table = pd.DataFrame(result.record["per_class"])[
        ["class", "precision", "recall", "f1", "support"]
    ]
    shares = ["precision", "recall", "f1"]
    styled = table.style.hide(axis="index").format({name: percent for name in shares})
    return _html(
        styled.background_gradient(subset=shares, cmap="Blues", vmin=0.3, vmax=1.1), "classes"
    )


def learned(found: list[Result]) -> Markdown:
    """The conclusions of a notebook of one model, from its records.

    Args:
        found: the results of one model's recipes.
    """
    best = results.best_by_validation(found)
    lines = [_best_line(best, found), *_comparison_lines(found, best), _gap_line(found)]
    lines.append(_same_line(found))
    alone = len(_seeds_of(best, found)) == 1
    the = "The" if alone else f"With seed {best.record['seed']}, the"
    lines += [f"{the} {_class_line(best)}", f"{the} {_calibration_line(best)}"]
    lines += _short_line(found)
    return Markdown("\n".join(f"- {line}" for line in lines if line))


def _seeds_of(best: Result, found: list[Result]) -> list[Result]:
    """The results of the best one's recipe, its own among them."""
    return next(group for group in results.by_recipe(found).values() if best in group)


def _best_line(best: Result, found: list[Result]) -> str:
    group = _seeds_of(best, found)
    table = results.results_table(group)
    row = table.iloc[0]
    name = f"**{best.record['recipe']}**"
    subject = (
        f"The recipe that did best on the validation images, {name},"
        if len(group) < len(found)
        else name
    )
    mean = f"on average over {len(group)} seeds " if len(group) > 1 else ""
    return (
        f"{subject} classifies {mean}**{percent(row['accuracy'])}** of the test images correctly "
        f"(95 % interval over {row['interval']} {_intervals(table)[0]})."
    )


def _comparison_lines(found: list[Result], best: Result) -> list[str]:
    """The best recipe against each other one, both with the same seed."""
    return [
        _compare(best, result)
        for result in found
        if result.record["recipe"] != best.record["recipe"]
        and result.record["seed"] == best.record["seed"]
    ]


def _same_line(found: list[Result]) -> str:
    """Names recipes whose trainings came out the same, prediction by prediction."""
    same = [
        f"**{one.record['recipe']}** and **{other.record['recipe']}**"
        for one, other in itertools.combinations(found, 2)
        if one.record["seed"] == other.record["seed"]
        and np.array_equal(one.probabilities, other.probabilities)
    ]
    if not same:
        return ""
    return (
        f"{'; '.join(same)} gave the same network: in so few epochs, what sets the recipes apart "
        "never came into play."
    )


def _compare(first: Result, second: Result) -> str:
    test = metrics.mcnemar(first.labels, first.predictions, second.predictions)
    difference = metrics.bootstrap_difference(first.labels, first.predictions, second.predictions)
    gain, low, high = (100 * difference[name] for name in ("difference", "low", "high"))
    verdict = "a real difference" if test["p_value"] < 0.05 else "no clear difference"
    return (
        f"With seed {second.record['seed']} of both, the difference from "
        f"**{second.record['recipe']}** is {points(gain)} points (95 % interval {points(low)} "
        f"to {points(high)}): {verdict} between these two trained networks (McNemar, "
        f"{p_value(test['p_value'])})."
    )


def _gap_line(found: list[Result]) -> str:
    table = results.results_table(found)
    listed = ", ".join(
        f"{recipe} {points(gap)}" for recipe, gap in zip(table["recipe"], table["gap"], strict=True)
    )
    line = f"Training minus validation accuracy in the last epoch, in percentage points: {listed}."
    if (table["gap"] < 0).any():
        line += (
            " Training accuracy is averaged over the epoch while the network learns, with any "
            "augmentation and dropout on, so it can be the lower one."
        )
    return line


def _class_line(best: Result) -> str:
    classes = sorted(best.record["per_class"], key=lambda row: row["recall"])
    line = (
        f"hardest class is **{classes[0]['class']}** ({percent(classes[0]['recall'])} found), the "
        f"easiest **{classes[-1]['class']}** ({percent(classes[-1]['recall'])})."
    )
    for pair in best.record["confused_pairs"][:1]:
        line += (
            f" The commonest mistake is {pair['true']} taken for {pair['predicted']}, "
            f"{pair['count']} times."
        )
    return line


def _calibration_line(best: Result) -> str:
    confidence = float(best.probabilities.max(axis=1).mean())
    error = percent(best.record["calibration"]["ece"])
    points = 100 * (confidence - best.record["test"]["accuracy"])
    side = "overconfident" if points > 0 else "underconfident"
    verdict = f"{side} by {abs(points):.1f} points" if abs(points) >= 0.1 else "as it should be"
    return (
        f"mean confidence is {percent(confidence)}: {verdict} (expected calibration error {error})."
    )


def _short(found: list[Result]) -> list[Result]:
    """The trainings that were shorter than their recipes are written."""
    return [
        result
        for result in found
        if result.recipe and result.record["epochs"]["requested"] < result.recipe.epochs
    ]


def _short_line(found: list[Result]) -> list[str]:
    """Says so where trainings were shorter than the recipes are written."""
    short = _short(found)
    if not short:
        return []
    return [
        f"{len(short)} of {len(found)} trainings were **cut short** by a cap on their epochs: "
        "figures are provisional."
    ]


def neighbours(chosen: list[Result]):
    """Each model against the one before: difference in accuracy and whether it is more than luck.

    Args:
        chosen: one result a model, in the study's order, on the same test images.
    """
    if len(chosen) < 2:
        return _TOO_FEW
    rows = []
    for before, after in zip(chosen, chosen[1:], strict=False):
        test = metrics.mcnemar(after.labels, after.predictions, before.predictions)
        gain = metrics.bootstrap_difference(after.labels, after.predictions, before.predictions)
        rows.append(
            {
                "from": label(before),
                "to": label(after),
                "points gained": f"{100 * gain['difference']:+.1f}",
                "95 % interval": f"{100 * gain['low']:+.1f} to {100 * gain['high']:+.1f}",
                "only the new one right": test["only_a"],
                "only the old one right": test["only_b"],
                "McNemar": p_value(test["p_value"]),
            }
        )
    return _html(pd.DataFrame(rows).style.hide(axis="index"), "neighbours")


def missing(found: list[Result]) -> Markdown:
    """Names the rows of the study that have no record, and how to make them."""
    rows = results.missing_rows(found)
    if not rows:
        return Markdown(f"All rows of the study are here, {len(found)} trainings in all.")
    listed = ", ".join(f"{plotting.MODEL_LABELS[model]} {recipe}" for model, recipe in rows)
    return Markdown(
        f"**Not here:** {listed}. Everything below is about the rows that are; run the notebooks "
        "of the others to complete it."
    )


def ranking(chosen: list[Result]) -> Markdown:
    """The study's answer in a few sentences: who wins, by how much, at what cost."""
    if not chosen:
        return Markdown("There is no record yet: run notebooks 01 to 04 first.")
    order = sorted(chosen, key=lambda result: result.record["test"]["accuracy"], reverse=True)
    listed = ", ".join(
        f"{label(result)} {percent(result.record['test']['accuracy'])}" for result in order
    )
    lines = [f"From best to worst on the test images: {listed}."]
    first, last = order[0], order[-1]
    errors = [1 - result.record["test"]["accuracy"] for result in (first, last)]
    if errors[1] > 0 and first is not last:
        work = first.record["multiply_adds"] / last.record["multiply_adds"]
        lines.append(
            f"The best makes {percent(errors[0] / errors[1])} of the mistakes of the last, at "
            f"{work:,.1f} times its multiply-adds an image."
        )
    lines += _short_line(chosen)
    return Markdown("\n".join(f"- {line}" for line in lines))


def limits(found: list[Result]) -> Markdown:
    """What the records at hand cannot show."""
    seeds = {len(group) for group in results.by_recipe(found).values()}
    lines = []
    if seeds == {1}:
        lines.append(
            "Each row is **one training**: the intervals cover the choice of test images, not the "
            "luck of a seed. Differences of about a point between rows may not survive another seed."
        )
    elif 1 in seeds:
        lines.append(
            "Some rows rest on one training: their intervals do not cover the seed's luck."
        )
    if found and not found[0].record["dataset"]["real"]:
        lines.append("The images are **drawn, not photographed**: nothing here is about CIFAR-10.")
    elif found and not found[0].record["dataset"]["verified"]:
        lines.append("The copy of CIFAR-10 does not match the official checksum.")
    sizes = {result.record["dataset"]["train_images"] for result in found}
    if len(sizes) > 1:
        listed = ", ".join(f"{size:,}" for size in sorted(sizes))
        lines.append(
            f"Rows were trained on different numbers of images ({listed}): part of a difference "
            "between them is data, not model."
        )
    if any(result.record["model"] == "transfer" for result in found):
        lines.append("Transfer learning starts from ImageNet: it has seen more than the others.")
    if found and found[0].record["dataset"]["real"]:
        lines.append(
            "About 3 % of CIFAR-10's test images have a near-duplicate among the training images "
            "([Barz and Denzler 2020](https://arxiv.org/abs/1902.00423)): all accuracies are slightly too high."
        )
    return Markdown("\n".join(f"- {line}" for line in lines + _short_line(found)))


# Notebook 04


def fine_tuning_table(model, layers: list[int | None]) -> pd.DataFrame:
    """How many weights train when so many of a transfer model's last layers are opened.

    Args:
        model: from `models.transfer`; left with its backbone frozen.
        layers: numbers of layers; None for all.
    """
    rows = {}
    for count in layers:
        models.fine_tune(model, layers=count)
        counts = models.parameter_counts(model)
        name = {0: "none: the head alone", None: "all"}.get(count, f"the last {count}")
        rows[name] = {
            "weights trained": f"{counts['trainable']:,}",
            "share of all": percent(counts["trainable"] / counts["total"]),
        }
    models.fine_tune(model, layers=0)
    table = pd.DataFrame(rows).T
    table.index.name = "layers opened"
    return table


# Notebook 05


def comparison_rows(found: list[Result]) -> pd.DataFrame:
    """The results table with a label a row, for `plotting.model_comparison`."""
    table = results.results_table(found)
    groups = results.by_recipe(found).values()
    return table.assign(label=[label(group[0]) for group in groups])


def cost_rows(found: list[Result], cost: str) -> pd.DataFrame:
    """Accuracy and cost of each row, for `plotting.cost_accuracy`.

    Args:
        found: the results.
        cost: "multiply_adds", in millions an image, or "seconds" of training, in minutes.
    """
    rows = []
    for group in results.by_recipe(found).values():
        record = group[0].record
        costs = {
            "multiply_adds": record["multiply_adds"] / 1e6,
            "seconds": np.mean([r.record["seconds"]["train"] for r in group]) / 60,
        }
        rows.append(
            {
                "model": record["model"],
                "recipe": record["recipe"],
                "label": label(group[0]),
                "accuracy": np.mean([r.record["test"]["accuracy"] for r in group]),
                "x": costs[cost],
            }
        )
    return pd.DataFrame(rows)


def cost_table(chosen: list[Result]) -> HTML:
    """What each model takes: weights, work an image, training time and speed, on what hardware."""
    rows = []
    for result in chosen:
        record = result.record
        rows.append(
            {
                "model": label(result),
                "test accuracy": percent(record["test"]["accuracy"]),
                "weights": f"{record['parameters']['total']:,}",
                "multiply-adds an image": f"{record['multiply_adds'] / 1e6:,.1f} M",
                "training": duration(record["seconds"]["train"]),
                "an epoch": duration(_last_epochs(record)),
                "on": hardware_label(record["hardware"]),
            }
        )
    return _html(pd.DataFrame(rows).style.hide(axis="index"), "costs")


def _last_epochs(record: dict) -> float:
    """Seconds of an epoch of the last phase, the median: earlier ones may run on cached features."""
    return float(np.median(record["history"]["seconds"][-record["epochs"]["phases"][-1]["run"] :]))


def agreement(chosen: list[Result]):
    """A figure of how often two models say the same; a sentence where there are not two."""
    if len(chosen) < 2:
        return _TOO_FEW
    shares = metrics.disagreement(_predictions(chosen), chosen[0].labels)
    return plotting.agreement(shares["agreement"], shares["names"])


_TOO_FEW = Markdown("*It takes records of two models to compare them.*")


def disagreement_table(chosen: list[Result]):
    """Shares of the test images that all, some, one or none of the models get right."""
    if len(chosen) < 2:
        return _TOO_FEW
    shares = metrics.disagreement(_predictions(chosen), chosen[0].labels)
    rows = {
        "every model right": shares["all_right"],
        "some right, some wrong": shares["mixed"],
        "every model wrong": shares["all_wrong"],
    }
    for name, share in shares["only_right"].items():
        rows[f"only right: {name}"] = share
    for name, share in shares["only_wrong"].items():
        rows[f"only wrong: {name}"] = share
    return pd.DataFrame({"share of the test images": {k: percent(v) for k, v in rows.items()}})


def _predictions(chosen: list[Result]) -> dict:
    return {label(result): result.predictions for result in chosen}


def class_table(chosen: list[Result]) -> pd.DataFrame:
    """Share of each class that each model finds: classes by rows, models by columns."""
    return pd.DataFrame(
        {
            label(result): {row["class"]: row["recall"] for row in result.record["per_class"]}
            for result in chosen
        }
    )


def hardest(chosen: list[Result]) -> np.ndarray:
    """Positions of the test images that every model gets wrong, the surest mistakes first."""
    wrong = np.all([result.predictions != result.labels for result in chosen], axis=0)
    confidence = np.mean([result.probabilities.max(axis=1) for result in chosen], axis=0)
    positions = np.flatnonzero(wrong)
    return positions[np.argsort(-confidence[positions], kind="stable")]


# The README


def markdown_table(found: list[Result]) -> str:
    """The results beside the published figures, as a Markdown table."""
    table = results.results_table(found)
    first = [group[0] for group in results.by_recipe(found).values()]
    columns = {
        "model": [plotting.MODEL_LABELS[model] for model in table["model"]],
        "recipe": table["recipe"],
        "weights": [f"{count:,}" for count in table["parameters"]],
        "input": [f"{result.record['image_size']} px" for result in first],
        "training images": [f"{r.record['dataset']['train_images']:,}" for r in first],
        "epochs": table["epochs"],
        "test accuracy": [f"**{percent(value)}**" for value in table["accuracy"]],
        "95 % interval": _covering(_intervals(table), table),
        "seeds": table["seeds"],
        "gap": [points(value) for value in table["gap"]],
        "training": [duration(value) for value in table["seconds"]],
    }
    if "reference" in table:
        columns["published"] = _published(table)
    return _markdown(columns)


def _markdown(columns: dict) -> str:
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    return "\n".join(f"| {line} |" for line in lines)


def commands_table(found: list[Result]) -> str:
    """How to train each row again and what it gave here, as a Markdown table."""
    table = results.results_table(found)
    groups = results.by_recipe(found).values()
    machines = [
        dict.fromkeys(hardware_label(result.record["hardware"]) for result in group)
        for group in groups
    ]
    return _markdown(
        {
            "row": [
                f"{plotting.MODEL_LABELS[model]}, {recipe}"
                for model, recipe in zip(table["model"], table["recipe"], strict=True)
            ],
            "command": [f"`run_all.py {_arguments(group)}`" for group in groups],
            "on": ["; ".join(names) for names in machines],
            "training takes": [
                duration(sum(result.record["seconds"]["train"] for result in group))
                for group in groups
            ],
            "test accuracy": [f"**{percent(value)}**" for value in table["accuracy"]],
            "95 % interval": _covering(_intervals(table, " %"), table),
        }
    )


def _arguments(group: list[Result]) -> str:
    """What `run_all.py` takes to train these again: one recipe, each with another seed."""
    record = group[0].record
    number = 1 + recipes.MODELS.index(record["model"])
    seeds = " ".join(str(result.record["seed"]) for result in group)
    words = [f"--notebooks {number:02d} --recipes {record['recipe']} --seeds {seeds}"]
    if _short(group):
        words.append(f"--epochs {max(p['requested'] for p in record['epochs']['phases'])}")
    if record["backbone"]:
        words.append(f"--backbone {record['backbone']['backbone']}")
    return " ".join(words)


def about(found: list[Result]) -> str:
    """What a table of results is about: images, backbone, hardware, and how long a training was."""
    records = [result.record for result in found]
    dataset = records[0]["dataset"]
    images = "CIFAR-10" if dataset["real"] else "the drawn toy set, not CIFAR-10"
    if dataset["real"] and not dataset["verified"]:
        images += " (a complete copy that is not byte for byte the official one)"
    machines = dict.fromkeys(hardware_label(record["hardware"]) for record in records)
    lines = [f"Test accuracy on {images}, trained on {'; '.join(machines)}."]
    short = _short(found)
    if short:
        names: dict[str, list[str]] = {}
        for model, recipe, *_ in results.by_recipe(short):
            names.setdefault(plotting.MODEL_LABELS[model], []).append(recipe)
        listed = ", ".join(f"{model} ({', '.join(cut)})" for model, cut in names.items())
        which = "" if len(short) == len(found) else f" of {listed}"
        lines.append(
            f"**Shortened trainings{which}, not the full study:** epochs were capped, as the "
            "column says (run / asked for)."
        )
    fewer = {
        record["dataset"]["train_images"] for record in records if record["model"] == "transfer"
    }
    most = max(record["dataset"]["train_images"] for record in records)
    if fewer and max(fewer) < most / 2:
        lines.append("Transfer learning trained on fewer images than the others.")
    used = {record["backbone"]["backbone"] for record in records if record["backbone"]}
    if backbones.LITE0 in used:
        lines.append(
            "Transfer rows here use EfficientNet-Lite0; the published ones EfficientNetV2B0."
        )
    if fewer:
        lines.append("Training times of transfer rows leave out what an earlier row left cached.")
    lines.append(
        "An interval covers either the choice of test images or, as that of their mean, the seeds: "
        "the two kinds do not compare. *Gap* is training minus validation accuracy of the last "
        "epoch, in points, also where early stopping went back to an earlier one."
    )
    if dataset["real"]:
        lines.append("*Published* is the study that is rebuilt here, run in full.")
    return " ".join(lines)
