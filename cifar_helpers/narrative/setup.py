"""What a notebook is about to do: its images, its network, its recipes."""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown
from matplotlib.figure import Figure

from cifar_helpers import data, models, plotting
from cifar_helpers.narrative.html import bullets, to_html
from cifar_helpers.recipes import Phase, Recipe
from cifar_helpers.text import DASH, count, percent

_OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD, Nesterov momentum 0.9"}


def notice(*sources: Any) -> Markdown:
    """A box that says which images, and which backbone, a page is about.

    The sources have a `notice()`: the splits, the backbone's weights, a comparison.
    """
    return Markdown("\n".join(f"> {source.notice()}\n>" for source in sources))


def plot_curves(runs: Sequence[Any]) -> Figure:
    """Accuracy and loss by epoch of one model's trainings, as `training.train` gave them.

    The seeds of a recipe share a panel, and the epochs whose weights were kept are marked.
    """
    return plotting.learning_curves(
        {run.title: run.history for run in runs},
        groups={run.title: run.recipe.name for run in runs},
        fine_tuning_starts={run.title: run.fine_tuning_start for run in runs},
        kept_epochs={run.title: run.best_epoch for run in runs},
        model=runs[0].recipe.model,
    )


def as_code(recipe: Recipe) -> Markdown:
    """A recipe as the object it is: the call that makes it, without what is left at its default."""
    lines = ["Recipe("]
    for field in fields(recipe):
        value = getattr(recipe, field.name)
        if field.name == "phases":
            lines += ["    phases=(", *(line for phase in recipe.phases for line in _lines(phase))]
            lines.append("    ),")
        elif value != field.default:
            lines.append(f"    {field.name}={value!r},")
    return Markdown("\n".join(["```python", *lines, ")", "```"]))


def _lines(phase: Phase) -> list[str]:
    """The call that makes a phase, in lines that fit the page."""
    arguments = textwrap.wrap(f"{', '.join(_given(phase))},", 72)
    return ["        Phase(", *(f"            {line}" for line in arguments), "        ),"]


def _given(phase: Phase) -> list[str]:
    """The arguments of a phase that are not at their default."""
    named = {field.name: (getattr(phase, field.name), field.default) for field in fields(phase)}
    return [f"{name}={value!r}" for name, (value, default) in named.items() if value != default]


def plot_filters(network: Any, image: np.ndarray) -> Figure | Markdown:
    """The filters of a network's first convolution with their responses to an image, uint8.

    A sentence where the network has no convolution.
    """
    try:
        kernels, responses = models.first_layer(network, image)
    except LookupError:
        return Markdown("*This network has no convolution.*")
    return plotting.filters(image, kernels, responses)


def describe_gradients(norms: Mapping[str, Mapping[str, float]]) -> Markdown:
    """How many times as large each network's gradients are as the last one's, over its layers.

    Args:
        norms: as of `models.gradient_norms`, by network.
    """
    *others, last = norms
    small = np.array(list(norms[last].values()))
    lines = []
    for name in others:
        times = np.array(list(norms[name].values())) / small
        lines.append(
            f"**{name}**: depending on the layer, gradients are {_rounded(times.min())} to "
            f"{_rounded(times.max())} times as large as with {last}."
        )
    return bullets(lines)


def _rounded(value: float) -> str:
    """Two digits, with commas: "1,300", "0.35"."""
    if not math.isfinite(value):  # times a gradient of zero
        return "∞"
    digits = max(0, 1 - math.floor(math.log10(value))) if value > 0 else 0
    return (
        f"{value:,.{digits}f}" if value < 100 else f"{round(value, -len(f'{value:.0f}') + 2):,.0f}"
    )


def split_table(splits: data.Splits) -> pd.DataFrame:
    """How many images there are for what, in all and of each class."""
    rows = {}
    for name in ("train", "validation", "test"):
        labels = pd.Series(getattr(splits, name).labels)
        counts = labels.value_counts()
        each = count(counts.min()) if counts.min() == counts.max() else "varies"
        rows[name] = {"images": count(len(labels)), "of each class": each}
    return pd.DataFrame(rows).T


def stage_table(stages: list[dict]) -> HTML:
    """The blocks of a network: shape, parameters and multiply-adds."""
    columns = ["name", "detail", "output_shape", "parameters", "multiply_adds"]
    table = pd.DataFrame(stages)[columns]
    table["output_shape"] = [" × ".join(map(str, shape)) for shape in table["output_shape"]]
    table.columns = ["block", "layers", "output", "parameters", "multiply-adds"]
    totals = [table["parameters"].sum(), table["multiply-adds"].sum()]
    table.loc[len(table)] = ["in all", "", "", *totals]
    styled = table.style.hide(axis="index").format(thousands=",")
    return to_html(styled, "stages")


def recipe_table(plan: list[tuple[Recipe, int]]) -> HTML:
    """What is about to be trained, one column a recipe."""
    columns = {}
    for recipe, _ in plan:
        columns[recipe.name] = {
            "what changes": recipe.changes,
            **_input_rows(recipe),
            "augmentation": _augmentation(recipe),
            "dropout": DASH if recipe.dropout is None else f"{recipe.dropout:g}",
            "label smoothing": f"{recipe.label_smoothing:g}",
            "validation share": f"{100 * recipe.validation_fraction:.0f} %",
            **_rare_rows(recipe),
            **_phase_rows(recipe),
            "seeds": ", ".join(str(seed) for other, seed in plan if other == recipe),
        }
    table = pd.DataFrame(columns)
    rare = table.index.isin(_rare_rows(plan[0][0]))
    table = table[~(rare & table.eq(DASH).all(axis=1))]
    top = {"vertical-align": "top", "max-width": "17em"}
    return to_html(table.style.set_properties(**top), "recipes")


def _augmentation(recipe: Recipe) -> str:
    policy = data.find_policy(recipe.augmentation)
    # While the whole backbone is frozen, the head sees two views at most: an image and its mirror image.
    flips = models.MODELS[recipe.model].has_backbone and policy.views not in (1, 2)
    shown = (flips and phase.unfrozen == 0 for phase in recipe.phases)
    labels = (data.POLICIES["flip"].label if only else policy.label for only in shown)
    return " → ".join(dict.fromkeys(labels))


def _rare_rows(recipe: Recipe) -> dict[str, str]:
    """What most recipes do without; shown where one of the table's has it."""
    teacher = DASH
    if recipe.teacher:
        share = f"{100 * recipe.teacher_share:.0f} % of the loss"
        teacher = (
            f"transfer learning, {recipe.teacher}: {share}, temperature {recipe.temperature:g}"
        )
    return {
        "training images": count(recipe.train_images) if recipe.train_images else DASH,
        "backbone": models.backbone_label(recipe.backbone) if recipe.backbone else DASH,
        "teacher": teacher,
    }


def _input_rows(recipe: Recipe) -> dict[str, str]:
    if models.MODELS[recipe.model].has_backbone:
        sizes = dict.fromkeys(phase.image_size or recipe.image_size for phase in recipe.phases)
        return {"image size": " → ".join(f"{size} px" for size in sizes)}
    return {"pixels": "zero mean, unit variance" if recipe.centred else "in [0, 1]"}


def _phase_rows(recipe: Recipe) -> dict[str, str]:
    def joined(describe: Callable[[Phase], str]) -> str:
        return " → ".join(dict.fromkeys(describe(phase) for phase in recipe.phases))

    return {
        "epochs": " + ".join(str(phase.epochs) for phase in recipe.phases),
        "batch size": joined(lambda phase: str(phase.batch_size)),
        "optimizer": joined(lambda phase: _OPTIMIZERS[phase.optimizer]),
        "learning rate": joined(_learning_rate),
        "weight decay": joined(lambda phase: f"{phase.weight_decay:g}"),
        "early stopping": joined(lambda phase: _stopping(phase.early_stopping)),
        "weight averaging": joined(lambda phase: f"{phase.ema:g}" if phase.ema else DASH),
    }


def _learning_rate(phase: Phase) -> str:
    """The peak, how it is reached and what becomes of it."""
    parts = [f"{phase.learning_rate:g}"]
    if phase.warmup:
        parts.append(f"reached over the first {phase.warmup:.0%} of the steps".replace("%", " %"))
    if phase.schedule != "constant":
        parts.append(f"{phase.schedule} decay to zero")
    elif phase.reduce_on_plateau:
        parts.append(f"halved {_patience(phase.reduce_on_plateau)}")
    else:
        parts.append("constant")
    return ", ".join(parts)


def _patience(epochs: int) -> str:
    return f"after {epochs} epochs without progress" if epochs else DASH


def _stopping(epochs: int) -> str:
    return f"{_patience(epochs)}, back to the best epoch" if epochs else DASH


def fine_tuning_table(model: Any, layers: list[int | None]) -> pd.DataFrame:
    """How many weights train when so many of a network's last backbone layers are unfrozen.

    Args:
        model: from `models.transfer`; left with its backbone frozen.
        layers: numbers of layers; None for all.
    """
    rows = {}
    for number in layers:
        models.fine_tune(model, layers=number)
        counts = models.parameter_counts(model)
        name = {0: "none: the head alone", None: "all"}.get(number, f"the last {number}")
        rows[name] = {
            "weights trained": count(counts["trainable"]),
            "share of all": percent(counts["trainable"] / counts["total"]),
        }
    models.fine_tune(model, layers=0)
    table = pd.DataFrame(rows).T
    table.index.name = "unfrozen layers"
    return table
