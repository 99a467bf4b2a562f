"""The study's claims, each with what was measured and the verdict."""

import re
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest

from cifar_helpers import models, narrative, recipes, results
from cifar_helpers.narrative import conclusions

PUBLISHED = results.without_variants(results.published())
LABELS = PUBLISHED[0].labels


def _table(found, variants) -> pd.DataFrame:
    return conclusions.conclusion_rows(found, variants).set_index("claim")


def _made(model, recipe, variant_of, seed, wrong, history=(0.5, 0.6, 0.7), losses=1.0):
    """A record whose predictions are wrong on the first `wrong` images."""
    record = deepcopy(PUBLISHED[0].record) | {"model": model, "recipe": recipe, "seed": seed}
    record |= {"variant_of": variant_of, "parameters_hash": f"{model} {recipe} {seed}"}
    record |= {"experiment_hash": f"{model} {recipe}"}
    record["history"]["val_accuracy"] = list(history)
    record["history"]["loss"] = [losses] * len(history)
    predicted = LABELS.copy()
    predicted[:wrong] = (predicted[:wrong] + 1) % 10
    arrays = {"probabilities": np.eye(10)[predicted], "labels": LABELS}
    return results.Result(record, arrays)


def _ablation(model, recipe, base, *, wrong, base_wrong, history, base_history):
    found = []
    for seed in range(3):
        found.append(_made(model, recipe, base, seed, wrong + seed, history, losses=0.9))
        found.append(_made(model, base, "row", seed, base_wrong - seed, base_history))
    return found


STEADY = (0.5, 0.6, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7)
SHAKY = (0.5, 0.6, 0.7, 0.5, 0.8, 0.6, 0.5, 0.8, 0.5)


def test_a_note_that_needs_no_interval_stands_with_one_seed_too():
    for recipe, base, shown in (
        ("random-weights", "short-improved", True),
        ("long-callbacks", "long-base", False),
    ):
        (claim,) = (claim for claim in conclusions.CLAIMS if claim.recipe == recipe)
        of_both = _ablation(
            claim.model,
            recipe,
            base,
            wrong=300,
            base_wrong=100,
            history=STEADY,
            base_history=STEADY,
        )
        row = _table(PUBLISHED, of_both[:2]).loc[claim.words]
        assert "1 seed, 10 epochs" in row["measured"] and "nan" not in row["measured"]
        assert (claim.note[:20] in row["measured"]) == shown


def test_a_claim_is_not_tested_without_records_of_its_ablation():
    table = _table(PUBLISHED, [])
    ablations = [claim.words for claim in conclusions.CLAIMS]
    assert set(table.loc[ablations, "verdict"]) == {"not tested"}
    assert set(table.loc[ablations, "95 % interval"]) == {"–"}


@pytest.mark.parametrize("claim", conclusions.CLAIMS, ids=lambda claim: claim.recipe)
@pytest.mark.parametrize("holds", [True, False], ids=["holds", "does not hold"])
def test_a_verdict_is_on_the_side_of_the_measured_difference(claim, holds):
    (recipe,) = recipes.select(claim.model, [claim.recipe])
    larger = claim.claims_more == holds
    variants = _ablation(
        claim.model,
        claim.recipe,
        recipe.variant_of,
        wrong=100 if larger else 300,
        base_wrong=300 if larger else 100,
        history=SHAKY if larger else STEADY,
        base_history=STEADY if larger else SHAKY,
    )
    row = _table(PUBLISHED, variants).loc[claim.words]
    assert row["verdict"] == ("supported" if holds else "contradicted")
    pair = (recipe.changes, recipe.variant_of)
    for_claim, other = pair if claim.claims_more else reversed(pair)
    assert row["measured"].startswith(
        f"{models.model_label(claim.model)}: {for_claim}, against {other}"
    )
    told = re.escape(claim.note)
    told = re.sub(r"\\{\w+\\}", "[+−][0-9]+[.][0-9]+", told)
    assert re.search(told, row["measured"])
    assert "; 3 seeds, 10 epochs, 40,000 images" in row["measured"]
    if claim.figure == "test":
        low, high = (300 - 100 - 0, 300 - 100 - 4)
        shown = float(row["for the claim, points"].replace("−", "-"))
        assert shown == pytest.approx((1 if holds else -1) * (low + high) / 200, abs=0.051)


def test_callbacks_that_never_acted_are_not_tested():
    variants = [
        _made("vgg10", name, base, seed, 100 + seed)
        for name, base in (("long-callbacks", "long-base"), ("long-base", "base"))
        for seed in range(3)
    ]
    row = _table(PUBLISHED, variants).loc["Callbacks help"]
    assert (row["verdict"], row["95 % interval"]) == ("not tested", "–")
    assert row["measured"].endswith("too few for the change to act")


def test_similar_mistakes_are_counted_beyond_chance():
    best = _made("resnet20", "improved", "", 0, wrong=0)
    names = [row["class"] for row in best.record["per_class"]]
    matrix = 100 * np.eye(10, dtype=int)
    cat, dog, ship = (names.index(each) for each in ("cat", "dog", "ship"))
    matrix[cat, dog], matrix[cat, ship] = 9, 1
    best.record["confusion_matrix"] = matrix.tolist()
    found = conclusions._similar_mistakes([best])
    assert found.difference == pytest.approx(100 * (0.9 - 5 / 9))  # of 9 others, 5 are animals
    assert found.interval[0] < found.difference < found.interval[1]


def test_on_the_toy_set_nothing_is_concluded():
    toy = deepcopy(PUBLISHED[0].record)
    toy["dataset"]["real"] = False
    found = [results.Result(toy, PUBLISHED[0].arrays)]
    assert "cannot be tested" in narrative.conclusions_table(found, "").data


def test_every_claim_names_an_ablation():
    for claim in conclusions.CLAIMS:
        (recipe,) = recipes.select(claim.model, [claim.recipe])
        assert recipe.group == "ablations"
