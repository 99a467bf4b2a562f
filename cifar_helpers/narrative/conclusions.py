"""What the study that is rebuilt here concluded, each claim beside what was measured."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown
from scipy import stats

from cifar_helpers import metrics, recipes, results
from cifar_helpers.narrative.html import to_html
from cifar_helpers.results import Result
from cifar_helpers.text import DASH, points, points_interval

ANIMALS = frozenset({"bird", "cat", "deer", "dog", "frog", "horse"})
VEHICLES = frozenset({"airplane", "automobile", "ship", "truck"})


class Claim(NamedTuple):
    """A conclusion or a next step of the study, and the ablation that tests it.

    Attributes:
        words: the claim.
        model: of the ablation.
        recipe: of the ablation, which leaves something out or adds it.
        claims_more: whether by the claim the ablation's figure is the larger one.
        figure: "test", accuracy, or "spread", of validation accuracy over the last third of epochs.
    """

    words: str
    model: str
    recipe: str
    claims_more: bool
    figure: str = "test"


class Measured(NamedTuple):
    """What was measured of a claim, in percentage points; without an interval it was not tested."""

    words: str
    difference: float = np.nan
    interval: tuple[float, float] | None = None


CLAIMS = (
    Claim("Deeper convolution blocks are a big step", "vgg10", "one-convolution", False),
    Claim("Callbacks help", "vgg10", "with-callbacks", True),
    Claim("Augmentation helps", "vgg10", "with-augmentation", True),
    Claim("Skip connections make training more stable", "resnet20", "plain-20", True, "spread"),
    Claim("Next step: stronger augmentation helps", "vgg10", "cutout", True),
    Claim("Next step: fine-tuning more layers helps", "transfer", "unfrozen-30", False),
)


def conclusions_table(found: list[Result], out: str) -> HTML | Markdown:
    """Each claim with the measured difference, its 95 % interval and the verdict.

    Supported means that the whole interval lies on the claimed side of zero, contradicted that it
    lies on the other, undecided that it holds zero, not tested that records are missing.

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
    rows.insert(4, _row("Transfer learning is a gain", _transfer_step(found), claims_more=True))
    rows.insert(5, _row("Mistakes are mostly among similar classes", _similar_mistakes(found)))
    return pd.DataFrame(rows)


def _row(claim: str, measured: Measured, claims_more: bool = True) -> dict[str, str]:
    shown = measured.interval is not None
    return {
        "claim": claim,
        "measured": measured.words,
        "difference in points": points(measured.difference) if shown else DASH,
        "95 % interval": points_interval(*measured.interval) if measured.interval else DASH,
        "verdict": metrics.verdict(measured.interval, claims_more=claims_more),
    }


def _measure(claim: Claim, effects: pd.DataFrame) -> Measured:
    recipe = recipes.select(claim.model, [claim.recipe])[0]
    words = f"{recipe.changes}, against {recipe.variant_of}"
    if claim.figure == "spread":
        words += ": spread of validation accuracy over the last third of the epochs"
    here = (
        effects[["model", "recipe"]].eq([claim.model, claim.recipe]).all(axis=1)
        if len(effects)
        else []
    )
    if not np.any(here):
        return Measured(words)
    row = effects[here].iloc[0]
    words += f"; {row['seeds']} seeds, {row['epochs']} epochs, {row['train_images']:,} images"
    if claim.figure == "spread":
        value, low, high = row["spread"] - row["base_spread"], row["spread_low"], row["spread_high"]
    else:
        value, low, high = row["test"], row["low"], row["high"]
    return Measured(words, value, None if np.isnan(low) else (low, high))


def _transfer_step(found: list[Result]) -> Measured:
    """From ResNet-20's reference row to the first of transfer learning."""
    pair = [
        _seeds(found, model, recipe)
        for model, recipe in (("transfer", "96px"), ("resnet20", "reference"))
    ]
    words = "transfer 96px, against ResNet-20 reference"
    common = sorted(set(pair[0]) & set(pair[1]))
    if not common:
        return Measured(words)
    labels = pair[0][common[0]].labels
    after, before = ([each[seed].predictions for seed in common] for each in pair)
    if len(common) > 1:
        told = metrics.seeds_difference(labels, after, before)
        low, high = told["seeds_and_images"]
        words += f"; {len(common)} seeds"
    else:
        told = metrics.bootstrap_difference(labels, after[0], before[0])
        low, high = told["low"], told["high"]
        words += "; one training each, over the test images"
    return Measured(words, 100 * told["difference"], (100 * low, 100 * high))


def _seeds(found: list[Result], model: str, recipe: str) -> dict[int, Result]:
    row = (model, recipe)
    return {
        result.record["seed"]: result
        for result in found
        if (result.record["model"], result.record["recipe"]) == row
    }


def _similar_mistakes(found: list[Result]) -> Measured:
    """The share of mistakes that stay among animals or among vehicles, minus that by chance."""
    best = results.best_by_validation(found)
    names = [row["class"] for row in best.record["per_class"]]
    if set(names) != ANIMALS | VEHICLES:
        return Measured("these classes fall into no two kinds")
    kind = np.array([name in ANIMALS for name in names])
    matrix = np.array(best.record["confusion_matrix"])
    mistakes = matrix * (1 - np.eye(len(names), dtype=int))
    same = int(mistakes[kind[:, None] == kind[None]].sum())
    others = np.array([np.sum(kind == each) - 1 for each in kind]) / (len(names) - 1)
    by_chance = float(np.sum(mistakes.sum(axis=1) * others) / max(mistakes.sum(), 1))
    if not mistakes.sum():
        return Measured("there are no mistakes")
    share = stats.binomtest(same, int(mistakes.sum()))
    low, high = share.proportion_ci(0.95, method="wilson")
    words = (
        f"share of the mistakes of {results.row_label(best)} that stay among animals or among "
        "vehicles, against mistakes spread evenly; over the test images"
    )
    excess = [100 * (value - by_chance) for value in (share.statistic, low, high)]
    return Measured(words, excess[0], (excess[1], excess[2]))
