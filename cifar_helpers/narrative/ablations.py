"""What each part of a recipe is worth, from the records of the ablations."""

import numpy as np
import pandas as pd
from IPython.display import Markdown
from matplotlib.figure import Figure

from cifar_helpers import metrics, models, plotting, recipes, results
from cifar_helpers.data import Splits
from cifar_helpers.narrative.html import bullets
from cifar_helpers.text import count, listed, loss_difference, percent, points, points_interval

_WORDS = {
    "supported": "",
    "contradicted": "",
    "undecided": ": not distinguishable from zero",
    "not tested": ": a single seed, so no interval",
}


def effect_rows(model: str, out: str, splits: Splits) -> pd.DataFrame:
    """`results.effects` of a model's variants, from a run's folder and the published records.

    Args:
        model: one of `models.MODELS`.
        out: the run's folder.
        splits: the images at hand, of the data set that the records are of.
    """
    recipes.check_model(model)
    found = results.load_for_effects(out, splits.source.name)
    return results.effects([result for result in found if result.record["model"] == model])


def plot_effects(model: str, out: str, splits: Splits) -> Figure | Markdown:
    """The figure of a model's ablations, or a sentence where there is nothing to show."""
    rows = effect_rows(model, out, splits)
    if not splits.source.real:
        return Markdown(
            "*What a part of a recipe is worth on drawings says nothing about photographs: nothing "
            "is shown for the toy set.*"
        )
    if not _ablations(model):
        return Markdown("*This network has no ablations.*")
    if rows.empty:
        return Markdown(f"*No ablation has records yet.* {_command(model, rows)}")
    acted = rows[~rows["same_training"]]
    return plotting.effects(acted) if len(acted) else Markdown("*No change ever acted.*")


def describe_effects(model: str, out: str, splits: Splits) -> Markdown:
    """The same in words: each change with its interval over seeds, and what is missing."""
    rows = effect_rows(model, out, splits)
    if rows.empty or not splits.source.real:
        return Markdown("")
    parts = []
    for _, group in rows.groupby("base_experiment", sort=False):
        first = group.sort_values("seeds").iloc[-1]
        about = f"{first['epochs']} epochs, {count(first['train_images'])} images"
        if first["backbone"]:
            about += f" at {first['base_image_size']} px"
        if on := _ablation_that_is_a_base(model, first["base"]):
            about = f"a variant of *{on.variant_of}*: {on.changes}; {about}"
        lines = [_line(row) for row in group.sort_values("test").to_dict("records")]
        parts.append(
            f"Against *{first['base']}* ({about}), which has {percent(first['base_test'])}:\n\n"
            + bullets(lines).data
        )
    if missing := untested(model, rows):
        all_of_them = sum(map(_has_effect, _ablations(model)))
        parts.append(
            f"{len(missing)} of {all_of_them} ablations have no records. {_command(model, rows)}"
        )
    intervals = (
        "A dot is the mean difference from the unchanged recipe over the seeds that both were trained "
        "with; its line is the 95 % interval of that mean (Student's t, paired by seed). Where their "
        "intervals exclude zero, the differences of training accuracy (of the epoch whose weights were "
        "kept, with the recipe's own augmentation and dropout on) and of test loss follow."
    )
    return Markdown("\n\n".join([intervals, *parts]))


def clear_effects(rows: pd.DataFrame) -> pd.DataFrame:
    """Those rows of `results.effects` whose interval over seeds excludes zero, losses first.

    A change that never acted is not among them.
    """
    return _judged(rows, "supported", "contradicted")


def unclear_effects(rows: pd.DataFrame) -> pd.DataFrame:
    """Those with an interval that contains zero, losses first; again without those that never acted."""
    return _judged(rows, "undecided")


def _judged(rows: pd.DataFrame, *verdicts: str) -> pd.DataFrame:
    """The changes that acted and have an interval with one of the verdicts."""
    if rows.empty:
        return rows
    rows = rows[~rows["same_training"]].dropna(subset=["low", "high"])
    pairs = rows[["low", "high"]].itertuples(index=False)
    # An array, since an empty list would choose no columns in place of no rows.
    kept = np.array([metrics.verdict(pair) in verdicts for pair in pairs], dtype=bool)
    return rows[kept].sort_values("test")


def untested(model: str, rows: pd.DataFrame) -> set[tuple[str, str]]:
    """Base and name of a model's ablations that are not among rows of `results.effects`."""
    wanted = {(row.variant_of, row.name) for row in _ablations(model) if _has_effect(row)}
    return wanted - (set(zip(rows["base"], rows["recipe"], strict=True)) if len(rows) else set())


def _line(row: dict) -> str:
    interval = None if pd.isna(row["low"]) else (row["low"], row["high"])
    over = (
        f" (95 % interval over {row['seeds']} seeds {points_interval(*interval)})"
        if interval
        else ""
    )
    verdict = _WORDS[metrics.verdict(interval)]
    stopped = f"; ended early, after {row['stopped']} epochs" if row["stopped"] else ""
    told = f"{points(row['test'])} points{over}{verdict}{stopped}{_beside(row)}."
    if row["same_training"]:
        told = (
            "the training itself went as without it; only another epoch's weights were kept: "
            + told
        )
    return f"**{row['changes']}**: {told}"


def _beside(row: dict) -> str:
    """What a change clearly does to training accuracy and test loss."""
    words = (("train", "training accuracy", points), ("loss", "test loss", loss_difference))
    told = []
    for name, what, show in words:
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        if not pd.isna(low) and metrics.verdict((low, high)) != "undecided":
            told.append(f"{what} {show(row[name])} ({show(low)} to {show(high)})")
    return f"; {listed(told)}" if told else ""


def _ablations(model: str) -> list[recipes.Recipe]:
    return [row for row in recipes.of_model(model) if row.group == "ablations"]


def _ablation_that_is_a_base(model: str, name: str) -> recipes.Recipe | None:
    """The base if it is an ablation with an effect of its own, which says what it is."""
    return next((row for row in _ablations(model) if row.name == name and _has_effect(row)), None)


def _has_effect(row: recipes.Recipe) -> bool:
    """Whether it is compared with its base: not where it is a row of the study with fewer images."""
    bases = {base.name: base for base in recipes.of_model(row.model)}
    return bases[row.variant_of].train_images == row.train_images


def _command(model: str, rows: pd.DataFrame) -> str:
    """What trains the ablations, on the backbone of those that have records."""
    number = models.MODELS[model].number
    trainings = len(_ablations(model)) * len(recipes.ABLATION_SEEDS)
    known = next(filter(None, rows.get("backbone", ())), "")
    backbone = f" --backbone {known}" if known else ""
    return (
        f"`python run_all.py --notebooks {number} --recipes ablations --precision float32{backbone}` "
        f"trains every ablation with {len(recipes.ABLATION_SEEDS)} seeds: {trainings} training runs in all."
    )
