"""What the original study concluded, each claim beside what was measured."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown

from cifar_helpers import metrics, recipes, results
from cifar_helpers.models import model_label
from cifar_helpers.narrative.html import to_html
from cifar_helpers.results import Result
from cifar_helpers.text import DASH, loss_difference, percent, points, points_interval

ANIMALS = frozenset({"bird", "cat", "deer", "dog", "frog", "horse"})
VEHICLES = frozenset({"airplane", "automobile", "ship", "truck"})


class Claim(NamedTuple):
    """A conclusion or a next step of the study, and the ablation that tests it.

    Attributes:
        words: the claim.
        model: of the ablation.
        recipe: of the ablation, which leaves something out or adds it.
        claims_more: whether by the claim the ablation's figure is the larger one.
        figure: "test", accuracy, or "spread", as of `results.late_spread`.
        note: what else to know of the ablation, "" for nothing; a column of `results.effects` in
            braces stands for its value. Left out where one is not known.
    """

    words: str
    model: str
    recipe: str
    claims_more: bool
    figure: str = "test"
    note: str = ""


class Measured(NamedTuple):
    """What was measured of a claim, in percentage points; without an interval it was not tested."""

    words: str
    difference: float = np.nan
    interval: tuple[float, float] | None = None


CLAIMS = (
    Claim("Deeper convolution blocks help", "vgg10", "one-convolution", False),
    Claim(
        "Callbacks help",
        "vgg10",
        "long-callbacks",
        True,
        note="accuracy alone is judged; the test loss changes by {loss} ({loss_low} to {loss_high} "
        "over seeds)",
    ),
    Claim(
        "VGG-10's augmentation (rotation, shift, zoom, flip) helps",
        "vgg10",
        "with-augmentation",
        True,
        # What fights overfitting has little to gain without any.
        note="training minus validation accuracy without it: {base_gap} points",
    ),
    Claim(
        "Skip connections make training more stable",
        "resnet20",
        "plain-20",
        True,
        "spread",
        note="on so few epochs a weak test; test accuracy without them changes by {test} points ({low} to "
        "{high} over seeds)",
    ),
    Claim(
        "Learning from ImageNet helps",
        "transfer",
        "random-weights",
        False,
        note="the random backbone trains in the second phase alone, at a rate chosen for fine-tuning",
    ),
    Claim(
        "Next step: stronger augmentation (random crop and flip, against none) helps",
        "baseline_cnn",
        "no-augmentation",
        False,
    ),
    Claim(
        "Next step: tuning the fine-tuning depth helps (here: every layer)",
        "transfer",
        "unfrozen-30",
        False,
    ),
)


def conclusions_table(found: list[Result], out: str) -> HTML | Markdown:
    """Each claim with the measured difference, its 95 % interval and the verdict.

    Differences are turned so that those above zero are for the claim. Supported means that the whole
    interval lies above zero, contradicted that it lies below, undecided that it contains zero, not
    tested that records are missing.

    Args:
        found: results of the study's rows, all of one data set.
        out: the run's folder, whose ablations count beside the published ones.
    """
    about = found[0].record["dataset"]
    if not about["real"]:
        return Markdown(
            "*On drawings the study's conclusions about photographs cannot be tested: nothing is said "
            "here for the toy set.*"
        )
    variants = results.load_for_effects(out, about["name"])
    return to_html(conclusion_rows(found, variants), "conclusions")


def conclusion_rows(found: list[Result], variants: list[Result]) -> pd.DataFrame:
    """The rows of `conclusions_table` as text.

    Args:
        found: as there, of real photographs.
        variants: results of the ablations and their bases; may hold other rows too.
    """
    effects = results.effects(variants)
    rows = [_row(claim.words, _measure(claim, effects), claim.claims_more) for claim in CLAIMS]
    rows.insert(5, _row("Mistakes stay among similar classes", _similar_mistakes(found)))
    return pd.DataFrame(rows)


def _row(claim: str, measured: Measured, claims_more: bool = True) -> dict[str, str]:
    difference, interval = measured.difference, measured.interval
    if not claims_more and interval:
        difference, interval = -difference, (-interval[1], -interval[0])
    return {
        "claim": claim,
        "measured": measured.words,
        "for the claim, points": points(difference) if interval else DASH,
        "95 % interval": points_interval(*interval) if interval else DASH,
        "verdict": metrics.verdict(interval),
    }


def _measure(claim: Claim, effects: pd.DataFrame) -> Measured:
    recipe = recipes.select(claim.model, [claim.recipe])[0]
    base = recipes.select(claim.model, [recipe.variant_of])[0]
    # What is for the claim comes first, as in the difference.
    pair = (recipe.changes, base.name) if claim.claims_more else (base.name, recipe.changes)
    words = f"{model_label(claim.model)}: {pair[0]}, against {pair[1]}"
    spread = "; standard deviation of validation accuracy around a straight line, last third of the epochs"
    figure = spread if claim.figure == "spread" else ""
    here = (
        effects[["model", "recipe"]].eq([claim.model, claim.recipe]).all(axis=1)
        if len(effects)
        else []
    )
    if not np.any(here):
        return Measured(f"{words} ({base.changes}){figure}")
    row = effects[here].iloc[0]
    seeds = f"{row['seeds']} seed{'s' if row['seeds'] > 1 else ''}"
    words += f"{figure}; {seeds}, {row['epochs']} epochs, {row['train_images']:,} images"
    if row["same_training"]:
        return Measured(f"{words}: too few for the change to act")
    told = {each: points(row[each]) for each in ("test", "low", "high", "base_gap")}
    told |= {each: loss_difference(row[each]) for each in ("loss", "loss_low", "loss_high")}
    note = claim.note.format_map(told)
    if note and "nan" not in note:  # as of intervals of one seed
        words += f"; {note}"
    if row["stopped"]:
        words += f"; the changed training runs ended early, after {row['stopped']} epochs"
    if claim.figure == "spread":
        value, low, high = row["spread"] - row["base_spread"], row["spread_low"], row["spread_high"]
    else:
        value, low, high = row["test"], row["images_low"], row["images_high"]
    return Measured(words, value, None if np.isnan(low) else (low, high))


def _mistakes(result: Result) -> np.ndarray:
    """The confusion matrix without what is right, int64 `(classes, classes)`."""
    matrix = np.array(result.record["confusion_matrix"])
    return matrix * (1 - np.eye(len(matrix), dtype=int))


def _similar_mistakes(found: list[Result]) -> Measured:
    """The share of mistakes that stay among animals or among vehicles, minus that by chance."""
    best = results.best_by_validation(found)
    names = [row["class"] for row in best.record["per_class"]]
    if set(names) != ANIMALS | VEHICLES:
        return Measured("these classes fall into no two kinds")
    kind = np.array([name in ANIMALS for name in names])
    mistakes = _mistakes(best)
    if not mistakes.sum():
        return Measured("there are no mistakes")
    alike = kind[:, None] == kind[None]
    others = np.array([np.sum(kind == each) - 1 for each in kind]) / (len(names) - 1)
    by_chance = float(np.sum(mistakes.sum(axis=1) * others) / mistakes.sum())
    inside, of = int(mistakes[alike].sum()), int(mistakes.sum())
    rows = [_mistakes(group[0]) for group in results.by_experiment(found).values()]
    shares = [each[alike].sum() / max(each.sum(), 1) for each in rows]
    over = f" ({percent(min(shares))} to {percent(max(shares))} over all {len(rows)} rows)"
    words = (
        f"{percent(inside / of)} of the mistakes of {results.row_label(best)} stay among the six "
        f"animals or among the four vehicles{over if len(rows) > 1 else ''}, against "
        f"{percent(by_chance)} were they spread evenly; over the test images"
    )
    excess = [
        100 * (value - by_chance) for value in (inside / of, *metrics.share_interval(inside, of))
    ]
    return Measured(words, excess[0], (excess[1], excess[2]))
