from dataclasses import dataclass, replace

import pytest
from tiny_study import ROOT

from cifar_helpers import recipes, results
from cifar_helpers.errors import UserError

PUBLISHED = results.load_results(ROOT)
(BASELINE,) = recipes.select("baseline_cnn", ["improved"])


def _hash_of(record: dict, recipe: recipes.Recipe, **options) -> str:
    dataset, backbone = record["dataset"], record["backbone"]
    values = {
        "seed": record["seed"],
        "data_sha256": dataset["sha256"],
        "split_seed": 0,
        "train_images": dataset["train_images"],
        "validation_images": dataset["validation_images"],
        # Random weights have no checksum: the backbone's name stands for them.
        "weights": (backbone["sha256"] or backbone["backbone"]) if backbone else None,
        "precision": record["precision"],
    }
    return recipes.parameters_hash(recipe, **{**values, **options})


def _row(result: results.Result) -> tuple[str, str]:
    return result.record["model"], result.record["recipe"]


@pytest.mark.parametrize("result", PUBLISHED, ids=lambda r: f"{_row(r)}-{r.record['seed']}")
def test_published_records_are_found_by_their_named_recipe(result):
    record, recipe = result.record, result.recipe
    assert _hash_of(record, recipe) == record["parameters_hash"]
    assert _hash_of(record, recipe, seed=None) == record["experiment_hash"]


def test_every_row_of_a_plain_run_is_published():
    rows = {_row(result) for result in results.without_variants(PUBLISHED)}
    assert rows >= set(recipes.default_rows())


def test_the_hash_changes_with_all_that_decides_the_outcome():
    record = PUBLISHED[0].record
    hashes = [
        _hash_of(record, BASELINE),
        _hash_of(record, BASELINE, seed=7),
        _hash_of(record, BASELINE, seed=None),
        _hash_of(record, BASELINE, data_sha256="0" * 64),
        _hash_of(record, BASELINE, split_seed=1),
        _hash_of(record, BASELINE, train_images=1),
        _hash_of(record, BASELINE, validation_images=1),
        _hash_of(record, BASELINE, weights="1" * 64),
        _hash_of(record, BASELINE, precision="bfloat16"),
        _hash_of(record, BASELINE, deterministic=True),
        _hash_of(record, BASELINE.capped(5)),
        _hash_of(record, replace(BASELINE, dropout=0.5)),
    ]
    assert len(set(hashes)) == len(hashes)


def test_words_and_backbones_names_are_not_in_the_hash():
    record = PUBLISHED[0].record
    other = replace(BASELINE, changes="x", group="best", backbone="efficientnet-lite0")
    assert _hash_of(record, other) == _hash_of(record, BASELINE)
    names = ("bfloat16", "mixed_bfloat16")
    assert len({_hash_of(record, BASELINE, precision=name) for name in names}) == 1


def test_a_whole_number_counts_as_the_fraction_it_equals():
    record, phase = PUBLISHED[0].record, BASELINE.phases[0]
    whole, fraction = (
        replace(BASELINE, dropout=dropout, phases=(replace(phase, weight_decay=decay),))
        for dropout, decay in ((0, 1), (0.0, 1.0))
    )
    assert _hash_of(record, whole) == _hash_of(record, fraction)


@dataclass(frozen=True)
class _LaterRecipe(recipes.Recipe):
    """A recipe of a later edition, with a field more."""

    later: str = ""


def test_a_field_added_later_stays_out_of_the_hash_at_its_default():
    record = PUBLISHED[0].record
    values = {name: getattr(BASELINE, name) for name in BASELINE.__dataclass_fields__}
    assert _hash_of(record, _LaterRecipe(**values)) == _hash_of(record, BASELINE)
    changed = _LaterRecipe(**values, later="x")
    assert _hash_of(record, changed) != _hash_of(record, BASELINE)


def test_a_group_stands_for_all_its_rows():
    names = [recipe.name for recipe in recipes.select("vgg10", ["reference"])]
    assert names == ["base", "callbacks", "optimized"]


def test_groups_go_by_what_a_recipe_says_not_by_its_name(monkeypatch):
    longest = replace(BASELINE, name="long", group="best")
    monkeypatch.setattr(recipes, "RECIPES", (*recipes.RECIPES, longest))
    assert recipes.select("baseline_cnn", ["best"])[-1] == longest
    assert "long" in recipes.names()
    assert ("baseline_cnn", "long") not in recipes.default_rows()


def test_every_recipe_is_in_a_group():
    assert {recipe.group for recipe in recipes.RECIPES} <= {"", *recipes.GROUPS}


def test_epochs_cap_every_phase():
    (recipe,) = recipes.select("transfer", ["96px"], epochs=5)
    assert [phase.epochs for phase in recipe.phases] == [5, 5]


def test_an_unknown_recipe_is_refused_by_name():
    with pytest.raises(UserError, match="received 'imprved'. Did you mean improved"):
        recipes.select("vgg10", ["imprved"])


@pytest.mark.parametrize("epochs, quick", [(0, False), (1, True), (10, True), (11, False)])
def test_a_quick_pass_has_ten_epochs_at_the_most(epochs, quick):
    assert recipes.is_quick(epochs) == quick


def test_reference_rows_of_another_backbone_are_adapted():
    for row in recipes.of_model("transfer"):
        lite0 = recipes.for_backbone(row, "efficientnet-lite0")
        assert recipes.for_backbone(row, "efficientnetv2b0") == row == recipes.for_backbone(row, "")
        assert (lite0 != row) == bool(row.reference)
        assert lite0.phases[0] == row.phases[0] and lite0.image_size == row.image_size
        assert [p.unfrozen for p in lite0.phases] == [p.unfrozen for p in row.phases]


def test_a_recipes_own_backbone_goes_before_the_runs():
    row = replace(recipes.select("transfer", ["96px"])[0], backbone="efficientnet-lite0")
    assert recipes.for_backbone(row, "efficientnetv2b0").label_smoothing == 0.1
