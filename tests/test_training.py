import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_study import ROOT
from tiny_training import BACKBONE, BLOCKS, STOPPING, TINY, TRANSFER, find_backbone

from cifar_helpers import data, models, predict, recipes, results, training
from cifar_helpers.backend import keras
from cifar_helpers.errors import UserError
from cifar_helpers.models import backbones
from cifar_helpers.recipes import Phase
from cifar_helpers.training import (
    features,
    fused,
    optimizers,
    phases,
    precision,
    progress,
    runs,
    trainings,
)


@pytest.fixture(scope="module")
def toy_splits(toy_splits) -> data.Splits:
    """With fewer test images, since many trainings here are evaluated."""
    test = data.Split(toy_splits.test.images[:100], toy_splits.test.labels[:100])
    return replace(toy_splits, test=test)


@pytest.fixture(autouse=True)
def tiny_backbone(monkeypatch):
    monkeypatch.setitem(models.BACKBONES, "tiny", BACKBONE)


@pytest.fixture(scope="module")
def trained(toy_splits):
    """The tiny recipe, trained once for all tests that only look at the run."""
    return training.train(TINY, toy_splits, seed=0, precision="float32", verbose=False)


# Emulated bfloat16 is eleven times slower; where precision matters not, tests use float32.
FAST = {"precision": "float32"}


def _weights(model):
    return [np.asarray(weight) for weight in model.get_weights()]


def test_training_lowers_the_loss(toy_splits):
    recipe = replace(TINY, phases=(replace(TINY.phases[0], epochs=12),), augmentation="none")
    run = training.train(recipe, toy_splits, seed=0, verbose=False, **FAST)
    assert run.history["loss"][-1] < 0.9 * run.history["loss"][0]


@pytest.mark.usefixtures("untraced")
def test_a_training_whose_loss_is_no_number_ends_with_advice(toy_splits, tmp_path):
    wild = recipes.variant(TINY, "wild", phase={"learning_rate": 1e30})
    out = str(tmp_path)
    for _ in range(2):  # the same again, not a resumed training without a loss
        with pytest.raises(UserError, match="stay finite; .* wild, seed 0 is (nan|inf) in epoch 1"):
            training.train(wild, toy_splits, seed=0, out=out, verbose=False, **FAST)
    assert results.load_results(out) == []


def test_another_seed_gives_other_weights(toy_splits, trained):
    other = training.train(TINY, toy_splits, seed=1, verbose=False, **FAST)
    assert not np.allclose(_weights(trained.model)[0], _weights(other.model)[0])
    assert other.experiment_hash == trained.experiment_hash
    assert other.parameters_hash != trained.parameters_hash


def _improved(model):
    recipe = replace(recipes.select(model, ["improved"], epochs=1)[0], image_size=32)
    phases = tuple(replace(phase, batch_size=16) for phase in recipe.phases)
    return replace(recipe, phases=phases)


@pytest.fixture(scope="module")
def recorded(toy_splits, tmp_path_factory):
    """One epoch a phase of a model's improved recipe, recorded, each done once."""
    done = {}

    def train(model):
        if model not in done:
            done[model] = _record(model, toy_splits, tmp_path_factory.mktemp(model))
        return done[model]

    return train


def _record(model, splits, out):
    weights = find_backbone("") if model == "transfer" else None
    options = {"seed": 0, "weights": weights, "out": str(out), "verbose": False, **FAST}
    return training.train(_improved(model), splits, **options)


@pytest.mark.parametrize("model", list(models.MODELS))
def test_the_same_seed_gives_the_same_record(model, recorded, toy_splits, tmp_path):
    """Weights and predictions to the last bit; only times and dates may differ."""
    first, second = recorded(model).result, _record(model, toy_splits, tmp_path).result
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    changing = {"seconds", "images_per_second", "prediction_seconds_per_image"}
    changing |= {"created", "history"}
    one, other = (
        {name: value for name, value in result.record.items() if name not in changing}
        for result in (first, second)
    )
    assert one == other
    assert first.record["history"]["loss"] == second.record["history"]["loss"]


@pytest.mark.usefixtures("untraced")
def test_a_finished_run_is_recorded_and_not_trained_again(toy_splits, tmp_path, monkeypatch):
    run = training.train(TINY, toy_splits, seed=0, out=str(tmp_path), verbose=False, **FAST)
    (found,) = results.load_results(tmp_path)
    assert found.record["parameters_hash"] == run.parameters_hash
    result = training.evaluate(run, out=str(tmp_path))
    assert result is run.result
    monkeypatch.setattr(trainings, "build", None)  # would fail if it were needed
    again = training.train(TINY, toy_splits, seed=0, out=str(tmp_path), verbose=False, **FAST)
    assert again.model is None
    assert training.evaluate(again, out=str(tmp_path)).record == result.record
    for each in (run, again):  # neither keeps images of its own
        assert {"train", "validation"}.isdisjoint(vars(each.splits))


def test_weight_averages_are_what_is_kept(toy_splits, trained):
    plain = replace(TINY, phases=(replace(TINY.phases[0], ema=0.0),))
    averaged = trained
    last = training.train(plain, toy_splits, seed=0, verbose=False, **FAST)
    assert averaged.history["loss"][0] == pytest.approx(last.history["loss"][0], abs=1e-4)
    assert not np.allclose(_weights(averaged.model)[0], _weights(last.model)[0])
    probabilities = training.predict(averaged.model, averaged.splits.validation.images)
    right = (probabilities.argmax(axis=1) == averaged.splits.validation.labels).mean()
    assert right == pytest.approx(averaged.history["val_accuracy"][-1], abs=1e-6)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("label_smoothing", [0.0, 0.6])
def test_early_stopping_goes_back_to_the_epoch_whose_shown_loss_is_best(
    label_smoothing, toy_splits, tmp_path
):
    phase = replace(STOPPING.phases[0], epochs=30, learning_rate=3e-2)
    recipe = replace(STOPPING, phases=(phase,), label_smoothing=label_smoothing)
    options = {"seed": 0, "out": str(tmp_path), "verbose": False, **FAST}
    run = training.train(recipe, toy_splits, **options)
    losses = run.history["val_loss"]
    assert len(losses) < 30
    assert run.best_epoch == int(np.argmin(losses)) + 1
    (entry,) = progress.read_progress(str(tmp_path), recipe.model)
    assert (entry["status"], entry["epoch"]) == ("finished", len(losses))


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_the_schedule_peaks_after_the_warm_up_and_ends_at_zero(shape):
    schedule = training.WarmupDecay(peak=0.2, steps=100, warmup=0.1, shape=shape)
    rates = np.array([float(schedule(step)) for step in range(101)])
    assert rates[0] == pytest.approx(0.02)
    assert rates.max() == pytest.approx(0.2, rel=0.02)
    assert rates.argmax() in (9, 10)
    assert rates[-1] == pytest.approx(0, abs=1e-7)
    assert (np.diff(rates[10:]) <= 1e-7).all()


def test_a_plateau_is_one_of_the_shown_loss():
    plateau, stopping = phases._callbacks(STOPPING.phases[0])
    assert plateau.monitor == stopping.monitor == "val_cross_entropy"
    assert plateau.mode == stopping.mode == "min"


def test_weight_averages_of_a_network_with_batch_norms_are_refused(toy_splits):
    with pytest.raises(UserError, match="ema needs a network whose batch norms keep"):
        training.train(replace(TINY, model="resnet20"), toy_splits, seed=0, **FAST)


def test_several_blocks_of_steps_and_a_rest_are_an_epoch(monkeypatch):
    splits = data.load("toy", train_size=70)
    recipe = replace(TINY, phases=(replace(TINY.phases[0], epochs=2, batch_size=2),))
    options = {"seed": 0, "verbose": False, **FAST}
    blocks = training.train(recipe, splits, **options)  # 16 + 16 + 3 steps an epoch
    assert blocks.model.steps_per_execution == 16
    assert int(blocks.model.optimizer.iterations) == 70
    monkeypatch.setattr(optimizers, "_SHORT_STEP", 0)
    single = training.train(recipe, splits, **options)
    assert single.model.steps_per_execution == 1
    for name in ("loss", "accuracy", "val_loss"):
        np.testing.assert_allclose(blocks.history[name], single.history[name], rtol=1e-4)
    for one, other in zip(_weights(blocks.model), _weights(single.model), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_label_smoothing_agrees_with_keras():
    labels = np.array([0, 2])
    predicted = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], "float32")
    ours = optimizers.SmoothedCrossEntropy(0.1)(labels, predicted)
    theirs = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)(np.eye(3)[labels], predicted)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's operations")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Adam", {}),
        ("Adam", {"weight_decay": 1e-2}),
        ("AdamW", {"weight_decay": 1e-2, "use_ema": True, "ema_momentum": 0.9}),
        ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-3}),
    ],
)
def test_fused_optimizers_compute_what_those_of_keras_do(name, options):
    ended = []
    for kind in (keras.optimizers, fused):
        rng = np.random.default_rng(0)
        start = [rng.normal(size=(7, 5)).astype("float32"), rng.normal(size=5).astype("float32")]
        weights = [
            keras.Variable(value, name=word)
            for value, word in zip(start, ("kernel", "bias"), strict=True)
        ]
        optimizer = getattr(kind, name)(learning_rate=0.01, **options)
        optimizer.build(weights)
        if "weight_decay" in options:
            optimizer.exclude_from_weight_decay(var_names=["bias"])
        for _ in range(20):
            gradients = [rng.normal(size=each.shape).astype("float32") for each in weights]
            optimizer.apply([keras.ops.convert_to_tensor(each) for each in gradients], weights)
        ended.append([each.numpy() for each in (*weights, *optimizer.variables)])
    assert len(ended[0]) == len(ended[1])
    assert np.abs(ended[0][0] - start[0]).max() > 0.01
    for ours, theirs in zip(*ended, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_weight_decay_spares_biases_and_batch_norms():
    phase = Phase(1, 8, "sgd", 0.1, weight_decay=0.5)
    optimizer = optimizers.make_optimizer(phase, steps=1)
    model = models.resnet20()
    optimizer.build(model.trainable_variables)
    decays = {v.path: optimizer._use_weight_decay(v) for v in model.trainable_variables}
    assert all(used == path.endswith("kernel") for path, used in decays.items())
    assert any(decays.values())


def test_the_plan_resizes_the_reference_rows_and_caps_the_improved_one():
    plan = training.plan("transfer", ["reference", "improved"], seeds=[0], image_size=[32, 64])
    sizes = {recipe.name: recipe.image_size for recipe, _ in plan}
    assert sizes == {"96px": 32, "224px": 64, "improved": 32}


def test_the_plan_fine_tunes_each_backbone_by_its_own_schedule_as_deep_and_as_large():
    wanted = ["96px", "224px", "improved"]
    plans = {
        backbone: [
            recipe
            for recipe, _ in training.plan(
                "transfer", wanted, seeds=[0], epochs=9, image_size=[64, 96], backbone=backbone
            )
        ]
        for backbone in models.BACKBONES
    }
    published, lite0 = plans["efficientnetv2b0"], plans["efficientnet-lite0"]
    assert [recipe.phases[1].learning_rate for recipe in published[:2]] == [1e-5, 1e-5]
    for ours, theirs in zip(lite0[:2], published[:2], strict=True):
        assert ours.phases[0] == theirs.phases[0]
        assert ours.phases[1].schedule == "cosine" and ours.phases[1].epochs == 9
        assert ours.phases[1].unfrozen == theirs.phases[1].unfrozen
        assert ours.image_size == theirs.image_size
        assert ours.changes.startswith(theirs.changes)
    assert lite0[2] == published[2]


@pytest.mark.parametrize("model", list(models.MODELS))
def test_a_plan_has_the_models_own_seeds_and_a_quick_pass_one(model):
    seeds = {
        epochs: {seed for _, seed in training.plan(model, ["improved"], epochs=epochs)}
        for epochs in (0, 5, 11)
    }
    own = set(models.MODELS[model].seeds)
    assert seeds == {0: own, 5: {0}, 11: own}
    assert {seed for _, seed in training.plan(model, ["improved"], seeds=[7], epochs=5)} == {7}


def test_a_quick_pass_has_smaller_images_unless_sizes_are_asked_for():
    def sizes(**options):
        plan = training.plan("transfer", ["reference", "improved"], **options)
        return [recipe.image_size for recipe, _ in plan]

    assert sizes() == sizes(epochs=11) == [96, 224, 128]
    assert sizes(epochs=5) == [96, 96, 96]
    assert sizes(epochs=5, image_size=[96, 224]) == [96, 224, 128]


def test_few_images_make_enough_steps_in_smaller_batches():
    def phases(**options):
        ((recipe, _),) = training.plan("resnet20", ["improved"], **options)
        return [(phase.batch_size, phase.learning_rate) for phase in recipe.phases]

    assert phases(epochs=5) == [(32, pytest.approx(0.15 / 4))]
    assert phases(epochs=5, train_size=9_000) == phases(epochs=20) == [(128, 0.15)]
    ((baseline, _),) = training.plan("baseline_cnn", ["improved"], epochs=5)
    assert baseline.phases[0].batch_size == 64


def test_seeds_may_be_numpys(tmp_path):
    planned = training.plan("vgg10", ["base"], seeds=list(np.arange(2)), out=str(tmp_path))
    assert [seed for _, seed in planned] == [0, 1]


def test_reference_rows_are_resized_by_their_place_not_by_their_names(monkeypatch):
    renamed = [
        replace(row, name={"96px": "small", "224px": "large"}.get(row.name, row.name))
        for row in recipes.of_model("transfer")
    ]
    monkeypatch.setattr(recipes, "RECIPES", tuple(renamed))
    plan = training.plan("transfer", ["reference"], image_size=[64, 96])
    assert [recipe.image_size for recipe, _ in plan] == [64, 96]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": [0, 0]}, "seeds must be different"),
        ({"epochs": -1}, "epochs must be 1 or more"),
        ({"seeds": [-1]}, "seeds must be different"),
        ({"seeds": [1.5]}, "seeds must be different"),
        ({"seeds": 3}, r"seeds must be a list, such as \[3\]"),
        ({"wanted": "improved"}, "recipes must be a list of names; received 'improved'"),
        ({"epochs": "5"}, "epochs must be 1 or more"),
        ({"image_size": [16]}, "image_size must be one size, or two"),
        ({"image_size": [224, 96]}, "the smaller first"),
        ({"model": "vgg16"}, "received 'vgg16'. Did you mean vgg10"),
        ({"wanted": ["96px"]}, "at least one of vgg10"),
    ],
)
def test_a_plan_of_nonsense_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        training.plan(**({"model": "vgg10", "wanted": ["base"], "seeds": [0]} | changes))


DETERMINISTIC = """
import json, sys
from dataclasses import replace
import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled
from tiny_training import BACKBONE, find_backbone
from cifar_helpers import data, models, recipes, training
from cifar_helpers.training.runs import make_run

tf.config.run_functions_eagerly(True)
models.BACKBONES["tiny"] = BACKBONE
splits = data.load("toy", train_size=64)
splits = replace(splits, test=splits.test.take(range(100)))
for model in models.MODELS:
    recipe = replace(recipes.select(model, ["improved"], epochs=1)[0], image_size=32)
    weights = find_backbone("") if model == "transfer" else None
    options = {"seed": 0, "weights": weights, "precision": "float32"}
    run = training.train(
        recipe, splits, out=sys.argv[1], deterministic=True, verbose=False, **options
    )
    record = run.result.record
    without = make_run(recipe, run.splits, **options).parameters_hash
    said = record["deterministic"], is_op_determinism_enabled()
    found = *said, record["parameters_hash"], without, record["test"]["loss"]
    print("found", json.dumps(found))
"""


@pytest.fixture(scope="module")
def deterministic(tmp_path_factory):
    """What a process of its own trained, since TensorFlow cannot be told to go back."""
    folder = tmp_path_factory.mktemp("deterministic")
    command = [sys.executable, "-c", DETERMINISTIC, str(folder)]
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    environment = {**os.environ, "PYTHONPATH": paths}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    lines = [line for line in ran.stdout.splitlines() if line.startswith("found")]
    return SimpleNamespace(folder=folder, lines=lines)


def test_every_model_trains_with_deterministic_kernels(deterministic):
    assert len(deterministic.lines) == len(models.MODELS)
    for line in deterministic.lines:
        said, holds, name, without, loss = json.loads(line.removeprefix("found"))
        assert said is True and holds is True
        assert name != without  # neither record is ever found in place of the other
        assert 0 < loss < 10


@pytest.fixture
def fine_tuned(deterministic, tiny_backbone):
    """The weights of a backbone before training, and after its two phases."""
    before = training.build(_improved("transfer"), find_backbone(""))
    after = predict.load_model(deterministic.folder, "transfer", "improved", seed=0)
    layers = zip(models.backbone_layers(before), models.backbone_layers(after), strict=True)
    return [
        (old.name, np.asarray(old), np.asarray(new))
        for one, other in layers
        for old, new in zip(one.weights, other.weights, strict=True)
    ]


def test_fine_tuning_leaves_the_backbones_statistics_alone(fine_tuned):
    statistics = [row for row in fine_tuned if row[0] in ("moving_mean", "moving_variance")]
    assert len(statistics) == 2 * BLOCKS
    for _, old, new in statistics:
        np.testing.assert_array_equal(old, new)


def test_fine_tuning_trains_all_else_that_is_opened(fine_tuned):
    trained = [row for row in fine_tuned if row[0] not in ("moving_mean", "moving_variance")]
    assert not [name for name, old, new in trained if np.array_equal(old, new)]


def test_auto_takes_a_record_in_bfloat16(toy_splits, tmp_path):
    options = {"seed": 0, "out": str(tmp_path), "verbose": False}
    # Few steps and images: where bfloat16 is emulated it is eleven times slower.
    recipe, splits = TINY.capped(1), replace(toy_splits, test=toy_splits.test.take(np.arange(20)))
    made = training.train(recipe, splits, precision="bfloat16", **options)
    assert made.precision == "mixed_bfloat16" == made.result.record["precision"]
    found = training.train(recipe, splits, precision="auto", **options)
    assert found.model is None and found.result.record == made.result.record


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("place", ["float32", "mixed_bfloat16"])
def test_auto_takes_the_record_that_has_the_rows_place(toy_splits, tmp_path, place):
    """Not one of the other precision whose place it has taken, whichever is faster here."""
    made = training.train(TINY.capped(1), toy_splits, seed=0, precision="float32", verbose=False)
    result = training.evaluate(made)
    policies = [name for name in recipes.PRECISIONS.values() if name != place] + [place]
    for policy in policies:
        run = runs.make_run(made.recipe, made.splits, seed=0, weights=None, precision=policy)
        record = result.record | {
            "precision": policy,
            "parameters_hash": run.parameters_hash,
        }
        results.save_result(replace(result, record=record), tmp_path)
    found = training.train(made.recipe, toy_splits, seed=0, out=str(tmp_path), verbose=False)
    assert found.model is None and found.result.record["precision"] == place


def test_an_unknown_precision_is_refused(toy_splits):
    with pytest.raises(UserError, match="precision must be one of auto, float32, bfloat16"):
        training.train(TINY, toy_splits, seed=0, precision="float16")


@pytest.mark.usefixtures("untraced")
def test_an_edited_recipe_trains_anew_and_the_record_before_is_kept(toy_splits, tmp_path):
    recipe, options = TINY.capped(1), {"seed": 0, "out": str(tmp_path), "verbose": False, **FAST}
    before = training.train(recipe, toy_splits, **options)
    edited = replace(recipe, phases=(replace(recipe.phases[0], learning_rate=2e-3),))
    after = training.train(edited, toy_splits, **options)
    assert after.model is not None and after.parameters_hash != before.parameters_hash
    again = training.train(recipe, toy_splits, **options)
    assert again.model is None and again.result.record == before.result.record


@pytest.mark.usefixtures("untraced")
def test_one_epoch_of_the_head_computes_of_each_image_the_view_that_it_shows(toy_splits):
    def first_epoch(epochs):
        phase = replace(TRANSFER.phases[0], epochs=epochs)
        run = runs.make_run(TRANSFER, toy_splits, seed=3, weights="tiny", precision="float32")
        keras.utils.set_random_seed(0)
        run.model = training.build(TRANSFER, "tiny")
        batches, _, _ = features.phase_inputs(run, phase, epoch=0)
        return len(batches.views), [batches[index][0] for index in range(len(batches))]

    (views_of_one, one), (views_of_two, two) = first_epoch(1), first_epoch(2)
    assert (views_of_one, views_of_two) == (1, 2)
    for batch, same in zip(one, two, strict=True):
        np.testing.assert_array_equal(batch, same)


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    ("own", "given", "looked_for"),
    [
        ("tiny", ("other", "other"), ["tiny"]),
        ("", (None, "tiny"), ["auto", "tiny"]),
        ("", ("of the variable",), ["tiny"]),
    ],
    ids=["its own, once", "the run's, never random ones", "the runner's"],
)
def test_a_recipe_gets_the_weights_of_its_backbone(own, given, looked_for, toy_splits, monkeypatch):
    found = []

    def resolve(name):
        found.append(name)
        return find_backbone("")

    trainings._found_weights.cache_clear()
    monkeypatch.setattr(backbones, "resolve", resolve)
    head_alone = (replace(TRANSFER.phases[0], epochs=1),)
    recipe = replace(TRANSFER, backbone=own, phases=head_alone)
    for weights in given:
        if weights == "of the variable":
            weights = None
            monkeypatch.setenv(models.BACKBONE_VARIABLE, "tiny")
        run = training.train(recipe, toy_splits, seed=0, weights=weights, verbose=False, **FAST)
        assert run.backbone == find_backbone("")
    assert found == looked_for
    trainings._found_weights.cache_clear()


@pytest.mark.parametrize("speedup, expected", [(1.04, "float32"), (1.05, "mixed_bfloat16")])
def test_bfloat16_is_taken_where_it_is_a_twentieth_faster(speedup, expected, monkeypatch):
    monkeypatch.setattr(precision, "on_tensorflow_cpu", lambda: True)
    monkeypatch.setattr(precision, "_speedup", lambda model: speedup)
    assert training.fastest_precision("vgg10") == expected
    assert training.fastest_precision("transfer") == "float32"
    monkeypatch.setattr(precision, "on_tensorflow_cpu", lambda: False)
    assert training.fastest_precision("vgg10") == "float32"


def test_a_precision_is_measured_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR_HELPERS_CACHE", str(tmp_path))
    measure = precision._speedup.__wrapped__
    found = measure("baseline_cnn")
    assert 0.01 < found < 10
    monkeypatch.setattr(precision, "_measure", None)
    assert measure("baseline_cnn") == found
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "17")
    with pytest.raises(TypeError):  # measured anew for another number of threads
        measure("baseline_cnn")


def test_real_training_steps_are_compared_where_bfloat16_is_no_emulation(monkeypatch):
    compared = []
    keras.utils.set_random_seed(0)
    monkeypatch.setattr(precision, "_compare", lambda *steps: compared.append(steps) or 0.9)
    precision._convolution_speedup.cache_clear()
    assert precision._measure("baseline_cnn") == 0.9
    precision._convolution_speedup.cache_clear()
    convolutions, steps = compared
    for step in steps:
        before = {name: float(value) for name, value in step().items()}
        for _ in range(20):
            after = step()
        assert float(after["loss"]) < before["loss"]


@pytest.mark.parametrize(
    "float32, bfloat16, rounds", [(1, 4, 1), (4, 1, 3), (1.0, 1.1, precision._ROUNDS)]
)
def test_a_precision_that_is_clearly_behind_is_given_up(float32, bfloat16, rounds, monkeypatch):
    clock, calls = [0.0], []

    def step(seconds):
        calls.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr(precision.time, "perf_counter", lambda: clock[0])
    steps = [partial(step, seconds) for seconds in (float32, bfloat16)]
    assert precision._compare(*steps) == pytest.approx(float32 / bfloat16)
    assert len(calls) == 2 * (2 + rounds)  # one compiles, one tells how many make a round


@pytest.mark.parametrize("machine, expected", [("x86_64", "1"), ("AMD64", "1"), ("arm64", None)])
def test_onednn_is_on_where_the_processor_is_x86(machine, expected):
    assert _onednn_variable(machine) == repr(expected)


def test_onednn_stays_as_the_user_set_it():
    assert _onednn_variable("x86_64", TF_ENABLE_ONEDNN_OPTS="0") == repr("0")


def _onednn_variable(machine: str, **variables: str) -> str:
    program = (
        "import os, platform, sys, types\n"
        "sys.modules['keras'] = types.ModuleType('keras')  # takes long, and is not looked at\n"
        f"platform.machine = lambda: {machine!r}\n"
        "import cifar_helpers.backend\n"
        "print(repr(os.environ.get('TF_ENABLE_ONEDNN_OPTS')))\n"
    )
    kept = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**kept, **variables},
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return done.stdout.strip()
