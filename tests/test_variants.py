"""Variants of recipes and the ablations made of them: trained, recorded, tabled and resumed."""

import os
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
from tiny_study import ROOT
from tiny_training import BACKBONE, TINY, TRANSFER, find_backbone
from variant_trainer import TRAINED

from cifar_helpers import data, models, narrative, recipes, results, training
from cifar_helpers.errors import UserError
from cifar_helpers.recipes import variant
from cifar_helpers.training.networks import check

ABLATIONS = recipes.ABLATIONS
# What a base at a smaller budget may differ in from its row.
BUDGET = {"epochs", "train_images", "image_size"}
PARAMETERS = {
    ("vgg10", (("convolutions", (1, 1, 1)),)): 356_810,
    ("vgg10", (("convolutions", (2, 2, 2)),)): 550_570,
    ("resnet20", (("shortcuts", False),)): 271_786,
    ("resnet20", (("batch_norm", False),)): 271_690,
}


@pytest.fixture(autouse=True)
def tiny_backbone(monkeypatch):
    monkeypatch.setitem(models.BACKBONES, "tiny", BACKBONE)


@pytest.fixture(scope="module")
def splits(toy_splits) -> data.Splits:
    test = data.Split(toy_splits.test.images[:20], toy_splits.test.labels[:20])
    return replace(toy_splits, test=test)


def _differences(recipe, base) -> set[str]:
    words = {"name", "changes", "group", "reference", "variant_of", "phases", "explained"}
    found = {
        field.name
        for field in fields(recipe)
        if field.name not in words and getattr(recipe, field.name) != getattr(base, field.name)
    }
    for phase, other in zip(recipe.phases, base.phases, strict=True):
        found |= {f.name for f in fields(phase) if getattr(phase, f.name) != getattr(other, f.name)}
    return found


# What a variant is


def test_a_variant_differs_in_what_it_says_and_in_its_name():
    made = variant(TINY, "wide", phase={"ema": 0.0}, label_smoothing=0.0)
    assert _differences(made, TINY) == {"ema", "label_smoothing"}
    assert (made.name, made.variant_of, made.group) == ("wide", "improved", "")
    assert made.changes == "improved, ema 0.0, label_smoothing 0.0"


def test_phases_are_addressed_by_position():
    made = variant(TRANSFER, "last-ten", phase=({}, {"unfrozen": 10}))
    assert [phase.unfrozen for phase in made.phases] == [0, 10]


def test_a_variant_has_no_published_figures():
    (row,) = recipes.select("vgg10", ["base"])
    assert variant(row, "drier", dropout=0.1).reference is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"name": "improved"}, "name of its own"),
        ({"name": "../improved", "centred": True}, "name of its own"),
        ({"dropot": 0.1}, "received dropot. Did you mean dropout"),
        ({"phase": {"emma": 0.1}}, "received emma. Did you mean ema"),
        ({"phase": ({"ema": 0.0}, {})}, "one mapping for each of the 1 phases"),
        ({"phase": {"early_stopping": 3}}, "received ema=0.9 and early_stopping=3. Set one"),
        ({"phase": {"reduce_on_plateau": 1}}, "received schedule='linear' and warmup=0.2"),
        ({"phase": {"optimizer": "rmsprop"}}, "one of adam, adamw, sgd; received 'rmsprop'"),
        ({"phase": {"schedule": "step"}}, "constant, cosine, linear; received 'step'"),
        ({"phase": {"epochs": 0}}, "epochs must be a whole number of at least 1; received 0"),
        ({}, "must change something"),
        ({"label_smoothing": 0.1}, "must change something"),
        ({"phases": ()}, "received phases"),
        ({"phase": {"epochs": "3"}}, "epochs must be a whole number of at least 1; received '3'"),
        ({"phase": {"epochs": 1.5}}, "epochs must be a whole number"),
        ({"phase": {"learning_rate": -1.0}}, "learning_rate must be above 0; received -1.0"),
        ({"phase": {"warmup": 2.0}}, r"warmup must be in \[0, 1\); received 2.0"),
        ({"phase": {"ema": 1.5}}, r"ema must be in \[0, 1\)"),
        ({"temperature": 4.0}, "without a teacher, teacher_share must be 0 and temperature 1"),
        ({"label_smoothing": 3.0}, r"label_smoothing must be in \[0, 1\); received 3.0"),
        ({"image_size": -5}, "image_size must be 0 or a whole number from 32 to 512; received -5"),
        ({"phase": {"image_size": 48.5}}, "image_size must be 0 or a whole number from 32 to 512"),
        ({"label_smoothing": "much"}, "the variant other cannot be"),
    ],
)
def test_what_makes_no_variant_is_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        variant(TINY, **{"name": "other", **wrong})


def test_a_recipe_of_an_unknown_network_is_refused():
    with pytest.raises(UserError, match="received 'resnt'. Did you mean resnet20"):
        training.build(replace(TINY, model="resnt"))


def test_arguments_that_a_network_does_not_take_are_refused():
    made = variant(TINY, "deep", network={"shortcuts": False})
    with pytest.raises(UserError, match="may hold nothing; received shortcuts"):
        training.build(made)


def test_a_networks_arguments_may_be_lists():
    (base,) = recipes.select("vgg10", ["base"])
    pair = [
        variant(base, "flat", network={"convolutions": kind((1, 1, 1))}, changes="one a block")
        for kind in (list, tuple)
    ]
    assert len(set(pair)) == 1  # they can be told apart, and found again, by their hash


def test_a_field_that_a_network_has_no_use_for_is_refused():
    made = variant(TINY, "drier", dropout=0.5)
    with pytest.raises(UserError, match=r"baseline_cnn has no dropout; received 0.5. Leave"):
        training.build(made)


def test_a_network_with_dropout_wants_a_rate():
    (row,) = recipes.select("vgg10", ["base"])
    with pytest.raises(UserError, match="vgg10 has dropout layers; give the recipe base a rate"):
        training.build(replace(row, dropout=None))


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": "efficientnet-lite0"},
        {"pretrained": False},
        {"explained": True, "label_smoothing": 0.0},
        {"image_size": 64},
        {"phase": {"unfrozen": 5}},
    ],
    ids=str,
)
def test_what_only_a_backbone_uses_is_refused_before_anything_is_trained(change, splits):
    made = variant(TINY, "other", **change)
    with pytest.raises(UserError, match=r"the network baseline_cnn has no \w+; received"):
        training.train(made, splits, seed=0)


def test_an_unknown_augmentation_is_refused_before_anything_is_trained():
    made = variant(TRANSFER, "turned", augmentation="rotate")
    with pytest.raises(UserError, match="must be one of none, flip.*received 'rotate'"):
        narrative.recipe_table([(made, 0)])


def test_a_network_is_changed_by_its_builders_arguments():
    (row,) = recipes.select("resnet20", ["improved"])
    made = variant(row, "plain", network={"shortcuts": False})
    names = [layer.name for layer in training.build(made).layers]
    assert not [name for name in names if "add" in name or "shortcut" in name]


@pytest.mark.usefixtures("untraced")
def test_the_number_of_training_images_is_the_smaller_of_two(splits):
    for wanted, kept in ((40, 40), (1_000, 64)):
        made = variant(TINY, "few", train_images=wanted)
        run = training.train(made, splits, seed=0, precision="float32", verbose=False)
        assert len(run.splits.train) == kept


@pytest.mark.usefixtures("untraced")
def test_random_weights_are_asked_for_by_name_and_said(splits):
    made = variant(TRANSFER, "random", pretrained=False).capped(1)
    options = {"seed": 0, "precision": "float32", "verbose": False}
    run = training.train(made, splits, weights=find_backbone(""), **options)
    backbone = training.evaluate(run).record["backbone"]
    assert backbone == {"backbone": "tiny", "origin": "random weights", "sha256": ""}
    kernels = [
        network.get_layer("block1_conv").kernel
        for network in (run.model, training.build(TRANSFER, find_backbone("")))
    ]
    assert not np.allclose(*kernels, atol=0.1)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("pretrained", [True, False])
def test_batch_norms_of_a_backbone_follow_the_batches_where_it_has_learned_nothing(
    splits, pretrained
):
    """They keep ImageNet's statistics else, and while they are frozen."""
    made = replace(TRANSFER, pretrained=pretrained).capped(1)
    options = {"seed": 0, "precision": "float32", "verbose": False}
    means = []
    for phases in (made.phases[:1], made.phases):
        recipe = replace(made, phases=phases)
        run = training.train(recipe, splits, weights=find_backbone(""), **options)
        means.append(np.asarray(run.model.get_layer("block1_bn").moving_mean))
    assert np.allclose(*means, atol=1e-6) == pretrained


# The ablations


def test_no_ablation_runs_unless_it_is_asked_for():
    rows = recipes.default_rows()
    assert not [each for each in ABLATIONS if (each.model, each.name) in rows]
    for model in models.MODELS:
        asked = training.plan(model, ["ablations"])
        assert {recipe.group for recipe, _ in asked} == {"ablations"}
        assert {seed for _, seed in asked} == {0, 1, 2}


@pytest.mark.parametrize("recipe", ABLATIONS, ids=lambda recipe: f"{recipe.model}-{recipe.name}")
def test_an_ablation_changes_one_thing_of_a_recipe_there_is(recipe):
    (base,) = recipes.select(recipe.model, [recipe.variant_of])
    changed = _differences(recipe, base)
    callbacks = {"early_stopping", "reduce_on_plateau"}
    assert len(changed) == 1 or changed <= BUDGET or changed == callbacks
    check(recipe)


def test_there_are_ablations_of_every_network():
    questions = [each for each in ABLATIONS if not each.name.startswith("short")]
    assert {each.model for each in questions} == set(models.MODELS)
    assert len({(each.model, each.name) for each in ABLATIONS}) == len(ABLATIONS)


@pytest.mark.parametrize(("model", "network"), PARAMETERS, ids=str)
def test_networks_of_ablations_have_their_numbers_of_parameters(model, network):
    (recipe, *_) = [each for each in ABLATIONS if (each.model, each.network) == (model, network)]
    assert training.build(recipe).count_params() == PARAMETERS[model, network]


def test_every_network_of_an_ablation_is_counted():
    assert {(each.model, each.network) for each in ABLATIONS if each.network} == set(PARAMETERS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run's folder in which recipes were trained for an epoch or two, as `variant_trainer` says."""
    out = tmp_path_factory.mktemp("run")
    ran = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "variant_trainer.py"), str(out)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return out, {(r.record["model"], r.record["recipe"]): r for r in results.load_results(out)}


@pytest.mark.parametrize("recipe", TRAINED, ids=lambda recipe: f"{recipe.model}-{recipe.name}")
def test_a_recipe_trains_and_has_a_row(recipe, trained):
    out, found = trained
    result = found[recipe.model, recipe.name]
    record = result.record
    assert record["variant_of"] == recipe.variant_of
    assert record["epochs"]["run"] == max(2, len(recipe.phases))
    assert record["dataset"]["train_images"] == 30
    assert np.isfinite(record["history"]["loss"]).all()
    row = results.results_table([result]).iloc[0]
    assert (row["recipe"], row["changes"]) == (recipe.name, recipe.changes)
    assert (results.without_variants([result]) == []) == bool(recipe.variant_of)
    assert results.model_path(out, recipe.model, recipe.name, 0).exists()


def test_no_checkpoint_is_left_behind(trained):
    out, found = trained
    assert len(found) == len(TRAINED)
    assert not list(out.glob("checkpoints/*/*/*/*.npz"))
